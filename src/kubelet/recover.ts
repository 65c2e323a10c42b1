// The container states a kubelet begins with: fresh for a new pod, or from the status an earlier kubelet left. Pure.

import type { Pod } from "../api/types.ts";
import { type ContainerRecord, type ContainerRole, type Exit, newContainer } from "./container-state.ts";

type ContainerStatus = NonNullable<NonNullable<Pod["status"]>["containerStatuses"]>[number];

/**
 * An earlier kubelet's processes are gone (Runtime.cleanUp ends them): what was running counts as ended with 255, Unknown, as
 * after a node's reboot, and is restarted by the pod's policy with its count raised. Init containers run again unless the pod ended.
 * `nextAttempt` numbers the next run of a container.
 */
export function initialRecords(
  pod: Pod,
  nowMs: number,
  nextAttempt: (container: string) => number,
): { records: ContainerRecord[]; ended: boolean } {
  const { initContainers = [], containers = [] } = pod.spec ?? {};
  const { status } = pod;
  const ended = status?.phase === "Succeeded" || status?.phase === "Failed";
  const make = (container: (typeof containers)[number], role: ContainerRole): ContainerRecord => {
    const waiting = role === "main" && initContainers.length > 0 ? "PodInitializing" : "ContainerCreating";
    const fresh = newContainer(container.name, role, container.image ?? "", waiting);
    const list = role === "main" ? status?.containerStatuses : status?.initContainerStatuses;
    const known = list?.find((candidate) => candidate.name === container.name);
    const record = { ...fresh, attempts: nextAttempt(container.name) };
    return known === undefined ? record : recover(record, known, role, ended, pod, nowMs);
  };
  const records = [
    ...initContainers.map((c) => make(c, c.restartPolicy === "Always" ? "sidecar" : "init")),
    ...containers.map((c) => make(c, "main")),
  ];
  return { records, ended };
}

function recover(
  record: ContainerRecord,
  known: ContainerStatus,
  role: ContainerRole,
  ended: boolean,
  pod: Pod,
  nowMs: number,
): ContainerRecord {
  const { restartCount } = known;
  const last = known.lastState?.terminated === undefined ? undefined : exitOf(known.lastState.terminated, nowMs);
  const { running, terminated } = known.state ?? {};
  if (running !== undefined) {
    const startedAtMs = parseTime(running.startedAt, nowMs);
    const containerId = stripScheme(known.containerID);
    const exit: Exit = { code: 255, reason: "Unknown", startedAtMs, finishedAtMs: nowMs, containerId };
    return { ...record, restartCount, last, state: { kind: "exited", exit } };
  }
  if (terminated !== undefined) {
    const exit = exitOf(terminated, nowMs);
    const again = role !== "main" || pod.spec?.restartPolicy === undefined || pod.spec.restartPolicy === "Always";
    if (ended || !again) return { ...record, restartCount, last, state: { kind: "exited", exit } };
    return { ...record, restartCount: role === "main" ? restartCount + 1 : restartCount, last: exit };
  }
  return { ...record, restartCount, last };
}

const parseTime = (text: string | undefined, otherwiseMs: number): number =>
  text === undefined ? otherwiseMs : Date.parse(text);

const stripScheme = (id: string | undefined): string => (id ?? "").replace(/^\w+:\/\//, "");

function exitOf(terminated: NonNullable<NonNullable<ContainerStatus["state"]>["terminated"]>, nowMs: number): Exit {
  return {
    code: terminated.exitCode,
    reason: terminated.reason ?? "Error",
    ...(terminated.message === undefined ? {} : { message: terminated.message }),
    startedAtMs: parseTime(terminated.startedAt, nowMs),
    finishedAtMs: parseTime(terminated.finishedAt, nowMs),
    containerId: stripScheme(terminated.containerID),
  };
}
