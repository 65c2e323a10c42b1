// The PodStatus that follows from a pod's state. Pure.

import type { Pod } from "../api/types.ts";
import { type ContainerRecord, type ContainerState, type Exit, isAlive } from "./container-state.ts";
import { outcomeOf, type PodView } from "./plan.ts";
import { qosClassOf } from "./qos.ts";

export type PodStatus = NonNullable<Pod["status"]>;
type ContainerStatus = NonNullable<PodStatus["containerStatuses"]>[number];
type PodCondition = NonNullable<PodStatus["conditions"]>[number];

export interface StatusInput {
  pod: Pod;
  view: PodView;
  /** Absent until assigned. */
  podIp: string | undefined;
  hostIp: string;
  /** When this kubelet first saw the pod. */
  startTimeMs: number;
  nowMs: number;
  /** The status before, for transition times and the conditions others own. */
  previous: PodStatus | undefined;
  /** Set when the kubelet itself failed the pod (DeadlineExceeded). */
  failure: { reason: string; message: string } | undefined;
}

export const metaTime = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

export function statusOf(input: StatusInput): PodStatus {
  const { pod, view, podIp, hostIp, previous, failure } = input;
  const statuses = (init: boolean) =>
    view.containers.filter((c) => (c.role !== "main") === init).map((c) => containerStatus(c, view.ending));
  const phase = phaseOf(input);
  const status: PodStatus = {
    phase,
    conditions: conditionsOf(input, phase),
    hostIP: hostIp,
    hostIPs: [{ ip: hostIp }],
    startTime: metaTime(input.startTimeMs),
    qosClass: previous?.qosClass ?? qosClassOf(pod),
    containerStatuses: statuses(false),
  };
  if (view.containers.some((c) => c.role !== "main")) status.initContainerStatuses = statuses(true);
  if (podIp !== undefined) {
    status.podIP = podIp;
    status.podIPs = [{ ip: podIp }];
  }
  if (failure !== undefined) {
    status.reason = failure.reason;
    status.message = failure.message;
  }
  return status;
}

function phaseOf({ view, failure }: StatusInput): NonNullable<PodStatus["phase"]> {
  if (failure !== undefined) return "Failed";
  const outcome = outcomeOf(view);
  // The sandbox's end is part of it: a pod must not look finished while a sidecar still runs.
  if (outcome !== undefined && !view.containers.some((c) => isAlive(c.state))) return outcome;
  if (!initialized(view)) return "Pending";
  const untouched = view.containers.some(
    ({ role, state, last }) =>
      role === "main" && (state.kind === "waiting" || state.kind === "starting") && last === undefined,
  );
  return untouched ? "Pending" : "Running";
}

function initialized(view: PodView): boolean {
  return view.containers.every(({ role, state, restartCount }) => {
    if (role === "init") return state.kind === "exited" && state.exit.code === 0;
    if (role === "sidecar")
      return restartCount > 0 || state.kind === "exited" || (state.kind === "running" && state.started);
    return true;
  });
}

function terminated(exit: Exit): NonNullable<NonNullable<ContainerStatus["state"]>["terminated"]> {
  return {
    exitCode: exit.code,
    reason: exit.reason,
    ...(exit.message === undefined ? {} : { message: exit.message }),
    startedAt: metaTime(exit.startedAtMs),
    finishedAt: metaTime(exit.finishedAtMs),
    containerID: `meshbed://${exit.containerId}`,
  };
}

function stateOf(state: ContainerState): NonNullable<ContainerStatus["state"]> {
  switch (state.kind) {
    case "waiting":
      return {
        waiting: { reason: state.reason, ...(state.message === undefined ? {} : { message: state.message }) },
      };
    case "starting":
      return { waiting: { reason: "ContainerCreating" } };
    case "running":
      return { running: { startedAt: metaTime(state.startedAtMs) } };
    case "exited":
      return { terminated: terminated(state.exit) };
  }
}

function containerStatus(record: ContainerRecord, ending: boolean): ContainerStatus {
  const { name, role, state, image, last, restartCount } = record;
  const running = state.kind === "running";
  const containerId = running ? state.containerId : state.kind === "exited" ? state.exit.containerId : undefined;
  return {
    name,
    image,
    imageID: containerId === undefined ? "" : `meshbed://catalogue/${image}`,
    ...(containerId === undefined ? {} : { containerID: `meshbed://${containerId}` }),
    state: stateOf(state),
    lastState: last === undefined ? {} : { terminated: terminated(last) },
    ready: role === "init" ? state.kind === "exited" && state.exit.code === 0 : containerReady(record) && !ending,
    started: running && state.started,
    restartCount,
  };
}

const containerReady = ({ state }: ContainerRecord): boolean =>
  state.kind === "running" && state.started && state.ready && !state.stopping;

const ownConditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

function conditionsOf(input: StatusInput, phase: string): PodCondition[] {
  const { view, previous, pod } = input;
  const unready = view.containers.filter((c) => c.role !== "init" && (view.ending || !containerReady(c)));
  const uninitialized = view.containers.filter(
    ({ role, state }) => role === "init" && !(state.kind === "exited" && state.exit.code === 0),
  );
  const names = (records: ContainerRecord[]) => `[${records.map((c) => c.name).join(" ")}]`;
  const completed = phase === "Succeeded" ? "PodCompleted" : phase === "Failed" ? "PodFailed" : undefined;
  const notReady: Partial<PodCondition> =
    completed === undefined
      ? { reason: "ContainersNotReady", message: `containers with unready status: ${names(unready)}` }
      : { reason: completed };
  const containersReady = completed === undefined && unready.length === 0;
  const gates = (pod.spec?.readinessGates ?? []).map((gate) => gate.conditionType);
  const missingGates = gates.filter(
    (type) => !pod.status?.conditions?.some((c) => c.type === type && c.status === "True"),
  );
  const ready = containersReady && missingGates.length === 0;
  const done = initialized(view);
  const own: PodCondition[] = [
    { type: "PodReadyToStartContainers", status: view.sandbox.kind === "ready" ? "True" : "False" },
    {
      type: "Initialized",
      status: done ? "True" : "False",
      ...(done
        ? phase === "Succeeded"
          ? { reason: "PodCompleted" }
          : {}
        : {
            reason: "ContainersNotInitialized",
            message: `containers with incomplete status: ${names(uninitialized)}`,
          }),
    },
    {
      type: "Ready",
      status: ready ? "True" : "False",
      ...(ready
        ? {}
        : containersReady
          ? {
              reason: "ReadinessGatesNotReady",
              message: `corresponding condition of pod readiness gate ${JSON.stringify(missingGates[0])} is not "True".`,
            }
          : notReady),
    },
    { type: "ContainersReady", status: containersReady ? "True" : "False", ...(containersReady ? {} : notReady) },
    { type: "PodScheduled", status: "True" },
  ];
  const others = (pod.status?.conditions ?? []).filter((c) => !ownConditions.includes(c.type));
  return [...own.map((condition) => withTransition(condition, input, previous)), ...others];
}

function withTransition(condition: PodCondition, input: StatusInput, previous: PodStatus | undefined): PodCondition {
  const same = (list: PodCondition[] | undefined) =>
    list?.find((c) => c.type === condition.type && c.status === condition.status)?.lastTransitionTime;
  const known = same(previous?.conditions) ?? (previous === undefined ? same(input.pod.status?.conditions) : undefined);
  return { ...condition, lastTransitionTime: known ?? metaTime(input.nowMs) };
}
