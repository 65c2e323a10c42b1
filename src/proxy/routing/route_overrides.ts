// What an internal caller asks of the route for its request: x-envoy-* fields for timeouts and retries (Envoy's router).

import type { RequestView } from "../http/request.ts";
import { parseRetryOn, type RetryPolicy, statusCodesOf } from "./retry.ts";
import type { ForwardAction } from "./route.ts";

const field = {
  timeoutMs: "x-envoy-upstream-rq-timeout-ms",
  perTryTimeoutMs: "x-envoy-upstream-rq-per-try-timeout-ms",
  retryOn: "x-envoy-retry-on",
  retryGrpcOn: "x-envoy-retry-grpc-on",
  retriesMax: "x-envoy-max-retries",
  statusCodes: "x-envoy-retriable-status-codes",
} as const;

/** For this hop only: never forwarded. */
export const overrideFields: readonly string[] = Object.values(field);

/** More retries than this are not taken from a request. */
const retriesLimitMax = 100;
/** Without a policy of the route's own: Envoy's defaults. */
const plainPolicy: RetryPolicy = {
  retriesMax: 1,
  on: new Set(),
  statusCodes: [],
  requests: [],
  answers: [],
  perTryTimeoutMs: 0,
  avoidPreviousHosts: false,
  prioritiesEvery: 0,
  baseBackoffMs: 25,
  maxBackoffMs: 250,
  resetFields: [],
  resetMaxMs: 300_000,
};

/** `action` itself when nothing is asked for. Callers not to be trusted have lost these fields before. */
export function overriddenAction(action: ForwardAction, request: RequestView): ForwardAction {
  const number = (name: string): number | undefined => {
    const value = request.header(name);
    return value !== undefined && /^\d{1,9}$/.test(value) ? Number(value) : undefined;
  };
  const timeoutMs = number(field.timeoutMs);
  const askedTryMs = number(field.perTryTimeoutMs);
  const retriesMax = number(field.retriesMax);
  const retryOn = [request.header(field.retryOn), request.header(field.retryGrpcOn)].filter(Boolean).join(",");
  if (timeoutMs === undefined && askedTryMs === undefined && retriesMax === undefined && retryOn === "") return action;
  const overall = timeoutMs ?? action.timeoutMs;
  const policy = action.retry ?? plainPolicy;
  const perTryMs = askedTryMs ?? policy.perTryTimeoutMs;
  const retry: RetryPolicy = {
    ...policy,
    on: retryOn === "" ? policy.on : new Set([...policy.on, ...parseRetryOn(retryOn)]),
    statusCodes: [
      ...policy.statusCodes,
      ...statusCodesOf(retryOn),
      ...statusCodesOf(request.header(field.statusCodes) ?? ""),
    ],
    retriesMax: Math.min(retriesMax ?? policy.retriesMax, retriesLimitMax),
    // A try that may take as long as the whole is no limit.
    perTryTimeoutMs: overall > 0 && perTryMs >= overall ? 0 : perTryMs,
  };
  return { ...action, timeoutMs: overall, retry };
}
