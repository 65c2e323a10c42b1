// Route hash policies: what of a request decides on its host under consistent hashing (RouteAction.hash_policy).

import type { RouteAction_HashPolicy as Message } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { Random } from "../../kernel/random.ts";
import { hashOf, randomHash } from "../balancing/consistent.ts";
import type { ConnectionInfo } from "../chain.ts";
import { durationMs } from "../compile/any.ts";
import type { RequestView } from "../http/request.ts";

/** What a policy may see and do. */
export interface HashContext {
  request: RequestView;
  client: ConnectionInfo;
  /** A complete header line for the answer. */
  addResponseHeader(line: string): void;
}

/** Undefined: the request has nothing of this kind. */
type HashSource = (context: HashContext, random: Random) => bigint | undefined;

/** Undefined: nothing to hash, any host will do. */
export type HashPolicy = HashSource;

export function compileHashPolicy(messages: readonly Message[]): HashPolicy | undefined {
  const sources = messages.flatMap((message) => {
    const hash = compileSource(message);
    return hash ? [{ hash, terminal: message.terminal }] : [];
  });
  if (sources.length === 0) return undefined;
  return (context, random) => {
    let all: bigint | undefined;
    for (const { hash, terminal } of sources) {
      const one = hash(context, random);
      // As Envoy: rotate what is there by one bit, so that the order of policies matters.
      if (one !== undefined) all = all === undefined ? one : BigInt.asUintN(64, (all << 1n) | (all >> 63n)) ^ one;
      if (terminal && all !== undefined) break;
    }
    return all;
  };
}

function compileSource({ policySpecifier: { case: kind, value } }: Message): HashSource | undefined {
  const text = (found: string | undefined): bigint | undefined => (found === undefined ? undefined : hashOf(found));
  switch (kind) {
    case "header": {
      if (value.regexRewrite)
        throw new MeshbedError("ROUTE_INVALID", "hash_policy.header.regex_rewrite is not supported");
      const name = value.headerName.toLowerCase();
      return ({ request }) => text(request.header(name));
    }
    case "cookie":
      return compileCookie(value);
    case "connectionProperties":
      return value.sourceIp ? ({ client }) => hashOf(client.remoteAddress) : undefined;
    case "queryParameter":
      return ({ request }) => text(request.query(value.name));
    // There is no filter state to hash.
    case "filterState":
      return undefined;
    default:
      throw new MeshbedError("ROUTE_INVALID", "a hash policy is empty");
  }
}

type CookieMessage = Extract<Message["policySpecifier"], { case: "cookie" }>["value"];

/** A cookie that is missing is made and set, if it has a time to live; 0 means until the browser closes. */
function compileCookie({ name, ttl, path, attributes }: CookieMessage): HashSource {
  const parts = [name, path, ...attributes.flatMap((attribute) => [attribute.name, attribute.value])];
  if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(name) || parts.some((part) => /[^\x20-\x7e]|;/.test(part)))
    throw new MeshbedError("ROUTE_INVALID", `hash_policy.cookie ${JSON.stringify(name)} cannot be set as a cookie`);
  const ttlMs = durationMs(ttl, -1);
  const rest = [
    ...(ttlMs > 0 ? [`Max-Age=${Math.floor(ttlMs / 1000)}`] : []),
    ...(path ? [`Path=${path}`] : []),
    ...attributes.map(({ name, value }) => (value ? `${name}=${value}` : name)),
    "HttpOnly",
  ].join("; ");
  return (context, random) => {
    const found = cookieOf(context.request, name);
    if (found) return hashOf(found);
    if (ttlMs < 0) return undefined;
    const made = randomHash(random).toString(16).padStart(16, "0");
    context.addResponseHeader(`set-cookie: ${name}="${made}"; ${rest}\r\n`);
    return hashOf(made);
  };
}

/** The value without quotes; undefined when there is none of this name. */
export function cookieOf(request: RequestView, name: string): string | undefined {
  const { head } = request;
  for (let i = 0; i < head.count; i++) {
    if (!head.nameIs(i, "cookie")) continue;
    for (const pair of head.value(i).split(";")) {
      const equals = pair.indexOf("=");
      if (equals < 0 || pair.slice(0, equals).trim() !== name) continue;
      return pair
        .slice(equals + 1)
        .trim()
        .replace(/^"(.*)"$/, "$1");
    }
  }
  return undefined;
}
