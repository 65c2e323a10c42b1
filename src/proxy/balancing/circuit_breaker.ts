// Circuit breakers: how many retries may be under way, and what is left of each limit.

import type { ClusterSlot, Usage } from "../clusters/cluster.ts";
import type { Thresholds } from "../clusters/config.ts";

export type RoutePriority = "default" | "high";

/** Requests of each priority have limits and counts of their own. Connections are shared, so each priority looks at all of them. */
export const usageOf = (slot: ClusterSlot, priority: RoutePriority): Usage => (priority === "high" ? slot.high : slot);

/** Retries that may be under way at once. A budget is a share of the requests in progress (those in the queue included). */
export function retriesMax({ retryBudget, retriesMax }: Thresholds, { requestsActive }: Usage): number {
  if (retryBudget === undefined) return retriesMax;
  return Math.max(retryBudget.concurrencyMin, Math.floor((retryBudget.percent / 100) * requestsActive));
}

export const admitsRequest = ({ requestsMax }: Thresholds, { requestsActive }: Usage): boolean =>
  requestsActive < requestsMax;
export const admitsPending = ({ pendingRequestsMax }: Thresholds, { pendingActive }: Usage): boolean =>
  pendingActive < pendingRequestsMax;
export const admitsRetry = (thresholds: Thresholds, usage: Usage): boolean =>
  usage.retriesActive < retriesMax(thresholds, usage);

export interface BreakerState {
  /** Nothing more is admitted: Envoy's gauges cx_open, rq_pending_open, rq_open, rq_retry_open. */
  open: { cx: boolean; rq_pending: boolean; rq: boolean; rq_retry: boolean };
  /** With track_remaining: Envoy's remaining_cx and so on. */
  remaining: { cx: number; pending: number; rq: number; retries: number } | undefined;
}

/** For the admin pages. Undefined while the cluster is not known. */
export function breakerState(slot: ClusterSlot, priority: RoutePriority): BreakerState | undefined {
  const cluster = slot.current;
  if (cluster === undefined) return undefined;
  const thresholds = priority === "high" ? cluster.highThresholds : cluster.thresholds;
  const usage = usageOf(slot, priority);
  const left = {
    cx: Math.max(0, thresholds.connectionsMax - slot.connectionsActive),
    pending: Math.max(0, thresholds.pendingRequestsMax - usage.pendingActive),
    rq: Math.max(0, thresholds.requestsMax - usage.requestsActive),
    retries: Math.max(0, retriesMax(thresholds, usage) - usage.retriesActive),
  };
  return {
    open: { cx: left.cx === 0, rq_pending: left.pending === 0, rq: left.rq === 0, rq_retry: left.retries === 0 },
    remaining: thresholds.trackRemaining ? left : undefined,
  };
}
