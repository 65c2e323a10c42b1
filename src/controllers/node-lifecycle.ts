// Watches over nodes: a node whose lease is no longer renewed goes NotReady, is tainted, and its pods drop out of endpoints; and back.

import { isConditionTrue, withCondition } from "../api/conditions.ts";
import { keyOf } from "../api/object.ts";
import { notReadyTaint, type Taint, unreachableTaint } from "../api/placement.ts";
import { leases, nodes, pods } from "../api/resources.ts";
import type { Lease, Node } from "../api/types.ts";
import { runReconciler } from "../client/runner.ts";
import { isNotFound, type ReconcileResult } from "../client/types.ts";
import { timestamp } from "../kernel/clock.ts";
import { isFinished, isReady } from "./pods.ts";
import type { Controller, ControllerDeps } from "./types.ts";

const leaseNamespace = "kube-node-lease";
/** The reason our "Unknown" conditions carry, by which we know them again. */
const lostReason = "NodeStatusUnknown";
const lostMessage = "Kubelet stopped posting node status.";

/**
 * `nodeGraceMs`: a lease unchanged for so long, as seen here, means the node's agent is gone. Measured from when this controller
 * saw the last change, so that neither clock differences nor a restart of the control plane kill nodes.
 */
export function nodeLifecycleController(deps: ControllerDeps, nodeGraceMs: number): Controller {
  const { client, informers, clock, random, log } = deps;
  const nodeCache = informers.of(nodes);
  const leaseCache = informers.of(leases);
  const podCache = informers.of(pods);
  const recorder = deps.recorder("node-controller");
  /** Bounded by the number of nodes. */
  const seen = new Map<string, { renewTime: string | undefined; atMs: number }>();
  const runner = runReconciler({
    reconciler: { name: "node-lifecycle", reconcile },
    clock,
    random,
    log,
    ready: Promise.all([nodeCache.synced, leaseCache.synced, podCache.synced]),
    delayMaxMs: 5_000,
    allKeys: () => nodeCache.list().map(keyOf),
  });
  const stops = [
    nodeCache.onChange((current, old) => {
      if (current === undefined) seen.delete(old!.metadata.name);
      runner.enqueue(keyOf((current ?? old)!));
    }),
    leaseCache.onChange((current) => {
      if (current?.metadata.namespace !== leaseNamespace) return;
      const { name } = current.metadata;
      const node = nodeCache.get(name);
      // The ordinary renewal of a healthy node costs one entry in a map; its timer looks at it later.
      if (noteLease(name, current) && node !== undefined && !isSettledReady(node)) runner.enqueue(name);
    }),
    // A kubelet that comes back may report pods ready while its node still counts as lost, and the other way round.
    podCache.onChange((current) => {
      const node = current?.spec?.nodeName === undefined ? undefined : nodeCache.get(current.spec.nodeName);
      if (node !== undefined && isLost(node) && isReady(current!)) runner.enqueue(node.metadata.name);
    }),
  ];

  /** True when the lease was renewed since we last looked. */
  function noteLease(name: string, lease: Lease | undefined): boolean {
    const renewTime = lease?.spec?.renewTime;
    const known = seen.get(name);
    if (known !== undefined && known.renewTime === renewTime) return false;
    seen.set(name, { renewTime, atMs: clock.monotonicMs() });
    return true;
  }

  async function reconcile(name: string): Promise<ReconcileResult> {
    const node = nodeCache.get(name);
    if (node === undefined) return { kind: "done" };
    noteLease(name, leaseCache.get(`${leaseNamespace}/${name}`));
    let leftMs = seen.get(name)!.atMs + nodeGraceMs - clock.monotonicMs();
    if (leftMs <= 0 && !isLost(node)) {
      // Before a node is given up, ask the server: our own watch may be what is behind.
      const lease = await client.get(leases, leaseNamespace, name).catch((error) => {
        if (!isNotFound(error)) throw error;
      });
      if (lease !== undefined && noteLease(name, lease)) leftMs = nodeGraceMs;
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
      nodeCache.observe(
        await client.patch(nodes, undefined, name, { metadata: { resourceVersion }, spec: { taints } }),
      );
    }
    if (lost) await markPodsNotReady(name);
    return lost ? { kind: "done" } : { kind: "again", afterMs: Math.max(1, leftMs) };
  }

  async function markPodsNotReady(node: string): Promise<void> {
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

  return {
    name: "node-lifecycle",
    idle: runner.idle,
    stop() {
      runner.stop();
      for (const stop of stops) stop();
    },
  };
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
