// Decides the next step of a Deployment: which ReplicaSets to create, scale, annotate and prune. Pure: no I/O.

import type { Draft } from "../api/object.ts";
import type { Deployment, ReplicaSet } from "../api/types.ts";
import { isComplete } from "./deployment-status.ts";
import { controllerReference } from "./ownership.ts";
import {
  desiredReplicasAnnotation,
  findNewReplicaSet,
  maxReplicasAnnotation,
  newSetAnnotations,
  replicasAnnotations,
  revisionAnnotation,
  revisionOf,
  templateHash,
  templateHashLabel,
} from "./revision.ts";
import {
  isScalingEvent,
  newSetReplicas,
  oldSetsReplicas,
  replicasOf,
  rollingLimits,
  type Scaling,
  scaledReplicas,
} from "./rollout.ts";

export interface SetUpdate {
  set: ReplicaSet;
  replicas?: number;
  minReadySeconds?: number;
  annotations?: Record<string, string>;
}

export interface DeploymentPlan {
  create?: Draft<ReplicaSet>;
  updates: SetUpdate[];
  prune: ReplicaSet[];
  /** Annotations for the Deployment: its revision, when that changes. */
  revision?: Record<string, string>;
  /** An older ReplicaSet became the current one again (rollback). */
  found?: boolean;
}

/** `hasRunningPods` tells whether pods of a set, also terminating ones, still exist (for Recreate). */
export function plan(
  deployment: Deployment,
  sets: readonly ReplicaSet[],
  hasRunningPods: (set: ReplicaSet) => boolean,
): DeploymentPlan {
  if (deployment.metadata.deletionTimestamp !== undefined) return { updates: [], prune: [] };
  const current = findNewReplicaSet(deployment, sets);
  const old = sets.filter((set) => set !== current);
  const { maxSurge } = rollingLimits(deployment);
  const paused = deployment.spec?.paused === true;
  if (paused || isScalingEvent(deployment, sets)) {
    const scaling = scaledReplicas(deployment, current, old);
    const updates = scaleUpdates(deployment, sets, scaling, maxSurge);
    return { updates, prune: paused ? prunable(deployment, old) : [] };
  }
  return deployment.spec?.strategy?.type === "Recreate"
    ? recreate(deployment, current, old, hasRunningPods)
    : rolling(deployment, current, old);
}

function rolling(deployment: Deployment, current: ReplicaSet | undefined, old: ReplicaSet[]): DeploymentPlan {
  const all = current === undefined ? old : [...old, current];
  const replicas = newSetReplicas(deployment, all, current === undefined ? 0 : replicasOf(current));
  const step = currentStep(deployment, current, old, replicas);
  const isScaled = current === undefined || replicas !== replicasOf(current);
  if (isScaled) return { ...step, prune: [] };
  const scaling = oldSetsReplicas(deployment, current, old);
  const { maxSurge } = rollingLimits(deployment);
  const updates = [...step.updates, ...scaleUpdates(deployment, old, scaling, maxSurge)];
  return { ...step, updates, prune: isDone(deployment) ? prunable(deployment, old) : [] };
}

function recreate(
  deployment: Deployment,
  current: ReplicaSet | undefined,
  old: ReplicaSet[],
  hasRunningPods: (set: ReplicaSet) => boolean,
): DeploymentPlan {
  const active = old.filter((set) => replicasOf(set) > 0);
  const scaling: Scaling = new Map(active.map((set) => [set.metadata.name, 0]));
  if (active.length > 0) return { updates: scaleUpdates(deployment, old, scaling, 0), prune: [] };
  if (old.some(hasRunningPods)) return { updates: [], prune: [] };
  const step = currentStep(deployment, current, old, deployment.spec?.replicas ?? 1);
  return { ...step, prune: isDone(deployment) ? prunable(deployment, old) : [] };
}

const isDone = (deployment: Deployment) => deployment.status !== undefined && isComplete(deployment, deployment.status);

/** Creates the current template's set, or brings its annotations, size and minReadySeconds up to date. */
function currentStep(
  deployment: Deployment,
  current: ReplicaSet | undefined,
  old: ReplicaSet[],
  replicas: number,
): Omit<DeploymentPlan, "prune"> {
  const annotations = newSetAnnotations(deployment, old, current, rollingLimits(deployment).maxSurge);
  const revision =
    deployment.metadata.annotations?.[revisionAnnotation] === annotations[revisionAnnotation]
      ? {}
      : { revision: { [revisionAnnotation]: annotations[revisionAnnotation]! } };
  if (current === undefined) return { create: draftOf(deployment, annotations, replicas), updates: [], ...revision };
  const minReadySeconds = deployment.spec?.minReadySeconds ?? 0;
  const present = current.metadata.annotations ?? {};
  const changed = Object.entries(annotations).some(([key, value]) => present[key] !== value);
  const update: SetUpdate = {
    set: current,
    ...(changed && { annotations }),
    ...(replicas !== replicasOf(current) && { replicas }),
    ...(minReadySeconds !== (current.spec?.minReadySeconds ?? 0) && { minReadySeconds }),
  };
  return {
    updates: Object.keys(update).length > 1 ? [update] : [],
    ...revision,
    ...(revisionOf(current) > 0 && revisionOf(current) < Number(annotations[revisionAnnotation]) && { found: true }),
  };
}

function draftOf(deployment: Deployment, annotations: Record<string, string>, replicas: number): Draft<ReplicaSet> {
  const { name, namespace } = deployment.metadata;
  const template = deployment.spec?.template;
  const hash = templateHash(template, deployment.status?.collisionCount);
  const labels = { ...template?.metadata?.labels, [templateHashLabel]: hash };
  const selector = deployment.spec?.selector;
  return {
    apiVersion: "apps/v1",
    kind: "ReplicaSet",
    metadata: {
      name: `${name}-${hash}`,
      namespace: namespace!,
      labels,
      annotations,
      ownerReferences: [controllerReference(deployment)],
    },
    spec: {
      replicas,
      ...(deployment.spec?.minReadySeconds && { minReadySeconds: deployment.spec.minReadySeconds }),
      selector: { ...selector, matchLabels: { ...selector?.matchLabels, [templateHashLabel]: hash } },
      template: { ...template, metadata: { ...template?.metadata, labels } },
    },
  } as Draft<ReplicaSet>;
}

/** Sizes, and the annotations that say for which size of the Deployment they were planned. */
function scaleUpdates(
  deployment: Deployment,
  sets: readonly ReplicaSet[],
  scaling: Scaling,
  maxSurge: number,
): SetUpdate[] {
  const annotations = replicasAnnotations(deployment, maxSurge);
  const updates: SetUpdate[] = [];
  for (const set of sets) {
    const replicas = scaling.get(set.metadata.name);
    const present = set.metadata.annotations ?? {};
    const stale = [desiredReplicasAnnotation, maxReplicasAnnotation].some((key) => present[key] !== annotations[key]);
    if (replicas === undefined && !(stale && replicasOf(set) > 0)) continue;
    updates.push({ set, ...(replicas !== undefined && { replicas }), ...(stale && { annotations }) });
  }
  return updates;
}

/** Old sets beyond revisionHistoryLimit, lowest revision first; only those that are empty. */
function prunable(deployment: Deployment, old: readonly ReplicaSet[]): ReplicaSet[] {
  const surplus = old.length - (deployment.spec?.revisionHistoryLimit ?? 10);
  if (surplus <= 0) return [];
  return old
    .filter(
      (set) =>
        replicasOf(set) === 0 &&
        (set.status?.replicas ?? 0) === 0 &&
        (set.status?.observedGeneration ?? 0) >= (set.metadata.generation ?? 0) &&
        set.metadata.deletionTimestamp === undefined,
    )
    .sort((a, b) => revisionOf(a) - revisionOf(b))
    .slice(0, surplus);
}
