// Watches over nodes: a node whose lease is no longer renewed goes NotReady, is tainted, and its pods drop out of endpoints; and back.

import { isConditionTrue, withCondition } from "../api/conditions.ts";
import { keyOf } from "../api/object.ts";
import { notReadyTaint, type Taint, unreachableTaint } from "../api/placement.ts";
import { leases, nodes, pods } from "../api/resources.ts";
import type { Lease, Node, Pod } from "../api/types.ts";
import { ignoreNotFound } from "../client/delete.ts";
import type { EventRecorder } from "../client/event-recorder.ts";
import { type IndexedInformer, isNotFound, type ReconcileResult } from "../client/types.ts";
import { timestamp } from "../kernel/clock.ts";
import { isFinished, isReady } from "./pods.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

const leaseNamespace = "kube-node-lease";
/** The reason our "Unknown" conditions carry, by which we know them again. */
const lostReason = "NodeStatusUnknown";
const lostMessage = "Kubelet stopped posting node status.";

interface Self extends ControllerDeps {
  nodeCache: IndexedInformer<Node>;
  leaseCache: IndexedInformer<Lease>;
  podCache: IndexedInformer<Pod>;
  recorder: EventRecorder;
  nodeGraceMs: number;
  /** When each node's lease was last seen to change; bounded by the number of nodes. */
  seen: Map<string, { renewTime: string | undefined; atMs: number }>;
}

/** How often a lost node's pods are looked at again: a report of readiness may have been on its way when it was given up. */
const lostCheckMs = 1_000;

/**
 * `nodeGraceMs`: a lease unchanged for so long, as seen here, means the node's agent is gone. Measured from when this controller
 * saw the last change, so that neither clock differences nor a restart of the control plane kill nodes.
 */
export function nodeLifecycleController(deps: ControllerDeps, nodeGraceMs: number): Controller {
  const nodeCache = deps.informers.of(nodes);
  const leaseCache = deps.informers.of(leases);
  const podCache = deps.informers.of(pods);
  const recorder = deps.recorderOf("node-controller");
  const self: Self = { ...deps, nodeCache, leaseCache, podCache, recorder, nodeGraceMs, seen: new Map() };
  return runController(deps, {
    name: "node-lifecycle",
    reconcile: (name) => reconcile(self, name),
    needs: [nodeCache, leaseCache, podCache],
    keys: () => nodeCache.list().map(keyOf),
    delayMaxMs: 5_000,
    watch: (enqueue) => [
      nodeCache.onChange((current, old) => {
        if (current === undefined) self.seen.delete(old!.metadata.name);
        enqueue(keyOf((current ?? old)!));
      }),
      leaseCache.onChange((current) => {
        if (current?.metadata.namespace !== leaseNamespace) return;
        const { name } = current.metadata;
        const node = nodeCache.get(name);
        // The ordinary renewal of a healthy node costs one entry in a map; its timer looks at it later.
        if (noteLease(self, name, current) && node !== undefined && !isSettledReady(node)) enqueue(name);
      }),
    ],
  });
}

/** True when the lease was renewed since we last looked. */
function noteLease(self: Self, name: string, lease: Lease | undefined): boolean {
  const { clock, seen } = self;
  const renewTime = lease?.spec?.renewTime;
  const known = seen.get(name);
  if (known !== undefined && known.renewTime === renewTime) return false;
  seen.set(name, { renewTime, atMs: clock.monotonicMs() });
  return true;
}

async function reconcile(self: Self, name: string): Promise<ReconcileResult> {
  const { client, clock, log, recorder, nodeCache, leaseCache, seen, nodeGraceMs } = self;
  const node = nodeCache.get(name);
  if (node === undefined) return { kind: "done" };
  noteLease(self, name, leaseCache.get(`${leaseNamespace}/${name}`));
  let leftMs = seen.get(name)!.atMs + nodeGraceMs - clock.monotonicMs();
  if (leftMs <= 0 && !isLost(node)) {
    // Before a node is given up, ask the server: our own watch may be what is behind.
    const lease = await client.get(leases, leaseNamespace, name).catch(ignoreNotFound);
    if (lease !== undefined && noteLease(self, name, lease)) leftMs = nodeGraceMs;
  }
  const lost = leftMs <= 0;
  const conditions = lost ? lostConditions(node, timestamp(clock)) : foundConditions(node, timestamp(clock));
  let current = node;
  if (conditions !== undefined) {
    current = await client.patch(nodes, undefined, name, { status: { conditions } }, { subresource: "status" });
    nodeCache.observe(current);
    if (lost) recorder.record(node, "Normal", "NodeNotReady", `Node ${name} status is now: NodeNotReady`);
    log.info(lost ? "node lost" : "node found again", { node: name });
  }
  const taints = taintsOf(current, timestamp(clock));
  if (taints !== undefined) {
    // The revision is sent along: a taint someone else sets at the same moment must survive.
    const { resourceVersion } = current.metadata;
    nodeCache.observe(await client.patch(nodes, undefined, name, { metadata: { resourceVersion }, spec: { taints } }));
  }
  if (lost) await markPodsNotReady(self, name);
  return { kind: "again", afterMs: lost ? lostCheckMs : Math.max(1, leftMs) };
}

async function markPodsNotReady(self: Self, node: string): Promise<void> {
  const { client, clock, recorder, podCache } = self;
  const now = timestamp(clock);
  const affected = podCache.by("node", node).filter((pod) => !isFinished(pod) && isReady(pod));
  await Promise.all(
    affected.map(async (pod) => {
      const { namespace, name } = pod.metadata;
      const notReady = { type: "Ready", status: "False", reason: "NodeNotReady", message: "Node is not ready" };
      const conditions = withCondition(pod.status?.conditions, notReady, now);
      try {
        podCache.observe(
          await client.patch(pods, namespace, name, { status: { conditions } }, { subresource: "status" }),
        );
        recorder.record(pod, "Warning", "NodeNotReady", "Node is not ready");
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }),
  );
}

type Conditions = NonNullable<NonNullable<Node["status"]>["conditions"]>;

const readyOf = (node: Node) => node.status?.conditions?.find(({ type }) => type === "Ready");

/** We declared this node lost and it was not heard of since. */
export const isLost = (node: Node): boolean => readyOf(node)?.status === "Unknown";

const isSettledReady = (node: Node) =>
  isConditionTrue(node.status?.conditions, "Ready") && !node.spec?.taints?.some(({ key }) => isOurs(key));

/** All conditions Unknown, or undefined when they are already. */
export function lostConditions(node: Node, now: string): Conditions | undefined {
  const present = node.status?.conditions ?? [];
  const all =
    readyOf(node) === undefined ? [...present, { type: "Ready", status: "", reason: "", message: "" }] : present;
  if (all.every(({ status }) => status === "Unknown")) return undefined;
  return all.map((condition) =>
    condition.status === "Unknown"
      ? condition
      : { ...condition, status: "Unknown", reason: lostReason, message: lostMessage, lastTransitionTime: now },
  );
}

/**
 * The lease is renewed again while our "Unknown" still stands: the agent may have nothing new to report, so what we took away
 * is given back. Undefined when there is nothing of ours.
 */
export function foundConditions(node: Node, now: string): Conditions | undefined {
  const present = node.status?.conditions ?? [];
  if (!present.some(({ reason, status }) => reason === lostReason && status === "Unknown")) return undefined;
  return present.map((condition) => {
    if (condition.reason !== lostReason || condition.status !== "Unknown") return condition;
    const isReadyType = condition.type === "Ready";
    return {
      ...condition,
      status: isReadyType ? "True" : "False",
      reason: isReadyType ? "KubeletReady" : `KubeletHasNo${condition.type}`,
      message: isReadyType ? "kubelet is posting ready status" : "kubelet renews its lease again",
      lastTransitionTime: now,
      lastHeartbeatTime: now,
    };
  });
}

const isOurs = (key: string) => key === notReadyTaint || key === unreachableTaint;

/** The taints the Ready condition asks for beside the user's own; undefined when they are there. (Ready False: not-ready; Unknown: unreachable.) */
export function taintsOf(node: Node, now: string): Taint[] | undefined {
  const status = readyOf(node)?.status ?? "Unknown";
  const key = status === "True" ? undefined : status === "False" ? notReadyTaint : unreachableTaint;
  const present = node.spec?.taints ?? [];
  const wanted = present.filter((taint) => !isOurs(taint.key) || taint.key === key);
  if (key !== undefined)
    for (const effect of ["NoSchedule", "NoExecute"] as const)
      if (!wanted.some((taint) => taint.key === key && taint.effect === effect))
        wanted.push({ key, effect, timeAdded: now });
  const same = wanted.length === present.length && wanted.every((taint) => present.includes(taint));
  return same ? undefined : wanted;
}
