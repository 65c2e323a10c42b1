// HTTPRoutes and GRPCRoutes → one rule of Istio's per match, each with its rank. Pure.

import type { GRPCRoute, HTTPRoute } from "../../api/types.ts";
import { escapeRegExp } from "../../kernel/regexp.ts";
import { ruleSource } from "../rule-source.ts";
import type { HttpDestination, HttpMatch, HttpRule, StringMatch } from "../types.ts";
import type { Backend, ResolveBackend } from "./backends.ts";
import { filterActions, headerChanges, withoutSlash } from "./convert-filters.ts";
import type {
  GrpcRouteRule,
  HttpRouteFilter,
  HttpRouteMatch,
  HttpRouteRule,
  Notice,
  RankedRule,
  RouteState,
} from "./types.ts";

export interface Converted extends Pick<RouteState, "http" | "notices"> {
  /** The first backend that leads nowhere. */
  backendProblem: Backend["problem"];
  /** What rules answer 500 for, and whether no rule is left. */
  unsupported: readonly (Notice & { reason: string })[];
  nothingLeft: boolean;
}

/** What HTTPRoutes and GRPCRoutes have in common, once a method is written as the path it stands for. */
interface CommonRule extends Pick<HttpRouteRule, "backendRefs" | "timeouts" | "retry" | "sessionPersistence"> {
  matches: readonly HttpRouteMatch[];
  filters: readonly HttpRouteFilter[];
}

export function convertHttp(route: HTTPRoute | GRPCRoute, resolve: ResolveBackend): Converted {
  const isGrpc = route.kind === "GRPCRoute";
  const kind = isGrpc ? "grpc-route" : "http-route";
  const rules: readonly CommonRule[] = isGrpc
    ? ((route as GRPCRoute).spec.rules ?? []).map(commonOfGrpc)
    : ((route as HTTPRoute).spec.rules ?? [{}]).map(commonOfHttp);
  const { name, namespace = "default" } = route.metadata;
  const http: RankedRule[] = [];
  const notices: Notice[] = [];
  const unsupported: (Notice & { reason: string })[] = [];
  let backendProblem: Backend["problem"];
  let broken = 0;
  rules.forEach((rule, index) => {
    const field = `spec.rules[${index}]`;
    const note = (message: string, at: string): number => notices.push({ field: at, message: `${at}: ${message}` });
    const action = actionOf(rule, field, (ref) => {
      const backend = resolve(route, ref);
      backendProblem ??= backend.problem;
      return backend;
    });
    if (rule.sessionPersistence)
      note("is not carried out: use consistentHash of a DestinationRule", `${field}.sessionPersistence`);
    for (const message of action.ignored) note(message.message, message.field);
    let isBroken = false;
    rule.matches.forEach((match, at) => {
      const filtered = filterActions(rule.filters, match, field);
      if (at === 0) unsupported.push(...filtered.unsupported);
      isBroken ||= filtered.unsupported.length > 0;
      const actions = filtered.unsupported.length > 0 ? internalError : { ...filtered.actions, ...action.of(filtered) };
      // A rule without matches has one made up, that nobody finds in the manifest.
      const written = (route.spec.rules?.[index]?.matches?.length ?? 0) > 0;
      http.push({
        owned: {
          rule: { name: `${namespace}.${name}.${index}.${at}`, match: [matchOf(match)], ...actions } as HttpRule,
          namespace,
          source: ruleSource(kind, route.metadata, written ? `${field}.matches[${at}]` : field),
        },
        rank: rankOf(match),
      });
    });
    if (isBroken) broken++;
  });
  notices.push(...unreachable(rules));
  return { http, notices, unsupported, backendProblem, nothingLeft: broken > 0 && broken === rules.length };
}

/** As in Istio regular expressions come after all prefixes: a rule for every path leaves them nothing. */
function unreachable(rules: readonly CommonRule[]): Notice[] {
  const takesAll = rules.findIndex(({ matches }) => matches.some((match) => rankOf(match).join() === "2,0,0,0,0"));
  if (takesAll < 0) return [];
  return rules.flatMap(({ matches }, index) =>
    matches.flatMap(({ path }, at) => {
      if (path?.type !== "RegularExpression") return [];
      const field = `spec.rules[${index}].matches[${at}].path`;
      const message = `${field}: is never reached: regular expressions come after prefixes, and spec.rules[${takesAll}] takes every path`;
      return [{ field, message }];
    }),
  );
}

const internalError: Partial<HttpRule> = { directResponse: { status: 500 } };

const everything: readonly HttpRouteMatch[] = [{ path: { type: "PathPrefix", value: "/" } }];

const commonOfHttp = (rule: HttpRouteRule): CommonRule => ({
  ...rule,
  matches: rule.matches?.length ? rule.matches : everything,
  filters: rule.filters ?? [],
});

const commonOfGrpc = (rule: GrpcRouteRule): CommonRule => ({
  ...(rule.backendRefs && { backendRefs: rule.backendRefs as NonNullable<HttpRouteRule["backendRefs"]> }),
  ...(rule.sessionPersistence && { sessionPersistence: rule.sessionPersistence }),
  matches: rule.matches?.length ? rule.matches.map(pathOfMethod) : everything,
  filters: (rule.filters ?? []) as readonly HttpRouteFilter[],
});

/** gRPC: a call's path is "/<service>/<method>". */
function pathOfMethod({ method, headers }: NonNullable<GrpcRouteRule["matches"]>[number]): HttpRouteMatch {
  const isRegex = method?.type === "RegularExpression";
  const text = (value: string | undefined) => value && (isRegex ? value : escapeRegExp(value));
  const { service, method: name } = method ?? {};
  const path: HttpRouteMatch["path"] =
    !service && !name
      ? { type: "PathPrefix", value: "/" }
      : !isRegex && service
        ? { type: name ? "Exact" : "PathPrefix", value: `/${service}${name ? `/${name}` : ""}` }
        : { type: "RegularExpression", value: `/${text(service) || "[^/]+"}/${text(name) || "[^/]+"}` };
  return { path, ...(headers && { headers: headers as NonNullable<HttpRouteMatch["headers"]> }) };
}

function matchOf({ path, headers, queryParams, method }: HttpRouteMatch): HttpMatch {
  const value = path?.value ?? "/";
  const uri: StringMatch =
    path?.type === "Exact"
      ? { exact: value }
      : path?.type === "RegularExpression"
        ? { regex: value }
        : { prefix: withoutSlash(value) || "/" };
  // Of conditions for one name only the first counts.
  const texts = (list: readonly { name: string; type?: string; value: string }[]): Record<string, StringMatch> =>
    Object.fromEntries(
      list
        .map(({ name, type, value: text }) => [name, type === "RegularExpression" ? { regex: text } : { exact: text }])
        .reverse() as [string, StringMatch][],
    );
  return {
    uri,
    ...(method && { method: { exact: method } }),
    ...(headers?.length && {
      headers: texts(headers.map((header) => ({ ...header, name: header.name.toLowerCase() }))),
    }),
    ...(queryParams?.length && { queryParams: texts(queryParams) }),
  } as HttpMatch;
}

const pathRank: Readonly<Record<string, number>> = { Exact: 3, PathPrefix: 2, RegularExpression: 1 };

/** Exact path, longest prefix, method, most headers, most query parameters; regular expressions come last of the paths. */
function rankOf({ path, method, headers, queryParams }: HttpRouteMatch): number[] {
  const type = path?.type ?? "PathPrefix";
  const value = path?.value ?? "/";
  return [
    pathRank[type] ?? 0,
    type === "PathPrefix" ? withoutSlash(value).length : value.length,
    method ? 1 : 0,
    headers?.length ?? 0,
    queryParams?.length ?? 0,
  ];
}

interface Action {
  of(filtered: ReturnType<typeof filterActions>): Partial<HttpRule>;
  ignored: readonly Notice[];
}

/** Where requests go, and for how long; a redirect goes nowhere. */
function actionOf(
  { backendRefs = [], timeouts, retry }: CommonRule,
  field: string,
  resolve: (ref: NonNullable<HttpRouteRule["backendRefs"]>[number]) => Backend,
): Action {
  const ignored: Notice[] = [];
  const route: HttpDestination[] = [];
  backendRefs.forEach((ref, index) => {
    const backend = resolve(ref);
    const weight = ref.weight ?? 1;
    if (weight > 0)
      route.push({
        destination: destinationOf(backend),
        weight,
        ...backendHeaders(ref, `${field}.backendRefs[${index}]`, ignored),
      });
  });
  const limits = limitsOf(timeouts, retry);
  return {
    ignored,
    of({ actions, mirrors }) {
      const resolved = mirrors.flatMap(({ ref, percent }) => {
        const backend = resolve(ref);
        return backend.problem ? [] : [{ destination: destinationOf(backend), percentage: { value: percent } }];
      });
      if (actions.redirect) return {};
      if (route.length === 0) return internalError;
      return { route, ...limits, ...(resolved.length > 0 && { mirrors: resolved }) };
    },
  };
}

export const destinationOf = ({ host, port }: Backend) => ({
  host,
  ...(port !== undefined && { port: { number: port } }),
});

function backendHeaders(
  { filters }: NonNullable<HttpRouteRule["backendRefs"]>[number],
  field: string,
  ignored: Notice[],
): Pick<HttpDestination, "headers"> {
  let headers: HttpDestination["headers"];
  filters?.forEach((filter, index) => {
    if (filter.type === "RequestHeaderModifier")
      headers = { ...headers, request: headerChanges(filter.requestHeaderModifier) };
    else if (filter.type === "ResponseHeaderModifier")
      headers = { ...headers, response: headerChanges(filter.responseHeaderModifier) };
    else
      ignored.push({ field: `${field}.filters[${index}]`, message: `${filter.type} of a backend is not carried out` });
  });
  return headers ? { headers } : {};
}

/** Istio's. */
const defaultAttempts = 2;

/** "0s" is no limit. What the try to one backend may take is Envoy's per-try timeout. */
function limitsOf(timeouts: HttpRouteRule["timeouts"], retry: HttpRouteRule["retry"]): Partial<HttpRule> {
  const perTry = timeouts?.backendRequest;
  const limits: Partial<HttpRule> = timeouts?.request === undefined ? {} : { timeout: timeouts.request };
  if (retry === undefined && perTry === undefined) return limits;
  const conditions = ["connect-failure", "refused-stream", "unavailable", "cancelled", ...(retry?.codes ?? [])];
  return {
    ...limits,
    retries: {
      attempts: retry?.attempts ?? defaultAttempts,
      ...(retry && retry.attempts !== 0 && { retryOn: conditions.join(",") }),
      ...(retry?.backoff && { backoff: retry.backoff }),
      ...(perTry && { perTryTimeout: perTry }),
    } as NonNullable<HttpRule["retries"]>,
  };
}
