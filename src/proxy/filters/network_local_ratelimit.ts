// Local rate limit of connections (envoy.filters.network.local_ratelimit): beyond the bucket they are closed at once.

import { LocalRateLimitSchema } from "#gen/xds/envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { flagOf } from "../compile/fraction.ts";
import type { NetworkFilterFactory } from "../filter.ts";
import { type BucketState, compileBucket, take } from "./token_bucket.ts";

export const networkLocalRateLimitFactory: NetworkFilterFactory<typeof LocalRateLimitSchema> = {
  config: LocalRateLimitSchema,
  create(name, config, { clock }) {
    if (config.shareKey !== "") throw new MeshbedError("RATE_LIMIT_UNSUPPORTED", `${name}: share_key is not supported`);
    if (!config.tokenBucket) throw new MeshbedError("RATE_LIMIT_INVALID", `${name} has no token_bucket`);
    const bucket = compileBucket(config.tokenBucket, name);
    const enabled = flagOf(config.runtimeEnabled, true);
    let state: BucketState | undefined;
    return {
      name,
      onConnection() {
        if (!enabled) return "continue";
        const taken = take(bucket, state, clock.monotonicMs());
        state = taken.state;
        return taken.allowed ? "continue" : "close";
      },
    };
  },
};
