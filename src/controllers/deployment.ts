// Rolls a Deployment's template out over ReplicaSets: RollingUpdate and Recreate, revisions, history, pause, progress conditions.

import { type Draft, keyOf } from "../api/object.ts";
import { deployments, pods, replicaSets } from "../api/resources.ts";
import type { Deployment, Pod, ReplicaSet } from "../api/types.ts";
import { deleteObject } from "../client/delete.ts";
import type { EventRecorder } from "../client/event-recorder.ts";
import { type IndexedInformer, isAlreadyExists, type ReconcileResult } from "../client/types.ts";
import { messageOf } from "../kernel/errors.ts";
import { plan } from "./deployment-plan.ts";
import { type DeploymentStatus, deploymentStatus } from "./deployment-status.ts";
import { candidatesOf } from "./indexes.ts";
import { adoptPatch, claim, controllerOf, releasePatch } from "./ownership.ts";
import { isFinished } from "./pods.ts";
import { findNewReplicaSet, sameTemplate } from "./revision.ts";
import { replicasOf } from "./rollout.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

interface Self extends ControllerDeps {
  cache: IndexedInformer<Deployment>;
  sets: IndexedInformer<ReplicaSet>;
  podCache: IndexedInformer<Pod>;
  recorder: EventRecorder;
}

export function deploymentController(deps: ControllerDeps): Controller {
  const cache = deps.informers.of(deployments);
  const sets = deps.informers.of(replicaSets);
  const podCache = deps.informers.of(pods);
  const self: Self = { ...deps, cache, sets, podCache, recorder: deps.recorderOf("deployment-controller") };
  return runController(deps, {
    name: "deployment",
    reconcile: (key) => reconcile(self, key),
    needs: [cache, sets, podCache],
    keys: () => cache.list().map(keyOf),
    watch: (enqueue) => [
      cache.onChange((current, old) => enqueue(keyOf((current ?? old)!))),
      sets.onChange((current, old) => {
        for (const set of [current, old]) {
          if (set === undefined) continue;
          const owner = controllerOf(set);
          if (owner?.kind === "Deployment") enqueue(`${set.metadata.namespace}/${owner.name}`);
          else if (owner === undefined && current !== undefined)
            for (const deployment of cache.by("namespace", set.metadata.namespace ?? ""))
              if (claim(deployment, deployment.spec?.selector, [set]).adopt.length > 0) enqueue(keyOf(deployment));
        }
      }),
      // Recreate waits for the last old pod to be gone, which no ReplicaSet status shows.
      podCache.onChange((current, old) => {
        if (current !== undefined && !isFinished(current)) return;
        const pod = (current ?? old)!;
        const set = sets.get(`${pod.metadata.namespace}/${controllerOf(pod)?.name ?? ""}`);
        const owner = set && controllerOf(set);
        if (owner?.kind === "Deployment") enqueue(`${pod.metadata.namespace}/${owner.name}`);
      }),
    ],
  });
}

async function reconcile(self: Self, key: string): Promise<ReconcileResult> {
  const { clock, recorder, cache, sets, podCache } = self;
  const deployment = cache.get(key);
  if (deployment === undefined) return { kind: "done" };
  const owned = await claimSets(self, deployment);
  const running = (set: ReplicaSet) => podCache.by("controller", set.metadata.uid).some((pod) => !isFinished(pod));
  const decision = plan(deployment, owned, running);
  let step = decision.found ? ("FoundNewReplicaSet" as const) : undefined;
  let created: "yes" | "collision" | undefined;
  let failure: string | undefined;
  try {
    if (decision.create !== undefined) created = await createSet(self, deployment, decision.create);
  } catch (error) {
    failure = `${messageOf(error)}`;
    recorder.record(deployment, "Warning", "ReplicaSetCreateError", `Failed to create new replica set: ${failure}`);
  }
  if (created === "collision") return { kind: "again", afterMs: 0 };
  await applyUpdates(self, deployment, decision.updates);
  await prune(self, decision.prune);
  if (decision.revision !== undefined && failure === undefined) await annotate(self, deployment, decision.revision);

  const after = claim(deployment, deployment.spec?.selector, sets.by("controller", deployment.metadata.uid)).owned;
  const current = findNewReplicaSet(deployment, after);
  if (created === "yes") step = undefined;
  const { status, deadlineInMs } = deploymentStatus({
    deployment: cache.get(key) ?? deployment,
    current,
    old: after.filter((set) => set !== current),
    nowMs: clock.now(),
    ...(created === "yes" ? { step: "NewReplicaSetCreated" } : step && { step }),
    ...(failure !== undefined && { createFailure: failure }),
  });
  await writeStatus(self, deployment, status);
  if (failure !== undefined) throw new Error(failure);
  return deadlineInMs === undefined ? { kind: "done" } : { kind: "again", afterMs: deadlineInMs };
}

async function claimSets(self: Self, deployment: Deployment): Promise<ReplicaSet[]> {
  const { client, sets } = self;
  const { uid, namespace } = deployment.metadata;
  const claims = claim(deployment, deployment.spec?.selector, candidatesOf(sets, uid, namespace));
  const patch = async (set: ReplicaSet, body: object) => {
    const patched = await client.patch(replicaSets, namespace, set.metadata.name, body);
    sets.observe(patched);
    return patched;
  };
  for (const set of claims.release) await patch(set, releasePatch(set, new Set([uid])));
  const adopted: ReplicaSet[] = [];
  for (const set of claims.adopt) adopted.push(await patch(set, adoptPatch(deployment, set)));
  return [...claims.owned, ...adopted];
}

/** A name already taken by another template is a hash collision: counted in the status, which changes the hash. */
async function createSet(self: Self, deployment: Deployment, draft: Draft<ReplicaSet>): Promise<"yes" | "collision"> {
  const { client, sets } = self;
  try {
    const set = await client.create(replicaSets, draft);
    sets.observe(set);
    announce(self, deployment, set.metadata.name, 0, replicasOf(set));
    return "yes";
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    const existing = await client.get(replicaSets, draft.metadata.namespace, draft.metadata.name!);
    sets.observe(existing);
    const isOurs = controllerOf(existing)?.uid === deployment.metadata.uid;
    if (isOurs && sameTemplate(existing.spec?.template, deployment.spec?.template)) return "yes";
    const collisionCount = (deployment.status?.collisionCount ?? 0) + 1;
    await writeStatus(self, deployment, { ...deployment.status, collisionCount });
    return "collision";
  }
}

async function applyUpdates(
  self: Self,
  deployment: Deployment,
  updates: ReturnType<typeof plan>["updates"],
): Promise<void> {
  const { client, sets } = self;
  for (const { set, annotations, replicas, minReadySeconds } of updates) {
    const { namespace, name } = set.metadata;
    const spec = {
      ...(replicas !== undefined && { replicas }),
      ...(minReadySeconds !== undefined && { minReadySeconds }),
    };
    const patch = {
      ...(annotations && { metadata: { annotations } }),
      ...(Object.keys(spec).length > 0 && { spec }),
    };
    sets.observe(await client.patch(replicaSets, namespace, name, patch));
    if (replicas !== undefined && replicas !== replicasOf(set))
      announce(self, deployment, name, replicasOf(set), replicas);
  }
}

async function prune(self: Self, doomed: readonly ReplicaSet[]): Promise<void> {
  const { client, sets } = self;
  for (const { metadata } of doomed) {
    await deleteObject(client, replicaSets, { metadata });
    sets.observeDeleting(`${metadata.namespace}/${metadata.name}`, metadata.uid);
  }
}

async function annotate(self: Self, deployment: Deployment, annotations: Record<string, string>): Promise<void> {
  const { client, cache } = self;
  const { namespace, name } = deployment.metadata;
  cache.observe(await client.patch(deployments, namespace, name, { metadata: { annotations } }));
}

async function writeStatus(self: Self, deployment: Deployment, status: DeploymentStatus): Promise<void> {
  const { client, cache } = self;
  if (Bun.deepEquals(deployment.status ?? {}, status)) return;
  const { namespace, name } = deployment.metadata;
  cache.observe(await client.patch(deployments, namespace, name, { status }, { subresource: "status" }));
}

function announce(self: Self, deployment: Deployment, name: string, from: number, to: number): void {
  const { recorder } = self;
  if (from === to) return;
  const direction = to > from ? "up" : "down";
  const text = `Scaled ${direction} replica set ${name} from ${from} to ${to}`;
  recorder.record(deployment, "Normal", "ScalingReplicaSet", text);
}
