// Active health checks: what is asked of a host, and what its answers make of it. Pure; health_checker.ts asks.

import type { Random } from "../../kernel/random.ts";

/** `to` is not part of it. */
export interface StatusRange {
  from: number;
  to: number;
}

export interface HttpCheck {
  kind: "http";
  method: string;
  path: string;
  /** For endpoints without a name of their own. */
  host: string;
  /** Complete header lines. */
  fields: string;
  expected: readonly StatusRange[];
  /** Failures that count towards unhealthyThreshold instead of deciding at once. */
  retriable: readonly StatusRange[];
}

/** Connects, and passes at once when nothing is to be received. */
export interface TcpCheck {
  kind: "tcp";
  send: Buffer | undefined;
  /** Found in this order in what the host sends. */
  receive: readonly Buffer[];
}

export interface HealthCheck {
  timeoutMs: number;
  intervalMs: number;
  unhealthyIntervalMs: number;
  /** While a change of state is not confirmed by the threshold. */
  healthyEdgeIntervalMs: number;
  unhealthyEdgeIntervalMs: number;
  /** Until the cluster is used for the first time. */
  noTrafficIntervalMs: number;
  noTrafficHealthyIntervalMs: number;
  initialJitterMs: number;
  intervalJitterMs: number;
  intervalJitterPercent: number;
  healthyThreshold: number;
  unhealthyThreshold: number;
  /** 0: the endpoint's own. */
  port: number;
  checker: HttpCheck | TcpCheck;
}

/** "fail-now": the host answered, and said it is not healthy. */
export type CheckResult = "pass" | "fail" | "fail-now";

export interface HealthState {
  healthy: boolean;
  /** Checked at least once. */
  checked: boolean;
  /** Results in a row that speak for a change. */
  streak: number;
}

/** unhealthy → healthy: by the first check of all, else after healthyThreshold passes; healthy → unhealthy: after unhealthyThreshold failures, or at once. */
export function judge(state: HealthState, result: CheckResult, check: HealthCheck): HealthState {
  const passed = result === "pass";
  if (passed === state.healthy) return { healthy: state.healthy, checked: true, streak: 0 };
  const streak = state.streak + 1;
  const decided = passed
    ? !state.checked || streak >= check.healthyThreshold
    : result === "fail-now" || streak >= check.unhealthyThreshold;
  return decided ? { healthy: passed, checked: true, streak: 0 } : { healthy: state.healthy, checked: true, streak };
}

/** Until the next check. `used`: the cluster has had traffic. */
export function nextCheckMs(state: HealthState, check: HealthCheck, used: boolean, random: Random): number {
  const pending = state.streak > 0;
  // What the last result was: a pending change means the opposite of the state.
  const passed = state.healthy !== pending;
  let baseMs: number;
  if (!used) baseMs = state.healthy ? check.noTrafficHealthyIntervalMs : check.noTrafficIntervalMs;
  else if (passed) baseMs = pending ? check.healthyEdgeIntervalMs : check.intervalMs;
  else baseMs = pending ? check.unhealthyEdgeIntervalMs : check.unhealthyIntervalMs;
  return baseMs + random.next() * (check.intervalJitterMs + (baseMs * check.intervalJitterPercent) / 100);
}

const within = (ranges: readonly StatusRange[], status: number): boolean =>
  ranges.some(({ from, to }) => status >= from && status < to);

export function judgeStatus(check: HttpCheck, status: number): CheckResult {
  if (within(check.expected, status)) return "pass";
  return within(check.retriable, status) ? "fail" : "fail-now";
}

/** Every part is found, each after the one before. */
export function received(parts: readonly Buffer[], bytes: Buffer): boolean {
  let from = 0;
  for (const part of parts) {
    const at = bytes.indexOf(part, from);
    if (at < 0) return false;
    from = at + part.length;
  }
  return true;
}
