// Runs one pod of a DaemonSet on every node that takes it, and replaces them node by node when the template changes.

import { isConditionTrue } from "../api/conditions.ts";
import { type Draft, keyOf } from "../api/object.ts";
import {
  matchesNodeAffinity,
  notReadyTaint,
  type Toleration,
  unreachableTaint,
  untoleratedTaint,
} from "../api/placement.ts";
import { daemonSets, nodes, pods } from "../api/resources.ts";
import type { DaemonSet, Node, Pod } from "../api/types.ts";
import { deleteObject } from "../client/delete.ts";
import type { ReconcileResult } from "../client/types.ts";
import { messageOf } from "../kernel/errors.ts";
import { candidatesOf } from "./indexes.ts";
import { adoptPatch, claim, controllerOf, controllerReference, releasePatch } from "./ownership.ts";
import { availableInMs, isActive, isFinished, isReady } from "./pods.ts";
import { templateHash } from "./revision.ts";
import { resolveCount } from "./rollout.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

const hashLabel = "controller-revision-hash";

/** What every daemon pod tolerates (Kubernetes' AddOrUpdateDaemonPodTolerations). */
const daemonTolerations: Toleration[] = [
  { key: notReadyTaint, operator: "Exists", effect: "NoExecute" },
  { key: unreachableTaint, operator: "Exists", effect: "NoExecute" },
  { key: "node.kubernetes.io/disk-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/memory-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/pid-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/unschedulable", operator: "Exists", effect: "NoSchedule" },
];

export function daemonSetController(deps: ControllerDeps): Controller {
  const { client, informers, clock } = deps;
  const sets = informers.of(daemonSets);
  const podCache = informers.of(pods);
  const nodeCache = informers.of(nodes);
  const recorder = deps.recorderOf("daemonset-controller");
  async function reconcile(key: string): Promise<ReconcileResult> {
    const set = sets.get(key);
    if (set === undefined) return { kind: "done" };
    const { uid, namespace } = set.metadata;
    const claims = claim(set, set.spec?.selector, candidatesOf(podCache, uid, namespace));
    for (const pod of claims.adopt)
      podCache.observe(await client.patch(pods, namespace, pod.metadata.name, adoptPatch(set, pod)));
    for (const pod of claims.release)
      podCache.observe(await client.patch(pods, namespace, pod.metadata.name, releasePatch(pod, new Set([uid]))));
    const decision = plan(set, nodeCache.list(), [...claims.owned, ...claims.adopt], clock.now());
    for (const pod of decision.delete) await remove(set, pod);
    for (const node of decision.create) await create(set, node);
    const owned = claim(set, set.spec?.selector, podCache.by("controller", uid)).owned;
    const status = statusOf(set, nodeCache.list(), owned, clock.now());
    const { conditions: _, ...before } = set.status ?? {};
    if (!Bun.deepEquals(before, status))
      sets.observe(await client.patch(daemonSets, namespace, set.metadata.name, { status }, { subresource: "status" }));
    return decision.againMs === undefined ? { kind: "done" } : { kind: "again", afterMs: decision.againMs };
  }

  async function create(set: DaemonSet, node: Node): Promise<void> {
    try {
      const pod = await client.create(pods, podOf(set, node.metadata.name));
      podCache.observe(pod);
      recorder.record(set, "Normal", "SuccessfulCreate", `Created pod: ${pod.metadata.name}`);
    } catch (error) {
      recorder.record(set, "Warning", "FailedCreate", `Error creating: ${messageOf(error)}`);
      throw error;
    }
  }

  async function remove(set: DaemonSet, pod: Pod): Promise<void> {
    const { name, uid } = pod.metadata;
    await deleteObject(client, pods, pod);
    podCache.observeDeleting(keyOf(pod), uid);
    recorder.record(set, "Normal", "SuccessfulDelete", `Deleted pod: ${name}`);
  }

  return runController(deps, {
    name: "daemonset",
    reconcile,
    needs: [sets, podCache, nodeCache],
    keys: () => sets.list().map(keyOf),
    watch: (enqueue) => [
      sets.onChange((current, old) => enqueue(keyOf((current ?? old)!))),
      podCache.onChange((current, old) => {
        for (const pod of [current, old]) {
          const owner = pod && controllerOf(pod);
          if (owner?.kind === "DaemonSet") enqueue(`${pod!.metadata.namespace}/${owner.name}`);
        }
      }),
      nodeCache.onChange(() => {
        for (const set of sets.list()) enqueue(keyOf(set));
      }),
    ],
  });
}

const tolerationsOf = (set: DaemonSet): Toleration[] => {
  const spec = set.spec?.template?.spec;
  const network: Toleration[] =
    spec?.hostNetwork === true
      ? [{ key: "node.kubernetes.io/network-unavailable", operator: "Exists", effect: "NoSchedule" }]
      : [];
  return [...(spec?.tolerations ?? []), ...daemonTolerations, ...network];
};

/** The node a daemon pod is for: bound, or pinned by its affinity. */
function nodeOf(pod: Pod): string | undefined {
  if (pod.spec?.nodeName !== undefined) return pod.spec.nodeName;
  const required = pod.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  return required?.nodeSelectorTerms[0]?.matchFields?.find(({ key }) => key === "metadata.name")?.values?.[0];
}

/** The pod for one node: the template, pinned by node affinity, so that the scheduler still checks what fits. */
function podOf(set: DaemonSet, node: string): Draft<Pod> {
  const template = set.spec?.template;
  const spec = template?.spec;
  const pin = { nodeSelectorTerms: [{ matchFields: [{ key: "metadata.name", operator: "In", values: [node] }] }] };
  const nodeAffinity = { ...spec?.affinity?.nodeAffinity, requiredDuringSchedulingIgnoredDuringExecution: pin };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      generateName: `${set.metadata.name}-`,
      namespace: set.metadata.namespace!,
      labels: {
        ...template?.metadata?.labels,
        [hashLabel]: templateHash(template, undefined),
        "pod-template-generation": String(set.metadata.generation ?? 1),
      },
      ...(template?.metadata?.annotations && { annotations: template.metadata.annotations }),
      ownerReferences: [controllerReference(set)],
    },
    spec: {
      ...spec,
      affinity: { ...spec?.affinity, nodeAffinity },
      tolerations: tolerationsOf(set),
    } as NonNullable<Pod["spec"]>,
  };
}

/** Whether a new pod may start on the node, and whether a running one may stay there. */
export function fits(set: DaemonSet, node: Node): { start: boolean; stay: boolean } {
  if (!matchesNodeAffinity(set.spec?.template?.spec, node)) return { start: false, stay: false };
  const tolerations = tolerationsOf(set);
  const taints = node.spec?.taints;
  const stay = untoleratedTaint(taints, tolerations, ["NoExecute"]) === undefined;
  const reachable: Toleration = { key: unreachableTaint, operator: "Exists", effect: "NoSchedule" };
  const notReady: Toleration = { key: notReadyTaint, operator: "Exists", effect: "NoSchedule" };
  return {
    start: stay && untoleratedTaint(taints, [...tolerations, reachable, notReady], ["NoSchedule"]) === undefined,
    stay,
  };
}

export interface DaemonSetPlan {
  create: Node[];
  delete: Pod[];
  againMs?: number;
}

/** One active pod per fitting node; failed ones are replaced; outdated ones as far as maxUnavailable lets them. */
export function plan(set: DaemonSet, allNodes: readonly Node[], owned: readonly Pod[], nowMs: number): DaemonSetPlan {
  const decision: DaemonSetPlan = { create: [], delete: [] };
  if (set.metadata.deletionTimestamp !== undefined) return decision;
  const byNode = new Map<string, Pod[]>();
  for (const pod of owned) {
    const node = nodeOf(pod) ?? "";
    byNode.set(node, [...(byNode.get(node) ?? []), pod]);
  }
  const hash = templateHash(set.spec?.template, undefined);
  const minReadySeconds = set.spec?.minReadySeconds ?? 0;
  const outdated: { pod: Pod; available: boolean }[] = [];
  let unavailable = 0;
  let wanted = 0;
  for (const node of allNodes) {
    const here = byNode.get(node.metadata.name) ?? [];
    byNode.delete(node.metadata.name);
    const { start, stay } = fits(set, node);
    const active = here
      .filter(isActive)
      .sort((a, b) => (a.metadata.creationTimestamp < b.metadata.creationTimestamp ? -1 : 1));
    decision.delete.push(...here.filter((pod) => isFinished(pod) && pod.metadata.deletionTimestamp === undefined));
    if (!stay) decision.delete.push(...active);
    if (!start) continue;
    wanted++;
    // A finished or terminating pod must be gone first: two daemons on one node would fight over host ports.
    if (here.length === 0) decision.create.push(node);
    decision.delete.push(...active.slice(1));
    const pod = active[0];
    const inMs = pod && availableInMs(pod, minReadySeconds, nowMs);
    if (inMs !== 0) unavailable++;
    if (inMs !== undefined && inMs > 0) decision.againMs = Math.min(decision.againMs ?? inMs, inMs);
    if (pod !== undefined && pod.metadata.labels?.[hashLabel] !== hash) outdated.push({ pod, available: inMs === 0 });
  }
  for (const stranded of byNode.values()) decision.delete.push(...stranded.filter(isActive)); // their node is gone
  if (set.spec?.updateStrategy?.type !== "OnDelete") {
    const limit = resolveCount(set.spec?.updateStrategy?.rollingUpdate?.maxUnavailable, wanted, "up", 1);
    let budget = Math.max(1, limit) - unavailable;
    for (const { pod, available } of outdated)
      if (!available) decision.delete.push(pod);
      else if (budget-- > 0) decision.delete.push(pod);
  }
  return decision;
}

/** apps/v1 DaemonSetStatus. */
export function statusOf(
  set: DaemonSet,
  allNodes: readonly Node[],
  owned: readonly Pod[],
  nowMs: number,
): NonNullable<DaemonSet["status"]> {
  const active = owned.filter(isActive);
  const wanted = new Set(allNodes.filter((node) => fits(set, node).start).map((node) => node.metadata.name));
  const scheduled = active.filter(
    (pod) => pod.spec?.nodeName !== undefined || isConditionTrue(pod.status?.conditions, "PodScheduled"),
  );
  const placed = scheduled.filter((pod) => wanted.has(nodeOf(pod) ?? ""));
  const hash = templateHash(set.spec?.template, undefined);
  const available = placed.filter((pod) => availableInMs(pod, set.spec?.minReadySeconds ?? 0, nowMs) === 0).length;
  return {
    currentNumberScheduled: placed.length,
    desiredNumberScheduled: wanted.size,
    numberMisscheduled: scheduled.length - placed.length,
    numberReady: placed.filter(isReady).length,
    updatedNumberScheduled: placed.filter((pod) => pod.metadata.labels?.[hashLabel] === hash).length,
    numberAvailable: available,
    numberUnavailable: Math.max(0, wanted.size - available),
    observedGeneration: set.metadata.generation ?? 0,
  };
}
