// Retry policies: Istio's default, and what a VirtualService says instead. Pure.

import { create } from "@bufbuild/protobuf";
import { type RetryPolicy, RetryPolicySchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { PreviousHostsPredicateSchema } from "#gen/xds/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { PreviousPrioritiesConfigSchema } from "#gen/xds/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import { parseDurationMs } from "../api/duration.ts";
import { durationOf, pack } from "./envoy.ts";
import type { HttpRule, Model } from "./types.ts";

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

/** After each second failed try, as Istio sets it. */
const previousPriorities = {
  name: "envoy.retry_priorities.previous_priorities",
  configType: { case: "typedConfig", value: pack(PreviousPrioritiesConfigSchema, { updateFrequency: 2 }) },
} as const;

type Retries = NonNullable<HttpRule["retries"]>;

/** Istio's own, where neither rule nor mesh says anything. */
export const defaultRetryPolicy: RetryPolicy = policyOf(undefined, false);

/** What holds for services without rules. */
export const defaultRetries = (model: Model): RetryPolicy | undefined => retryPolicyOf(model, undefined, false);

/**
 * The rule's policy, else the mesh's, else Istio's. Undefined: no retries (no attempts). `hashed`: requests belong to a host by
 * what they carry, so a retry goes there again unless the policy says otherwise.
 */
export function retryPolicyOf(model: Model, rule: Retries | undefined, hashed: boolean): RetryPolicy | undefined {
  const retries: Retries | undefined = rule ?? model.settings.defaultHttpRetryPolicy;
  if (retries === undefined && !hashed) return defaultRetryPolicy;
  return retries !== undefined && !retries.attempts ? undefined : policyOf(retries, hashed);
}

function policyOf(retries: Retries | undefined, hashed: boolean): RetryPolicy {
  const { retryOn, statusCodes } = splitRetryOn(retries?.retryOn ?? "");
  const perTryMs = retries?.perTryTimeout === undefined ? undefined : parseDurationMs(retries.perTryTimeout);
  const backoffMs = retries?.backoff === undefined ? undefined : parseDurationMs(retries.backoff);
  const avoid = retries?.retryIgnorePreviousHosts ?? !hashed;
  return create(RetryPolicySchema, {
    retryOn,
    retriableStatusCodes: statusCodes,
    numRetries: retries?.attempts ?? defaultAttempts,
    hostSelectionRetryMaxAttempts: hostSelectionAttempts,
    ...(perTryMs && { perTryTimeout: durationOf(perTryMs) }),
    ...(avoid && { retryHostPredicate: [previousHosts] }),
    ...(retries?.retryRemoteLocalities && { retryPriority: previousPriorities }),
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
