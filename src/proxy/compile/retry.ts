// Envoy RetryPolicy → the form that decisions are made on.

import {
  RetryPolicy_ResetHeaderFormat as ResetFormat,
  type RetryPolicy as RetryMessage,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { PreviousPrioritiesConfigSchema } from "#gen/xds/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import { compileHeader } from "../routing/match.ts";
import { parseRetryOn, type RetryPolicy, statusCodesOf } from "../routing/retry.ts";
import { durationMs, unpack } from "./any.ts";

/** Envoy's defaults. */
const baseBackoffMs = 25;
const resetMaxMs = 300_000;

/** Undefined: not a single retry. */
export function compileRetry(message: RetryMessage): RetryPolicy | undefined {
  const retriesMax = message.numRetries ?? 1;
  if (retriesMax === 0) return undefined;
  const baseMs = durationMs(message.retryBackOff?.baseInterval, baseBackoffMs);
  const limited = message.rateLimitedRetryBackOff;
  return {
    retriesMax,
    on: parseRetryOn(message.retryOn),
    statusCodes: [...message.retriableStatusCodes, ...statusCodesOf(message.retryOn)],
    requests: message.retriableRequestHeaders.map(compileHeader),
    answers: message.retriableHeaders.map(compileHeader),
    perTryTimeoutMs: durationMs(message.perTryTimeout, 0),
    prioritiesEvery: prioritiesEvery(message),
    avoidPreviousHosts: message.retryHostPredicate.some(({ name }) => name.includes("previous_hosts")),
    baseBackoffMs: baseMs,
    maxBackoffMs: durationMs(message.retryBackOff?.maxInterval, baseMs * 10),
    resetFields:
      limited?.resetHeaders.map(({ name, format }) => ({
        name: name.toLowerCase(),
        isTimestamp: format === ResetFormat.UNIX_TIMESTAMP,
      })) ?? [],
    resetMaxMs: durationMs(limited?.maxInterval, resetMaxMs),
  };
}

/** Other retry priorities are not known and change nothing. */
function prioritiesEvery({ retryPriority }: RetryMessage): number {
  const config = retryPriority?.configType;
  if (config?.case !== "typedConfig") return 0;
  return unpack(config.value, PreviousPrioritiesConfigSchema)?.updateFrequency ?? 0;
}
