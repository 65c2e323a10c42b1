// The status of a Deployment as `kubectl rollout status` reads it: counts, and the conditions Available, Progressing, ReplicaFailure.

import { findCondition } from "../api/conditions.ts";
import type { Deployment, ReplicaSet } from "../api/types.ts";
import { replicasOf, rollingLimits } from "./rollout.ts";

export type DeploymentStatus = NonNullable<Deployment["status"]>;
type DeploymentCondition = NonNullable<DeploymentStatus["conditions"]>[number];

export interface StatusInput {
  deployment: Deployment;
  current: ReplicaSet | undefined;
  old: readonly ReplicaSet[];
  /** What happened in this run, if anything, as a reason for Progressing. */
  step?: "NewReplicaSetCreated" | "FoundNewReplicaSet";
  /** Why the new ReplicaSet could not be created. */
  createFailure?: string;
  nowMs: number;
}

const rfc3339 = (ms: number) => `${new Date(ms).toISOString().slice(0, 19)}Z`;
const sum = (sets: readonly ReplicaSet[], of: (set: ReplicaSet) => number | undefined) =>
  sets.reduce((total, set) => total + (of(set) ?? 0), 0);

/** Status to write, and when the progress deadline passes if the rollout is still under way. */
export function deploymentStatus(input: StatusInput): { status: DeploymentStatus; deadlineInMs?: number } {
  const { deployment, current, old, nowMs } = input;
  const all = current === undefined ? old : [...old, current];
  const availableReplicas = sum(all, (set) => set.status?.availableReplicas);
  const collisionCount = deployment.status?.collisionCount;
  const counts: DeploymentStatus = {
    observedGeneration: deployment.metadata.generation ?? 0,
    replicas: sum(all, (set) => set.status?.replicas),
    updatedReplicas: current?.status?.replicas ?? 0,
    readyReplicas: sum(all, (set) => set.status?.readyReplicas),
    availableReplicas,
    unavailableReplicas: Math.max(0, sum(all, replicasOf) - availableReplicas),
    ...(collisionCount !== undefined && { collisionCount }),
  };
  const conditions = [...(deployment.status?.conditions ?? [])];
  const set = (type: string, status: string, reason: string, message: string, refresh = false) =>
    setCondition(conditions, { type, status, reason, message }, rfc3339(nowMs), refresh);

  const minAvailable = (deployment.spec?.replicas ?? 1) - rollingLimits(deployment).maxUnavailable;
  if (availableReplicas >= minAvailable)
    set("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.");
  else set("Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.");

  const deadlineInMs = progress(input, counts, conditions, set);
  const failure =
    input.createFailure ?? all.map((s) => findCondition(s.status?.conditions, "ReplicaFailure")?.message).find(Boolean);
  if (failure !== undefined) set("ReplicaFailure", "True", "FailedCreate", failure);
  else {
    const at = conditions.findIndex(({ type }) => type === "ReplicaFailure");
    if (at >= 0) conditions.splice(at, 1);
  }
  return { status: { ...counts, conditions }, ...(deadlineInMs !== undefined && { deadlineInMs }) };
}

type Set = (type: string, status: string, reason: string, message: string, refresh?: boolean) => void;

/** Kubernetes' syncRolloutStatus and checkPausedConditions. Answers the milliseconds left until the deadline. */
function progress(input: StatusInput, counts: DeploymentStatus, conditions: DeploymentCondition[], set: Set) {
  const { deployment, current, old, nowMs, step } = input;
  const present = findCondition(conditions, "Progressing");
  if (deployment.spec?.paused === true) {
    if (present?.reason !== "DeploymentPaused")
      set("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused");
    return undefined;
  }
  if (present?.reason === "DeploymentPaused")
    set("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed");
  if (input.createFailure !== undefined) {
    set("Progressing", "False", "ReplicaSetCreateError", input.createFailure);
    return undefined;
  }
  const name = current?.metadata.name ?? "";
  if (step === "NewReplicaSetCreated") set("Progressing", "True", step, `Created new replica set "${name}"`, true);
  if (step === "FoundNewReplicaSet") set("Progressing", "True", step, `Found new replica set "${name}"`, true);

  const deadlineMs = (deployment.spec?.progressDeadlineSeconds ?? 600) * 1000;
  const condition = findCondition(conditions, "Progressing");
  const wasComplete = counts.replicas === counts.updatedReplicas && condition?.reason === "NewReplicaSetAvailable";
  if (wasComplete) return undefined;
  const subject = current === undefined ? `Deployment "${deployment.metadata.name}"` : `ReplicaSet "${name}"`;
  if (isComplete(deployment, counts)) {
    set("Progressing", "True", "NewReplicaSetAvailable", `${subject} has successfully progressed.`);
    return undefined;
  }
  const before = deployment.status ?? {};
  const oldBefore = (before.replicas ?? 0) - (before.updatedReplicas ?? 0);
  const moved =
    counts.updatedReplicas! > (before.updatedReplicas ?? 0) ||
    counts.replicas! - counts.updatedReplicas! < oldBefore ||
    counts.readyReplicas! > (before.readyReplicas ?? 0) ||
    counts.availableReplicas! > (before.availableReplicas ?? 0);
  if (moved || condition === undefined) {
    set("Progressing", "True", "ReplicaSetUpdated", `${subject} is progressing.`, true);
    return deadlineMs;
  }
  if (condition.reason === "ProgressDeadlineExceeded") return undefined;
  const leftMs = Date.parse(condition.lastUpdateTime ?? "") + deadlineMs - nowMs;
  if (leftMs > 0) return leftMs;
  if (condition.reason === "NewReplicaSetAvailable" && sum(old, replicasOf) === 0) return undefined;
  set("Progressing", "False", "ProgressDeadlineExceeded", `${subject} has timed out progressing.`);
  return undefined;
}

/** Every wanted pod is of the new template and available, and no old one is left. */
export function isComplete(deployment: Deployment, status: DeploymentStatus): boolean {
  const replicas = deployment.spec?.replicas ?? 1;
  return (
    status.updatedReplicas === replicas &&
    status.replicas === replicas &&
    status.availableReplicas === replicas &&
    (status.observedGeneration ?? 0) >= (deployment.metadata.generation ?? 0)
  );
}

function setCondition(
  conditions: DeploymentCondition[],
  next: { type: string; status: string; reason: string; message: string },
  now: string,
  refresh: boolean,
): void {
  const at = conditions.findIndex(({ type }) => type === next.type);
  const old = conditions[at];
  const same = old?.status === next.status && old.reason === next.reason;
  if (same && old.message === next.message && !refresh) return;
  const lastTransitionTime = old?.status === next.status ? (old.lastTransitionTime ?? now) : now;
  const condition = { ...next, lastUpdateTime: now, lastTransitionTime };
  if (at < 0) conditions.push(condition);
  else conditions[at] = condition;
}
