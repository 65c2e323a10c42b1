// Watches nodes and pods, and reports how far the cluster is; pure counting, one shell around it.

import type { Node, Pod } from "../api/types.ts";
import type { Informer } from "../client/types.ts";
import type { Clock } from "../kernel/clock.ts";
import { type ClusterEvent, emitEvent } from "./events.ts";

const waitingMax = 10;
/** Changes within this time are reported together. */
const coalesceMs = 20;

type Status = Extract<ClusterEvent, { type: "status" }>;

const conditionIs = (object: Node | Pod, type: string): boolean =>
  object.status?.conditions?.some((condition) => condition.type === type && condition.status === "True") ?? false;

const isEnded = (pod: Pod): boolean =>
  pod.status?.phase === "Succeeded" || pod.metadata.deletionTimestamp !== undefined;

function reasonOf(pod: Pod): string {
  for (const container of pod.status?.containerStatuses ?? []) {
    const reason = container.state?.waiting?.reason ?? container.state?.terminated?.reason;
    if (reason) return reason;
  }
  return pod.status?.reason ?? pod.status?.phase ?? "Pending";
}

/** Where a ready gateway pod listens for `port`, as "ip:port"; in `ports` mode the port it was given. */
export function gatewayAddress(pod: Pod, port: number): string | undefined {
  const ip = pod.status?.podIP;
  if (!ip || !conditionIs(pod, "Ready") || pod.metadata.deletionTimestamp) return undefined;
  const given = pod.metadata.annotations?.["meshbed.io/ports"];
  const actual = given === undefined ? port : (JSON.parse(given) as Record<string, number>)[port];
  return actual === undefined ? undefined : `${ip}:${actual}`;
}

/** The state of the cluster in one event. */
export function summarize(nodes: readonly Node[], pods: readonly Pod[]): Status {
  const live = pods.filter((pod) => !isEnded(pod));
  const ready = live.filter((pod) => conditionIs(pod, "Ready"));
  const gateways = ready.filter((pod) => pod.metadata.labels?.["istio"] === "ingressgateway");
  const addresses = (port: number) => gateways.flatMap((pod) => gatewayAddress(pod, port) ?? []).sort();
  return {
    type: "status",
    nodes: { ready: nodes.filter((node) => conditionIs(node, "Ready")).length, total: nodes.length },
    pods: { ready: ready.length, total: live.length },
    waiting: live
      .filter((pod) => !ready.includes(pod))
      .slice(0, waitingMax)
      .map((pod) => ({ pod: `${pod.metadata.namespace}/${pod.metadata.name}`, status: reasonOf(pod) })),
    gateway: { http: addresses(80), https: addresses(443) },
  };
}

/** Emits a status event whenever the summary changes. Returns stop. */
export function reportStatus(nodes: Informer<Node>, pods: Informer<Pod>, clock: Clock): () => void {
  let last = "";
  let scheduled = false;
  const report = () => {
    scheduled = false;
    const status = summarize(nodes.list(), pods.list());
    const text = JSON.stringify(status);
    if (text !== last) emitEvent(status);
    last = text;
  };
  const changed = () => {
    if (scheduled) return;
    scheduled = true;
    clock.after(coalesceMs, report);
  };
  nodes.onChange(changed);
  pods.onChange(changed);
  void Promise.all([nodes.synced, pods.synced]).then(changed);
  return () => {
    nodes.stop();
    pods.stop();
  };
}
