// Envoy's token bucket: full at first, refilled at whole intervals. A pure function on the state and the time.

import type { TokenBucket as TokenBucketMessage } from "#gen/xds/envoy/type/v3/token_bucket_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { durationMs } from "../compile/any.ts";

export interface TokenBucket {
  tokensMax: number;
  tokensPerFill: number;
  intervalMs: number;
}

export interface BucketState {
  tokens: number;
  filledAtMs: number;
}

/** Envoy refuses shorter intervals. */
const intervalMinMs = 50;

export function compileBucket(message: TokenBucketMessage, owner: string): TokenBucket {
  const intervalMs = durationMs(message.fillInterval, 0);
  if (intervalMs < intervalMinMs || message.maxTokens === 0)
    throw new MeshbedError(
      "TOKEN_BUCKET_INVALID",
      `${owner}: token_bucket needs max_tokens and a fill_interval of at least ${intervalMinMs} ms`,
    );
  return { tokensMax: message.maxTokens, tokensPerFill: message.tokensPerFill ?? 1, intervalMs };
}

export function refill(bucket: TokenBucket, state: BucketState | undefined, nowMs: number): BucketState {
  if (state === undefined) return { tokens: bucket.tokensMax, filledAtMs: nowMs };
  const fills = Math.floor((nowMs - state.filledAtMs) / bucket.intervalMs);
  if (fills <= 0) return state;
  const tokens = Math.min(bucket.tokensMax, state.tokens + fills * bucket.tokensPerFill);
  return { tokens, filledAtMs: state.filledAtMs + fills * bucket.intervalMs };
}

/** One token, if there is one. */
export function take(
  bucket: TokenBucket,
  state: BucketState | undefined,
  nowMs: number,
): { allowed: boolean; state: BucketState } {
  const filled = refill(bucket, state, nowMs);
  if (filled.tokens === 0) return { allowed: false, state: filled };
  return { allowed: true, state: { tokens: filled.tokens - 1, filledAtMs: filled.filledAtMs } };
}
