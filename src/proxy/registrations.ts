// Which chain of a node answers at which endpoint address, told to its neighbours in this process.

import type { Chain, ChainOwner, ChainSlot, InboundTarget } from "./chain.ts";
import type { ClusterSlot } from "./clusters/cluster.ts";
import type { CompiledListener } from "./compile/listener.ts";
import type { InboundRegistry } from "./inbound.ts";

export class Registrations {
  readonly #inbound: InboundRegistry;
  readonly #owner: ChainOwner;
  readonly #registered = new Map<string, InboundTarget>();

  constructor(inbound: InboundRegistry, owner: ChainOwner) {
    this.#inbound = inbound;
    this.#owner = owner;
  }

  /** The chain registered at "ip:port". */
  slot(address: string): ChainSlot | undefined {
    return this.#registered.get(address)?.slot;
  }

  /** Registers what the inbound listener's chains lead to, and nothing else. */
  follow(listener: CompiledListener | undefined): void {
    const next = new Map<string, ChainSlot>();
    for (const { slot } of listener?.chains ?? [])
      for (const { address } of inboundSlot(slot.current)?.all ?? []) next.set(address, slot);
    for (const [address, target] of this.#registered)
      if (next.get(address) !== target.slot) {
        this.#inbound.delete(address, target);
        this.#registered.delete(address);
      }
    for (const [address, slot] of next)
      if (!this.#registered.has(address)) {
        const target = { slot, owner: this.#owner };
        this.#registered.set(address, target);
        this.#inbound.set(address, target);
      }
  }
}

/** The cluster behind an inbound chain: the workload's own port. */
const inboundSlot = (chain: Chain | undefined): ClusterSlot | undefined =>
  chain?.kind === "http" ? chain.routes.current?.clusters[0] : chain?.targets[0];
