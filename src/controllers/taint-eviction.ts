// Evicts pods from nodes with NoExecute taints, when their tolerations run out.

import { keyOf } from "../api/object.ts";
import { notReadyTaint, type Taint, tolerates, unreachableTaint } from "../api/placement.ts";
import { nodes, pods } from "../api/resources.ts";
import type { Node, Pod } from "../api/types.ts";
import { deleteObject } from "../client/delete.ts";
import type { ReconcileResult } from "../client/types.ts";
import { isLost } from "./node-lifecycle.ts";
import { isActive } from "./pods.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

/** What Kubernetes' admission gives every pod that says nothing: here it stands for the cluster's own delay. */
const defaultTolerationSeconds = 300;

/** `evictionDelayMs`: how long pods that say nothing of their own stay on a node that is not ready or unreachable. */
export function taintEvictionController(deps: ControllerDeps, evictionDelayMs: number): Controller {
  const { client, informers, clock } = deps;
  const nodeCache = informers.of(nodes);
  const podCache = informers.of(pods);
  const recorder = deps.recorderOf("taint-eviction-controller");
  const taintedSince = new Map<string, number>();
  async function reconcile(name: string): Promise<ReconcileResult> {
    const node = nodeCache.get(name);
    const taints = noExecuteTaints(node);
    if (node === undefined || taints.length === 0) {
      taintedSince.delete(name);
      return { kind: "done" };
    }
    // When every node is lost it is more likely us who lost the network: nobody is evicted (Kubernetes' full disruption mode).
    const others = nodeCache.list();
    if (others.length > 1 && others.every(isLost)) return { kind: "done" };
    const sinceMs = taintedSince.get(name) ?? clock.monotonicMs();
    taintedSince.set(name, sinceMs);
    let nextMs: number | undefined;
    const due: Pod[] = [];
    for (const pod of podCache.by("node", name)) {
      if (!isActive(pod)) continue;
      const afterMs = evictAfterMs(pod, taints, evictionDelayMs);
      if (afterMs === undefined) continue;
      const leftMs = sinceMs + afterMs - clock.monotonicMs();
      if (leftMs <= 0) due.push(pod);
      else nextMs = Math.min(nextMs ?? leftMs, leftMs);
    }
    await Promise.all(due.map(evict));
    return nextMs === undefined ? { kind: "done" } : { kind: "again", afterMs: nextMs };
  }

  async function evict(pod: Pod): Promise<void> {
    const { namespace, name, uid } = pod.metadata;
    recorder.record(pod, "Normal", "TaintManagerEviction", `Marking for deletion Pod ${namespace}/${name}`);
    await deleteObject(client, pods, pod);
    podCache.observeDeleting(keyOf(pod), uid);
  }

  return runController(deps, {
    name: "taint-eviction",
    reconcile,
    needs: [nodeCache, podCache],
    delayMaxMs: 5_000,
    keys: () => nodeCache.list().map(keyOf),
    watch: (enqueue) => [
      nodeCache.onChange((current, old) => {
        const { name } = (current ?? old)!.metadata;
        if (current === undefined) taintedSince.delete(name);
        if (noExecuteTaints(current).length > 0 || noExecuteTaints(old).length > 0) {
          enqueue(name);
          // Whether all nodes are lost concerns every lost node.
          for (const node of nodeCache.list()) if (noExecuteTaints(node).length > 0) enqueue(node.metadata.name);
        }
      }),
      podCache.onChange((current) => {
        const name = current?.spec?.nodeName;
        if (name !== undefined && noExecuteTaints(nodeCache.get(name)).length > 0) enqueue(name);
      }),
    ],
  });
}

const noExecuteTaints = (node: Node | undefined): Taint[] =>
  node?.spec?.taints?.filter(({ effect }) => effect === "NoExecute") ?? [];

/** Milliseconds after the taint at which the pod has to go: 0 when it does not tolerate it, undefined when it may stay. */
export function evictAfterMs(pod: Pod, taints: readonly Taint[], evictionDelayMs: number): number | undefined {
  let soonestMs: number | undefined;
  for (const taint of taints) {
    const isNodeTrouble = taint.key === notReadyTaint || taint.key === unreachableTaint;
    const matching = pod.spec?.tolerations?.filter((toleration) => tolerates(toleration, taint)) ?? [];
    let afterMs: number | undefined;
    if (matching.length === 0) afterMs = isNodeTrouble ? evictionDelayMs : 0;
    else {
      const seconds = matching.map(({ tolerationSeconds }) => tolerationSeconds).filter((each) => each !== undefined);
      if (seconds.length > 0) {
        const least = Math.max(0, Math.min(...seconds));
        afterMs = isNodeTrouble && least === defaultTolerationSeconds ? evictionDelayMs : least * 1000;
      }
    }
    if (afterMs !== undefined) soonestMs = Math.min(soonestMs ?? afterMs, afterMs);
  }
  return soonestMs;
}
