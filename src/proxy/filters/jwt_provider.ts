// One JWT provider: where its tokens are in a request, what makes one good, and what of it goes on to the application.

import type { JwtProvider } from "#gen/xds/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { durationMs } from "../compile/any.ts";
import type { FilterDeps, FilterRequest } from "../filter.ts";
import type { RequestView } from "../http/request.ts";
import { compileString } from "../routing/match.ts";
import { compileKeySource, type KeySource } from "./jwks.ts";
import { type KeySet, noSuchKey } from "./jwt_keys.ts";
import {
  audienceAllowed,
  audienceNotAllowed,
  bareAudience,
  type ClaimRules,
  checkClaims,
  missing,
  parseToken,
  type Token,
  unknownIssuer,
} from "./jwt_token.ts";

/** google::jwt_verify's default; also what 0 stands for. */
const clockSkewSeconds = 60;
const cacheDefault = 100;

type Location = { kind: "header"; name: string; prefix: string } | { kind: "param" | "cookie"; name: string };

interface Found {
  text: string;
  at: Location;
}

export class Provider {
  readonly name: string;
  readonly issuer: string;
  readonly locations: readonly Location[];
  readonly clearsRouteCache: boolean;
  readonly #config: JwtProvider;
  readonly #deps: FilterDeps;
  readonly #rules: ClaimRules;
  readonly #audiences: ReadonlySet<string>;
  readonly #keys: KeySource;
  readonly #cacheMax: number;
  /** Verified tokens, oldest first, and the keys that verified them. */
  readonly #verified = new Map<string, { token: Token; keys: KeySet }>();

  constructor(name: string, config: JwtProvider, deps: FilterDeps) {
    this.name = name;
    this.issuer = config.issuer;
    this.clearsRouteCache = config.clearRouteCache;
    this.#config = config;
    this.#deps = deps;
    this.#rules = {
      clockSkewSeconds: config.clockSkewSeconds || clockSkewSeconds,
      requiresExpiration: config.requireExpiration,
      lifetimeSecondsMax: config.maxLifetime ? durationMs(config.maxLifetime, 0) / 1000 : Number.POSITIVE_INFINITY,
      subject: config.subjects && compileString(config.subjects),
    };
    this.#audiences = new Set(config.audiences.map(bareAudience));
    this.#keys = compileKeySource(name, config, deps);
    this.#cacheMax = config.jwtCacheConfig ? config.jwtCacheConfig.jwtCacheSize || cacheDefault : 0;
    this.locations = locationsOf(config);
  }

  /** Fields that tell the application of claims must not come from the client. */
  sanitize(exchange: FilterRequest): void {
    const { forwardPayloadHeader, claimToHeaders } = this.#config;
    if (forwardPayloadHeader) exchange.removeRequestHeader(forwardPayloadHeader.toLowerCase());
    for (const { headerName } of claimToHeaders) exchange.removeRequestHeader(headerName.toLowerCase());
  }

  /** Undefined when the token is good. `audiences` replaces the provider's own. */
  async check(
    text: string,
    audiences: ReadonlySet<string> | undefined,
  ): Promise<{ token: Token } | { failure: string }> {
    const known = this.#verified.get(text);
    const token = known?.token ?? parseToken(text);
    if (typeof token === "string") return { failure: token };
    if (this.issuer !== "" && token.issuer !== this.issuer) return { failure: unknownIssuer };
    const failure = checkClaims(token, this.#rules, Math.floor(this.#deps.clock.now() / 1000));
    if (failure !== undefined) return { failure };
    if (!audienceAllowed(token, audiences ?? this.#audiences)) return { failure: audienceNotAllowed };
    const source = this.#keys();
    let keys = source instanceof Promise ? await source : source;
    if (typeof keys === "string") return { failure: keys };
    if (known?.keys === keys) return { token };
    let unverified = await keys.verify(token);
    if (unverified === noSuchKey) {
      const newer = await this.#keys(keys);
      if (typeof newer !== "string" && newer !== keys) {
        keys = newer;
        unverified = await keys.verify(token);
      }
    }
    if (unverified !== undefined) return { failure: unverified };
    this.#remember(text, token, keys);
    return { token };
  }
  #remember(text: string, token: Token, keys: KeySet): void {
    if (this.#cacheMax === 0) return;
    if (this.#verified.size >= this.#cacheMax) this.#verified.delete(this.#verified.keys().next().value!);
    this.#verified.set(text, { token, keys });
  }

  /** What a good token leaves behind: fields, metadata, and itself only if it is to be forwarded. */
  accept(exchange: FilterRequest, token: Token, at: Location): void {
    const config = this.#config;
    if (config.forwardPayloadHeader) {
      const padding = config.padForwardPayloadHeader ? "=".repeat((4 - (token.payloadBase64.length % 4)) % 4) : "";
      exchange.setRequestHeader(config.forwardPayloadHeader.toLowerCase(), token.payloadBase64 + padding);
    }
    for (const { headerName, claimName } of config.claimToHeaders) {
      const value = headerTextOf(claimAt(token.payload, claimName));
      if (value !== "") exchange.setRequestHeader(headerName.toLowerCase(), value);
    }
    if (!config.forward) removeToken(exchange, at);
    const told: Record<string, unknown> = {};
    if (config.headerInMetadata) told[config.headerInMetadata] = token.header;
    if (config.payloadInMetadata)
      told[config.payloadInMetadata] = normalised(
        token.payload,
        config.normalizePayloadInMetadata?.spaceDelimitedClaims,
      );
    tell(exchange, told);
  }
  reject(exchange: FilterRequest, failure: string): void {
    const key = this.#config.failedStatusInMetadata;
    if (key && failure !== missing) tell(exchange, { [key]: { message: failure } });
  }
}

const metadataName = "envoy.filters.http.jwt_authn";

function tell(exchange: FilterRequest, told: Record<string, unknown>): void {
  if (Object.keys(told).length === 0) return;
  exchange.setMetadata(metadataName, { ...(exchange.metadata(metadataName) as object | undefined), ...told });
}

function locationsOf({ fromHeaders, fromParams, fromCookies }: JwtProvider): Location[] {
  const locations: Location[] = [
    ...fromHeaders.map(
      ({ name, valuePrefix: prefix }) => ({ kind: "header", name: name.toLowerCase(), prefix }) as const,
    ),
    ...fromParams.map((name) => ({ kind: "param", name }) as const),
    ...fromCookies.map((name) => ({ kind: "cookie", name }) as const),
  ];
  if (locations.length > 0) return locations;
  return [
    { kind: "header", name: "authorization", prefix: "Bearer " },
    { kind: "param", name: "access_token" },
  ];
}

/** All tokens at these places; every one of them must be good, so that nobody hides a bad one behind a good one. */
export function findTokens(request: RequestView, locations: readonly Location[]): Found[] {
  const found: Found[] = [];
  for (const at of locations) {
    if (at.kind === "header") {
      const value = request.header(at.name);
      if (value === undefined) continue;
      const start = value.indexOf(at.prefix);
      if (start < 0) continue;
      // Several fields of one name are joined by commas, which no token contains.
      for (const part of value.split(",")) {
        const text = part.trim();
        const from = text.indexOf(at.prefix.trim());
        if (from >= 0) found.push({ text: text.slice(from + at.prefix.trim().length).trim(), at });
      }
    } else {
      const value = at.kind === "param" ? request.query(at.name) : cookieOf(request, at.name);
      if (value !== undefined) found.push({ text: value, at });
    }
  }
  return found;
}

export function cookieOf(request: RequestView, name: string): string | undefined {
  for (const pair of request.header("cookie")?.split(/[;,]/) ?? []) {
    const equals = pair.indexOf("=");
    if (equals > 0 && pair.slice(0, equals).trim() === name)
      return pair
        .slice(equals + 1)
        .trim()
        .replace(/^"(.*)"$/, "$1");
  }
  return undefined;
}

/** A cookie stays, as in Envoy. */
function removeToken(exchange: FilterRequest, at: Location): void {
  const { request } = exchange;
  if (at.kind === "header") exchange.removeRequestHeader(at.name);
  if (at.kind !== "param") return;
  const [path = "", query = ""] = request.path.split("?", 2);
  const kept = query.split("&").filter((pair) => new URLSearchParams(pair).get(at.name) === null);
  request.rewritePath(kept.length === 0 ? path : `${path}?${kept.join("&")}`);
}

/** Nested claims by dots ("realm.roles"), as Envoy; a claim whose own name has dots comes first. */
function claimAt(payload: Record<string, unknown>, name: string): unknown {
  if (Object.hasOwn(payload, name)) return payload[name];
  let at: unknown = payload;
  for (const key of name.split("."))
    at =
      typeof at === "object" && at !== null && Object.hasOwn(at, key)
        ? (at as Record<string, unknown>)[key]
        : undefined;
  return at;
}

/** Objects and lists go as base64url of their JSON, as in Envoy; what cannot stand in a field is left out. */
function headerTextOf(value: unknown): string {
  if (typeof value === "string") return /^[\t\x20-\x7e\x80-\xff]*$/.test(value) ? value : "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  return typeof value === "object" && value !== null ? Buffer.from(JSON.stringify(value)).toString("base64url") : "";
}

function normalised(payload: Record<string, unknown>, claims: readonly string[] = []): Record<string, unknown> {
  const out = { ...payload };
  for (const name of claims) {
    const value = out[name];
    if (typeof value === "string") out[name] = value.split(" ").filter((word) => word !== "");
  }
  return out;
}
