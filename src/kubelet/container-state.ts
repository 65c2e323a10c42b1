// The state of one container and the only function that changes it. Pure: what to do about a state is decided in plan.ts.

import { unreachable } from "../kernel/assert.ts";

/** How one run of a container ended. */
export interface Exit {
  code: number;
  /** Completed, Error, OOMKilled, StartError, Unknown: as Kubernetes names them. */
  reason: string;
  message?: string;
  startedAtMs: number;
  finishedAtMs: number;
  containerId: string;
}

export type ContainerState =
  /** Not running; `retryAtMs` says when a start may be tried (0: as soon as its turn comes). */
  | { kind: "waiting"; reason: string; message?: string; retryAtMs: number }
  | { kind: "starting" }
  | {
      kind: "running";
      containerId: string;
      startedAtMs: number;
      /** The startup probe succeeded or there is none. */
      started: boolean;
      ready: boolean;
      /** A stop was asked for: it no longer counts as ready. */
      stopping: boolean;
    }
  | { kind: "exited"; exit: Exit };

/** init: runs to its end before the next; sidecar: an init container with restartPolicy Always; main: the others. */
export type ContainerRole = "init" | "sidecar" | "main";

export interface ContainerRecord {
  readonly name: string;
  readonly role: ContainerRole;
  readonly image: string;
  readonly state: ContainerState;
  readonly restartCount: number;
  /** Starts tried so far: the number in the container id and in the name of its log. */
  readonly attempts: number;
  /** The run before the current one. */
  readonly last: Exit | undefined;
  /** The wait the next crash or failed pull will cost; 0: none yet. */
  readonly backOffMs: number;
}

export type ContainerEvent =
  | { kind: "startRequested"; backOffMs: number }
  | { kind: "started"; containerId: string; startedAtMs: number; hasStartupProbe: boolean; hasReadinessProbe: boolean }
  | { kind: "startFailed"; reason: string; message: string; retryAtMs: number; backOffMs: number }
  | { kind: "startupSucceeded"; hasReadinessProbe: boolean }
  | { kind: "readiness"; ready: boolean }
  | { kind: "stopRequested" }
  | { kind: "exited"; exit: Exit }
  | { kind: "backedOff"; message: string; retryAtMs: number; backOffMs: number }
  | { kind: "pullBackedOff"; message: string; retryAtMs: number; backOffMs: number }
  /** What a container could not be configured with has changed. */
  | { kind: "configChanged" };

export function newContainer(name: string, role: ContainerRole, image: string, waitingReason: string): ContainerRecord {
  const state: ContainerState = { kind: "waiting", reason: waitingReason, retryAtMs: 0 };
  return { name, role, image, state, restartCount: 0, attempts: 0, last: undefined, backOffMs: 0 };
}

export const isAlive = (state: ContainerState): boolean => state.kind === "starting" || state.kind === "running";

/**
 * The transitions. An event that does not fit the state (a late probe result, an exit reported twice) changes nothing.
 *
 * waiting → starting → running → exited → waiting (CrashLoopBackOff) → starting
 *              │                   └──────────────────────────────────→ starting (first crash, or a job's next init)
 *              └→ waiting (CreateContainerConfigError, RunContainerError, ErrImagePull → ImagePullBackOff) → starting
 */
export function step(record: ContainerRecord, event: ContainerEvent): ContainerRecord {
  const { state } = record;
  switch (event.kind) {
    case "startRequested":
      return isAlive(state) ? record : startRequested(record, event.backOffMs);
    case "started": {
      if (state.kind !== "starting") return record;
      const started = !event.hasStartupProbe;
      const { containerId, startedAtMs } = event;
      const ready = started && !event.hasReadinessProbe;
      return { ...record, state: { kind: "running", containerId, startedAtMs, started, ready, stopping: false } };
    }
    case "startFailed": {
      if (state.kind !== "starting") return record;
      const { reason, message, retryAtMs, backOffMs } = event;
      return { ...record, backOffMs, state: { kind: "waiting", reason, message, retryAtMs } };
    }
    case "startupSucceeded":
      if (state.kind !== "running" || state.started) return record;
      return { ...record, state: { ...state, started: true, ready: !event.hasReadinessProbe && !state.stopping } };
    case "readiness":
      if (state.kind !== "running" || state.stopping || !state.started || state.ready === event.ready) return record;
      return { ...record, state: { ...state, ready: event.ready } };
    case "stopRequested":
      if (state.kind !== "running" || state.stopping) return record;
      return { ...record, state: { ...state, ready: false, stopping: true } };
    case "exited":
      return isAlive(state) ? { ...record, state: { kind: "exited", exit: event.exit } } : record;
    case "backedOff": {
      if (state.kind !== "exited") return record;
      const { message, retryAtMs, backOffMs } = event;
      const waiting: ContainerState = { kind: "waiting", reason: "CrashLoopBackOff", message, retryAtMs };
      return { ...record, last: state.exit, backOffMs, state: waiting };
    }
    case "pullBackedOff": {
      if (state.kind !== "waiting" || state.reason !== "ErrImagePull") return record;
      const { message, retryAtMs, backOffMs } = event;
      return { ...record, backOffMs, state: { kind: "waiting", reason: "ImagePullBackOff", message, retryAtMs } };
    }
    case "configChanged":
      if (state.kind !== "waiting" || state.reason !== "CreateContainerConfigError") return record;
      return { ...record, state: { ...state, retryAtMs: 0 } };
    default:
      return unreachable(event);
  }
}

function startRequested(record: ContainerRecord, backOffMs: number): ContainerRecord {
  const { state } = record;
  const exitedBefore = state.kind === "exited" || (state.kind === "waiting" && state.reason === "CrashLoopBackOff");
  return {
    ...record,
    state: { kind: "starting" },
    last: state.kind === "exited" ? state.exit : record.last,
    restartCount: record.restartCount + (exitedBefore ? 1 : 0),
    attempts: record.attempts + 1,
    backOffMs,
  };
}

/** Kubernetes resets the back-off of a container that ran for twice the longest wait. */
export interface BackOffPolicy {
  initialMs: number;
  maxMs: number;
}

export const backOffPolicy = (initialMs = 10_000): BackOffPolicy => ({ initialMs, maxMs: initialMs * 30 });

/**
 * The wait after an exit: none after the first crash, then initialMs doubling up to maxMs; forgotten after a run of 2 × maxMs.
 * `nextMs` is what the record keeps for the crash after this one.
 */
export function crashBackOff(
  policy: BackOffPolicy,
  backOffMs: number,
  ranForMs: number,
): { waitMs: number; nextMs: number } {
  if (backOffMs === 0 || ranForMs >= policy.maxMs * 2) return { waitMs: 0, nextMs: policy.initialMs };
  return { waitMs: backOffMs, nextMs: Math.min(policy.maxMs, backOffMs * 2) };
}
