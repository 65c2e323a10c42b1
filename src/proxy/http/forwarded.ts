// Whose address a request is counted as coming from, by x-forwarded-for and the number of proxies that are trusted (Envoy's rules).

import type { RequestView } from "./request.ts";

/**
 * At an edge (use_remote_address) the connection's peer, or with `hops` trusted proxies before us the entry that far from the right.
 * Inside the mesh the neighbour has written the field: its last entry, or with `hops` the one that far before it.
 */
export function trustedAddress(request: RequestView, peer: string, edge: boolean, hops: number): string {
  if (edge && hops === 0) return peer;
  const entries = request.header("x-forwarded-for")?.split(",") ?? [];
  const entry = entries[entries.length - (edge ? hops : hops + 1)]?.trim() ?? "";
  // Envoy takes an entry with a port or without, and believes nothing that is no address.
  const bare = /^\[([0-9A-Fa-f:.]+)\](?::\d+)?$/.exec(entry)?.[1] ?? entry.replace(/^(\d+\.\d+\.\d+\.\d+):\d+$/, "$1");
  return /^[0-9.]+$|^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$/.test(bare) ? bare : peer;
}
