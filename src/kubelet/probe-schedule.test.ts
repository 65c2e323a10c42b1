// When probes run and what their results mean.

import { expect, test } from "bun:test";
import { newProbeState, onProbeResult, type ProbeKind, timingOf } from "./probe-schedule.ts";

/** Runs a probe that gives `results` in turn (the last one for ever) until `endMs`; lists the verdicts with their times. */
function simulate(
  kind: ProbeKind,
  spec: Parameters<typeof timingOf>[0],
  results: (nowMs: number) => boolean,
  endMs: number,
) {
  const timing = timingOf(spec);
  let state = newProbeState(kind, 0, timing);
  const verdicts: string[] = [];
  let runs = 0;
  let events = 0;
  for (let nowMs = state.firstAtMs; nowMs <= endMs; ) {
    runs++;
    const outcome = onProbeResult(kind, timing, state, results(nowMs), true, nowMs);
    state = outcome.state;
    if (outcome.counted) events++;
    if (outcome.verdict !== undefined) verdicts.push(`${nowMs} ${outcome.verdict}`);
    nowMs = outcome.nextAtMs;
  }
  return { verdicts, runs, events };
}

test("a server that listens after 60 ms is ready 75 ms after its start, though it is probed every 10 s", () => {
  const { verdicts, events } = simulate("readiness", {}, (nowMs) => nowMs >= 60, 9_000);
  expect(verdicts[0]).toBe("75 success");
  expect(events).toBe(0);
});

test("after its first success a probe keeps to its period", () => {
  expect(simulate("readiness", { periodSeconds: 2 }, () => true, 10_000).runs).toBe(6);
});

test("initialDelaySeconds is kept", () => {
  expect(simulate("readiness", { initialDelaySeconds: 5 }, () => true, 6_000).verdicts).toEqual(["5000 success"]);
});

test("fast retries do not use up failureThreshold: a startup probe has its threshold times its period", () => {
  const { verdicts, events } = simulate("startup", { periodSeconds: 2, failureThreshold: 4 }, () => false, 8_000);
  const failedAtMs = Number(verdicts[0]!.split(" ")[0]);
  expect(verdicts[0]).toEndWith("failure");
  expect(failedAtMs).toBeGreaterThanOrEqual(7_000);
  expect(events).toBeLessThanOrEqual(5);
});

test("a liveness probe needs failureThreshold failures in a row, a period apart", () => {
  let calls = 0;
  const flaky = simulate("liveness", { periodSeconds: 1, failureThreshold: 2 }, () => ++calls % 2 === 0, 20_000);
  expect(flaky.verdicts.filter((v) => v.endsWith("failure"))).toEqual([]);
  const dead = simulate("liveness", { periodSeconds: 1, failureThreshold: 3 }, (nowMs) => nowMs < 5_000, 7_000);
  expect(dead.verdicts.filter((v) => v.endsWith("failure"))).toEqual(["7000 failure"]);
});

test("a liveness probe leaves a container the time to start, also with a threshold of one", () => {
  const { verdicts } = simulate("liveness", { failureThreshold: 1 }, (nowMs) => nowMs >= 300, 2_000);
  expect(verdicts).toEqual(["1000 success"]);
});

test("successThreshold asks for that many successes in a row", () => {
  expect(simulate("readiness", { periodSeconds: 1, successThreshold: 3 }, () => true, 2_500).verdicts).toEqual([
    "2000 success",
  ]);
});
