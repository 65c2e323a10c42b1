// Removes pods nobody is left to remove: terminating on a lost or missing node, orphaned, finished and too many.

import { keyOf } from "../api/object.ts";
import { nodes, pods } from "../api/resources.ts";
import type { Node, Pod } from "../api/types.ts";
import { deleteObject } from "../client/delete.ts";
import type { ReconcileResult } from "../client/types.ts";
import { isLost } from "./node-lifecycle.ts";
import { isFinished } from "./pods.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

/** Finished pods kept for their logs and statuses; beyond it the oldest go (Kubernetes' terminated-pod-gc-threshold). */
const finishedPodsMax = 12_500;

/** `quarantineMs`: how long a pod's node may be missing before the pod counts as orphaned. */
export function podGarbageController(deps: ControllerDeps, quarantineMs: number): Controller {
  const { client, informers, clock, log } = deps;
  const nodeCache = informers.of(nodes);
  const podCache = informers.of(pods);
  const missingSince = new Map<string, number>();
  let finished = 0;
  async function reconcile(key: string): Promise<ReconcileResult> {
    const pod = podCache.get(key);
    if (pod === undefined) return { kind: "done" };
    const node = nodeCache.get(pod.spec?.nodeName ?? "");
    if (node !== undefined) missingSince.delete(key);
    else if (!missingSince.has(key)) missingSince.set(key, clock.monotonicMs());
    const missingMs = clock.monotonicMs() - (missingSince.get(key) ?? clock.monotonicMs());
    const verdict = judge(pod, node, missingMs, quarantineMs);
    if (verdict.kind === "wait") return { kind: "again", afterMs: verdict.forMs };
    if (verdict.kind === "keep" && !(finished > finishedPodsMax && oldestFinished(podCache.list()).includes(pod)))
      return { kind: "done" };
    log.info("pod removed", { pod: key, why: verdict.kind === "remove" ? verdict.why : "too many finished pods" });
    await deleteObject(client, pods, pod, { gracePeriodSeconds: 0 });
    return { kind: "done" };
  }

  return runController(deps, {
    name: "pod-gc",
    reconcile,
    needs: [nodeCache, podCache],
    delayMaxMs: 5_000,
    keys: () => podCache.list().map(keyOf),
    watch: (enqueue) => [
      podCache.onChange((current, old) => {
        finished += Number(current !== undefined && isFinished(current)) - Number(old !== undefined && isFinished(old));
        if (finished > finishedPodsMax) for (const pod of oldestFinished(podCache.list())) enqueue(keyOf(pod));
        if (current === undefined) missingSince.delete(keyOf(old!));
        else if (isSuspect(current, nodeCache.get(current.spec?.nodeName ?? ""))) enqueue(keyOf(current));
      }),
      nodeCache.onChange((current, old) => {
        if (current !== undefined && !isLost(current)) return;
        for (const pod of podCache.by("node", (current ?? old)!.metadata.name)) enqueue(keyOf(pod));
      }),
    ],
  });
}

const isSuspect = (pod: Pod, node: Node | undefined) =>
  pod.metadata.deletionTimestamp !== undefined
    ? node === undefined || isLost(node)
    : pod.spec?.nodeName !== undefined && node === undefined;

const oldestFinished = (all: readonly Pod[]) =>
  all
    .filter(isFinished)
    .sort((a, b) => (a.metadata.creationTimestamp < b.metadata.creationTimestamp ? -1 : 1))
    .slice(0, -finishedPodsMax);

export type Verdict = { kind: "keep" } | { kind: "wait"; forMs: number } | { kind: "remove"; why: string };

/** `missingMs`: for how long the pod's node has not existed. */
export function judge(pod: Pod, node: Node | undefined, missingMs: number, quarantineMs: number): Verdict {
  const terminating = pod.metadata.deletionTimestamp !== undefined;
  if (pod.spec?.nodeName === undefined)
    return terminating ? { kind: "remove", why: "terminating and never scheduled" } : { kind: "keep" };
  if (node !== undefined)
    return terminating && isLost(node) ? { kind: "remove", why: "terminating on a lost node" } : { kind: "keep" };
  if (terminating) return { kind: "remove", why: "terminating on a missing node" };
  return missingMs >= quarantineMs
    ? { kind: "remove", why: "its node is gone" }
    : { kind: "wait", forMs: quarantineMs - missingMs };
}
