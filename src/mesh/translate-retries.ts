// Retry policies: Istio's default, and what a VirtualService says instead. Pure.

import { create } from "@bufbuild/protobuf";
import { type RetryPolicy, RetryPolicySchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { PreviousHostsPredicateSchema } from "#gen/xds/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { parseDurationMs } from "../api/duration.ts";
import { durationOf, pack } from "./envoy.ts";
import type { HttpRule } from "./types.ts";

/** Istio: attempts beyond the first. */
const defaultAttempts = 2;
const defaultRetryOn =
  "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes,reset-before-request";
/** Envoy, as Istio sets it: how often another host is looked for. */
const hostSelectionAttempts = 5n;

const previousHosts = {
  name: "envoy.retry_host_predicates.previous_hosts",
  configType: { case: "typedConfig", value: pack(PreviousHostsPredicateSchema, {}) },
} as const;

export const defaultRetryPolicy: RetryPolicy = create(RetryPolicySchema, {
  retryOn: defaultRetryOn,
  numRetries: defaultAttempts,
  retryHostPredicate: [previousHosts],
  hostSelectionRetryMaxAttempts: hostSelectionAttempts,
});

/** Undefined: no retries (attempts: 0). */
export function retryPolicyOf(retries: HttpRule["retries"]): RetryPolicy | undefined {
  if (retries === undefined) return defaultRetryPolicy;
  if (retries.attempts === 0) return undefined;
  const { retryOn, statusCodes } = splitRetryOn(retries.retryOn ?? "");
  const perTryMs = retries.perTryTimeout === undefined ? undefined : parseDurationMs(retries.perTryTimeout);
  const backoffMs = retries.backoff === undefined ? undefined : parseDurationMs(retries.backoff);
  const avoid = retries.retryIgnorePreviousHosts !== false;
  return create(RetryPolicySchema, {
    retryOn,
    retriableStatusCodes: statusCodes,
    numRetries: retries.attempts ?? defaultAttempts,
    ...(perTryMs && { perTryTimeout: durationOf(perTryMs) }),
    ...(avoid && { retryHostPredicate: [previousHosts], hostSelectionRetryMaxAttempts: hostSelectionAttempts }),
    ...(backoffMs && { retryBackOff: { baseInterval: durationOf(backoffMs) } }),
  });
}

/** Numbers among the conditions are status codes (Istio: parseRetryOn). */
function splitRetryOn(text: string): { retryOn: string; statusCodes: number[] } {
  if (text === "") return { retryOn: defaultRetryOn, statusCodes: [] };
  const parts = text.split(",").map((part) => part.trim());
  const statusCodes = parts.filter((part) => /^[1-5]\d\d$/.test(part)).map(Number);
  const conditions = parts.filter((part) => part !== "" && !/^\d+$/.test(part));
  if (statusCodes.length > 0 && !conditions.includes("retriable-status-codes"))
    conditions.push("retriable-status-codes");
  return { retryOn: conditions.join(","), statusCodes };
}
