// Allocates an address to every host of a ServiceEntry that is given none, and keeps it in the entry's status (Istio 1.25: IP autoallocation).

import { keyOf } from "../api/object.ts";
import { serviceEntries } from "../api/resources.ts";
import type { ServiceEntry } from "../api/types.ts";
import type { ReconcileResult } from "../client/types.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

/** Istio's range, of class E, which nobody else uses: 240.240.0.0/16 without its first and last address. */
const prefix = "240.240";
const hostsMax = 65_534;
const optOutLabel = "networking.istio.io/enable-autoallocate-ip";

export interface Allocated {
  host: string;
  value: string;
}

export function serviceEntryAddressController(deps: ControllerDeps): Controller {
  const { client, informers } = deps;
  const cache = informers.of(serviceEntries);
  async function reconcile(key: string): Promise<ReconcileResult> {
    const entry = cache.get(key);
    if (entry === undefined || entry.metadata.deletionTimestamp !== undefined) return { kind: "done" };
    const present = allocatedOf(entry);
    const others = cache.list().filter((other) => other.metadata.uid !== entry.metadata.uid);
    const wanted = plan(entry, others);
    if (Bun.deepEquals(present, wanted)) return { kind: "done" };
    const { namespace, name } = entry.metadata;
    const status = { addresses: wanted.length > 0 ? wanted : null };
    cache.observe(await client.patch(serviceEntries, namespace, name, { status }, { subresource: "status" }));
    return { kind: "done" };
  }
  return runController(deps, {
    name: "service-entry-addresses",
    reconcile,
    needs: [cache],
    // One after the other: each sees what the one before has taken.
    activeMax: 1,
    keys: () => cache.list().map(keyOf),
    watch: (enqueue) => [
      cache.onChange((current) => {
        if (current !== undefined) enqueue(keyOf(current));
      }),
    ],
  });
}

export const allocatedOf = ({ status }: ServiceEntry): readonly Allocated[] =>
  (status as { addresses?: Allocated[] } | undefined)?.addresses ?? [];

/** No address of its own, one that the proxy could honour, and not opted out by label. Wildcards stand for no one host. */
function hostsOf({ metadata, spec }: ServiceEntry): string[] {
  const isOff = /^false$/i.test(metadata.labels?.[optOutLabel] ?? "");
  const hasNone = spec?.resolution === undefined || spec.resolution === "NONE";
  if (isOff || hasNone || (spec.addresses?.length ?? 0) > 0) return [];
  return [...new Set(spec.hosts.map((host) => host.toLowerCase()))].filter((host) => !host.startsWith("*"));
}

/** Allocated addresses of the entry's hosts. What it has it keeps, unless an older entry has it as well. */
export function plan(entry: ServiceEntry, others: readonly ServiceEntry[]): Allocated[] {
  const taken = new Map<string, ServiceEntry>();
  for (const other of others) for (const { value } of allocatedOf(other)) taken.set(value, other);
  const present = new Map(allocatedOf(entry).map(({ host, value }) => [host, value]));
  const own = new Set<string>();
  return hostsOf(entry).flatMap((host) => {
    const kept = present.get(host);
    const rival = kept === undefined ? undefined : taken.get(kept);
    if (kept !== undefined && (rival === undefined || isOlder(entry, rival)) && !own.has(kept)) {
      own.add(kept);
      return [{ host, value: kept }];
    }
    const value = freeAddress(keyOf(entry) + host, (address) => taken.has(address) || own.has(address));
    if (value === undefined) return [];
    own.add(value);
    return [{ host, value }];
  });
}

function isOlder({ metadata: a }: ServiceEntry, { metadata: b }: ServiceEntry): boolean {
  if (a.creationTimestamp !== b.creationTimestamp) return a.creationTimestamp < b.creationTimestamp;
  return a.uid < b.uid;
}

/** From where the name says on, so that an entry applied again gets the address it had. Undefined when all are taken. */
function freeAddress(name: string, isTaken: (address: string) => boolean): string | undefined {
  const start = Number(BigInt(Bun.hash(name)) % BigInt(hostsMax));
  for (let i = 0; i < hostsMax; i++) {
    const index = ((start + i) % hostsMax) + 1;
    const address = `${prefix}.${index >> 8}.${index & 255}`;
    if (!isTaken(address)) return address;
  }
  return undefined;
}
