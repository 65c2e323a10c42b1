// Inbound chains of all workloads of this process by endpoint address, so that a call to a neighbour needs no tunnel.

import type { ChainOwner, ConnectionInfo, InboundTarget } from "./chain.ts";
import type { Endpoint } from "./clusters/cluster.ts";

/** A neighbour's view of `client`'s connection: an authenticated peer, the caller's workload, at the neighbour's own port. */
export function asSeenBy({ transport }: Endpoint, client: ConnectionInfo, { identity }: ChainOwner): ConnectionInfo {
  const { host, port } = transport;
  return { ...client, localAddress: host, localPort: port, secure: true, peer: { identity, authenticated: true } };
}

export class InboundRegistry {
  readonly #targets = new Map<string, InboundTarget>();
  #version = 0;

  /** `address` is "ip:port" of the endpoint as other workloads know it. */
  set(address: string, target: InboundTarget): void {
    this.#targets.set(address, target);
    this.#version++;
  }
  delete(address: string, target: InboundTarget): void {
    if (this.#targets.get(address) !== target) return;
    this.#targets.delete(address);
    this.#version++;
  }
  get(address: string): InboundTarget | undefined {
    return this.#targets.get(address);
  }
  /**
   * What is at the other end of a tunnel to `endpoint`, where that is in this process: no tunnel is needed if both ends have the
   * certificates they would show each other. Whatever is reached in plain text comes in at the neighbour's listener like anybody's.
   */
  tunnelEnd(endpoint: Endpoint, caller: ChainOwner): InboundTarget | undefined {
    if (endpoint.transport.connectTarget === undefined || caller.identity.principal === "unknown") return undefined;
    const target = this.#of(endpoint);
    return target?.owner.identity.principal === "unknown" ? undefined : target;
  }

  /** As `get`, remembered on the endpoint until the registry changes. */
  #of(endpoint: Endpoint): InboundTarget | undefined {
    if (endpoint.localVersion !== this.#version) {
      endpoint.localVersion = this.#version;
      endpoint.local = this.#targets.get(endpoint.address);
    }
    return endpoint.local as InboundTarget | undefined;
  }
}
