// The xDS resources a node has accepted, with version and time: what /config_dump shows.

import type { Message } from "@bufbuild/protobuf";
import { getOrAdd } from "../kernel/map.ts";
import type { Refusals, ResourceChange, TypeUrl } from "../xds/types.ts";

export interface Accepted {
  message: Message;
  version: string;
  /** Milliseconds since the epoch. */
  updatedAtMs: number;
}

export class AcceptedResources {
  readonly #types = new Map<TypeUrl, Map<string, Accepted>>();

  take(typeUrl: TypeUrl, { changed, removed, version }: ResourceChange, refused: Refusals, nowMs: number): void {
    const known = getOrAdd(this.#types, typeUrl, () => new Map<string, Accepted>());
    for (const { name, message } of changed)
      if (!refused.has(name)) known.set(name, { message, version, updatedAtMs: nowMs });
    for (const name of removed) known.delete(name);
  }

  /** Forgets what is not named. */
  keep(typeUrl: TypeUrl, names: ReadonlySet<string>): void {
    const known = this.#types.get(typeUrl);
    for (const name of known?.keys() ?? []) if (!names.has(name)) known?.delete(name);
  }

  of(typeUrl: TypeUrl): ReadonlyMap<string, Accepted> {
    return this.#types.get(typeUrl) ?? new Map();
  }
}
