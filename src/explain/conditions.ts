// A route's match taken apart: each condition in words, whether the request meets it, and what the request has instead. Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type HeaderMatcher,
  type QueryParameterMatcher,
  type RouteMatch,
  RouteMatchSchema,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import type { StringMatcher } from "#gen/xds/envoy/type/matcher/v3/string_pb.js";
import { compileMatch } from "../proxy/compile/match.ts";
import type { RequestView } from "../proxy/http/request.ts";
import { matches } from "../proxy/routing/route.ts";
import { Dice } from "./dry_node.ts";

export interface Condition {
  /** "path begins with /api" */
  text: string;
  holds: boolean;
  /** Why not: "path is /". */
  got: string;
}

/** Each is decided by the proxy's own matcher, alone. */
export function conditionsOf(match: RouteMatch, request: RequestView): Condition[] {
  const conditions: Condition[] = [];
  const add = (part: MessageInitShape<typeof RouteMatchSchema>, text: string, got: () => string): void => {
    const init = { pathSpecifier: { case: "prefix", value: "/" }, ...part } as MessageInitShape<
      typeof RouteMatchSchema
    >;
    const holds = matches(compileMatch(create(RouteMatchSchema, init), new Dice()), request);
    conditions.push({ text, holds, got: holds ? "" : got() });
  };
  const { pathSpecifier: path, caseSensitive } = match;
  if (path.case !== "prefix" || path.value !== "/")
    add(
      { pathSpecifier: path, ...(caseSensitive !== undefined && { caseSensitive }) } as never,
      pathText(match),
      () => `path is ${request.pathOnly}`,
    );
  for (const header of match.headers)
    add(
      { headers: [header] },
      headerText(header),
      () => `${fieldName(header.name)} is ${shown(request.header(header.name.toLowerCase()))}`,
    );
  for (const query of match.queryParameters)
    add({ queryParameters: [query] }, queryText(query), () => `?${query.name} is ${shown(request.query(query.name))}`);
  const { grpc, runtimeFraction, tlsContext } = match;
  if (grpc) add({ grpc }, "is gRPC", () => `content-type is ${shown(request.header("content-type"))}`);
  if (tlsContext) add({ tlsContext }, "client certificate as asked", () => "it is not");
  if (runtimeFraction) add({ runtimeFraction }, "a share of the requests", () => "drawn");
  return conditions;
}

/** The whole match in words. */
export const matchText = (match: RouteMatch | undefined): string => {
  if (match === undefined) return "";
  const { pathSpecifier: path, headers, queryParameters, grpc } = match;
  const parts = [
    ...(path.case === "prefix" && path.value === "/" ? [] : [pathText(match)]),
    ...headers.map(headerText),
    ...queryParameters.map(queryText),
    ...(grpc ? ["is gRPC"] : []),
  ];
  return parts.length === 0 ? "any request" : parts.join(" and ");
};

const shown = (value: string | undefined): string =>
  value === undefined ? "missing" : value === "" ? "empty" : value.length > 60 ? `${value.slice(0, 57)}…` : value;

const fieldName = (name: string): string => (name.startsWith(":") ? name.slice(1) : name);

function pathText({ pathSpecifier: path, caseSensitive }: RouteMatch): string {
  const fold = caseSensitive === false ? " (whatever its case)" : "";
  switch (path.case) {
    case "prefix":
      return `path begins with ${path.value}${fold}`;
    case "path":
      return `path is exactly ${path.value}${fold}`;
    case "pathSeparatedPrefix":
      return `path is ${path.value} or below it${fold}`;
    case "safeRegex":
      return `path matches ${path.value.regex}`;
    case "pathMatchPolicy":
      return "path fits its template";
    case "connectMatcher":
      return "is CONNECT";
    default:
      return "path as asked";
  }
}

function headerText({ name, headerMatchSpecifier: specifier, invertMatch }: HeaderMatcher): string {
  const field = fieldName(name);
  const not = invertMatch ? "not " : "";
  if (specifier.case === "stringMatch") return `${not}${field} ${stringText(specifier.value)}`;
  if (specifier.case === "presentMatch") return `${specifier.value === invertMatch ? "no" : "with"} ${field}`;
  const value =
    specifier.case === undefined ? "" : typeof specifier.value === "string" ? specifier.value : specifier.case;
  return `${not}${field} ${value}`;
}

function queryText({ name, queryParameterMatchSpecifier: specifier }: QueryParameterMatcher): string {
  return specifier.case === "stringMatch" ? `?${name} ${stringText(specifier.value)}` : `with ?${name}`;
}

function stringText({ matchPattern: pattern }: StringMatcher): string {
  switch (pattern.case) {
    case "exact":
      return `is ${pattern.value}`;
    case "prefix":
      return `begins with ${pattern.value}`;
    case "suffix":
      return `ends with ${pattern.value}`;
    case "contains":
      return `contains ${pattern.value}`;
    case "safeRegex":
      return `matches ${pattern.value.regex}`;
    default:
      return "as asked";
  }
}
