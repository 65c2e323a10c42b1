// Cross-origin requests (envoy.filters.http.cors): answers preflights and tells browsers which origins may read an answer.

import { type CorsPolicy, CorsPolicySchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { CorsSchema } from "#gen/xds/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import type { Random } from "../../kernel/random.ts";
import { draws, runtimeShareOf } from "../compile/fraction.ts";
import type { Filter, FilterFactory, FilterRequest, FilterResponse } from "../filter.ts";
import type { RequestView } from "../http/request.ts";
import { compileString, type TextTest } from "../routing/match.ts";

/** Undefined or empty: the level around decides, as in Envoy. */
export interface Cors {
  origins: readonly TextTest[];
  methods: string;
  headers: string;
  exposed: string;
  maxAge: string;
  credentials: boolean | undefined;
  privateNetwork: boolean | undefined;
  forwardsOtherPreflights: boolean | undefined;
  enabledShare: number;
}

/** A field's value is the innermost level's that sets it; whether the filter is on is said by the innermost alone. */
export function compileCors(message: CorsPolicy, outer: Cors | undefined): Cors {
  const origins = message.allowOriginStringMatch.map(compileString);
  const { enabledSpecifier: enabled } = message;
  return {
    origins: origins.length > 0 ? origins : (outer?.origins ?? []),
    methods: message.allowMethods || (outer?.methods ?? ""),
    headers: message.allowHeaders || (outer?.headers ?? ""),
    exposed: message.exposeHeaders || (outer?.exposed ?? ""),
    maxAge: message.maxAge || (outer?.maxAge ?? ""),
    credentials: message.allowCredentials ?? outer?.credentials,
    privateNetwork: message.allowPrivateNetworkAccess ?? outer?.privateNetwork,
    forwardsOtherPreflights: message.forwardNotMatchingPreflights ?? outer?.forwardsOtherPreflights,
    // shadow_enabled only counts in Envoy's statistics and changes no request: it is not read.
    enabledShare: enabled.case === "filterEnabled" ? runtimeShareOf(enabled.value, 1) : 1,
  };
}

export const isPreflight = (request: RequestView): boolean =>
  request.method === "OPTIONS" &&
  Boolean(request.header("origin")) &&
  Boolean(request.header("access-control-request-method"));

/** The header lines of the answer to a preflight, or undefined when it goes to the application. */
export function preflightAnswer(cors: Cors, request: RequestView): string | undefined {
  const origin = request.header("origin")!;
  const allowed = cors.origins.some((test) => test("*") || test(origin));
  if (!allowed && (cors.forwardsOtherPreflights ?? true)) return undefined;
  const line = (name: string, value: string | undefined): string => (value ? `${name}: ${value}\r\n` : "");
  const asked = (value: string, name: string): string | undefined => (value === "*" ? request.header(name) : value);
  const asksPrivate = request.header("access-control-request-private-network") === "true";
  return [
    line("access-control-allow-origin", allowed ? origin : ""),
    line("access-control-allow-credentials", cors.credentials ? "true" : ""),
    line("access-control-allow-methods", asked(cors.methods, "access-control-request-method")),
    line("access-control-allow-headers", asked(cors.headers, "access-control-request-headers")),
    line("access-control-max-age", cors.maxAge),
    line("access-control-allow-private-network", cors.privateNetwork && asksPrivate ? "true" : ""),
  ].join("");
}

/** Filter state: the origin that may read the answer. */
const originState = "envoy.filters.http.cors.origin";

class CorsFilter implements Filter {
  readonly name: string;
  readonly #random: Random;

  constructor(name: string, random: Random) {
    this.name = name;
    this.#random = random;
  }

  /** As Envoy: only for what is sent on; redirects and direct responses stay as they are. */
  #policy(exchange: FilterRequest): Cors | undefined {
    if (exchange.route?.action.kind !== "forward") return undefined;
    return (exchange.settings(this.name) as Cors | undefined) ?? (exchange.route.cors as Cors | undefined);
  }

  onRequest(exchange: FilterRequest): "continue" | "stop" {
    const { request } = exchange;
    const origin = request.header("origin");
    const cors = origin ? this.#policy(exchange) : undefined;
    if (!origin || !cors || !draws(cors.enabledShare, this.#random)) return "continue";
    const answer = isPreflight(request) ? preflightAnswer(cors, request) : undefined;
    if (answer !== undefined) {
      exchange.reply(200, "", "-", answer, "cors_response");
      return "stop";
    }
    if (cors.origins.some((test) => test("*") || test(origin))) exchange.setFilterState(originState, origin);
    return "continue";
  }

  onResponse(exchange: FilterRequest, response: FilterResponse): void {
    const origin = exchange.filterState(originState) as string | undefined;
    const cors = origin === undefined ? undefined : this.#policy(exchange);
    if (cors === undefined) return;
    const set = (name: string, value: string): void => {
      response.removeHeader(name);
      response.addHeader(`${name}: ${value}\r\n`);
    };
    set("access-control-allow-origin", origin!);
    if (cors.credentials) set("access-control-allow-credentials", "true");
    if (cors.exposed) set("access-control-expose-headers", cors.exposed);
  }
}

export const corsFactory: FilterFactory<typeof CorsSchema, typeof CorsPolicySchema> = {
  config: CorsSchema,
  perRoute: CorsPolicySchema,
  create: (name, _config, { random }) => new CorsFilter(name, random),
  settings: (message, outer) => compileCors(message, outer as Cors | undefined),
};
