// The arithmetic of rollouts: how many replicas each ReplicaSet of a Deployment should have next. Pure numbers, no I/O.

import type { Deployment, ReplicaSet } from "../api/types.ts";
import { byCreation, desiredReplicasAnnotation, maxReplicasAnnotation } from "./revision.ts";

/** Wanted replicas by ReplicaSet name; only those that change. */
export type Scaling = Map<string, number>;

export const replicasOf = (set: ReplicaSet): number => set.spec?.replicas ?? 1;
/** Available pods; a status older than a scale-down must not count more than the set still wants. */
const availableOf = (set: ReplicaSet): number => Math.min(set.status?.availableReplicas ?? 0, replicasOf(set));
const sum = (sets: readonly ReplicaSet[], of: (set: ReplicaSet) => number) => sets.reduce((n, set) => n + of(set), 0);

/** A count or a percentage of `total`; "25%" of 3 is 1 rounded up, 0 rounded down. */
export function resolveCount(value: string | number | undefined, total: number, round: "up" | "down", absent: number) {
  if (value === undefined) return absent;
  const percent = typeof value === "string" ? /^(\d+)%$/.exec(value) : null;
  if (percent === null) return Number(value);
  const exact = (Number(percent[1]) * total) / 100;
  return round === "up" ? Math.ceil(exact) : Math.floor(exact);
}

/** maxSurge and maxUnavailable in pods; when both would be 0 one pod may be unavailable, or nothing could ever move. */
export function rollingLimits(deployment: Deployment): { maxSurge: number; maxUnavailable: number } {
  const replicas = deployment.spec?.replicas ?? 1;
  const { type, rollingUpdate } = deployment.spec?.strategy ?? {};
  if (type === "Recreate" || replicas === 0) return { maxSurge: 0, maxUnavailable: 0 };
  const maxSurge = resolveCount(rollingUpdate?.maxSurge ?? "25%", replicas, "up", 0);
  const maxUnavailable = resolveCount(rollingUpdate?.maxUnavailable ?? "25%", replicas, "down", 0);
  if (maxSurge === 0 && maxUnavailable === 0) return { maxSurge, maxUnavailable: 1 };
  return { maxSurge, maxUnavailable: Math.min(maxUnavailable, replicas) };
}

/** Replicas of the new set: as many as the surge allows on top of what all sets want now. */
export function newSetReplicas(deployment: Deployment, all: readonly ReplicaSet[], current: number): number {
  const wanted = deployment.spec?.replicas ?? 1;
  if (deployment.spec?.strategy?.type === "Recreate" || current >= wanted) return wanted;
  const room = wanted + rollingLimits(deployment).maxSurge - sum(all, replicasOf);
  return room <= 0 ? current : current + Math.min(room, wanted - current);
}

/**
 * Rolling update, downwards: first pods of old sets that are not available anyway, then available ones as long as
 * replicas − maxUnavailable stay available (Kubernetes' reconcileOldReplicaSets).
 */
export function oldSetsReplicas(deployment: Deployment, current: ReplicaSet, old: readonly ReplicaSet[]): Scaling {
  const scaling: Scaling = new Map();
  const minAvailable = (deployment.spec?.replicas ?? 1) - rollingLimits(deployment).maxUnavailable;
  const newUnavailable = replicasOf(current) - availableOf(current);
  let budget = sum([...old, current], replicasOf) - minAvailable - newUnavailable;
  const oldest = [...old].sort(byCreation);
  for (const set of oldest) {
    const cut = Math.min(budget, replicasOf(set) - availableOf(set));
    if (cut <= 0) continue;
    scaling.set(set.metadata.name, replicasOf(set) - cut);
    budget -= cut;
  }
  let spare = Math.min(budget, sum([...old, current], availableOf) - minAvailable);
  for (const set of oldest) {
    const left = scaling.get(set.metadata.name) ?? replicasOf(set);
    const cut = Math.min(spare, left);
    if (cut <= 0) continue;
    scaling.set(set.metadata.name, left - cut);
    spare -= cut;
  }
  return scaling;
}

/** Whether the size changed since the rollout was planned: then sets are scaled before it goes on. */
export function isScalingEvent(deployment: Deployment, sets: readonly ReplicaSet[]): boolean {
  return sets.some((set) => {
    if (replicasOf(set) === 0) return false;
    const desired = set.metadata.annotations?.[desiredReplicasAnnotation];
    return desired !== undefined && Number(desired) !== (deployment.spec?.replicas ?? 1);
  });
}

/**
 * Scaling outside of a rollout step: one set takes all; a finished rollout empties the old ones; in the middle of a rolling update
 * every set grows or shrinks in proportion (Kubernetes' DeploymentController.scale).
 */
export function scaledReplicas(
  deployment: Deployment,
  current: ReplicaSet | undefined,
  old: readonly ReplicaSet[],
): Scaling {
  const wanted = deployment.spec?.replicas ?? 1;
  const all = current === undefined ? [...old] : [...old, current];
  const active = all.filter((set) => replicasOf(set) > 0);
  const only =
    active.length === 1 ? active[0] : active.length === 0 ? (current ?? [...old].sort(byCreation).at(-1)) : undefined;
  if (only !== undefined) return replicasOf(only) === wanted ? new Map() : new Map([[only.metadata.name, wanted]]);
  if (active.length === 0) return new Map();
  if (current !== undefined && isSaturated(deployment, current))
    return new Map(old.filter((set) => replicasOf(set) > 0).map((set) => [set.metadata.name, 0]));
  if (deployment.spec?.strategy?.type === "Recreate") return new Map();
  return proportional(deployment, active);
}

function isSaturated(deployment: Deployment, current: ReplicaSet): boolean {
  const wanted = deployment.spec?.replicas ?? 1;
  const desired = Number(current.metadata.annotations?.[desiredReplicasAnnotation]);
  return replicasOf(current) === wanted && desired === wanted && (current.status?.availableReplicas ?? 0) === wanted;
}

function proportional(deployment: Deployment, active: ReplicaSet[]): Scaling {
  const wanted = deployment.spec?.replicas ?? 1;
  const allowed = wanted > 0 ? wanted + rollingLimits(deployment).maxSurge : 0;
  const toAdd = allowed - sum(active, replicasOf);
  const scaling: Scaling = new Map();
  if (toAdd === 0) return scaling;
  // Growing: newest first among the largest; shrinking: oldest first.
  const ordered = active.sort(
    (a, b) => replicasOf(b) - replicasOf(a) || (toAdd > 0 ? byCreation(b, a) : byCreation(a, b)),
  );
  let added = 0;
  for (const set of ordered) {
    const annotated = Number(set.metadata.annotations?.[maxReplicasAnnotation]) || allowed;
    const ideal = wanted === 0 ? 0 : Math.round((replicasOf(set) * allowed) / annotated);
    const change = wanted === 0 ? -replicasOf(set) : ideal - replicasOf(set);
    const left = toAdd - added;
    const part = toAdd > 0 ? Math.max(0, Math.min(change, left)) : Math.min(0, Math.max(change, left));
    scaling.set(set.metadata.name, replicasOf(set) + part);
    added += part;
  }
  const first = ordered[0]!;
  scaling.set(first.metadata.name, Math.max(0, scaling.get(first.metadata.name)! + toAdd - added));
  for (const set of active) if (scaling.get(set.metadata.name) === replicasOf(set)) scaling.delete(set.metadata.name);
  return scaling;
}
