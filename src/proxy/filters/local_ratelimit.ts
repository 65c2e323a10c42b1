// Local rate limits (envoy.filters.http.local_ratelimit): 429 once a bucket is empty, per chain, route, connection or descriptor.

import {
  XRateLimitHeadersRFCVersion as FieldsVersion,
  VhRateLimitsOptions as VirtualHostLimits,
} from "#gen/xds/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js";
import {
  type LocalRateLimit,
  LocalRateLimitSchema,
} from "#gen/xds/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import type { Clock } from "../../kernel/clock.ts";
import { MeshbedError } from "../../kernel/errors.ts";
import { draws, runtimeShareOf } from "../compile/fraction.ts";
import { compileHeaderRules } from "../compile/headers.ts";
import type { Filter, FilterDeps, FilterFactory, FilterRequest, FilterResponse } from "../filter.ts";
import { type DescriptorEntry, descriptorOf } from "../routing/rate_limits.ts";
import type { HeaderRules } from "../routing/route.ts";
import { type BucketState, compileBucket, refill, type TokenBucket, take } from "./token_bucket.ts";

export interface Descriptor {
  entries: readonly DescriptorEntry[];
  bucket: TokenBucket;
}

export interface Limits {
  /** Undefined: nothing is limited. */
  bucket: TokenBucket | undefined;
  /** Strictest first. */
  descriptors: readonly Descriptor[];
  alwaysTakesDefault: boolean;
}

/** The buckets' state under one set of limits. */
export class Limiter {
  readonly #limits: Limits;
  readonly #clock: Clock;
  #state: BucketState | undefined;
  readonly #states: (BucketState | undefined)[] = [];

  constructor(limits: Limits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Takes a token of every descriptor the request falls under, and of the default bucket; the first empty one refuses it. */
  allows(request: readonly (readonly DescriptorEntry[])[]): boolean {
    const { bucket, descriptors, alwaysTakesDefault } = this.#limits;
    const nowMs = this.#clock.monotonicMs();
    let matched = false;
    for (let i = 0; i < descriptors.length; i++) {
      const { entries, bucket: own } = descriptors[i]!;
      if (!request.some((candidate) => sameEntries(entries, candidate))) continue;
      matched = true;
      const taken = take(own, this.#states[i], nowMs);
      this.#states[i] = taken.state;
      if (!taken.allowed) return false;
    }
    if (bucket === undefined || (matched && !alwaysTakesDefault)) return true;
    const taken = take(bucket, this.#state, nowMs);
    this.#state = taken.state;
    return taken.allowed;
  }

  /** x-ratelimit-* of the bucket that counts most for this request: its descriptor's, else the default one. */
  fields(request: readonly (readonly DescriptorEntry[])[]): string {
    const { bucket: common, descriptors } = this.#limits;
    const index = descriptors.findIndex(({ entries }) => request.some((candidate) => sameEntries(entries, candidate)));
    const bucket = index < 0 ? common : descriptors[index]!.bucket;
    if (bucket === undefined) return "";
    const nowMs = this.#clock.monotonicMs();
    const { tokens, filledAtMs } = refill(bucket, index < 0 ? this.#state : this.#states[index], nowMs);
    const resetSeconds = Math.ceil((filledAtMs + bucket.intervalMs - nowMs) / 1000);
    return `x-ratelimit-limit: ${bucket.tokensMax}\r\nx-ratelimit-remaining: ${tokens}\r\nx-ratelimit-reset: ${resetSeconds}\r\n`;
  }
}

const sameEntries = (a: readonly DescriptorEntry[], b: readonly DescriptorEntry[]): boolean =>
  a.length === b.length && a.every(({ key, value }, index) => key === b[index]!.key && value === b[index]!.value);

interface Settings {
  limits: Limits;
  enabledShare: number;
  enforcedShare: number;
  status: number;
  onAnswer: HeaderRules | undefined;
  whenNotEnforced: HeaderRules | undefined;
  stage: number;
  virtualHostLimits: VirtualHostLimits;
  perConnection: boolean;
  tellsFields: boolean;
  /** Made with the first request; a new configuration starts with full buckets, as in Envoy. */
  limiter: Limiter | undefined;
  /** By connection, as long as that lives. */
  readonly byConnection: WeakMap<object, Limiter>;
}

function compile(message: LocalRateLimit): Settings {
  if (message.localClusterRateLimit !== undefined)
    throw new MeshbedError("RATE_LIMIT_UNSUPPORTED", "local_cluster_rate_limit is not supported");
  const descriptors = message.descriptors.map(({ entries, tokenBucket }): Descriptor => {
    const text = entries.map(({ key, value }) => `${key}=${value}`).join(",");
    if (!tokenBucket) throw new MeshbedError("RATE_LIMIT_INVALID", `descriptor ${text} has no token_bucket`);
    return { entries, bucket: compileBucket(tokenBucket, `descriptor ${text}`) };
  });
  const perSecond = ({ bucket }: Descriptor): number => bucket.tokensPerFill / bucket.intervalMs;
  descriptors.sort((a, b) => perSecond(a) - perSecond(b));
  const status = message.status?.code ?? 0;
  return {
    limits: {
      bucket: message.tokenBucket && compileBucket(message.tokenBucket, message.statPrefix),
      descriptors,
      alwaysTakesDefault: message.alwaysConsumeDefaultTokenBucket ?? true,
    },
    // Off unless said, as in Envoy.
    enabledShare: runtimeShareOf(message.filterEnabled, 0),
    enforcedShare: runtimeShareOf(message.filterEnforced, 0),
    status: status < 400 ? 429 : status,
    onAnswer: compileHeaderRules(message.responseHeadersToAdd, []),
    whenNotEnforced: compileHeaderRules(message.requestHeadersToAddWhenNotEnforced, []),
    stage: message.stage,
    virtualHostLimits: message.vhRateLimits,
    perConnection: message.localRateLimitPerDownstreamConnection,
    tellsFields: message.enableXRatelimitHeaders === FieldsVersion.DRAFT_VERSION_03,
    limiter: undefined,
    byConnection: new WeakMap(),
  };
}

/** Descriptors of the route, and of its virtual host as the filter's vh_rate_limits says. */
function descriptorsOf(exchange: FilterRequest, settings: Settings): DescriptorEntry[][] {
  const limits = exchange.route?.rateLimits;
  if (limits === undefined) return [];
  const { route, virtualHost, includesVirtualHost } = limits;
  const how = includesVirtualHost ? VirtualHostLimits.INCLUDE : settings.virtualHostLimits;
  const both =
    how === VirtualHostLimits.INCLUDE || (how === VirtualHostLimits.OVERRIDE && route.length === 0)
      ? [...route, ...virtualHost]
      : route;
  const found: DescriptorEntry[][] = [];
  for (const rule of both) {
    const descriptor = rule.stage === settings.stage ? descriptorOf(rule, exchange) : undefined;
    if (descriptor) found.push(descriptor);
  }
  return found;
}

interface Outcome {
  settings: Settings;
  fields: string;
  refused: boolean;
}

class LocalRateLimitFilter implements Filter {
  readonly name: string;
  readonly #chainWide: Settings;
  readonly #deps: FilterDeps;
  readonly #state: string;

  constructor(name: string, config: LocalRateLimit, deps: FilterDeps) {
    this.name = name;
    this.#chainWide = compile(config);
    this.#deps = deps;
    this.#state = `${name}.outcome`;
  }

  onRequest(exchange: FilterRequest): "continue" | "stop" {
    const settings = (exchange.settings(this.name) as Settings | undefined) ?? this.#chainWide;
    const { random } = this.#deps;
    if (!draws(settings.enabledShare, random)) return "continue";
    const descriptors = settings.limits.descriptors.length > 0 ? descriptorsOf(exchange, settings) : [];
    const limiter = this.#limiter(settings, exchange);
    const allowed = limiter.allows(descriptors);
    const refused = !allowed && draws(settings.enforcedShare, random);
    const fields = settings.tellsFields ? limiter.fields(descriptors) : "";
    if (refused || fields !== "") exchange.setFilterState(this.#state, { settings, fields, refused } satisfies Outcome);
    if (refused) {
      exchange.reply(settings.status, "local_rate_limited", "RL", "", "local_rate_limited");
      return "stop";
    }
    if (!allowed && settings.whenNotEnforced) exchange.applyRequestRules(settings.whenNotEnforced);
    return "continue";
  }
  #limiter(settings: Settings, { request }: FilterRequest): Limiter {
    const { clock } = this.#deps;
    if (!settings.perConnection) {
      settings.limiter ??= new Limiter(settings.limits, clock);
      return settings.limiter;
    }
    const connection = request.connection!;
    let limiter = settings.byConnection.get(connection);
    if (limiter === undefined) {
      limiter = new Limiter(settings.limits, clock);
      settings.byConnection.set(connection, limiter);
    }
    return limiter;
  }

  onResponse(exchange: FilterRequest, response: FilterResponse): void {
    const outcome = exchange.filterState(this.#state) as Outcome | undefined;
    if (outcome === undefined) return;
    if (outcome.refused && outcome.settings.onAnswer) response.applyRules(outcome.settings.onAnswer);
    if (outcome.fields !== "") response.addHeader(outcome.fields);
  }
}

export const localRateLimitFactory: FilterFactory<typeof LocalRateLimitSchema, typeof LocalRateLimitSchema> = {
  config: LocalRateLimitSchema,
  perRoute: LocalRateLimitSchema,
  create: (name, config, deps) => new LocalRateLimitFilter(name, config, deps),
  settings(message) {
    if (message.tokenBucket === undefined)
      throw new MeshbedError("RATE_LIMIT_INVALID", "local rate limit of a route needs a token_bucket");
    return compile(message);
  },
};
