// The scheduler's filters, as an explicit list: each says why a node cannot take a pod, in Kubernetes' words.

import { isConditionTrue } from "../api/conditions.ts";
import { matchesNodeAffinity, notReadyTaint, unreachableTaint, untoleratedTaint } from "../api/placement.ts";
import { type LabelSelectorSpec, matchesLabelSelectorSpec } from "../api/selectors.ts";
import type { Pod } from "../api/types.ts";
import { amount, type ClusterState, type HostPort, type NodeState, type PlacedPod } from "./cluster-state.ts";
import { domainOf, type NamespaceLabels, termMeans } from "./terms.ts";

/** A pod to be placed, and the cluster around it. */
export interface Candidate extends PlacedPod {
  state: ClusterState;
  namespaceLabels: NamespaceLabels;
}

/** Reasons against this node; empty when it passes. */
type Filter = (candidate: Candidate, node: NodeState) => string[];

const filters: readonly Filter[] = [
  // Cheap and final ones first: the first filter with a reason ends the look at a node.
  unschedulable,
  ready,
  taints,
  affinity,
  ports,
  resources,
  topologySpread,
  podAffinity,
];

export function reasonsAgainst(candidate: Candidate, node: NodeState): string[] {
  for (const filter of filters) {
    const reasons = filter(candidate, node);
    if (reasons.length > 0) return reasons;
  }
  return [];
}

function unschedulable({ pod }: Candidate, { node }: NodeState): string[] {
  if (node.spec?.unschedulable !== true) return [];
  const taint = { key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" as const };
  return untoleratedTaint([taint], pod.spec?.tolerations, ["NoSchedule"]) ? ["node(s) were unschedulable"] : [];
}

/** A node that is not ready counts as tainted so, also before its controller got round to it. */
function ready({ pod }: Candidate, { node }: NodeState): string[] {
  if (isConditionTrue(node.status?.conditions, "Ready")) return [];
  const has = (key: string) => node.spec?.taints?.some((taint) => taint.key === key && taint.effect === "NoSchedule");
  if (has(notReadyTaint) || has(unreachableTaint)) return []; // the taint filter decides
  const taint = { key: notReadyTaint, effect: "NoSchedule" as const };
  return untoleratedTaint([taint], pod.spec?.tolerations, ["NoSchedule"]) ? ["node(s) were not ready"] : [];
}

function taints({ pod }: Candidate, { node }: NodeState): string[] {
  const taint = untoleratedTaint(node.spec?.taints, pod.spec?.tolerations, ["NoSchedule", "NoExecute"]);
  return taint ? [`node(s) had untolerated taint {${taint.key}: ${taint.value ?? ""}}`] : [];
}

function affinity({ pod }: Candidate, { node }: NodeState): string[] {
  return matchesNodeAffinity(pod.spec, node) ? [] : ["node(s) didn't match Pod's node affinity/selector"];
}

function ports(candidate: Candidate, { pods }: NodeState): string[] {
  if (candidate.ports.length === 0) return [];
  for (const placed of pods.values())
    if (placed.ports.some((taken) => candidate.ports.some((wanted) => collide(taken, wanted))))
      return ["node(s) didn't have free ports for the requested pod ports"];
  return [];
}

const collide = (a: HostPort, b: HostPort) =>
  a.port === b.port && a.protocol === b.protocol && (a.ip === b.ip || a.ip === "0.0.0.0" || b.ip === "0.0.0.0");

function resources({ requests }: Candidate, { node, pods, usedCpuMilli, usedMemoryBytes, usedOther }: NodeState) {
  const allocatable = node.status?.allocatable ?? node.status?.capacity ?? {};
  const room = (name: string) => (allocatable[name] === undefined ? 0 : amount(name, allocatable[name]));
  const reasons: string[] = [];
  if (allocatable["pods"] !== undefined && pods.size + 1 > room("pods")) reasons.push("Too many pods");
  if (requests.cpuMilli > 0 && usedCpuMilli + requests.cpuMilli > room("cpu")) reasons.push("Insufficient cpu");
  if (requests.memoryBytes > 0 && usedMemoryBytes + requests.memoryBytes > room("memory"))
    reasons.push("Insufficient memory");
  for (const [name, value] of requests.other) {
    // Ephemeral storage is not tracked unless the node reports it.
    if (name === "ephemeral-storage" && allocatable[name] === undefined) continue;
    if (value > 0 && (usedOther.get(name) ?? 0) + value > room(name)) reasons.push(`Insufficient ${name}`);
  }
  return reasons;
}

/** whenUnsatisfiable DoNotSchedule: the fullest domain may exceed the emptiest by maxSkew at most. */
function topologySpread({ pod, state }: Candidate, { node }: NodeState): string[] {
  for (const constraint of pod.spec?.topologySpreadConstraints ?? []) {
    if (constraint.whenUnsatisfiable !== "DoNotSchedule") continue;
    const domain = domainOf(node, constraint.topologyKey);
    if (domain === undefined) return ["node(s) didn't match pod topology spread constraints (missing required label)"];
    const counts = domainCounts(pod, state, constraint.topologyKey, constraint.labelSelector);
    const isSelf = matchesLabelSelectorSpec(constraint.labelSelector as LabelSelectorSpec, pod.metadata.labels);
    const least = counts.size < (constraint.minDomains ?? 1) ? 0 : Math.min(...counts.values());
    if ((counts.get(domain) ?? 0) + Number(isSelf) - least > constraint.maxSkew)
      return ["node(s) didn't match pod topology spread constraints"];
  }
  return [];
}

/** Matching pods per domain, over the nodes the pod's own affinity admits. */
export function domainCounts(
  pod: Pod,
  state: ClusterState,
  topologyKey: string,
  selector: unknown,
): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { node, pods } of state.nodes) {
    const domain = domainOf(node, topologyKey);
    if (domain === undefined || !matchesNodeAffinity(pod.spec, node)) continue;
    let count = counts.get(domain) ?? 0;
    for (const { pod: other } of pods.values())
      if (
        other.metadata.namespace === pod.metadata.namespace &&
        other.metadata.deletionTimestamp === undefined &&
        matchesLabelSelectorSpec(selector as LabelSelectorSpec, other.metadata.labels)
      )
        count++;
    counts.set(domain, count);
  }
  return counts;
}

function podAffinity(candidate: Candidate, { node }: NodeState): string[] {
  const { pod, state, namespaceLabels } = candidate;
  const near = pod.spec?.affinity?.podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
  const apart = pod.spec?.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
  const missing = new Set(near.filter((term) => domainOf(node, term.topologyKey) !== undefined));
  if (missing.size < near.length) return ["node(s) didn't match pod affinity rules"];
  const unmatched = new Set(near);
  for (const other of state.placed()) {
    const sameDomain = (key: string) => {
      const domain = domainOf(node, key);
      return domain !== undefined && domain === domainOf(other.node, key);
    };
    for (const term of near)
      if (termMeans(term, pod, other.pod, namespaceLabels)) {
        unmatched.delete(term);
        if (sameDomain(term.topologyKey)) missing.delete(term);
      }
    for (const term of apart)
      if (sameDomain(term.topologyKey) && termMeans(term, pod, other.pod, namespaceLabels))
        return ["node(s) didn't match pod anti-affinity rules"];
    for (const term of other.pod.spec?.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [])
      if (sameDomain(term.topologyKey) && termMeans(term, other.pod, pod, namespaceLabels))
        return ["node(s) didn't satisfy existing pods anti-affinity rules"];
  }
  // The first of a group that wants to be together may go anywhere.
  for (const term of missing)
    if (!unmatched.has(term) || !termMeans(term, pod, pod, namespaceLabels))
      return ["node(s) didn't match pod affinity rules"];
  return [];
}
