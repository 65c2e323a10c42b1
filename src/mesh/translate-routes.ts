// The http rules of a VirtualService → Envoy routes, in order, up to the first that takes everything. Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import {
  HeaderValueOption_HeaderAppendAction as Append,
  type HeaderValueOptionSchema,
} from "#gen/xds/envoy/config/core/v3/base_pb.js";
import {
  type RouteAction_HashPolicy as HashPolicy,
  RedirectAction_RedirectResponseCode as RedirectCode,
  type Route,
  type RouteAction,
  RouteActionSchema,
  RouteSchema,
  type WeightedCluster_ClusterWeightSchema,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { HTTPFaultSchema } from "#gen/xds/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { parseDurationMs } from "../api/duration.ts";
import { durationOf, pack, percentOf } from "./envoy.ts";
import { addGatewaySemantics } from "./gateway-api/routes.ts";
import { resolveHost } from "./hosts.ts";
import { policyFor, subsetPolicy } from "./policies.ts";
import { sourceMetadata } from "./rule-source.ts";
import { hashPolicyOf } from "./translate-balancing.ts";
import { blackHoleName, outboundName } from "./translate-clusters.ts";
import { corsOf } from "./translate-cors.ts";
import { appliesTo, isCatchAll, type RouteContext, routeMatch } from "./translate-match.ts";
import { defaultRetries, retryPolicyOf } from "./translate-retries.ts";
import type { HttpDestination, HttpMatch, HttpRule, Model, RuleSet, RuleSource, StringMatch } from "./types.ts";

type HeaderInit = MessageInitShape<typeof HeaderValueOptionSchema>;
type WeightInit = MessageInitShape<typeof WeightedCluster_ClusterWeightSchema>;

/** Routes for one listener port and client. `catchAll`: the last one takes everything. */
export function httpRoutes(
  model: Model,
  rules: RuleSet,
  whom: Omit<RouteContext, "namespace">,
): { routes: Route[]; catchAll: Route | undefined } {
  const routes: Route[] = [];
  for (const { rule, namespace, source } of rules.http) {
    const context = { ...whom, namespace };
    const matches = rule.match ?? [];
    if (matches.length === 0) {
      const catchAll = routeOf(model, rule, undefined, context, source);
      return { routes, catchAll };
    }
    for (const [index, match] of matches.entries()) {
      if (!appliesTo(match, context)) continue;
      // Of a delegated rule the matches are combined, so that an index would name none that is written anywhere.
      const isWhole = source.root !== undefined || rules.derived;
      const at = isWhole ? source : { ...source, field: `${source.field}.match[${index}]` };
      const route = routeOf(model, rule, match, context, at);
      if (rules.derived) addGatewaySemantics(route, rule);
      if (isCatchAll(match)) return { routes, catchAll: route };
      routes.push(route);
    }
  }
  return { routes, catchAll: undefined };
}

/** The route of a service without a VirtualService. */
export function defaultRoute(model: Model, cluster: string, hashPolicy: HashPolicy | undefined): Route {
  const retryPolicy = defaultRetries(model);
  return create(RouteSchema, {
    name: "default",
    match: routeMatch(undefined),
    action: {
      case: "route",
      value: {
        clusterSpecifier: { case: "cluster", value: cluster },
        timeout: durationOf(0),
        ...(retryPolicy && { retryPolicy }),
        hashPolicy: hashPolicy ? [hashPolicy] : [],
      },
    },
  });
}

function routeOf(
  model: Model,
  rule: HttpRule,
  match: HttpMatch | undefined,
  context: RouteContext,
  source: RuleSource,
): Route {
  const headers = headerOperations(rule.headers);
  const filters: Record<string, Any> = {};
  const fault = faultOf(rule);
  if (fault !== undefined) filters["envoy.filters.http.fault"] = fault;
  const cors = corsOf(rule);
  if (cors !== undefined) filters["envoy.filters.http.cors"] = cors;
  return create(RouteSchema, {
    name: [rule.name, match?.name].filter(Boolean).join("."),
    match: routeMatch(match),
    action: actionOf(model, rule, match, context),
    ...headers,
    typedPerFilterConfig: filters,
    metadata: sourceMetadata(source),
  });
}

function actionOf(
  model: Model,
  rule: HttpRule,
  match: HttpMatch | undefined,
  context: RouteContext,
): MessageInitShape<typeof RouteSchema>["action"] {
  if (rule.redirect !== undefined) return { case: "redirect", value: redirectOf(rule.redirect, context) };
  if (rule.directResponse !== undefined) {
    const { status, body } = rule.directResponse;
    const { string: text, bytes } = (body ?? {}) as { string?: string; bytes?: string };
    const specifier =
      text !== undefined
        ? ({ case: "inlineString", value: text } as const)
        : bytes !== undefined
          ? ({ case: "inlineBytes", value: Uint8Array.fromBase64(bytes) } as const)
          : undefined;
    return { case: "directResponse", value: { status, ...(specifier && { body: { specifier } }) } };
  }
  return { case: "route", value: forwardOf(model, rule, match, context) };
}

function forwardOf(model: Model, rule: HttpRule, match: HttpMatch | undefined, context: RouteContext): RouteAction {
  const all = rule.route ?? [];
  // A single destination takes all, whatever its weight; of several, those of weight 0 get nothing.
  const destinations = all.length === 1 ? all : all.filter(({ weight }) => (weight ?? 0) > 0);
  const timeoutMs = rule.timeout === undefined ? 0 : (parseDurationMs(rule.timeout) ?? 0);
  const hashPolicy = destinations.flatMap(({ destination }) => hashPolicyFor(model, destination, context) ?? []);
  const retryPolicy = retryPolicyOf(model, rule.retries, all.length === 1 && hashPolicy.length > 0);
  const authority = rule.rewrite?.authority || requestHost(rule.headers);
  const mirrors = mirrorsOf(rule);
  return create(RouteActionSchema, {
    clusterSpecifier: clusterSpecifier(model, destinations, context),
    hashPolicy,
    timeout: durationOf(timeoutMs),
    ...(retryPolicy && { retryPolicy }),
    ...pathRewrite(rule.rewrite, match),
    ...(authority && { hostRewriteSpecifier: { case: "hostRewriteLiteral", value: authority } as const }),
    requestMirrorPolicies: mirrors.map(({ destination, percent }) => ({
      cluster: clusterOf(model, destination, context),
      runtimeFraction: { defaultValue: percentOf(percent) },
    })),
  });
}

interface Mirror {
  destination: HttpDestination["destination"];
  percent: number;
}

/** All requests unless a percentage is given; none at all for 0 (Istio: MirrorPercent). */
function mirrorsOf(rule: HttpRule): Mirror[] {
  const {
    mirror,
    mirrors = [],
    mirrorPercentage,
    mirrorPercent,
  } = rule as Pick<HttpRule, "mirror" | "mirrors" | "mirrorPercentage"> & { mirrorPercent?: number };
  const all: Mirror[] = mirrors.map(({ destination, percentage }) => ({
    destination,
    percent: percentage === undefined ? 100 : (percentage.value ?? 0),
  }));
  const percent = mirrorPercentage === undefined ? (mirrorPercent ?? 100) : (mirrorPercentage.value ?? 0);
  if (mirror !== undefined) all.unshift({ destination: mirror, percent });
  return all.filter((one) => one.percent > 0);
}

function clusterSpecifier(
  model: Model,
  destinations: readonly HttpDestination[],
  context: RouteContext,
): MessageInitShape<typeof RouteActionSchema>["clusterSpecifier"] {
  // Every weight 0: refused at the door, and if it got in, no destination is the right one.
  if (destinations.length === 0) return { case: "cluster", value: blackHoleName };
  const [first] = destinations;
  const only = destinations.length === 1 && first?.headers === undefined ? first : undefined;
  if (only) return { case: "cluster", value: clusterOf(model, only.destination, context) };
  const clusters = destinations.map((destination): WeightInit => {
    const host = requestHost(destination.headers);
    return {
      name: clusterOf(model, destination.destination, context),
      weight: destinations.length === 1 ? 100 : (destination.weight ?? 0),
      ...headerOperations(destination.headers),
      ...(host && { hostRewriteSpecifier: { case: "hostRewriteLiteral", value: host } as const }),
    };
  });
  return { case: "weightedClusters", value: { clusters } };
}

function hashPolicyFor(
  model: Model,
  destination: HttpDestination["destination"],
  context: RouteContext,
): HashPolicy | undefined {
  const service = model.serviceByHost.get(resolveHost(destination.host, context.namespace, model.config.clusterDomain));
  if (service === undefined) return undefined;
  const port = portOf(model, service.host, destination, context);
  return hashPolicyOf(
    subsetPolicy(
      policyFor(model, service, { namespace: context.clientNamespace, selected: context.selected }),
      destination.subset,
      port,
    ).loadBalancer,
  );
}

const portOf = (
  model: Model,
  host: string,
  destination: { port?: { number?: number } },
  { listenerPort }: Pick<RouteContext, "listenerPort">,
): number => {
  const ports = model.serviceByHost.get(host)?.ports ?? [];
  return destination.port?.number ?? (ports.length === 1 ? ports[0]!.port : listenerPort);
};

/** Istio: GetDestinationCluster. Whether the cluster exists shows at the request: 503 NC when it does not. */
export function clusterOf(
  model: Model,
  destination: { host: string; port?: { number?: number }; subset?: string },
  context: Pick<RouteContext, "namespace" | "listenerPort">,
): string {
  const host = resolveHost(destination.host, context.namespace, model.config.clusterDomain);
  return outboundName(portOf(model, host, destination, context), destination.subset ?? "", host);
}

/** `uri` replaces the prefix that matched, or the whole path where an exact path or a regular expression did. */
function pathRewrite(
  rewrite: HttpRule["rewrite"],
  match: HttpMatch | undefined,
): { prefixRewrite?: string; regexRewrite?: { pattern: { regex: string }; substitution: string } } {
  const regex = rewrite?.uriRegexRewrite;
  if (regex?.match) return { regexRewrite: { pattern: { regex: regex.match }, substitution: regex.rewrite ?? "" } };
  if (!rewrite?.uri) return {};
  if ((match?.uri as StringMatch | undefined)?.regex === undefined) return { prefixRewrite: rewrite.uri };
  // Envoy replaces the whole path then; said as a regular expression it needs no special case.
  return { regexRewrite: { pattern: { regex: "^.*$" }, substitution: rewrite.uri.replaceAll("\\", "\\\\") } };
}

type HeaderRules = HttpRule["headers"];

const isHostHeader = (name: string): boolean => /^(host|:authority)$/i.test(name);
/** What is no field of its own cannot be set, added or removed. */
const isInternal = (name: string): boolean => name.startsWith(":") || isHostHeader(name);

/** To set Host, or to add it, is a rewrite of the authority. */
function requestHost(headers: HeaderRules): string | undefined {
  const { set, add } = headers?.request ?? {};
  for (const fields of [set, add])
    for (const [name, value] of Object.entries(fields ?? {})) if (isHostHeader(name) && value) return value;
  return undefined;
}

function headerOperations(headers: HeaderRules) {
  const values = (map: Record<string, string> | undefined, appendAction: Append): HeaderInit[] =>
    Object.entries(map ?? {})
      .filter(([name]) => !isInternal(name))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => ({ header: { key, value }, appendAction }));
  const request = headers?.request;
  const response = headers?.response;
  return {
    requestHeadersToAdd: [
      ...values(request?.set, Append.OVERWRITE_IF_EXISTS_OR_ADD),
      ...values(request?.add, Append.APPEND_IF_EXISTS_OR_ADD),
    ],
    requestHeadersToRemove: (request?.remove ?? []).filter((name) => !isInternal(name)),
    responseHeadersToAdd: [
      ...values(response?.set, Append.OVERWRITE_IF_EXISTS_OR_ADD),
      ...values(response?.add, Append.APPEND_IF_EXISTS_OR_ADD),
    ],
    responseHeadersToRemove: (response?.remove ?? []).filter((name) => !isInternal(name)),
  };
}

const redirectCodes: Readonly<Record<number, RedirectCode>> = {
  301: RedirectCode.MOVED_PERMANENTLY,
  302: RedirectCode.FOUND,
  303: RedirectCode.SEE_OTHER,
  307: RedirectCode.TEMPORARY_REDIRECT,
  308: RedirectCode.PERMANENT_REDIRECT,
};

function redirectOf(redirect: NonNullable<HttpRule["redirect"]>, context: RouteContext) {
  const { uri, authority, scheme, port, derivePort, redirectCode } = redirect as {
    uri?: string;
    authority?: string;
    scheme?: string;
    port?: number;
    derivePort?: string;
    redirectCode?: number;
  };
  const asked = port ?? (derivePort === "FROM_REQUEST_PORT" ? context.listenerPort : 0);
  // The scheme's own port is not said (Istio: ApplyRedirect).
  const portRedirect = asked === ((scheme || (context.tls ? "https" : "http")) === "https" ? 443 : 80) ? 0 : asked;
  return {
    hostRedirect: authority ?? "",
    portRedirect,
    responseCode: redirectCodes[redirectCode ?? 301] ?? RedirectCode.MOVED_PERMANENTLY,
    ...(uri && { pathRewriteSpecifier: { case: "pathRedirect", value: uri } as const }),
    ...(scheme && { schemeRewriteSpecifier: { case: "schemeRedirect", value: scheme } as const }),
  };
}

interface FaultRule {
  fixedDelay?: string;
  httpStatus?: number;
  grpcStatus?: string;
  percentage?: { value?: number };
  /** Deprecated: a whole number. */
  percent?: number;
}

/** An omitted percentage injects nothing. */
const faultPercent = (fault: FaultRule | undefined): number =>
  fault?.percentage === undefined ? (fault?.percent ?? 0) : (fault.percentage.value ?? 0);

function faultOf(rule: HttpRule): Any | undefined {
  const { delay, abort } = (rule.fault ?? {}) as { delay?: FaultRule; abort?: FaultRule };
  const delayMs = delay?.fixedDelay === undefined ? undefined : parseDurationMs(delay.fixedDelay);
  const hasDelay = delayMs !== undefined && faultPercent(delay) > 0;
  const error = abort && faultPercent(abort) > 0 ? abortOf(abort) : undefined;
  if (!hasDelay && error === undefined) return undefined;
  return pack(HTTPFaultSchema, {
    ...(hasDelay && {
      delay: {
        faultDelaySecifier: { case: "fixedDelay", value: durationOf(delayMs) },
        percentage: percentOf(faultPercent(delay)),
      },
    }),
    ...(error && { abort: { errorType: error, percentage: percentOf(faultPercent(abort)) } }),
  });
}

function abortOf({ httpStatus, grpcStatus }: FaultRule) {
  if (httpStatus !== undefined) return { case: "httpStatus", value: httpStatus } as const;
  const code = grpcCodeOf(grpcStatus ?? "");
  return code === undefined ? undefined : ({ case: "grpcStatus", value: code } as const);
}

/** Names of google.rpc.Code in the order of their numbers. */
const grpcCodes = [
  ...["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"],
  ...["PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"],
  ...["UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"],
];

/** Undefined: no such status. */
export function grpcCodeOf(name: string): number | undefined {
  const code = grpcCodes.indexOf(name);
  return code < 0 ? undefined : code;
}
