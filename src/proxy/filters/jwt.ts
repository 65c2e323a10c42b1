// Authentication of end users by JWT (envoy.filters.http.jwt_authn): 401 for requests whose token is missing or bad where one is asked for.

import {
  type JwtAuthentication,
  JwtAuthenticationSchema,
  type PerRouteConfig,
  PerRouteConfigSchema,
} from "#gen/xds/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { MeshbedError, messageOf } from "../../kernel/errors.ts";
import { compileMatch } from "../compile/match.ts";
import type { Filter, FilterDeps, FilterFactory, FilterRequest } from "../filter.ts";
import { type Match, matches } from "../routing/route.ts";
import { isPreflight } from "./cors.ts";
import { Provider } from "./jwt_provider.ts";
import { compileRequirement, type Providers, type Requirement } from "./jwt_requirement.ts";
import { audienceNotAllowed, missing, verificationFails } from "./jwt_token.ts";

/** Envoy cuts the realm it names off here. */
const realmLengthMax = 256;

type PerRoute = PerRouteConfig["requirementSpecifier"];

interface Rule {
  match: Match;
  /** Undefined: nothing is asked for. */
  requirement: Requirement | undefined;
}

class JwtFilter implements Filter {
  readonly name: string;
  readonly #deps: FilterDeps;
  readonly #rules: readonly Rule[];
  readonly #named = new Map<string, Requirement>();
  readonly #bypassesPreflights: boolean;
  readonly #hidesReasons: boolean;
  readonly #clearsRouteCache: boolean;

  constructor(name: string, config: JwtAuthentication, deps: FilterDeps) {
    this.name = name;
    this.#deps = deps;
    if (config.filterStateRules) throw new MeshbedError("JWT_UNSUPPORTED", "filter_state_rules are not supported");
    const providers: Providers = new Map(
      Object.entries(config.providers).map(([key, provider]) => [key, new Provider(key, provider, deps)]),
    );
    for (const [key, requirement] of Object.entries(config.requirementMap))
      this.#named.set(key, compileRequirement(requirement, providers));
    this.#rules = config.rules.map(({ match, requirementType: type }): Rule => {
      if (!match) throw new MeshbedError("JWT_INVALID", "a JWT rule without a match");
      const named = type.case === "requirementName" ? this.#named.get(type.value) : undefined;
      if (type.case === "requirementName" && !named)
        throw new MeshbedError("JWT_INVALID", `JWT requirement ${type.value} is not in requirement_map`);
      const own = type.case === "requires" ? compileRequirement(type.value, providers) : undefined;
      return { match: compileMatch(match, deps.random), requirement: named ?? own };
    });
    this.#bypassesPreflights = config.bypassCorsPreflight;
    this.#hidesReasons = config.stripFailureResponse;
    this.#clearsRouteCache = [...providers.values()].some(({ clearsRouteCache }) => clearsRouteCache);
  }

  onRequest(exchange: FilterRequest): "continue" | "stop" {
    const { request } = exchange;
    if (this.#bypassesPreflights && isPreflight(request)) return "continue";
    const requirement = this.#requirementOf(exchange);
    if (requirement === undefined) return "continue";
    if (typeof requirement === "string") {
      this.#refuse(exchange, 403, requirement, `Failed JWT authentication: ${requirement}`, "");
      return "stop";
    }
    const { scheme, authority, path } = request;
    const realm = `${scheme}://${authority}${path}`.slice(0, realmLengthMax).replace(/["\\]/g, "");
    // The exchange serves the next request after this one: a late verdict must not reach that.
    let active = true;
    exchange.whenOver(() => {
      active = false;
    });
    requirement(exchange, () => active).then(
      (failure) => active && this.#finish(exchange, failure, realm),
      (error) => {
        this.#deps.runtime.log.warn("JWT check failed", { reason: messageOf(error) });
        if (active) this.#finish(exchange, verificationFails, realm);
      },
    );
    return "stop";
  }

  /** A string says why there is none although the route asks for it. */
  #requirementOf(exchange: FilterRequest): Requirement | string | undefined {
    const perRoute = exchange.settings(this.name) as PerRoute | undefined;
    if (perRoute?.case === "disabled") return undefined;
    if (perRoute?.case === "requirementName")
      return this.#named.get(perRoute.value) ?? `Wrong requirement_name: ${perRoute.value}`;
    return this.#rules.find(({ match }) => matches(match, exchange.request))?.requirement;
  }

  #finish(exchange: FilterRequest, failure: string | undefined, realm: string): void {
    if (failure === undefined) {
      if (this.#clearsRouteCache) exchange.clearRouteCache();
      exchange.resume();
      return;
    }
    const error = failure === missing ? "" : ', error="invalid_token"';
    const challenge = `www-authenticate: Bearer realm="${realm}"${error}\r\n`;
    this.#refuse(exchange, failure === audienceNotAllowed ? 403 : 401, failure, failure, challenge);
  }
  #refuse(exchange: FilterRequest, status: number, reason: string, body: string, headers: string): void {
    const details = `jwt_authn_access_denied{${reason.replace(/\s/g, "_")}}`;
    if (this.#hidesReasons) exchange.reply(status, "", "-", "", details);
    else exchange.reply(status, body, "-", headers, details);
  }
}

export const jwtFactory: FilterFactory<typeof JwtAuthenticationSchema, typeof PerRouteConfigSchema> = {
  config: JwtAuthenticationSchema,
  perRoute: PerRouteConfigSchema,
  create: (name, config, deps) => new JwtFilter(name, config, deps),
  settings: ({ requirementSpecifier }) => requirementSpecifier,
};
