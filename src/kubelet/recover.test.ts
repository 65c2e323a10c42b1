// What a kubelet makes of the statuses an earlier one left.

import { expect, test } from "bun:test";
import type { Pod } from "../api/types.ts";
import { initialRecords } from "./recover.ts";

const podOf = (spec: object, more: object = {}): Pod =>
  ({
    metadata: { name: "web-0", namespace: "video", uid: "u" },
    spec: { containers: [], ...spec },
    ...more,
  }) as unknown as Pod;

test("a kubelet that finds running containers in a status counts them as ended and to be restarted", () => {
  const at = "2026-01-01T00:00:00Z";
  const status = (state: object, lastState: object = {}) => ({
    status: {
      phase: "Running",
      containerStatuses: [{ name: "c", restartCount: 2, state, lastState, containerID: "meshbed://u/c-2" }],
    },
  });
  const containers = [{ name: "c", image: "i" }];
  const recovered = (more: object, spec: object = {}) =>
    initialRecords(podOf({ containers, ...spec }, more), 9_000, () => 3);
  const [running] = recovered(status({ running: { startedAt: at } })).records;
  expect(running).toMatchObject({
    restartCount: 2,
    attempts: 3,
    state: { kind: "exited", exit: { code: 255, containerId: "u/c-2" } },
  });
  const terminated = { terminated: { exitCode: 0, startedAt: at, finishedAt: at, reason: "Completed" } };
  const [done] = recovered(status(terminated), { restartPolicy: "OnFailure" }).records;
  expect(done?.state).toMatchObject({ kind: "exited", exit: { code: 0 } });
  const waiting = { waiting: { reason: "CrashLoopBackOff" } };
  const [crashed] = recovered(status(waiting, { terminated: { exitCode: 1 } })).records;
  expect(crashed).toMatchObject({ restartCount: 2, last: { code: 1 }, state: { kind: "waiting" } });
  expect(recovered({ status: { phase: "Succeeded", containerStatuses: [] } }).ended).toBe(true);
});
