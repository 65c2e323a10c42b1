// READY, STATUS and RESTARTS as kubectl users know them.

import { expect, test } from "bun:test";
import type { Pod } from "../types.ts";
import { summarizePod } from "./pod-status.ts";

const nowMs = Date.UTC(2026, 0, 1, 1);

interface Parts {
  phase?: string;
  reason?: string;
  conditions?: object[];
  containers?: object[];
  init?: object[];
  initSpecs?: object[];
  deletionTimestamp?: string;
}

function podOf({
  phase = "Running",
  reason,
  conditions,
  containers = [],
  init,
  initSpecs,
  deletionTimestamp,
}: Parts): Pod {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "a",
      namespace: "b",
      uid: "u",
      resourceVersion: "1",
      creationTimestamp: "2026-01-01T00:00:00Z",
      ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
    },
    spec: {
      containers: containers.map((_, i) => ({ name: `c${i}`, image: "i" })),
      ...(initSpecs === undefined ? {} : { initContainers: initSpecs }),
    },
    status: { phase, reason, conditions, containerStatuses: containers, initContainerStatuses: init },
  } as unknown as Pod;
}

const running = { name: "c", ready: true, restartCount: 0, state: { running: {} } };
const starting = { name: "c", ready: false, restartCount: 0, state: { waiting: { reason: "ContainerCreating" } } };
const unready = { ...running, ready: false };
const crashing = {
  name: "c",
  ready: false,
  restartCount: 3,
  state: { waiting: { reason: "CrashLoopBackOff" } },
  lastState: { terminated: { exitCode: 1, finishedAt: "2026-01-01T00:55:00Z" } },
};
const done = { name: "c", ready: false, restartCount: 0, state: { terminated: { exitCode: 0, reason: "Completed" } } };
const exited = (terminated: object) => ({ name: "i", ready: false, restartCount: 0, state: { terminated } });
const ready = [{ type: "Ready", status: "True" }];

test.each<[string, Parts, string, string, string]>([
  ["a pending pod without statuses", { phase: "Pending" }, "0/0", "Pending", "0"],
  ["a running pod", { containers: [running, running] }, "2/2", "Running", "0"],
  ["an unready container", { containers: [running, unready] }, "1/2", "Running", "0"],
  ["a pod that starts", { phase: "Pending", containers: [starting] }, "0/1", "ContainerCreating", "0"],
  ["a crash loop", { containers: [crashing] }, "0/1", "CrashLoopBackOff", "3 (5m ago)"],
  ["a pod that is through", { phase: "Succeeded", containers: [done] }, "0/1", "Completed", "0"],
  ["an error", { phase: "Failed", containers: [exited({ exitCode: 1, reason: "Error" })] }, "0/1", "Error", "0"],
  ["an exit without a word", { phase: "Failed", containers: [exited({ exitCode: 7 })] }, "0/1", "ExitCode:7", "0"],
  [
    "a signal without a word",
    { phase: "Failed", containers: [exited({ exitCode: 137, signal: 9 })] },
    "0/1",
    "Signal:9",
    "0",
  ],
  ["one container through, one ready", { conditions: ready, containers: [done, running] }, "1/2", "Running", "0"],
  ["one container through, the pod unready", { containers: [done, running] }, "1/2", "NotReady", "0"],
  ["a pod that ends", { containers: [running], deletionTimestamp: "2026-01-01T00:59:00Z" }, "1/1", "Terminating", "0"],
  [
    "a finished pod that is deleted",
    { phase: "Succeeded", containers: [done], deletionTimestamp: "2026-01-01T00:59:00Z" },
    "0/1",
    "Completed",
    "0",
  ],
  [
    "a pod on a lost node",
    { reason: "NodeLost", containers: [running], deletionTimestamp: "2026-01-01T00:59:00Z" },
    "1/1",
    "Unknown",
    "0",
  ],
  ["an evicted pod", { phase: "Failed", reason: "Evicted" }, "0/0", "Evicted", "0"],
  [
    "the first init container running",
    {
      phase: "Pending",
      containers: [starting],
      initSpecs: [{ name: "i" }, { name: "j" }],
      init: [{ ...running, name: "i" }],
    },
    "0/1",
    "Init:0/2",
    "0",
  ],
  [
    "the second init container to come",
    {
      phase: "Pending",
      containers: [starting],
      initSpecs: [{ name: "i" }, { name: "j" }],
      init: [
        exited({ exitCode: 0 }),
        { name: "j", ready: false, restartCount: 0, state: { waiting: { reason: "PodInitializing" } } },
      ],
    },
    "0/1",
    "Init:1/2",
    "0",
  ],
  [
    "an init container that fails",
    {
      phase: "Pending",
      containers: [starting],
      initSpecs: [{ name: "i" }],
      init: [{ ...exited({ exitCode: 2 }), restartCount: 4 }],
    },
    "0/1",
    "Init:ExitCode:2",
    "4",
  ],
  [
    "an init container in a crash loop",
    { phase: "Pending", containers: [starting], initSpecs: [{ name: "i" }], init: [{ ...crashing, name: "i" }] },
    "0/1",
    "Init:CrashLoopBackOff",
    "3 (5m ago)",
  ],
  [
    "a sidecar among the init containers counts as a container",
    {
      containers: [running],
      initSpecs: [{ name: "i", restartPolicy: "Always" }],
      init: [{ ...running, name: "i", started: true, restartCount: 1 }],
    },
    "2/2",
    "Running",
    "1",
  ],
  [
    "a scheduling gate",
    { phase: "Pending", conditions: [{ type: "PodScheduled", status: "False", reason: "SchedulingGated" }] },
    "0/0",
    "SchedulingGated",
    "0",
  ],
])("%s", (_name, parts, expectedReady, status, restarts) => {
  expect(summarizePod(podOf(parts), nowMs)).toEqual({ ready: expectedReady, status, restarts });
});
