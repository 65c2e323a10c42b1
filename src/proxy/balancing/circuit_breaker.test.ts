// Circuit breakers as the admin pages show them, and retry budgets.
import { expect, test } from "bun:test";
import { defaultThresholds } from "../clusters/config.ts";
import { breakerState, retriesMax, usageOf } from "./circuit_breaker.ts";
import { roundRobin, slotOf } from "./fixture.ts";

test("a budget is a share of the requests in progress, and never less than its minimum", () => {
  const retryBudget = { percent: 20, concurrencyMin: 3 };
  const most = (requestsActive: number): number =>
    retriesMax({ ...defaultThresholds, retryBudget }, { requestsActive, pendingActive: 0, retriesActive: 0 });
  expect([0, 15, 20, 99, 100].map(most)).toEqual([3, 3, 4, 19, 20]);
});

test("what is left is shown for a priority that tracks it, and which limits are reached for all", () => {
  const thresholds = { ...defaultThresholds, requestsMax: 2, trackRemaining: true };
  const slot = slotOf([], { balancing: roundRobin, thresholds });
  slot.requestsActive = 2;
  slot.connectionsActive = 24;
  usageOf(slot, "high").pendingActive = 2_000;
  expect(breakerState(slot, "default")).toEqual({
    open: { cx: false, rq_pending: false, rq: true, rq_retry: false },
    remaining: { cx: 1_000, pending: 1_024, rq: 0, retries: 3 },
  });
  expect(breakerState(slot, "high")).toEqual({
    open: { cx: false, rq_pending: true, rq: false, rq_retry: false },
    remaining: undefined,
  });
});
