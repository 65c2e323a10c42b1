// Keeps as many pods as a ReplicaSet asks for: adopts, creates, deletes in Kubernetes' order, writes the status.

import { withCondition } from "../api/conditions.ts";
import { type Draft, keyOf } from "../api/object.ts";
import { pods, replicaSets } from "../api/resources.ts";
import type { Pod, ReplicaSet } from "../api/types.ts";
import { deleteObject } from "../client/delete.ts";
import type { EventRecorder } from "../client/event-recorder.ts";
import type { IndexedInformer, ReconcileResult } from "../client/types.ts";
import { timestamp } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import { candidatesOf } from "./indexes.ts";
import { adoptPatch, type Claims, claim, controllerOf, controllerReference, releasePatch } from "./ownership.ts";
import { availableInMs, byDeletionOrder, isActive, isReady } from "./pods.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

/** Pods created or deleted in one run; the rest follows in the next (as in Kubernetes). */
const burstMax = 500;
/** Size of the first batch of creations; each further one doubles. */
const firstBatch = 16;

interface Self extends ControllerDeps {
  sets: IndexedInformer<ReplicaSet>;
  podCache: IndexedInformer<Pod>;
  recorder: EventRecorder;
}

export function replicaSetController(deps: ControllerDeps): Controller {
  const sets = deps.informers.of(replicaSets);
  const podCache = deps.informers.of(pods);
  const self: Self = { ...deps, sets, podCache, recorder: deps.recorderOf("replicaset-controller") };
  return runController(deps, {
    name: "replicaset",
    reconcile: (key) => reconcile(self, key),
    needs: [sets, podCache],
    keys: () => sets.list().map(keyOf),
    watch: (enqueue) => [
      sets.onChange((current, old) => enqueue(keyOf((current ?? old)!))),
      podCache.onChange((current, old) => {
        for (const pod of [current, old]) {
          if (pod === undefined) continue;
          const owner = controllerOf(pod);
          if (owner?.kind === "ReplicaSet") enqueue(`${pod.metadata.namespace}/${owner.name}`);
          else if (owner === undefined && current !== undefined)
            for (const set of sets.by("namespace", pod.metadata.namespace ?? ""))
              if (claim(set, set.spec?.selector, [pod]).adopt.length > 0) enqueue(keyOf(set));
        }
      }),
    ],
  });
}

async function reconcile(self: Self, key: string): Promise<ReconcileResult> {
  const { clock, sets, podCache } = self;
  const set = sets.get(key);
  if (set === undefined) return { kind: "done" };
  const { uid, namespace } = set.metadata;
  const claims = claim(set, set.spec?.selector, candidatesOf(podCache, uid, namespace));
  await settleClaims(self, set, claims);
  const owned = [...claims.owned, ...claims.adopt];
  const deployment = controllerOf(set)?.uid;
  const related =
    deployment === undefined
      ? owned
      : sets.by("controller", deployment).flatMap((s) => podCache.by("controller", s.metadata.uid));
  const decision = plan(set, owned, related, clock.now());
  let failure: unknown;
  try {
    await createPods(self, set, decision.create);
    await deletePods(self, set, decision.delete);
  } catch (error) {
    failure = error;
  }
  // What was just written counts already: the cache took it over.
  const now = claim(set, set.spec?.selector, podCache.by("controller", uid)).owned;
  await writeStatus(self, sets.get(key) ?? set, statusOf(set, now, clock.now()), failure);
  if (failure !== undefined) throw failure;
  return decision.againMs === undefined ? { kind: "done" } : { kind: "again", afterMs: decision.againMs };
}

async function settleClaims(self: Self, set: ReplicaSet, claims: Claims<Pod>): Promise<void> {
  const { client, podCache } = self;
  for (const pod of claims.adopt)
    podCache.observe(await client.patch(pods, pod.metadata.namespace, pod.metadata.name, adoptPatch(set, pod)));
  const owner = new Set([set.metadata.uid]);
  for (const pod of claims.release)
    podCache.observe(await client.patch(pods, pod.metadata.namespace, pod.metadata.name, releasePatch(pod, owner)));
}

/** In batches that double, so that a template the server refuses costs one refusal and not hundreds. */
async function createPods(self: Self, set: ReplicaSet, count: number): Promise<void> {
  const { client, recorder, podCache } = self;
  for (let left = count, batch = firstBatch; left > 0; left -= batch, batch *= 2) {
    batch = Math.min(batch, left);
    const results = await Promise.allSettled(Array.from({ length: batch }, () => client.create(pods, podOf(set))));
    for (const result of results)
      if (result.status === "fulfilled") {
        podCache.observe(result.value);
        recorder.record(set, "Normal", "SuccessfulCreate", `Created pod: ${result.value.metadata.name}`);
      } else recorder.record(set, "Warning", "FailedCreate", `Error creating: ${messageOf(result.reason)}`);
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }
}

async function deletePods(self: Self, set: ReplicaSet, doomed: readonly Pod[]): Promise<void> {
  const { client, recorder, podCache } = self;
  const removals = doomed.map(async (pod) => {
    const { name, uid } = pod.metadata;
    await deleteObject(client, pods, pod);
    podCache.observeDeleting(keyOf(pod), uid);
    recorder.record(set, "Normal", "SuccessfulDelete", `Deleted pod: ${name}`);
  });
  const failed = (await Promise.allSettled(removals)).find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

async function writeStatus(self: Self, set: ReplicaSet, status: ReplicaSetStatus, failure: unknown): Promise<void> {
  const { client, clock, sets } = self;
  const conditions =
    failure === undefined
      ? (set.status?.conditions ?? []).filter(({ type }) => type !== "ReplicaFailure")
      : withCondition(
          set.status?.conditions,
          { type: "ReplicaFailure", status: "True", reason: "FailedCreate", message: messageOf(failure) },
          timestamp(clock),
        );
  const next = { ...status, ...(conditions.length > 0 || set.status?.conditions ? { conditions } : {}) };
  const { conditions: _, ...before } = set.status ?? { replicas: -1 };
  const { namespace, name } = set.metadata;
  if (Bun.deepEquals({ ...before, conditions: set.status?.conditions }, { ...next, conditions: next.conditions }))
    return;
  sets.observe(await client.patch(replicaSets, namespace, name, { status: next }, { subresource: "status" }));
}

/** A pod as the set's template says; the name is the server's to complete. */
function podOf(set: ReplicaSet): Draft<Pod> {
  const { metadata, spec } = set.spec?.template ?? {};
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      generateName: `${set.metadata.name}-`,
      namespace: set.metadata.namespace!,
      ...(metadata?.labels && { labels: metadata.labels }),
      ...(metadata?.annotations && { annotations: metadata.annotations }),
      ...(metadata?.finalizers && { finalizers: metadata.finalizers }),
      ownerReferences: [controllerReference(set)],
    },
    ...(spec && { spec }),
  };
}

export interface ReplicaSetPlan {
  /** Pods to create. */
  create: number;
  delete: Pod[];
  /** When a ready pod becomes available without anything else changing. */
  againMs?: number;
}

/** `related` are the pods of all sets of the same Deployment: where they crowd, scale-down begins. */
export function plan(set: ReplicaSet, owned: readonly Pod[], related: readonly Pod[], nowMs: number): ReplicaSetPlan {
  const active = owned.filter(isActive);
  const minReadySeconds = set.spec?.minReadySeconds ?? 0;
  const waitsMs = active.map((pod) => availableInMs(pod, minReadySeconds, nowMs) ?? 0).filter((ms) => ms > 0);
  const againMs = waitsMs.length === 0 ? {} : { againMs: Math.min(...waitsMs) };
  if (set.metadata.deletionTimestamp !== undefined) return { create: 0, delete: [], ...againMs };
  const surplus = active.length - (set.spec?.replicas ?? 1);
  if (surplus <= 0) return { create: Math.min(-surplus, burstMax), delete: [], ...againMs };
  const crowds = new Map<string, number>();
  for (const pod of related)
    if (isActive(pod) && pod.spec?.nodeName !== undefined)
      crowds.set(pod.spec.nodeName, (crowds.get(pod.spec.nodeName) ?? 0) + 1);
  const doomed = [...active].sort(byDeletionOrder((pod) => crowds.get(pod.spec?.nodeName ?? "") ?? 0));
  return { create: 0, delete: doomed.slice(0, Math.min(surplus, burstMax)), ...againMs };
}

type ReplicaSetStatus = NonNullable<ReplicaSet["status"]>;

/** apps/v1 ReplicaSetStatus without conditions. */
export function statusOf(set: ReplicaSet, owned: readonly Pod[], nowMs: number): ReplicaSetStatus {
  const active = owned.filter(isActive);
  const templateLabels = Object.entries(set.spec?.template?.metadata?.labels ?? {});
  const minReadySeconds = set.spec?.minReadySeconds ?? 0;
  return {
    replicas: active.length,
    fullyLabeledReplicas: active.filter((pod) =>
      templateLabels.every(([key, value]) => pod.metadata.labels?.[key] === value),
    ).length,
    readyReplicas: active.filter(isReady).length,
    availableReplicas: active.filter((pod) => availableInMs(pod, minReadySeconds, nowMs) === 0).length,
    observedGeneration: set.metadata.generation ?? 0,
  };
}
