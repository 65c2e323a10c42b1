// The scheduler's scores, as an explicit list: each rates the nodes that passed, higher is better.

import { matchesNodeSelectorTerm, untoleratedTaint } from "../api/placement.ts";
import { amount, type NodeState } from "./cluster-state.ts";
import { type Candidate, domainCounts } from "./filters.ts";
import { domainOf, termMeans } from "./terms.ts";

/** Raw ratings in the order of `nodes`; brought to 0…100 afterwards, so only their proportions count. */
type Score = (candidate: Candidate, nodes: readonly NodeState[]) => number[];

const scores: readonly { score: Score; weight: number; normalize: "range" | "asIs" }[] = [
  // Replicas apart come first: losing one node should cost as few of them as possible.
  { score: ownerSpread, weight: 10, normalize: "range" },
  // PreferNoSchedule.
  { score: preferredTaints, weight: 6, normalize: "range" },
  // What the pod's author would like.
  { score: nodePreference, weight: 4, normalize: "range" },
  { score: podPreference, weight: 4, normalize: "range" },
  { score: topologySpread, weight: 4, normalize: "range" },
  // Emptier nodes; absolute, so that a difference of a few percent does not outweigh anything above.
  { score: leastAllocated, weight: 1, normalize: "asIs" },
];

/** Total rating of each node, in the order given. */
export function rate(candidate: Candidate, nodes: readonly NodeState[]): number[] {
  const totals = nodes.map(() => 0);
  for (const { score, weight, normalize } of scores) {
    const raw = score(candidate, nodes);
    const least = Math.min(...raw);
    const span = Math.max(...raw) - least;
    raw.forEach((value, i) => {
      totals[i]! += weight * (normalize === "asIs" ? value : span === 0 ? 100 : (100 * (value - least)) / span);
    });
  }
  return totals;
}

const controllerUid = (pod: Candidate["pod"]) =>
  pod.metadata.ownerReferences?.find((owner) => owner.controller === true)?.uid;

function ownerSpread({ pod }: Candidate, nodes: readonly NodeState[]): number[] {
  const owner = controllerUid(pod);
  if (owner === undefined) return nodes.map(() => 0);
  return nodes.map(({ pods }) => {
    let count = 0;
    for (const other of pods.values())
      if (other.pod.metadata.deletionTimestamp === undefined && controllerUid(other.pod) === owner) count++;
    return -count;
  });
}

function preferredTaints({ pod }: Candidate, nodes: readonly NodeState[]): number[] {
  return nodes.map(({ node }) => {
    const taints = (node.spec?.taints ?? []).filter(({ effect }) => effect === "PreferNoSchedule");
    return -taints.filter((taint) => untoleratedTaint([taint], pod.spec?.tolerations, ["PreferNoSchedule"])).length;
  });
}

function nodePreference({ pod }: Candidate, nodes: readonly NodeState[]): number[] {
  const preferred = pod.spec?.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  return nodes.map(({ node }) =>
    preferred.reduce(
      (sum, { weight, preference }) => sum + (matchesNodeSelectorTerm(preference, node) ? weight : 0),
      0,
    ),
  );
}

function podPreference({ pod, state, namespaceLabels }: Candidate, nodes: readonly NodeState[]): number[] {
  const near = pod.spec?.affinity?.podAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  const apart = pod.spec?.affinity?.podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  if (near.length === 0 && apart.length === 0) return nodes.map(() => 0);
  const placed = [...state.placed()];
  const weigh = (terms: typeof near, { node }: NodeState) =>
    terms.reduce((sum, { weight, podAffinityTerm: term }) => {
      const domain = domainOf(node, term.topologyKey);
      const mates = placed.filter(
        (other) =>
          domain !== undefined &&
          domainOf(other.node, term.topologyKey) === domain &&
          termMeans(term, pod, other.pod, namespaceLabels),
      );
      return sum + weight * mates.length;
    }, 0);
  return nodes.map((node) => weigh(near, node) - weigh(apart, node));
}

/** whenUnsatisfiable ScheduleAnyway. */
function topologySpread({ pod, state }: Candidate, nodes: readonly NodeState[]): number[] {
  const soft = (pod.spec?.topologySpreadConstraints ?? []).filter(
    ({ whenUnsatisfiable }) => whenUnsatisfiable === "ScheduleAnyway",
  );
  const totals = nodes.map(() => 0);
  for (const { topologyKey, labelSelector } of soft) {
    const counts = domainCounts(pod, state, topologyKey, labelSelector);
    const most = Math.max(0, ...counts.values());
    nodes.forEach(({ node }, i) => {
      const domain = domainOf(node, topologyKey);
      totals[i]! -= domain === undefined ? most + 1 : (counts.get(domain) ?? 0);
    });
  }
  return totals;
}

/** 0…100: the share of CPU, memory and pod slots left once this pod is there, averaged. */
function leastAllocated({ requests }: Candidate, nodes: readonly NodeState[]): number[] {
  return nodes.map(({ node, pods, usedCpuMilli, usedMemoryBytes }) => {
    const allocatable = node.status?.allocatable ?? {};
    const left = (name: string, used: number) => {
      const room = allocatable[name] === undefined ? 0 : amount(name, allocatable[name]);
      return room === 0 ? 0 : Math.max(0, (100 * (room - used)) / room);
    };
    return (
      (left("cpu", usedCpuMilli + requests.cpuMilli) +
        left("memory", usedMemoryBytes + requests.memoryBytes) +
        left("pods", pods.size + 1)) /
      3
    );
  });
}
