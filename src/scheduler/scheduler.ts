// Gives pods without a node one: picks, assumes, binds; the ones that fit nowhere wait until something changes.

import { findCondition, withCondition } from "../api/conditions.ts";
import { keyOf } from "../api/object.ts";
import { namespaces, nodes, persistentVolumeClaims, pods } from "../api/resources.ts";
import type { Node, PersistentVolumeClaim, Pod } from "../api/types.ts";
import { createEventRecorder, type EventRecorder } from "../client/event-recorder.ts";
import { createInformer } from "../client/informer.ts";
import { type Runner, runReconciler } from "../client/runner.ts";
import { ApiError, type Client, type IndexedInformer, isNotFound, type ReconcileResult } from "../client/types.ts";
import { type Clock, timestamp } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { Random } from "../kernel/random.ts";
import { ClusterState } from "./cluster-state.ts";
import { pick } from "./pick.ts";

export const schedulerName = "default-scheduler";
/** The same refusal of the same pod is reported again no sooner than this. */
const refusalPeriodMs = 5_000;

export interface SchedulerDeps {
  client: Client;
  clock: Clock;
  random: Random;
  log: Log;
}

interface Scheduler extends SchedulerDeps {
  state: ClusterState;
  podCache: IndexedInformer<Pod>;
  claims: IndexedInformer<PersistentVolumeClaim>;
  namespaceLabels: (name: string) => Record<string, string> | undefined;
  recorder: EventRecorder;
  /** Pods that fit nowhere, with the last report; bounded by the pods there are. */
  refused: Map<string, { message: string; reportedMs: number }>;
}

/** Runs until stop(). From a pod's creation to its binding it is driven by events alone. */
export function startScheduler(deps: SchedulerDeps): { stop(): void; idle(): boolean } {
  const log = deps.log.with({ component: "scheduler" });
  const podCache = createInformer({ ...deps, log }, pods);
  const nodeCache = createInformer({ ...deps, log }, nodes);
  const claims = createInformer({ ...deps, log }, persistentVolumeClaims);
  const namespaceCache = createInformer({ ...deps, log }, namespaces);
  const informers = [podCache, nodeCache, claims, namespaceCache];
  const scheduler: Scheduler = {
    ...deps,
    log,
    state: new ClusterState(),
    podCache,
    claims,
    namespaceLabels: (name) => namespaceCache.get(name)?.metadata.labels,
    recorder: createEventRecorder({ ...deps, log, component: schedulerName }),
    refused: new Map(),
  };
  const runner = runReconciler({
    reconciler: { name: "scheduler", reconcile: (key) => schedule(scheduler, key) },
    clock: deps.clock,
    random: deps.random,
    log,
    ready: Promise.all(informers.map((informer) => informer.synced)),
    delayMaxMs: 10_000,
    activeMax: 32, // decisions are synchronous; only bindings overlap
    allKeys: () => podCache.list().filter(isPending).map(keyOf),
  });
  const retryRefused = () => {
    for (const key of scheduler.refused.keys()) runner.enqueue(key);
  };
  podCache.onChange((current, old) => notePod(scheduler, runner, current, old, retryRefused));
  nodeCache.onChange((current, old) => {
    if (current !== undefined) scheduler.state.setNode(current);
    else scheduler.state.removeNode(old!.metadata.name);
    if (current !== undefined && matters(current, old)) retryRefused();
  });
  claims.onChange(retryRefused);
  return {
    idle: runner.idle,
    stop() {
      runner.stop();
      for (const informer of informers) informer.stop();
    },
  };
}

/** Ours to place, and not placed. */
const isPending = (pod: Pod) =>
  pod.spec?.nodeName === undefined &&
  (pod.spec?.schedulerName ?? schedulerName) === schedulerName &&
  pod.metadata.deletionTimestamp === undefined &&
  (pod.spec?.schedulingGates ?? []).length === 0 &&
  pod.status?.phase !== "Succeeded" &&
  pod.status?.phase !== "Failed";

function notePod(
  { state, refused }: Scheduler,
  runner: Runner,
  current: Pod | undefined,
  old: Pod | undefined,
  retryRefused: () => void,
): void {
  const key = keyOf((current ?? old)!);
  if (current?.spec?.nodeName !== undefined) {
    refused.delete(key);
    state.place(current, current.spec.nodeName);
    const left = isHolding(old) && !isHolding(current);
    // A pod that left gives room; one that arrived or changed labels may be the company others wait for.
    if (left || old?.spec?.nodeName === undefined || old.metadata.labels !== current.metadata.labels) retryRefused();
    return;
  }
  if (current === undefined || !isPending(current) || current.metadata.uid !== (old ?? current).metadata.uid) {
    state.remove(key);
    refused.delete(key);
    if (old?.spec?.nodeName !== undefined) retryRefused();
  }
  // Our own report of a refusal comes back as a change of status: nothing to decide anew.
  const isOwnReport = old !== undefined && current !== undefined && Bun.deepEquals(old.spec, current.spec);
  if (current !== undefined && isPending(current) && !(isOwnReport && refused.has(key))) runner.enqueue(key);
}

const isHolding = (pod: Pod | undefined) =>
  pod?.spec?.nodeName !== undefined && pod.status?.phase !== "Succeeded" && pod.status?.phase !== "Failed";

/** Heartbeats do not make room for anyone. */
function matters(node: Node, old: Node | undefined): boolean {
  const ready = (each: Node) => findCondition(each.status?.conditions, "Ready")?.status;
  return (
    old === undefined ||
    ready(node) !== ready(old) ||
    !Bun.deepEquals(node.spec, old.spec) ||
    !Bun.deepEquals(node.metadata.labels, old.metadata.labels) ||
    !Bun.deepEquals(node.status?.allocatable, old.status?.allocatable)
  );
}

async function schedule(scheduler: Scheduler, key: string): Promise<ReconcileResult> {
  const { podCache, state, refused } = scheduler;
  const pod = podCache.get(key);
  // Placed already: its binding went through and only the watch has not said so yet.
  if (pod === undefined || !isPending(pod) || state.isPlaced(key)) return { kind: "done" };
  const problem = claimProblem(scheduler, pod);
  const choice =
    problem !== undefined
      ? { kind: "none" as const, message: `0/${state.nodes.length} nodes are available: ${problem}.` }
      : pick(pod, state, scheduler.namespaceLabels, scheduler.random);
  if (choice.kind === "none") {
    await refuse(scheduler, pod, choice.message);
    return { kind: "done" };
  }
  refused.delete(key);
  state.place(pod, choice.name); // assumed until the watch confirms it
  try {
    await bind(scheduler, pod, choice.name);
  } catch (error) {
    if (podCache.get(key)?.spec?.nodeName === undefined) state.remove(key);
    // Gone or bound by someone else meanwhile: its next event, if any, brings it back.
    if (isNotFound(error) || (error instanceof ApiError && error.status === 409)) return { kind: "done" };
    const text = `running Bind plugin "DefaultBinder": ${messageOf(error)}`;
    scheduler.recorder.record(pod, "Warning", "FailedScheduling", text);
    throw error;
  }
  return { kind: "done" };
}

async function bind({ client, recorder, log }: Scheduler, pod: Pod, nodeName: string): Promise<void> {
  const { namespace, name, uid } = pod.metadata;
  await client.createSubresource(pods, namespace, name, "binding", {
    apiVersion: "v1",
    kind: "Binding",
    metadata: { name, namespace, uid },
    target: { apiVersion: "v1", kind: "Node", name: nodeName },
  });
  log.debug("bound", { pod: keyOf(pod), node: nodeName });
  recorder.record(pod, "Normal", "Scheduled", `Successfully assigned ${keyOf(pod)} to ${nodeName}`);
}

/** A pod waits for its claims to be bound. */
function claimProblem({ claims }: Scheduler, pod: Pod): string | undefined {
  for (const { persistentVolumeClaim: use } of pod.spec?.volumes ?? []) {
    if (use === undefined) continue;
    const claim = claims.get(`${pod.metadata.namespace}/${use.claimName}`);
    if (claim === undefined) return `persistentvolumeclaim "${use.claimName}" not found`;
    if (claim.metadata.deletionTimestamp !== undefined)
      return `persistentvolumeclaim "${use.claimName}" is being deleted`;
    if (claim.status?.phase === "Lost")
      return `persistentvolumeclaim "${use.claimName}" bound to non-existent persistentvolume`;
    if (claim.status?.phase !== "Bound") return "pod has unbound immediate PersistentVolumeClaims";
  }
  return undefined;
}

async function refuse(scheduler: Scheduler, pod: Pod, message: string): Promise<void> {
  const { client, clock, podCache, recorder, refused } = scheduler;
  const key = keyOf(pod);
  const last = refused.get(key);
  const nowMs = clock.monotonicMs();
  const isNews = last?.message !== message;
  const report = isNews || nowMs - last.reportedMs >= refusalPeriodMs;
  refused.set(key, { message, reportedMs: report ? nowMs : last!.reportedMs });
  if (report) recorder.record(pod, "Warning", "FailedScheduling", message);
  const present = findCondition(pod.status?.conditions, "PodScheduled");
  if (present?.message === message && present.status === "False") return;
  const condition = { type: "PodScheduled", status: "False", reason: "Unschedulable", message };
  const conditions = withCondition(pod.status?.conditions, condition, timestamp(clock));
  const { namespace, name } = pod.metadata;
  try {
    podCache.observe(await client.patch(pods, namespace, name, { status: { conditions } }, { subresource: "status" }));
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}
