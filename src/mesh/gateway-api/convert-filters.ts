// Filters of HTTPRoutes and GRPCRoutes → the actions of Istio's http rules. Pure.

import { escapeRegExp } from "../../kernel/regexp.ts";
import type { HttpRule } from "../types.ts";
import type { BackendReference } from "./backends.ts";
import type { HttpRouteFilter, HttpRouteMatch, Notice, PrefixRedirect } from "./types.ts";

export interface FilterOutcome {
  actions: Partial<HttpRule>;
  /** Backends that mirrors go to, with the percentage. */
  mirrors: { ref: BackendReference; percent: number; field: string }[];
  /** The rule cannot be carried out: it answers 500. */
  unsupported: (Notice & { reason: "UnsupportedValue" | "IncompatibleFilters" })[];
}

type HeaderFilter = NonNullable<HttpRouteFilter["requestHeaderModifier"]>;

/** `match`: the one this rule is made for; a prefix that is replaced is its. */
export function filterActions(
  filters: readonly HttpRouteFilter[] | undefined,
  match: HttpRouteMatch,
  path: string,
): FilterOutcome {
  const outcome: FilterOutcome = { actions: {}, mirrors: [], unsupported: [] };
  const { actions } = outcome;
  filters?.forEach((filter, index) => {
    const field = `${path}.filters[${index}]`;
    switch (filter.type) {
      case "RequestHeaderModifier":
        actions.headers = { ...actions.headers, request: headerChanges(filter.requestHeaderModifier) };
        break;
      case "ResponseHeaderModifier":
        actions.headers = { ...actions.headers, response: headerChanges(filter.responseHeaderModifier) };
        break;
      case "RequestRedirect":
        actions.redirect = redirectOf(filter, match) as NonNullable<HttpRule["redirect"]>;
        break;
      case "URLRewrite":
        actions.rewrite = rewriteOf(filter, match) as NonNullable<HttpRule["rewrite"]>;
        break;
      case "RequestMirror":
        outcome.mirrors.push(mirrorOf(filter, `${field}.requestMirror.backendRef`));
        break;
      case "CORS":
        actions.corsPolicy = corsOf(filter) as NonNullable<HttpRule["corsPolicy"]>;
        break;
      default:
        outcome.unsupported.push({
          field,
          reason: "UnsupportedValue",
          message: `filters of type ${filter.type} are not carried out: requests are answered with 500`,
        });
    }
  });
  if (actions.redirect && actions.rewrite)
    outcome.unsupported.push({
      field: `${path}.filters`,
      reason: "IncompatibleFilters",
      message: "RequestRedirect and URLRewrite exclude each other: requests are answered with 500",
    });
  return outcome;
}

export function headerChanges(filter: HeaderFilter | undefined) {
  const values = (list: readonly { name: string; value: string }[] = []): Record<string, string> =>
    Object.fromEntries(list.map(({ name, value }) => [name, value]));
  const { set, add, remove } = filter ?? {};
  return {
    ...(set?.length && { set: values(set) }),
    ...(add?.length && { add: values(add) }),
    ...(remove?.length && { remove }),
  };
}

const prefixOf = ({ path }: HttpRouteMatch): string | undefined =>
  (path?.type ?? "PathPrefix") === "PathPrefix" ? withoutSlash(path?.value ?? "/") : undefined;

/** "/a/" and "/a" mean the same prefix; "" is everything. */
export const withoutSlash = (prefix: string): string => prefix.replace(/\/+$/, "");

/** Where no path is asked for it stays; the port is the scheme's own, or else the listener's. */
function redirectOf({ requestRedirect: redirect }: HttpRouteFilter, match: HttpRouteMatch): object {
  const { scheme, hostname, port, statusCode = 302, path } = redirect ?? {};
  const prefix = prefixOf(match);
  const isDefaultPort = (scheme === "http" && port === 80) || (scheme === "https" && port === 443);
  const replaced: PrefixRedirect & { uri?: string } = {};
  if (path?.replaceFullPath !== undefined) replaced.uri = path.replaceFullPath;
  else if (path?.replacePrefixMatch !== undefined && prefix !== undefined) replaced.uriPrefix = path.replacePrefixMatch;
  return {
    redirectCode: statusCode,
    ...(scheme && { scheme }),
    ...(hostname && { authority: hostname }),
    ...(port !== undefined && !isDefaultPort && { port }),
    ...(port === undefined && !scheme && { derivePort: "FROM_REQUEST_PORT" }),
    ...replaced,
  };
}

function rewriteOf({ urlRewrite }: HttpRouteFilter, match: HttpRouteMatch): object {
  const { hostname, path } = urlRewrite ?? {};
  const prefix = prefixOf(match);
  const authority = hostname && { authority: hostname };
  if (path?.replaceFullPath !== undefined)
    return { ...authority, uriRegexRewrite: { match: "^.*$", rewrite: literal(path.replaceFullPath || "/") } };
  if (path?.replacePrefixMatch === undefined || prefix === undefined) return { ...authority };
  return { ...authority, ...prefixRewrite(prefix, path.replacePrefixMatch) };
}

/** The rest of the path follows after exactly one slash; nothing at all is "/". */
function prefixRewrite(prefix: string, replacement: string): object {
  const start = withoutSlash(replacement);
  if (prefix === "") return start === "" ? {} : { uri: `${start}/` };
  if (start !== "") return { uri: start };
  return { uriRegexRewrite: { match: `^${escapeRegExp(prefix)}/*`, rewrite: "/" } };
}

const literal = (text: string): string => text.replaceAll("\\", "\\\\");

function mirrorOf({ requestMirror }: HttpRouteFilter, field: string): FilterOutcome["mirrors"][number] {
  const { backendRef, percent, fraction } = requestMirror!;
  const share = fraction ? (fraction.numerator / (fraction.denominator ?? 100)) * 100 : (percent ?? 100);
  return { ref: backendRef, percent: share, field };
}

/** "*" within an origin stands for any text of the host's. */
function corsOf({ cors = {} }: HttpRouteFilter): object {
  const origin = (text: string) =>
    text.includes("*") ? { regex: text.split("*").map(escapeRegExp).join(".*") } : { exact: text };
  const { allowOrigins = [], allowMethods, allowHeaders, exposeHeaders, allowCredentials, maxAge = 5 } = cors;
  return {
    allowOrigins: allowOrigins.map(origin),
    ...(allowMethods && { allowMethods }),
    ...(allowHeaders && { allowHeaders }),
    ...(exposeHeaders && { exposeHeaders }),
    ...(allowCredentials !== undefined && { allowCredentials }),
    maxAge: `${maxAge}s`,
    unmatchedPreflights: "IGNORE",
  };
}
