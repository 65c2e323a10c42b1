// Picks the node for a pod, or says why there is none. Pure: filters, scores, a random choice among equals.

import type { Pod } from "../api/types.ts";
import type { Random } from "../kernel/random.ts";
import { type ClusterState, hostPortsOf, type NodeState, requestsOf } from "./cluster-state.ts";
import { type Candidate, reasonsAgainst } from "./filters.ts";
import { rate } from "./scores.ts";
import type { NamespaceLabels } from "./terms.ts";

export type Choice = { kind: "node"; name: string } | { kind: "none"; message: string };

export function pick(pod: Pod, state: ClusterState, namespaceLabels: NamespaceLabels, random: Random): Choice {
  const candidate: Candidate = { pod, requests: requestsOf(pod), ports: hostPortsOf(pod), state, namespaceLabels };
  const { nodes } = state;
  const fitting: NodeState[] = [];
  const refusals = new Map<string, number>();
  for (const node of nodes) {
    const reasons = reasonsAgainst(candidate, node);
    if (reasons.length === 0) fitting.push(node);
    for (const reason of reasons) refusals.set(reason, (refusals.get(reason) ?? 0) + 1);
  }
  if (fitting.length === 0) return { kind: "none", message: refusalMessage(nodes.length, refusals) };
  if (fitting.length === 1) return { kind: "node", name: fitting[0]!.node.metadata.name };
  const ratings = rate(candidate, fitting);
  const best = Math.max(...ratings);
  const equals = fitting.filter((_, i) => ratings[i]! >= best - 1e-9);
  return { kind: "node", name: equals[random.below(equals.length)]!.node.metadata.name };
}

/** "0/4 nodes are available: 1 node(s) were unschedulable, 3 Insufficient cpu." (framework.FitError) */
export function refusalMessage(nodes: number, refusals: ReadonlyMap<string, number>): string {
  if (nodes === 0) return "no nodes available to schedule pods";
  const reasons = [...refusals].map(([reason, count]) => `${count} ${reason}`).sort();
  return `0/${nodes} nodes are available: ${reasons.join(", ")}.`;
}
