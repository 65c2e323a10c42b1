// Whether and when to try again: Envoy's retry_on conditions as a pure decision.

import type { Random } from "../../kernel/random.ts";
import type { RequestView } from "../http/request.ts";
import type { FieldTest, RequestTest } from "./match.ts";

export interface RetryPolicy {
  /** Further tries after the first. */
  retriesMax: number;
  on: ReadonlySet<string>;
  statusCodes: readonly number[];
  /** retriable_request_headers: not empty, only requests that one of them matches are tried again, whatever their method. */
  requests: readonly RequestTest[];
  /** retriable_headers: answers that one of them matches are tried again. */
  answers: readonly FieldTest[];
  /** 0: none. */
  perTryTimeoutMs: number;
  /** Avoid hosts that already failed (retry_host_predicate previous_hosts). */
  avoidPreviousHosts: boolean;
  /** After each so many failed tries, their priorities are left out (retry_priority previous_priorities); 0: never. */
  prioritiesEvery: number;
  baseBackoffMs: number;
  maxBackoffMs: number;
  /** rate_limited_retry_back_off: fields of an answer that say when to try again, in seconds or at a time. */
  resetFields: readonly { name: string; isTimestamp: boolean }[];
  resetMaxMs: number;
}

/** A head, or what stands for one. */
export interface Answer {
  readonly status: number;
  get(name: string): string | undefined;
}

/** How a try ended without a usable answer. */
export type Failure =
  /** Never connected, or the tunnel's other side refused the target. */
  | "connect-failure"
  /** A reused connection closed before the first byte of an answer: the server had given it up. */
  | "stale"
  /** The connection broke before an answer's head. */
  | "reset"
  /** HTTP/2: the server has not looked at the request. */
  | "refused-stream"
  /** HTTP/2: the server gave this request up before its answer's head. */
  | "remote-reset"
  | "per-try-timeout";

const known = new Set([
  "5xx",
  "gateway-error",
  "reset",
  "reset-before-request",
  "connect-failure",
  "retriable-4xx",
  "refused-stream",
  "retriable-status-codes",
  "unavailable",
  "cancelled",
  "deadline-exceeded",
  "resource-exhausted",
  "internal",
  "retriable-headers",
  "envoy-ratelimited",
  "http3-post-connect-failure",
]);

/** Bare status codes in retry_on. */
export const statusCodesOf = (text: string): number[] => (text.match(/\b[1-5]\d\d\b/g) ?? []).map(Number);

/** Splits retry_on. Unknown conditions are dropped, as Envoy does; a bare status code means retriable-status-codes. */
export function parseRetryOn(text: string): Set<string> {
  const conditions = new Set<string>();
  if (statusCodesOf(text).length > 0) conditions.add("retriable-status-codes");
  for (const part of text.split(",").map((entry) => entry.trim())) if (known.has(part)) conditions.add(part);
  return conditions;
}

/** RFC 9110 §9.2.2: executing it twice is as good as once. */
const idempotent = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);
/** RFC 9110 §9.2.1. */
const safe = new Set(["GET", "HEAD", "OPTIONS", "TRACE"]);

/**
 * What may be sent again after a server may have executed it. Envoy asks nothing of the kind; nginx does (`non_idempotent`), and so
 * do we: a POST is executed once, unless the policy names such requests by their headers.
 */
export function mayRepeat(policy: RetryPolicy, method: string): boolean {
  return policy.requests.length > 0 || idempotent.has(method);
}

/** Envoy's retriable_request_headers: any one of them. */
export function appliesTo(policy: RetryPolicy, request: RequestView): boolean {
  return policy.requests.length === 0 || policy.requests.some((test) => test(request));
}

/**
 * Answers by status. gRPC conditions (unavailable, cancelled) are found in the grpc-status header of a headers-only answer.
 * What names the very answer (a listed status code, a gRPC status) holds for every method, a class of statuses for repeatable requests.
 */
export function retriesStatus(
  policy: RetryPolicy,
  status: number,
  grpcStatus: string | undefined,
  repeatable: boolean,
): boolean {
  const { on } = policy;
  if (on.has("retriable-status-codes") && policy.statusCodes.includes(status)) return true;
  if (repeatable) {
    if (on.has("5xx") && status >= 500) return true;
    if (on.has("gateway-error") && status >= 502 && status <= 504) return true;
    if (on.has("retriable-4xx") && status === 409) return true;
  }
  if (grpcStatus === undefined) return false;
  return (
    (on.has("unavailable") && grpcStatus === "14") ||
    (on.has("cancelled") && grpcStatus === "1") ||
    (on.has("deadline-exceeded") && grpcStatus === "4") ||
    (on.has("resource-exhausted") && grpcStatus === "8") ||
    (on.has("internal") && grpcStatus === "13")
  );
}

/**
 * `requestSent`: at least one byte of the request may have reached the server in this try. A safe request changes nothing until it is
 * answered, so for it a connection that breaks before the answer counts as one that broke before the request: with Istio's default
 * policy a pod may die with requests in flight, and no GET fails. (Envoy answers those with 503.)
 */
export function retriesFailure(policy: RetryPolicy, failure: Failure, requestSent: boolean, method: string): boolean {
  const { on } = policy;
  if (requestSent && failure !== "refused-stream" && !mayRepeat(policy, method)) return false;
  switch (failure) {
    case "connect-failure":
      return on.has("connect-failure") || on.has("5xx") || on.has("gateway-error") || on.has("reset");
    case "refused-stream":
      return on.has("refused-stream") || on.has("5xx") || on.has("gateway-error") || on.has("reset");
    case "per-try-timeout":
      return on.has("5xx") || on.has("gateway-error") || on.has("reset");
    default:
      if (on.has("reset") || on.has("5xx") || on.has("gateway-error")) return true;
      return on.has("reset-before-request") && (!requestSent || safe.has(method));
  }
}

/** RFC 9110 §9.2.2: a safe request on a connection the server had given up is sent again whatever the policy. */
export function retriesStale(method: string, failure: Failure): boolean {
  return failure === "stale" && safe.has(method);
}

/** Fully jittered exponential back-off (Envoy), in [0, min(base × 2^(n-1), max)); n counts retries from 1. */
export function backoffMs(policy: RetryPolicy, retry: number, random: Random): number {
  const ceiling = Math.min(policy.baseBackoffMs * 2 ** (retry - 1), policy.maxBackoffMs);
  return random.next() * ceiling;
}

/** An answer by its status, its gRPC status or its fields. What the policy names by fields holds for every method, like a listed code. */
export function retriesAnswer(policy: RetryPolicy, answer: Answer, method: string): boolean {
  const { status } = answer;
  const { on, answers } = policy;
  if (answers.length > 0 && on.has("retriable-headers")) {
    const fields = { header: (name: string) => (name === ":status" ? String(status) : answer.get(name)) };
    if (answers.some((test) => test(fields))) return true;
  }
  if (status < 400 && !on.has("unavailable")) return false;
  const grpcStatus = status === 200 ? answer.get("grpc-status") : undefined;
  return retriesStatus(policy, status, grpcStatus, mayRepeat(policy, method));
}

/** How long an answer asks to wait, with up to half of it added; undefined when it says nothing, or more than the policy waits. */
export function resetDelayMs(policy: RetryPolicy, answer: Answer, nowMs: number, random: Random): number | undefined {
  for (const { name, isTimestamp } of policy.resetFields) {
    const value = answer.get(name);
    if (value === undefined || !/^\d{1,12}$/.test(value)) continue;
    const delayMs = isTimestamp ? Number(value) * 1000 - nowMs : Number(value) * 1000;
    if (delayMs > 0 && delayMs <= policy.resetMaxMs) return delayMs * (1 + random.next() / 2);
  }
  return undefined;
}

/** What the answer asks for, else the back-off. */
export function waitMs(
  policy: RetryPolicy,
  retry: number,
  answer: Answer | undefined,
  nowMs: number,
  random: Random,
): number {
  const askedMs = answer && resetDelayMs(policy, answer, nowMs, random);
  return askedMs ?? backoffMs(policy, retry, random);
}
