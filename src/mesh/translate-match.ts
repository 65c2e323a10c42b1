// VirtualService match conditions → Envoy route matches. Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type HeaderMatcher,
  HeaderMatcherSchema,
  type QueryParameterMatcher,
  QueryParameterMatcherSchema,
  type RouteMatch,
  RouteMatchSchema,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import type { MetadataMatcher } from "#gen/xds/envoy/type/matcher/v3/metadata_pb.js";
import { type StringMatcher, StringMatcherSchema } from "#gen/xds/envoy/type/matcher/v3/string_pb.js";
import { matchesMap } from "../api/selectors.ts";
import { resolveGateway } from "./hosts.ts";
import { claimMatcher, routingClaim } from "./translate-claims.ts";
import type { HttpMatch, Policy, StringMatch } from "./types.ts";

/** Whom a rule is translated for; what is known now need not be asked at each request. */
export interface RouteContext {
  /** Of the VirtualService, for short names. */
  namespace: string;
  /** "mesh", or the "namespace/name" of the gateways at this listener. */
  gateways: ReadonlySet<string>;
  listenerPort: number;
  clientLabels: Readonly<Record<string, string>>;
  clientNamespace: string;
  /** DestinationRules that select the client. */
  selected?: readonly Policy[] | undefined;
  /** What comes in by TLS. */
  tls?: boolean;
}

/** Whether a match can hold at all for this client, gateway and port. */
export function appliesTo(match: HttpMatch, context: RouteContext): boolean {
  const { gateways, sourceLabels, sourceNamespace, port } = match;
  if (port && port !== context.listenerPort) return false;
  // A match that names gateways does not ask for the client (Istio: sourceMatchHTTP).
  if (gateways && gateways.length > 0)
    return gateways.some((name) => context.gateways.has(resolveGateway(name, context.namespace)));
  if (!matchesMap(sourceLabels, context.clientLabels)) return false;
  return !sourceNamespace || sourceNamespace === context.clientNamespace;
}

/** No conditions left beyond those appliesTo looked at: everything that gets here matches. */
export function isCatchAll(match: HttpMatch): boolean {
  const { uri, headers, withoutHeaders, queryParams, method, authority, scheme } = match;
  const anyPath = uri === undefined || (uri as StringMatch).prefix === "/" || (uri as StringMatch).regex === ".*";
  const empty = (map: object | undefined) => map === undefined || Object.keys(map).length === 0;
  return (
    anyPath &&
    method === undefined &&
    authority === undefined &&
    scheme === undefined &&
    empty(headers) &&
    empty(withoutHeaders) &&
    empty(queryParams)
  );
}

export function routeMatch(match: HttpMatch | undefined): RouteMatch {
  const headers: HeaderMatcher[] = [];
  const dynamicMetadata: MetadataMatcher[] = [];
  for (const [map, inverted] of [
    [match?.headers, false],
    [match?.withoutHeaders, true],
  ] as const)
    for (const [name, value] of sorted(map)) {
      const claim = routingClaim(name);
      if (claim) dynamicMetadata.push(claimMatcher(claim, stringMatcher(value), inverted));
      else headers.push(headerMatcher(name.toLowerCase(), value, inverted));
    }
  for (const [name, value] of [
    [":method", match?.method],
    [":authority", match?.authority],
    [":scheme", match?.scheme],
  ] as const)
    if (value !== undefined) headers.push(headerMatcher(name, value, false));
  return create(RouteMatchSchema, {
    pathSpecifier: pathSpecifier(match?.uri),
    ...(match?.ignoreUriCase && match.uri !== undefined && { caseSensitive: false }),
    headers,
    dynamicMetadata,
    queryParameters: sorted(match?.queryParams).map(([name, value]) => queryMatcher(name, value)),
  });
}

/** Fixed order, so that equal rules give equal bytes. */
const sorted = <T>(map: Readonly<Record<string, T>> | undefined): [string, T][] =>
  Object.entries(map ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));

function pathSpecifier(uri: StringMatch | undefined): MessageInitShape<typeof RouteMatchSchema>["pathSpecifier"] {
  if (uri?.exact !== undefined) return { case: "path", value: uri.exact };
  if (uri?.regex !== undefined) return { case: "safeRegex", value: { regex: uri.regex } };
  return { case: "prefix", value: uri?.prefix ?? "/" };
}

/** Undefined: only presence counts. */
export function stringMatcher(match: StringMatch): StringMatcher | undefined {
  if (match.exact !== undefined) return stringOf("exact", match.exact);
  if (match.prefix !== undefined) return stringOf("prefix", match.prefix);
  if (match.regex === undefined || match.regex === "*") return undefined;
  return create(StringMatcherSchema, { matchPattern: { case: "safeRegex", value: { regex: match.regex } } });
}

const stringOf = (kind: "exact" | "prefix", value: string): StringMatcher =>
  create(StringMatcherSchema, { matchPattern: { case: kind, value } });

function headerMatcher(name: string, match: StringMatch, inverted: boolean): HeaderMatcher {
  const matcher = stringMatcher(match);
  return create(HeaderMatcherSchema, {
    name,
    headerMatchSpecifier: matcher ? { case: "stringMatch", value: matcher } : { case: "presentMatch", value: true },
    invertMatch: inverted,
    // A missing header does not have the value: "without" holds then.
    treatMissingHeaderAsEmpty: inverted && matcher !== undefined,
  });
}

function queryMatcher(name: string, match: StringMatch): QueryParameterMatcher {
  const matcher = stringMatcher(match);
  return create(QueryParameterMatcherSchema, {
    name,
    queryParameterMatchSpecifier: matcher
      ? { case: "stringMatch", value: matcher }
      : { case: "presentMatch", value: true },
  });
}
