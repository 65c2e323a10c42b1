// The READY, STATUS and RESTARTS cells of a pod, as Kubernetes' printer computes them (pkg/printers printPod).

import { humanDuration } from "../duration.ts";
import type { Pod } from "../types.ts";

export interface PodSummary {
  ready: string;
  status: string;
  restarts: string;
}

type ContainerStatus = NonNullable<NonNullable<Pod["status"]>["containerStatuses"]>[number];

interface Tally {
  readyContainers: number;
  restarts: number;
  lastRestart: string;
}

function countRestarts(tally: Tally, status: ContainerStatus): void {
  tally.restarts += status.restartCount;
  const finishedAt = status.lastState?.terminated?.finishedAt;
  if (typeof finishedAt === "string" && finishedAt > tally.lastRestart) tally.lastRestart = finishedAt;
}

/** The reason why a container has ended: its own word, else its signal or exit code. */
function endOf(terminated: { reason?: string; signal?: number; exitCode: number }): string {
  if (terminated.reason) return terminated.reason;
  return terminated.signal ? `Signal:${terminated.signal}` : `ExitCode:${terminated.exitCode}`;
}

/** How far initialization is, or undefined when it is through. `sidecars` counts containers that stay. */
function initReason(pod: Pod, all: Tally, sidecars: Tally): string | undefined {
  const specs = pod.spec?.initContainers ?? [];
  const restartable = new Set(specs.filter((each) => each.restartPolicy === "Always").map((each) => each.name));
  for (const [i, status] of (pod.status?.initContainerStatuses ?? []).entries()) {
    countRestarts(all, status);
    const isSidecar = restartable.has(status.name);
    if (isSidecar) countRestarts(sidecars, status);
    const { terminated, waiting } = status.state ?? {};
    if (terminated !== undefined && terminated.exitCode === 0) continue;
    if (isSidecar && status.started === true) {
      if (status.ready) sidecars.readyContainers++;
      continue;
    }
    if (terminated !== undefined) return `Init:${endOf(terminated)}`;
    if (waiting?.reason && waiting.reason !== "PodInitializing") return `Init:${waiting.reason}`;
    return `Init:${i}/${specs.length}`;
  }
  return undefined;
}

const conditionIsTrue = (pod: Pod, type: string): boolean =>
  pod.status?.conditions?.some((condition) => condition.type === type && condition.status === "True") ?? false;

function containersReason(pod: Pod, reason: string, tally: Tally): string {
  let result = reason;
  let hasRunning = false;
  for (const status of [...(pod.status?.containerStatuses ?? [])].reverse()) {
    countRestarts(tally, status);
    const { waiting, terminated, running } = status.state ?? {};
    if (waiting?.reason) result = waiting.reason;
    else if (terminated !== undefined) result = endOf(terminated);
    else if (status.ready && running !== undefined) {
      hasRunning = true;
      tally.readyContainers++;
    }
  }
  // Some containers are done while others still run: the pod as a whole runs.
  if (result === "Completed" && hasRunning) return conditionIsTrue(pod, "Ready") ? "Running" : "NotReady";
  return result;
}

export function summarizePod(pod: Pod, nowMs: number): PodSummary {
  const phase = pod.status?.phase ?? "";
  let status = pod.status?.reason || phase;
  for (const condition of pod.status?.conditions ?? [])
    if (condition.type === "PodScheduled" && condition.reason === "SchedulingGated") status = "SchedulingGated";

  const all: Tally = { readyContainers: 0, restarts: 0, lastRestart: "" };
  const tally: Tally = { readyContainers: 0, restarts: 0, lastRestart: "" };
  const initializing = initReason(pod, all, tally);
  if (initializing !== undefined) status = initializing;
  const initialized = initializing === undefined || conditionIsTrue(pod, "Initialized");
  if (initialized) status = containersReason(pod, status, tally);

  if (pod.metadata.deletionTimestamp !== undefined)
    if (pod.status?.reason === "NodeLost") status = "Unknown";
    else if (phase !== "Succeeded" && phase !== "Failed") status = "Terminating";

  const { restarts, lastRestart } = initialized ? tally : all;
  const sidecars = (pod.spec?.initContainers ?? []).filter((each) => each.restartPolicy === "Always").length;
  return {
    ready: `${tally.readyContainers}/${(pod.spec?.containers ?? []).length + sidecars}`,
    status,
    restarts:
      restarts > 0 && lastRestart !== ""
        ? `${restarts} (${humanDuration(nowMs - Date.parse(lastRestart))} ago)`
        : String(restarts),
  };
}
