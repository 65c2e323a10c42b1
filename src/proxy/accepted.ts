// The xDS resources a node has accepted, with version and time: what /config_dump shows.

import type { Message } from "@bufbuild/protobuf";
import type { NamedResource, TypeUrl } from "../xds/types.ts";

export interface Accepted {
  message: Message;
  version: string;
  /** Milliseconds since the epoch. */
  updatedAtMs: number;
}

export class AcceptedResources {
  readonly #types = new Map<TypeUrl, ReadonlyMap<string, Accepted>>();

  /** The whole current set of one type; what has not changed keeps its version and time. */
  take(typeUrl: TypeUrl, resources: readonly NamedResource[], version: string, nowMs: number): void {
    const before = this.#types.get(typeUrl);
    const next = new Map<string, Accepted>();
    for (const { name, message } of resources) {
      const known = before?.get(name);
      next.set(name, known?.message === message ? known : { message, version, updatedAtMs: nowMs });
    }
    this.#types.set(typeUrl, next);
  }

  of(typeUrl: TypeUrl): ReadonlyMap<string, Accepted> {
    return this.#types.get(typeUrl) ?? new Map();
  }
}
