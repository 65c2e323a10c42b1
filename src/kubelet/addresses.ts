// Hands out pod addresses of the node's /24, the same to a pod again after the kubelet restarts.

import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { firstGatewayHost } from "../host/addresses.ts";
import { MeshbedError } from "../kernel/errors.ts";

const firstHost = 2;
/** 255 is the broadcast address. */
const lastHost = 254;
const ordinary = { first: firstHost, last: firstGatewayHost - 1 } as const;
const ofGateways = { first: firstGatewayHost, last: lastHost } as const;

export class AddressPool {
  readonly #prefix: string;
  readonly #path: string;
  readonly #hostByPod = new Map<string, number>();
  readonly #used = new Set<number>();
  readonly #next = new Map<object, number>();

  /** `prefix` is "10.244.1"; `path` is the file that keeps the assignments. An unreadable file counts as empty. */
  constructor(prefix: string, path: string) {
    this.#prefix = prefix;
    this.#path = path;
    try {
      const saved: unknown = JSON.parse(readFileSync(path, "utf8"));
      for (const [podId, host] of Object.entries(saved as Record<string, unknown>))
        if (typeof host === "number" && host >= firstHost && host <= lastHost && !this.#used.has(host))
          this.#take(podId, host);
    } catch {
      // First start, or a crash before the first save: addresses in pod statuses are claimed again anyway.
    }
  }

  /** The pod's address, assigned on first use; `wanted` (from the pod's status) is preferred. Throws ADDRESSES_EXHAUSTED. */
  assign(podId: string, wanted?: string, isGateway = false): string {
    const known = this.#hostByPod.get(podId);
    if (known !== undefined) return `${this.#prefix}.${known}`;
    const host = this.#free(wanted, isGateway ? ofGateways : ordinary);
    this.#take(podId, host);
    this.#save();
    return `${this.#prefix}.${host}`;
  }

  /** Whose address it is. */
  holderOf(ip: string): string | undefined {
    if (!ip.startsWith(`${this.#prefix}.`)) return undefined;
    const host = Number(ip.slice(this.#prefix.length + 1));
    for (const [podId, taken] of this.#hostByPod) if (taken === host) return podId;
    return undefined;
  }

  release(podId: string): void {
    const host = this.#hostByPod.get(podId);
    if (host === undefined) return;
    this.#hostByPod.delete(podId);
    this.#used.delete(host);
    this.#save();
  }

  /** Forgets every pod that is not among `podIds`: those that were deleted while no kubelet ran. */
  retain(podIds: ReadonlySet<string>): void {
    for (const podId of [...this.#hostByPod.keys()]) if (!podIds.has(podId)) this.release(podId);
  }

  #free(wanted: string | undefined, range: { first: number; last: number }): number {
    if (wanted?.startsWith(`${this.#prefix}.`)) {
      const host = Number(wanted.slice(this.#prefix.length + 1));
      if (Number.isInteger(host) && host >= range.first && host <= range.last && !this.#used.has(host)) return host;
    }
    // Next fit: an address just released stays unused as long as possible, since others may still know its old owner.
    const { first, last } = range;
    const count = last - first + 1;
    const next = this.#next.get(range) ?? first;
    for (let i = 0; i < count; i++) {
      const host = first + ((next - first + i) % count);
      if (this.#used.has(host)) continue;
      this.#next.set(range, host === last ? first : host + 1);
      return host;
    }
    throw new MeshbedError(
      "ADDRESSES_EXHAUSTED",
      `no free address in ${this.#prefix}.0/24: ${count} pods are the most`,
    );
  }

  #take(podId: string, host: number): void {
    this.#hostByPod.set(podId, host);
    this.#used.add(host);
  }

  #save(): void {
    const temporary = `${this.#path}.new`;
    writeFileSync(temporary, JSON.stringify(Object.fromEntries(this.#hostByPod)));
    renameSync(temporary, this.#path);
  }
}
