// Decisions of active health checks: what a result makes of a host, and when it is asked next.
import { describe, expect, test } from "bun:test";
import {
  type CheckResult,
  type HealthCheck,
  type HealthState,
  type HttpCheck,
  judge,
  judgeStatus,
  nextCheckMs,
  received,
} from "./health_check.ts";

const check = {
  timeoutMs: 1,
  intervalMs: 100,
  unhealthyIntervalMs: 200,
  healthyEdgeIntervalMs: 10,
  unhealthyEdgeIntervalMs: 20,
  noTrafficIntervalMs: 1_000,
  noTrafficHealthyIntervalMs: 2_000,
  initialJitterMs: 0,
  intervalJitterMs: 0,
  intervalJitterPercent: 0,
  healthyThreshold: 2,
  unhealthyThreshold: 3,
  port: 0,
} as HealthCheck;
const fresh: HealthState = { healthy: false, checked: false, streak: 0 };
const up: HealthState = { healthy: true, checked: true, streak: 0 };
const down: HealthState = { healthy: false, checked: true, streak: 0 };

describe("results", () => {
  const cases: [string, HealthState, CheckResult[], boolean][] = [
    ["the first pass of all is enough", fresh, ["pass"], true],
    ["after a first failure passes are counted", fresh, ["fail", "pass"], false],
    ["and lead to healthy", fresh, ["fail", "pass", "pass"], true],
    ["a bad answer decides at once", up, ["fail-now"], false],
    ["silence is counted", up, ["fail", "fail"], true],
    ["up to the threshold", up, ["fail", "fail", "fail"], false],
    ["a pass between starts the count again", up, ["fail", "fail", "pass", "fail", "fail"], true],
    ["one pass does not bring it back", down, ["pass"], false],
    ["a failure between starts that count again", down, ["pass", "fail", "pass"], false],
  ];
  for (const [name, from, results, want] of cases)
    test(name, () => expect(results.reduce((state, result) => judge(state, result, check), from).healthy).toBe(want));
});

describe("intervals", () => {
  const still = { next: () => 0, below: () => 0 };
  const cases: [string, HealthState, boolean, number][] = [
    ["healthy", up, true, 100],
    ["unhealthy", down, true, 200],
    ["healthy, with failures that do not decide yet", { ...up, streak: 1 }, true, 20],
    ["unhealthy, with a pass that does not decide yet", { ...down, streak: 1 }, true, 10],
    ["unhealthy and never used", down, false, 1_000],
    ["healthy and never used", up, false, 2_000],
  ];
  for (const [name, state, used, want] of cases)
    test(name, () => expect(nextCheckMs(state, check, used, still)).toBe(want));
  test("jitter is added, in time and in percent", () => {
    const most = { next: () => 1, below: () => 0 };
    expect(nextCheckMs(up, { ...check, intervalJitterMs: 7, intervalJitterPercent: 50 }, true, most)).toBe(157);
  });
});

test("statuses are expected, retriable or decisive", () => {
  const http = { expected: [{ from: 200, to: 204 }], retriable: [{ from: 503, to: 504 }] } as unknown as HttpCheck;
  expect([200, 203, 204, 503, 500].map((status) => judgeStatus(http, status))).toEqual([
    "pass",
    "pass",
    "fail-now",
    "fail",
    "fail-now",
  ]);
});

test("parts are found in their order only", () => {
  const parts = ["ab", "b"].map((text) => Buffer.from(text));
  expect(["abb", "ab", "bab", "xaby b", ""].map((text) => received(parts, Buffer.from(text)))).toEqual([
    true,
    false,
    false,
    true,
    false,
  ]);
});
