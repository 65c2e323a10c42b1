// Decides what to do next for one pod from its current state. Pure: no clock, no I/O; the pod worker carries it out.

import { type BackOffPolicy, type ContainerRecord, crashBackOff, isAlive } from "./container-state.ts";

export type SandboxState =
  | { kind: "none" }
  | { kind: "preparing" }
  | { kind: "ready" }
  | { kind: "failed"; retryAtMs: number }
  | { kind: "removing" }
  | { kind: "removed" };

export interface PodView {
  restartPolicy: "Always" | "OnFailure" | "Never";
  /** Init containers first, in the order of the spec. */
  containers: readonly ContainerRecord[];
  sandbox: SandboxState;
  /** The pod is to go: deleted, past its deadline, or the kubelet stops. */
  ending: boolean;
}

export type Action =
  | { kind: "prepare" }
  | { kind: "start"; container: string; backOffMs: number }
  | { kind: "backOff"; container: string; retryAtMs: number; backOffMs: number }
  | { kind: "pullBackOff"; container: string }
  | { kind: "stop"; container: string }
  | { kind: "removeSandbox" };

export interface Plan {
  actions: Action[];
  /** When to plan again although nothing happened; undefined: only after an event. */
  wakeAtMs: number | undefined;
}

/** How the pod ended for good by itself, or undefined while it has not. */
export function outcomeOf(view: Pick<PodView, "restartPolicy" | "containers">): "Succeeded" | "Failed" | undefined {
  if (view.restartPolicy === "Always") return undefined;
  let failed = false;
  let left = 0;
  for (const { role, state } of view.containers) {
    if (role === "sidecar") continue;
    const exit = state.kind === "exited" ? state.exit : undefined;
    if (role === "init") {
      if (exit !== undefined && exit.code !== 0 && view.restartPolicy === "Never") return "Failed";
      continue;
    }
    if (exit === undefined || (exit.code !== 0 && view.restartPolicy === "OnFailure")) left++;
    else if (exit.code !== 0) failed = true;
  }
  if (left > 0) return undefined;
  return failed ? "Failed" : "Succeeded";
}

export function plan(view: PodView, policy: BackOffPolicy, nowMs: number): Plan {
  if (view.ending || outcomeOf(view) !== undefined) return { actions: planEnd(view), wakeAtMs: undefined };
  const { sandbox } = view;
  if (sandbox.kind === "none") return { actions: [{ kind: "prepare" }], wakeAtMs: undefined };
  if (sandbox.kind === "failed") {
    if (sandbox.retryAtMs > nowMs) return { actions: [], wakeAtMs: sandbox.retryAtMs };
    return { actions: [{ kind: "prepare" }], wakeAtMs: undefined };
  }
  if (sandbox.kind !== "ready") return { actions: [], wakeAtMs: undefined };
  return planContainers(view, policy, nowMs);
}

/** Mains and inits stop first, sidecars after them, then the sandbox goes. */
function planEnd(view: PodView): Action[] {
  const alive = view.containers.filter((container) => isAlive(container.state));
  const first = alive.filter((container) => container.role !== "sidecar");
  const actions: Action[] = [];
  for (const { name, state } of first.length > 0 ? first : alive)
    if (state.kind === "running" && !state.stopping) actions.push({ kind: "stop", container: name });
  const settled = view.sandbox.kind === "ready" || view.sandbox.kind === "failed" || view.sandbox.kind === "none";
  if (alive.length === 0 && settled) actions.push({ kind: "removeSandbox" });
  return actions;
}

function planContainers(view: PodView, policy: BackOffPolicy, nowMs: number): Plan {
  const result: Plan = { actions: [], wakeAtMs: undefined };
  for (const container of view.containers) {
    const restarts =
      container.role === "sidecar" || view.restartPolicy === "Always"
        ? container.role !== "init" || failed(container)
        : view.restartPolicy === "OnFailure" && failed(container);
    planContainer(container, restarts, policy, nowMs, result);
    if (!lettingOthersStart(container)) break;
  }
  return result;
}

const failed = ({ state }: ContainerRecord): boolean => state.kind === "exited" && state.exit.code !== 0;

/** An init container holds back everything after it until it is done, a sidecar until it has started once. */
function lettingOthersStart({ role, state, restartCount }: ContainerRecord): boolean {
  if (role === "main") return true;
  if (role === "init") return state.kind === "exited" && state.exit.code === 0;
  return restartCount > 0 || (state.kind === "running" && state.started);
}

function planContainer(
  container: ContainerRecord,
  restarts: boolean,
  policy: BackOffPolicy,
  nowMs: number,
  result: Plan,
): void {
  const { name, state, backOffMs } = container;
  if (state.kind === "waiting") {
    if (state.retryAtMs > nowMs) result.wakeAtMs = Math.min(result.wakeAtMs ?? state.retryAtMs, state.retryAtMs);
    else if (state.reason === "ErrImagePull") result.actions.push({ kind: "pullBackOff", container: name });
    else result.actions.push({ kind: "start", container: name, backOffMs });
  } else if (state.kind === "exited" && restarts) {
    const { startedAtMs, finishedAtMs } = state.exit;
    const { waitMs, nextMs } = crashBackOff(policy, backOffMs, finishedAtMs - startedAtMs);
    const retryAtMs = finishedAtMs + waitMs;
    if (retryAtMs <= nowMs) result.actions.push({ kind: "start", container: name, backOffMs: nextMs });
    else result.actions.push({ kind: "backOff", container: name, retryAtMs, backOffMs: nextMs });
  }
}
