// Questions every workload controller asks of a pod: active, ready, available, deleted in which order.

import { findCondition, isConditionTrue } from "../api/conditions.ts";
import type { Pod } from "../api/types.ts";

/** Neither finished nor being deleted. */
export function isActive(pod: Pod): boolean {
  const phase = pod.status?.phase;
  return phase !== "Succeeded" && phase !== "Failed" && pod.metadata.deletionTimestamp === undefined;
}

export const isFinished = (pod: Pod): boolean => pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";

export const isReady = (pod: Pod): boolean => isConditionTrue(pod.status?.conditions, "Ready");

/** Milliseconds until a ready pod has been ready for `minReadySeconds`: 0 when it is available, undefined when not ready. */
export function availableInMs(pod: Pod, minReadySeconds: number, nowMs: number): number | undefined {
  const ready = findCondition(pod.status?.conditions, "Ready");
  if (ready?.status !== "True") return undefined;
  if (minReadySeconds === 0) return 0;
  const sinceMs = Date.parse(ready.lastTransitionTime ?? "");
  return Number.isNaN(sinceMs) ? minReadySeconds * 1000 : Math.max(0, sinceMs + minReadySeconds * 1000 - nowMs);
}

const restarts = (pod: Pod) =>
  (pod.status?.containerStatuses ?? []).reduce((most, status) => Math.max(most, status.restartCount ?? 0), 0);
const readySince = (pod: Pod) => findCondition(pod.status?.conditions, "Ready")?.lastTransitionTime ?? "";
const phaseOrder: Record<string, number> = { Pending: 0, Unknown: 1, Running: 2 };
const deletionCost = (pod: Pod) =>
  Number(pod.metadata.annotations?.["controller.kubernetes.io/pod-deletion-cost"]) || 0;

/**
 * The order in which a scale-down removes pods, first to go first (Kubernetes' ActivePodsWithRanks): unassigned, pending, not ready,
 * cheap, crowded on one node (`rank`), ready for a shorter time, restarted more often, younger.
 */
export function byDeletionOrder(rank: (pod: Pod) => number): (a: Pod, b: Pod) => number {
  return (a, b) => {
    const assigned = Number(a.spec?.nodeName !== undefined) - Number(b.spec?.nodeName !== undefined);
    if (assigned !== 0) return assigned;
    const phase = (phaseOrder[a.status?.phase ?? "Pending"] ?? 1) - (phaseOrder[b.status?.phase ?? "Pending"] ?? 1);
    if (phase !== 0) return phase;
    const ready = Number(isReady(a)) - Number(isReady(b));
    if (ready !== 0) return ready;
    const cost = deletionCost(a) - deletionCost(b);
    if (cost !== 0) return cost;
    const crowding = rank(b) - rank(a);
    if (crowding !== 0) return crowding;
    if (isReady(a) && readySince(a) !== readySince(b)) return readySince(a) > readySince(b) ? -1 : 1;
    const restarted = restarts(b) - restarts(a);
    if (restarted !== 0) return restarted;
    if (a.metadata.creationTimestamp !== b.metadata.creationTimestamp)
      return a.metadata.creationTimestamp > b.metadata.creationTimestamp ? -1 : 1;
    return a.metadata.name < b.metadata.name ? -1 : 1; // stable whatever the cache's order
  };
}
