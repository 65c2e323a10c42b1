// Gives nodes that come without one a /24 of the pod network.

import { keyOf } from "../api/object.ts";
import { nodes } from "../api/resources.ts";
import type { Node } from "../api/types.ts";
import { type ReconcileResult, TerminalError } from "../client/types.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

/** `nodeCidr`: the pod network, a.b.c.d/n with n ≤ 24. */
export function nodeCidrController(deps: ControllerDeps, nodeCidr: string): Controller {
  const { client, informers } = deps;
  const cache = informers.of(nodes);
  async function reconcile(name: string): Promise<ReconcileResult> {
    const node = cache.get(name);
    if (node === undefined || node.spec?.podCIDR) return { kind: "done" };
    const podCIDR = plan(nodeCidr, cache.list());
    if (podCIDR === undefined) throw new TerminalError(`no block of ${nodeCidr} is left for node ${name}`);
    cache.observe(await client.patch(nodes, undefined, name, { spec: { podCIDR, podCIDRs: [podCIDR] } }));
    return { kind: "done" };
  }

  return runController(deps, {
    name: "node-cidr",
    reconcile,
    needs: [cache],
    activeMax: 1, // two nodes must not pick the same block
    keys: () => cache.list().map(keyOf),
    watch: (enqueue) => [
      cache.onChange((current) => {
        if (current !== undefined && current.spec?.podCIDR === undefined) enqueue(keyOf(current));
      }),
    ],
  });
}

/** The lowest /24 of the network that no node has, or undefined when all are taken. */
export function plan(network: string, all: readonly Node[]): string | undefined {
  const [address = "", bits = "24"] = network.split("/");
  const base = address.split(".").reduce((value, part) => value * 256 + Number(part), 0);
  const taken = new Set(all.flatMap((node) => (node.spec?.podCIDR ? [node.spec.podCIDR] : [])));
  const blocks = 2 ** Math.max(0, 24 - Number(bits));
  for (let i = 0; i < blocks; i++) {
    const start = base + i * 256;
    const block = `${[24, 16, 8, 0].map((shift) => Math.floor(start / 2 ** shift) % 256).join(".")}/24`;
    if (!taken.has(block)) return block;
  }
  return undefined;
}
