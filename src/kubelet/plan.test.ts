// What the kubelet decides for a pod in a given state.

import { expect, test } from "bun:test";
import {
  backOffPolicy,
  type ContainerEvent,
  type ContainerRecord,
  type ContainerRole,
  crashBackOff,
  type Exit,
  newContainer,
  step,
} from "./container-state.ts";
import { type Action, outcomeOf, type PodView, plan } from "./plan.ts";

const policy = backOffPolicy(10_000);
const exit = (code: number, finishedAtMs = 1_000, startedAtMs = 0): Exit => ({
  code,
  reason: code === 0 ? "Completed" : "Error",
  startedAtMs,
  finishedAtMs,
  containerId: "u/c-0",
});
const record = (name: string, role: ContainerRole, state?: ContainerRecord["state"], more = {}): ContainerRecord => {
  const fresh = newContainer(name, role, "img", "ContainerCreating");
  return { ...fresh, ...(state && { state }), ...more };
};
const running = (more = {}): ContainerRecord["state"] => ({
  kind: "running",
  containerId: "u/c-0",
  startedAtMs: 0,
  started: true,
  ready: true,
  stopping: false,
  ...more,
});
const ended = (code: number, finishedAtMs?: number): ContainerRecord["state"] => ({
  kind: "exited",
  exit: exit(code, finishedAtMs),
});
const ready = { kind: "ready" } as const;

const view = (containers: ContainerRecord[], more: Partial<PodView> = {}): PodView => ({
  restartPolicy: "Always",
  containers,
  sandbox: ready,
  ending: false,
  ...more,
});
const short = (actions: Action[]) => actions.map((a) => ("container" in a ? `${a.kind} ${a.container}` : a.kind));

const cases: [string, PodView, string[]][] = [
  ["a new pod gets its sandbox first", view([record("a", "main")], { sandbox: { kind: "none" } }), ["prepare"]],
  ["nothing happens while the sandbox is made", view([record("a", "main")], { sandbox: { kind: "preparing" } }), []],
  ["a failed sandbox waits", view([record("a", "main")], { sandbox: { kind: "failed", retryAtMs: 9e9 } }), []],
  [
    "a failed sandbox is tried again",
    view([record("a", "main")], { sandbox: { kind: "failed", retryAtMs: 5 } }),
    ["prepare"],
  ],
  ["main containers start together", view([record("a", "main"), record("b", "main")]), ["start a", "start b"]],
  ["an init container goes first", view([record("i", "init"), record("a", "main")]), ["start i"]],
  ["a running init container holds the rest", view([record("i", "init", running()), record("a", "main")]), []],
  [
    "the next init container follows",
    view([record("i", "init", ended(0)), record("j", "init"), record("a", "main")]),
    ["start j"],
  ],
  ["a failed init container starts again", view([record("i", "init", ended(1)), record("a", "main")]), ["start i"]],
  [
    "a sidecar holds the rest until it has started",
    view([record("s", "sidecar", running({ started: false })), record("a", "main")]),
    [],
  ],
  [
    "a started sidecar lets the rest start",
    view([record("s", "sidecar", running()), record("a", "main")]),
    ["start a"],
  ],
  [
    "a crashed sidecar starts again beside running containers",
    view([record("s", "sidecar", ended(1), { restartCount: 1 }), record("a", "main", running())]),
    ["start s"],
  ],
  ["the first crash costs nothing", view([record("a", "main", ended(1))]), ["start a"]],
  ["the second crash waits", view([record("a", "main", ended(1), { backOffMs: 10_000 })]), ["backOff a"]],
  ["a completed container starts again when the policy is Always", view([record("a", "main", ended(0))]), ["start a"]],
  [
    "OnFailure leaves a completed container alone",
    view([record("a", "main", ended(0)), record("b", "main", running())], { restartPolicy: "OnFailure" }),
    [],
  ],
  [
    "OnFailure restarts a failed one",
    view([record("a", "main", ended(2))], { restartPolicy: "OnFailure" }),
    ["start a"],
  ],
  [
    "Never: everything ended, the sandbox goes",
    view([record("a", "main", ended(2))], { restartPolicy: "Never" }),
    ["removeSandbox"],
  ],
  [
    "Never: sidecars are stopped when the rest has ended",
    view([record("s", "sidecar", running()), record("a", "main", ended(0))], { restartPolicy: "Never" }),
    ["stop s"],
  ],
  [
    "Never: a failed init container fails the pod",
    view([record("i", "init", ended(1)), record("a", "main")], { restartPolicy: "Never" }),
    ["removeSandbox"],
  ],
  [
    "deleted: main containers stop before sidecars",
    view([record("s", "sidecar", running()), record("a", "main", running())], { ending: true }),
    ["stop a"],
  ],
  [
    "deleted: what stops already is not stopped again",
    view([record("a", "main", running({ stopping: true }))], { ending: true }),
    [],
  ],
  ["deleted: a start under way is awaited", view([record("a", "main", { kind: "starting" })], { ending: true }), []],
  [
    "deleted: then sidecars",
    view([record("s", "sidecar", running()), record("a", "main", ended(0))], { ending: true }),
    ["stop s"],
  ],
  ["deleted: then the sandbox", view([record("a", "main", ended(137))], { ending: true }), ["removeSandbox"]],
  [
    "deleted before anything started: nothing starts",
    view([record("a", "main")], { ending: true, sandbox: { kind: "none" } }),
    ["removeSandbox"],
  ],
  [
    "an image error turns into a back-off",
    view([record("a", "main", { kind: "waiting", reason: "ErrImagePull", retryAtMs: 5 })]),
    ["pullBackOff a"],
  ],
];
for (const [what, given, expected] of cases)
  test(what, () => {
    expect(short(plan(given, policy, 1_000).actions)).toEqual(expected);
  });

test("a waiting container says when to look again: the nearest of all", () => {
  const waiting = (retryAtMs: number) => ({ kind: "waiting", reason: "CrashLoopBackOff", retryAtMs }) as const;
  const result = plan(view([record("a", "main", waiting(9_000)), record("b", "main", waiting(7_000))]), policy, 1_000);
  expect(result).toEqual({ actions: [], wakeAtMs: 7_000 });
});

test("the wait doubles from 10 s to 5 min and is forgotten after ten minutes of running", () => {
  const waits: number[] = [];
  let backOffMs = 0;
  for (let i = 0; i < 8; i++) {
    const { waitMs, nextMs } = crashBackOff(policy, backOffMs, 1_000);
    waits.push(waitMs / 1000);
    backOffMs = nextMs;
  }
  expect(waits).toEqual([0, 10, 20, 40, 80, 160, 300, 300]);
  expect(crashBackOff(policy, backOffMs, 600_000).waitMs).toBe(0);
});

test("the outcome of a pod follows from its policy and exit codes", () => {
  const of = (restartPolicy: PodView["restartPolicy"], ...codes: number[]) =>
    outcomeOf({ restartPolicy, containers: codes.map((code, i) => record(`c${i}`, "main", ended(code))) });
  expect([of("Never", 0, 0), of("Never", 0, 3), of("OnFailure", 0, 0), of("OnFailure", 0, 3), of("Always", 0)]).toEqual(
    ["Succeeded", "Failed", "Succeeded", undefined, undefined],
  );
});

const started: ContainerEvent = {
  kind: "started",
  containerId: "u/c-0",
  startedAtMs: 1,
  hasStartupProbe: false,
  hasReadinessProbe: true,
};
const run = (...events: ContainerEvent[]) => events.reduce(step, record("c", "main"));
const start: ContainerEvent = { kind: "startRequested", backOffMs: 0 };

test("a container is ready only after its startup and readiness probes, and never while it is stopped", () => {
  const withStartup = { ...started, hasStartupProbe: true };
  expect(run(start, withStartup, { kind: "readiness", ready: true }).state).toMatchObject({
    started: false,
    ready: false,
  });
  const up = run(
    start,
    withStartup,
    { kind: "startupSucceeded", hasReadinessProbe: true },
    { kind: "readiness", ready: true },
  );
  expect(up.state).toMatchObject({ started: true, ready: true });
  const stopping = step(up, { kind: "stopRequested" });
  expect(stopping.state).toMatchObject({ ready: false, stopping: true });
  expect(step(stopping, { kind: "readiness", ready: true })).toBe(stopping);
});

test("a restart is counted when a run ended, not when a start failed", () => {
  const failedStart = run(
    start,
    { kind: "startFailed", reason: "ErrImagePull", message: "", retryAtMs: 0, backOffMs: 0 },
    start,
  );
  expect(failedStart).toMatchObject({ restartCount: 0, attempts: 2 });
  const crashed = run(start, started, { kind: "exited", exit: exit(1) }, start);
  expect(crashed).toMatchObject({ restartCount: 1, attempts: 2, last: { code: 1 } });
  const backedOff = run(
    start,
    started,
    { kind: "exited", exit: exit(1) },
    { kind: "backedOff", message: "", retryAtMs: 9, backOffMs: 20 },
  );
  expect(step(backedOff, start)).toMatchObject({ restartCount: 1, last: { code: 1 } });
});

test("events that come too late change nothing", () => {
  const over = run(start, started, { kind: "exited", exit: exit(0) });
  for (const late of [
    started,
    { kind: "exited", exit: exit(1) },
    { kind: "readiness", ready: true },
    { kind: "stopRequested" },
  ] as ContainerEvent[])
    expect(step(over, late)).toBe(over);
});
