// What an Envoy route does with a request: send it on, redirect it, or answer it.

import { RoutingPriority } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import {
  type RouteAction_RequestMirrorPolicy as MirrorMessage,
  RouteAction_ClusterNotFoundResponseCode as NotFoundCode,
  type RouteAction,
  type RouteMatch,
  type Route as RouteMessage,
  type VirtualHost as VirtualHostMessage,
  type WeightedCluster_ClusterWeight as WeightMessage,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfiguration } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { criteriaOf } from "../balancing/subsets.ts";
import { ClusterSlot } from "../clusters/cluster.ts";
import type { MirrorPolicy } from "../http/mirror.ts";
import type { RequestView } from "../http/request.ts";
import { compileHashPolicy } from "../routing/hash_policy.ts";
import type {
  DirectAction,
  ForwardAction,
  HeaderRules,
  HostRewrite,
  RedirectAction,
  WeightedTarget,
} from "../routing/route.ts";
import { durationMs } from "./any.ts";
import { dataText } from "./data_source.ts";
import { runtimeShareOf } from "./fraction.ts";
import { compileHeaderRules } from "./headers.ts";
import { compileRetry } from "./retry.ts";
import { compilePathRewrite, compileRedirect, compileSubstitution } from "./rewrite.ts";

/** What actions need of their node. */
export interface ActionContext {
  slot(clusterName: string): ClusterSlot;
  /** Only a cluster that xDS has told of: for names that come with requests. */
  known(clusterName: string): ClusterSlot | undefined;
}

/** What is around the action. `rules` in the order they apply, without a weighted cluster's own. */
export interface ActionPlace {
  match: RouteMatch;
  host: VirtualHostMessage;
  table: RouteConfiguration;
  requestHeaders: readonly HeaderRules[];
  responseHeaders: readonly HeaderRules[];
}

/** As Istio's metrics know what REGISTRY_ONLY refuses: by the route's name. */
const blockAllRoute = "block_all";
const blackHoleCluster = "BlackHoleCluster";
/** Envoy's max_direct_response_body_size_bytes. */
const directBodyBytesMax = 4096;
/** A copy of a request is given up after this long where the route itself has no timeout. */
const mirrorTimeoutMs = 15_000;

export function compileAction(
  message: RouteMessage,
  place: ActionPlace,
  context: ActionContext,
): ForwardAction | RedirectAction | DirectAction {
  const { action } = message;
  switch (action.case) {
    case "route":
      return compileForward(action.value, place, context);
    case "redirect":
      return compileRedirect(action.value, place.match);
    case "directResponse": {
      const { status, body } = action.value;
      const text = body ? dataText(body, "direct response") : "";
      const max = place.table.maxDirectResponseBodySizeBytes ?? directBodyBytesMax;
      if (Buffer.byteLength(text) > max)
        throw new MeshbedError("ROUTE_INVALID", `direct response body is longer than ${max} bytes`);
      const countedAs = message.name === blockAllRoute ? context.slot(blackHoleCluster) : undefined;
      return { kind: "direct", status, body: text, countedAs };
    }
    default:
      throw new MeshbedError("ROUTE_INVALID", `action "${action.case ?? "empty"}" is not supported`);
  }
}

const notFoundStatus: Record<NotFoundCode, number> = {
  [NotFoundCode.SERVICE_UNAVAILABLE]: 503,
  [NotFoundCode.NOT_FOUND]: 404,
  [NotFoundCode.INTERNAL_SERVER_ERROR]: 500,
};

function compileForward(action: RouteAction, place: ActionPlace, context: ActionContext): ForwardAction {
  const { host, match } = place;
  const retry = action.retryPolicy ?? host.retryPolicy;
  const { hostRewriteSpecifier: rewrite, maxStreamDuration } = action;
  const forward: ForwardAction = {
    kind: "forward",
    ...compileTargets(action, place, context),
    clusterNotFoundStatus: notFoundStatus[action.clusterNotFoundResponseCode],
    rewritePath: compilePathRewrite(
      { prefixRewrite: action.prefixRewrite, regexRewrite: action.regexRewrite, policy: action.pathRewritePolicy },
      match,
    ),
    autoHostRewrite: rewrite.case === "autoHostRewrite" && rewrite.value.value,
    tellsOriginalHost: action.appendXForwardedHost,
    timeoutMs: durationMs(action.timeout, 0),
    idleTimeoutMs: action.idleTimeout && (durationMs(action.idleTimeout, 0) || Number.POSITIVE_INFINITY),
    maxStreamDurationMs: maxStreamDuration?.maxStreamDuration && durationMs(maxStreamDuration.maxStreamDuration, 0),
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
    mirrors: [],
  };
  // The innermost level that has any decides.
  const levels = [action, host, place.table].map(({ requestMirrorPolicies }) => requestMirrorPolicies);
  const mirrors = levels.find((policies) => policies.length > 0) ?? [];
  forward.mirrors = mirrors.map((mirror) => compileMirror(mirror, forward, context));
  return forward;
}

function compileMirror(message: MirrorMessage, forward: ForwardAction, context: ActionContext): MirrorPolicy {
  const { cluster, clusterHeader, runtimeFraction, disableShadowHostSuffixAppend } = message;
  const fixed = cluster === "" ? undefined : context.slot(cluster);
  const action: ForwardAction = {
    ...forward,
    timeoutMs: forward.timeoutMs || mirrorTimeoutMs,
    autoHostRewrite: false,
    retry: undefined,
    hash: undefined,
  };
  return {
    slot: fixed ? () => fixed : byHeader(clusterHeader, context),
    share: runtimeShareOf(runtimeFraction, 1),
    marksHost: !disableShadowHostSuffixAppend,
    action,
    active: 0,
  };
}

function byHeader(name: string, context: ActionContext): (request: RequestView) => ClusterSlot | undefined {
  const field = name.toLowerCase();
  if (field === "") throw new MeshbedError("ROUTE_INVALID", "neither cluster nor cluster_header is set");
  return (request) => {
    const value = request.header(field);
    return value === undefined ? undefined : context.known(value);
  };
}

type Targets = Pick<ForwardAction, "targets" | "weights" | "totalWeight" | "weightHeader">;

function compileTargets(action: RouteAction, place: ActionPlace, context: ActionContext): Targets {
  const specifier = action.clusterSpecifier;
  const asked = action.metadataMatch?.filterMetadata["envoy.lb"];
  const { requestHeaders, responseHeaders } = place;
  const hostRewrite = compileHostRewrite(action);
  const plain = { requestHeaders, responseHeaders, hostRewrite, criteria: criteriaOf(asked) };
  const single = (target: WeightedTarget): Targets => ({
    targets: [target],
    weights: [1],
    totalWeight: 1,
    weightHeader: undefined,
  });
  switch (specifier.case) {
    case "cluster":
      return single({ slot: context.slot(specifier.value), slotOf: undefined, ...plain });
    case "clusterHeader":
      return single({ slot: nowhere, slotOf: byHeader(specifier.value, context), ...plain });
    case "weightedClusters": {
      const { clusters, randomValueSpecifier: chosenBy } = specifier.value;
      const targets = clusters.map((entry): WeightedTarget => {
        const { metadataMatch } = entry;
        return {
          ...plain,
          ...weightedHeaders(entry, place),
          slot: entry.name === "" ? nowhere : context.slot(entry.name),
          slotOf: entry.name === "" ? byHeader(entry.clusterHeader, context) : undefined,
          hostRewrite:
            entry.hostRewriteSpecifier.case === "hostRewriteLiteral" ? entry.hostRewriteSpecifier.value : hostRewrite,
          criteria: criteriaOf(asked, metadataMatch?.filterMetadata["envoy.lb"]),
        };
      });
      const weights = clusters.map(({ weight }) => weight ?? 0);
      const totalWeight = weights.reduce((sum, weight) => sum + weight, 0);
      if (totalWeight === 0 && clusters.length > 1)
        throw new MeshbedError("ROUTE_INVALID", "the weights of weighted_clusters add up to 0");
      const weightHeader = chosenBy.case === "headerName" ? chosenBy.value.toLowerCase() : undefined;
      return { targets, weights, totalWeight, weightHeader };
    }
    default:
      throw new MeshbedError("ROUTE_INVALID", `cluster specifier "${specifier.case ?? "empty"}" is not supported`);
  }
}

/** Stands in where the cluster is named by the request. */
const nowhere = new ClusterSlot("");

/** A weighted cluster's rules are the most specific ones. */
function weightedHeaders(
  entry: WeightMessage,
  { table, requestHeaders, responseHeaders }: ActionPlace,
): Pick<WeightedTarget, "requestHeaders" | "responseHeaders"> {
  if (Object.keys(entry.typedPerFilterConfig).length > 0)
    throw new MeshbedError("ROUTE_INVALID", `cluster ${entry.name}: typed_per_filter_config is not supported here`);
  const own = {
    request: compileHeaderRules(entry.requestHeadersToAdd, entry.requestHeadersToRemove),
    response: compileHeaderRules(entry.responseHeadersToAdd, entry.responseHeadersToRemove),
  };
  const last = table.mostSpecificHeaderMutationsWins;
  const place = (rules: HeaderRules | undefined, others: readonly HeaderRules[]): readonly HeaderRules[] =>
    rules === undefined ? others : last ? [...others, rules] : [rules, ...others];
  return { requestHeaders: place(own.request, requestHeaders), responseHeaders: place(own.response, responseHeaders) };
}

function compileHostRewrite({ hostRewriteSpecifier: rewrite }: RouteAction): HostRewrite {
  switch (rewrite.case) {
    case "hostRewriteLiteral":
      return rewrite.value || undefined;
    case "hostRewriteHeader": {
      const name = rewrite.value.toLowerCase();
      return (request) => request.header(name) || undefined;
    }
    case "hostRewritePathRegex": {
      const substitute = compileSubstitution(rewrite.value);
      return (request) => substitute(request.pathOnly) || undefined;
    }
    default:
      return undefined;
  }
}
