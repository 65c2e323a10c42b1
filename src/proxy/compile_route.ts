// Envoy RouteConfiguration → an immutable RouteTable. Regular expressions are compiled here, once; unsupported parts throw (NACK).

import { RoutingPriority } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import {
  RouteAction_ClusterNotFoundResponseCode as NotFoundCode,
  RedirectAction_RedirectResponseCode as RedirectCode,
  type RedirectAction as RedirectMessage,
  type RetryPolicy as RetryMessage,
  type RouteAction,
  type RouteMatch,
  type Route as RouteMessage,
  VirtualHost_TlsRequirementType as TlsRequirementType,
  type VirtualHost as VirtualHostMessage,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfiguration } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { MeshbedError } from "../kernel/errors.ts";
import type { Random } from "../kernel/random.ts";
import { durationMs } from "./any.ts";
import { criteriaOf } from "./balancing/subsets.ts";
import type { ClusterSlot } from "./cluster.ts";
import { compileHeaderRules } from "./compile_headers.ts";
import { compileMatch } from "./compile_match.ts";
import { dataText } from "./data_source.ts";
import { compileCorsFields, compileFilterSettings } from "./filters/registry.ts";
import { compileHashPolicy } from "./hash_policy.ts";
import { compileHeader, compileRe2 } from "./match.ts";
import { compileRateLimits } from "./rate_limits.ts";
import { parseRetryOn, type RetryPolicy } from "./retry.ts";
import type {
  DirectAction,
  ForwardAction,
  HeaderRules,
  RedirectAction,
  Route,
  RouteTable,
  VirtualHost,
  WeightedTarget,
} from "./route.ts";

/** What a table needs of its node: slots by cluster name. */
export interface RouteContext {
  random: Random;
  slot(clusterName: string): ClusterSlot;
}

export function compileRoutes(message: RouteConfiguration, context: RouteContext): RouteTable {
  const used = new Map<string, ClusterSlot>();
  const tracking: RouteContext = {
    ...context,
    slot(name) {
      const slot = context.slot(name);
      used.set(name, slot);
      return slot;
    },
  };
  const rules = {
    request: compileHeaderRules(message.requestHeadersToAdd, message.requestHeadersToRemove),
    response: compileHeaderRules(message.responseHeadersToAdd, message.responseHeadersToRemove),
  };
  const exact = new Map<string, VirtualHost>();
  const suffixes: { text: string; host: VirtualHost }[] = [];
  const prefixes: { text: string; host: VirtualHost }[] = [];
  let any: VirtualHost | undefined;
  for (const entry of message.virtualHosts) {
    const host = compileVirtualHost(entry, tracking, message, rules);
    for (const domain of entry.domains.map((text) => text.toLowerCase())) {
      if (domain === "*") any ??= host;
      else if (domain.startsWith("*")) suffixes.push({ text: domain.slice(1), host });
      else if (domain.endsWith("*")) prefixes.push({ text: domain.slice(0, -1), host });
      // Ports do not take part: a host "a.b:8080" in a request is looked up as "a.b".
      else {
        const bare = domain.replace(/:\d+$/, "");
        if (!exact.has(bare)) exact.set(bare, host);
      }
    }
  }
  const longestFirst = (a: { text: string }, b: { text: string }): number => b.text.length - a.text.length;
  suffixes.sort(longestFirst);
  prefixes.sort(longestFirst);
  return { name: message.name, exact, suffixes, prefixes, any, clusters: [...used.values()] };
}

interface Rules {
  request: HeaderRules | undefined;
  response: HeaderRules | undefined;
}

function compileVirtualHost(
  message: VirtualHostMessage,
  context: RouteContext,
  table: RouteConfiguration,
  tableRules: Rules,
): VirtualHost {
  const own: Rules = {
    request: compileHeaderRules(message.requestHeadersToAdd, message.requestHeadersToRemove),
    response: compileHeaderRules(message.responseHeadersToAdd, message.responseHeadersToRemove),
  };
  const outer = [own, tableRules];
  const routes = message.routes.map((route) => {
    try {
      return compileRoute(route, { host: message, table, rules: outer }, context);
    } catch (cause) {
      const at = `virtual host ${message.name}, route ${route.name || "(unnamed)"}`;
      throw new MeshbedError("ROUTE_INVALID", `${at}: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
  });
  return { name: message.name, requireTls: requirements[message.requireTls], routes };
}

function decoratorOf({ decorator }: RouteMessage): Route["decorator"] {
  if (!decorator?.operation) return undefined;
  return { operation: decorator.operation, propagate: decorator.propagate ?? true };
}

const requirements: Record<TlsRequirementType, VirtualHost["requireTls"]> = {
  [TlsRequirementType.NONE]: undefined,
  [TlsRequirementType.EXTERNAL_ONLY]: "external",
  [TlsRequirementType.ALL]: "all",
};

/** What is around a route; `rules` from the inside out. */
interface Outer {
  host: VirtualHostMessage;
  table: RouteConfiguration;
  rules: readonly Rules[];
}

function compileRoute(message: RouteMessage, outer: Outer, context: RouteContext): Route {
  const { match } = message;
  const { host, table } = outer;
  if (!match) throw new MeshbedError("ROUTE_INVALID", "it has no match");
  const levels: Rules[] = [
    {
      request: compileHeaderRules(message.requestHeadersToAdd, message.requestHeadersToRemove),
      response: compileHeaderRules(message.responseHeadersToAdd, message.responseHeadersToRemove),
    },
    ...outer.rules,
  ];
  const { settings, off } = compileFilterSettings(
    table.typedPerFilterConfig,
    host.typedPerFilterConfig,
    message.typedPerFilterConfig,
  );
  return {
    name: message.name,
    decorator: decoratorOf(message),
    ...compileMatch(match, context.random),
    action: compileAction(message, match, host, context),
    requestHeaders: levels.map(({ request }) => request).filter((rules) => rules !== undefined),
    responseHeaders: levels.map(({ response }) => response).filter((rules) => rules !== undefined),
    filterSettings: settings,
    filtersOff: off,
    rateLimits: compileRouteLimits(message, host),
    cors: compileCorsFields(host.cors, message.action.case === "route" ? message.action.value.cors : undefined),
  };
}

function compileRouteLimits(message: RouteMessage, host: VirtualHostMessage): Route["rateLimits"] {
  const action = message.action.case === "route" ? message.action.value : undefined;
  const { rateLimits = [], clusterSpecifier, includeVhRateLimits } = action ?? {};
  if (rateLimits.length === 0 && host.rateLimits.length === 0) return undefined;
  const cluster = clusterSpecifier?.case === "cluster" ? clusterSpecifier.value : undefined;
  return {
    route: compileRateLimits(rateLimits, cluster),
    virtualHost: compileRateLimits(host.rateLimits, cluster),
    includesVirtualHost: includeVhRateLimits ?? false,
  };
}

function compileAction(
  message: RouteMessage,
  match: RouteMatch,
  host: VirtualHostMessage,
  context: RouteContext,
): ForwardAction | RedirectAction | DirectAction {
  const { action } = message;
  switch (action.case) {
    case "route":
      return compileForward(action.value, match, host, context);
    case "redirect":
      return compileRedirect(action.value, match);
    case "directResponse": {
      const { status, body } = action.value;
      return { kind: "direct", status, body: body ? dataText(body, "direct response") : "" };
    }
    default:
      throw new MeshbedError("ROUTE_INVALID", `action "${action.case ?? "empty"}" is not supported`);
  }
}

function compileForward(
  action: RouteAction,
  match: RouteMatch,
  host: VirtualHostMessage,
  context: RouteContext,
): ForwardAction {
  const specifier = action.clusterSpecifier;
  const targets: WeightedTarget[] = [];
  const weights: number[] = [];
  const asked = action.metadataMatch?.filterMetadata["envoy.lb"];
  const plain = { headers: undefined, responseHeaders: undefined, hostRewrite: undefined, criteria: criteriaOf(asked) };
  if (specifier.case === "cluster") {
    targets.push({ slot: context.slot(specifier.value), ...plain });
    weights.push(1);
  } else if (specifier.case === "weightedClusters")
    for (const entry of specifier.value.clusters) {
      const { hostRewriteSpecifier: rewrite } = entry;
      targets.push({
        slot: context.slot(entry.name),
        headers: compileHeaderRules(entry.requestHeadersToAdd, entry.requestHeadersToRemove),
        responseHeaders: compileHeaderRules(entry.responseHeadersToAdd, entry.responseHeadersToRemove),
        hostRewrite: rewrite.case === "hostRewriteLiteral" ? rewrite.value : undefined,
        criteria: criteriaOf(asked, entry.metadataMatch?.filterMetadata["envoy.lb"]),
      });
      weights.push(entry.weight ?? 0);
    }
  else throw new MeshbedError("ROUTE_INVALID", `cluster specifier "${specifier.case ?? "empty"}" is not supported`);
  const rewrite = action.hostRewriteSpecifier;
  if (rewrite.case === "hostRewriteHeader" || rewrite.case === "hostRewritePathRegex")
    throw new MeshbedError("ROUTE_INVALID", `${rewrite.case} is not supported`);
  const retry = action.retryPolicy ?? host.retryPolicy;
  return {
    kind: "forward",
    targets,
    weights,
    totalWeight: weights.reduce((sum, weight) => sum + weight, 0),
    clusterNotFoundStatus: action.clusterNotFoundResponseCode === NotFoundCode.NOT_FOUND ? 404 : 503,
    rewritePath: compilePathRewrite(action.prefixRewrite, action.regexRewrite, match),
    hostRewrite: rewrite.case === "hostRewriteLiteral" ? rewrite.value : undefined,
    autoHostRewrite: rewrite.case === "autoHostRewrite" && rewrite.value.value,
    timeoutMs: durationMs(action.timeout, 0),
    idleTimeoutMs: action.idleTimeout && (durationMs(action.idleTimeout, 0) || Number.POSITIVE_INFINITY),
    maxStreamDurationMs:
      action.maxStreamDuration?.maxStreamDuration && durationMs(action.maxStreamDuration.maxStreamDuration, 0),
    upgrades:
      action.upgradeConfigs.length === 0
        ? undefined
        : new Map(action.upgradeConfigs.map((one) => [one.upgradeType.toLowerCase(), one.enabled !== false])),
    terminatesConnect: action.upgradeConfigs.some(
      ({ upgradeType, connectConfig }) => upgradeType.toLowerCase() === "connect" && connectConfig !== undefined,
    ),
    retry: retry && compileRetry(retry),
    hash: compileHashPolicy(action.hashPolicy),
    priority: action.priority === RoutingPriority.HIGH ? "high" : "default",
  };
}

function compileRetry(message: RetryMessage): RetryPolicy | undefined {
  const retriesMax = message.numRetries ?? 1;
  if (retriesMax === 0) return undefined;
  const baseBackoffMs = durationMs(message.retryBackOff?.baseInterval, 25);
  const on = parseRetryOn(message.retryOn);
  if (/\b[1-5]\d\d\b/.test(message.retryOn)) on.add("retriable-status-codes");
  return {
    retriesMax,
    on,
    statusCodes: [...message.retriableStatusCodes, ...(message.retryOn.match(/\b[1-5]\d\d\b/g) ?? []).map(Number)],
    requests: message.retriableRequestHeaders.map(compileHeader),
    perTryTimeoutMs: durationMs(message.perTryTimeout, 0),
    avoidPreviousHosts: message.retryHostPredicate.some(({ name }) => name.includes("previous_hosts")),
    baseBackoffMs,
    maxBackoffMs: durationMs(message.retryBackOff?.maxInterval, baseBackoffMs * 10),
  };
}

type RegexRewrite = NonNullable<RouteAction["regexRewrite"]>;

/** Prefix rewrite replaces what the route's prefix matched (the whole path for exact matches); regex rewrite every match. */
function compilePathRewrite(
  prefixRewrite: string,
  regexRewrite: RegexRewrite | undefined,
  match: RouteMatch,
): ((path: string) => string) | undefined {
  if (regexRewrite?.pattern) {
    const program = compileRe2(regexRewrite.pattern.regex);
    // Envoy writes groups as \1, RE2/J as $1.
    const replacement = regexRewrite.substitution.replace(/\$/g, "\\$").replace(/\\(\d)/g, "$$$1");
    return (path) => {
      const question = path.indexOf("?");
      const bare = question < 0 ? path : path.slice(0, question);
      return program.matcher(bare).replaceAll(replacement) + (question < 0 ? "" : path.slice(question));
    };
  }
  if (prefixRewrite === "") return undefined;
  const { pathSpecifier: specifier } = match;
  if (specifier.case !== "prefix" && specifier.case !== "pathSeparatedPrefix" && specifier.case !== "path")
    throw new MeshbedError("ROUTE_INVALID", "prefix_rewrite needs a prefix or path match");
  const { length } = specifier.value;
  return (path) => {
    const rewritten = prefixRewrite + path.slice(length);
    return rewritten.startsWith("/") ? rewritten : `/${rewritten}`;
  };
}

const redirectStatus: Record<RedirectCode, number> = {
  [RedirectCode.MOVED_PERMANENTLY]: 301,
  [RedirectCode.FOUND]: 302,
  [RedirectCode.SEE_OTHER]: 303,
  [RedirectCode.TEMPORARY_REDIRECT]: 307,
  [RedirectCode.PERMANENT_REDIRECT]: 308,
};

function compileRedirect(message: RedirectMessage, match: RouteMatch): RedirectAction {
  const { schemeRewriteSpecifier: schemeRule, pathRewriteSpecifier: pathRule, hostRedirect, portRedirect } = message;
  const rewrite =
    pathRule.case === "prefixRewrite"
      ? compilePathRewrite(pathRule.value, undefined, match)
      : pathRule.case === "regexRewrite"
        ? compilePathRewrite("", pathRule.value, match)
        : undefined;
  return {
    kind: "redirect",
    status: redirectStatus[message.responseCode],
    location(request) {
      let { scheme } = request as { scheme: string };
      if (schemeRule.case === "httpsRedirect" && schemeRule.value) scheme = "https";
      else if (schemeRule.case === "schemeRedirect") scheme = schemeRule.value;
      let authority = hostRedirect || request.authority;
      // A default port of the old scheme means nothing in the new one (Envoy drops it as well).
      if (scheme !== request.scheme) authority = authority.replace(/:(80|443)$/, "");
      if (portRedirect > 0) authority = `${authority.replace(/:\d+$/, "")}:${portRedirect}`;
      let path = request.path;
      if (pathRule.case === "pathRedirect") path = pathRule.value;
      else if (rewrite) path = rewrite(path);
      if (message.stripQuery) path = path.split("?", 1)[0]!;
      return `${scheme}://${authority}${path}`;
    },
  };
}
