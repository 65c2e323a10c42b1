// The compiled form of a RouteConfiguration and the pure decisions on it: which virtual host, which route, which cluster.

import type { Random } from "../../kernel/random.ts";
import { pickWeighted } from "../balancing/balance.ts";
import type { RoutePriority } from "../balancing/circuit_breaker.ts";
import type { Criteria } from "../balancing/subsets.ts";
import type { ClusterSlot } from "../clusters/cluster.ts";
import type { MirrorPolicy } from "../http/mirror.ts";
import type { RequestView } from "../http/request.ts";
import type { TextFormat } from "../log/formatter.ts";
import { type DomainIndex, findDomain } from "./domains.ts";
import type { HashPolicy } from "./hash_policy.ts";
import type { RequestTest, TextTest } from "./match.ts";
import type { RateLimitRule } from "./rate_limits.ts";
import type { TlsRequirement } from "./require_tls.ts";
import type { RetryPolicy } from "./retry.ts";
import type { RouteIndex } from "./route_index.ts";

/** One header to add. `append`: beside what is there; `overwrite`: instead of it; `absent`, `present`: only when it is missing, or there. */
export interface HeaderAddition {
  /** Lower case. */
  name: string;
  /** A function when it holds command operators. */
  value: string | TextFormat;
  mode: "append" | "overwrite" | "absent" | "present";
  /** An empty value is added all the same. */
  keepEmpty: boolean;
}

export interface HeaderRules {
  add: readonly HeaderAddition[];
  /** Lower case. */
  remove: readonly string[];
}

export type PathTest =
  | { kind: "prefix" | "path" | "segments"; value: string; ignoreCase: boolean }
  | { kind: "regex"; test: TextTest }
  /** CONNECT, and nothing else. */
  | { kind: "connect" };

/** The host as the upstream sees it; undefined leaves it. */
export type HostRewrite = string | ((request: RequestView) => string | undefined) | undefined;

export interface WeightedTarget {
  slot: ClusterSlot;
  /** Instead of `slot`: the cluster is named by the request (cluster_header). */
  slotOf: ((request: RequestView) => ClusterSlot | undefined) | undefined;
  /** All that apply, in their order: the weighted cluster's, the route's, the virtual host's, the table's. */
  requestHeaders: readonly HeaderRules[];
  responseHeaders: readonly HeaderRules[];
  hostRewrite: HostRewrite;
  /** What is asked of its endpoints (metadata_match), for clusters with subsets. */
  criteria: Criteria | undefined;
}

export interface ForwardAction {
  kind: "forward";
  targets: readonly WeightedTarget[];
  weights: readonly number[];
  totalWeight: number;
  /** A field whose number chooses the target instead of a draw. */
  weightHeader: string | undefined;
  /** 503 (NC) unless the route says 404 or 500. */
  clusterNotFoundStatus: number;
  /** Replaces the matched prefix or, with `regex`, every match. */
  rewritePath: ((path: string) => string) | undefined;
  /** Host becomes the endpoint's address. */
  autoHostRewrite: boolean;
  /** A rewritten host's original goes on as x-forwarded-host. */
  tellsOriginalHost: boolean;
  /** 0: none. */
  timeoutMs: number;
  /** Instead of the listener's stream_idle_timeout; Infinity: none. */
  idleTimeoutMs: number | undefined;
  /** Instead of the listener's; 0: none. */
  maxStreamDurationMs: number | undefined;
  /** Upgrades allowed or not whatever the listener says, by lower-case type. */
  upgrades: ReadonlyMap<string, boolean> | undefined;
  /** CONNECT ends here, and its payload goes to the cluster as TCP; otherwise CONNECT itself is forwarded. */
  terminatesConnect: boolean;
  retry: RetryPolicy | undefined;
  /** For consistent hashing; undefined: any host will do. */
  hash: HashPolicy | undefined;
  /** Which circuit breakers apply. */
  priority: RoutePriority;
  mirrors: readonly MirrorPolicy[];
}

export interface RedirectAction {
  kind: "redirect";
  status: number;
  location: (request: RequestView) => string;
}

export interface DirectAction {
  kind: "direct";
  status: number;
  body: string;
  /** Metrics name it as the destination; undefined for none. */
  countedAs: ClusterSlot | undefined;
}

/** All of it must hold. */
export interface Match {
  path: PathTest;
  tests: readonly RequestTest[];
}

export interface Route extends Match {
  name: string;
  /** What spans are called; told to the next proxy when `propagate`. */
  decorator: { operation: string; propagate: boolean } | undefined;
  action: ForwardAction | RedirectAction | DirectAction;
  /** In the order they apply; for answers made here. */
  responseHeaders: readonly HeaderRules[];
  /** Per-route settings of filters, compiled by the filter with that name. */
  filterSettings: ReadonlyMap<string, unknown>;
  /** Filters that do not run on this route; undefined for none. */
  filtersOff: ReadonlySet<string> | undefined;
  /** What local rate limits with descriptors look at; undefined when neither level has rules. */
  rateLimits:
    | { route: readonly RateLimitRule[]; virtualHost: readonly RateLimitRule[]; includesVirtualHost: boolean }
    | undefined;
  /** The deprecated cors fields, as the filter compiled them. */
  cors: unknown;
}

export interface VirtualHost {
  name: string;
  requireTls: TlsRequirement;
  routes: readonly Route[];
  /** Over `routes`, when there are many. */
  index: RouteIndex | undefined;
}

export interface RouteTable {
  name: string;
  domains: DomainIndex;
  /** By its place in the configuration; compiled when it is first asked for. */
  host(place: number): VirtualHost;
  /** Every cluster a route may send to; the table goes live when they are warm. */
  clusters: readonly ClusterSlot[];
}

export function findVirtualHost(table: RouteTable, host: string): VirtualHost | undefined {
  const place = findDomain(table.domains, host);
  return place === undefined ? undefined : table.host(place);
}

/** The first route whose every condition holds. */
export function findRoute(virtualHost: VirtualHost, request: RequestView): Route | undefined {
  const { routes, index } = virtualHost;
  if (index !== undefined) return index.find(request);
  for (let i = 0; i < routes.length; i++) if (matches(routes[i]!, request)) return routes[i];
  return undefined;
}

export function matches({ path, tests }: Match, request: RequestView): boolean {
  if (!pathMatches(path, request)) return false;
  for (let i = 0; i < tests.length; i++) if (!tests[i]!(request)) return false;
  return true;
}

function pathMatches(path: PathTest, request: RequestView): boolean {
  if (path.kind === "connect" || request.isConnect) return path.kind === "connect" && request.isConnect;
  if (path.kind === "regex") return path.test(request.pathOnly);
  if (path.ignoreCase) return pathTextMatches(path.kind, path.value, request.pathOnly.toLowerCase());
  if (path.kind === "prefix") return path.value === "/" || request.pathOnly.startsWith(path.value);
  return pathTextMatches(path.kind, path.value, request.pathOnly);
}

function pathTextMatches(kind: "prefix" | "path" | "segments", want: string, path: string): boolean {
  if (kind === "path") return path === want;
  if (!path.startsWith(want)) return false;
  return kind === "prefix" || path.length === want.length || path.charCodeAt(want.length) === 47;
}

/** The route's target for this request; undefined when every weight is 0, or the request names no cluster there is. */
export function pickTarget(action: ForwardAction, request: RequestView, random: Random): WeightedTarget | undefined {
  const { targets } = action;
  const target = targets.length === 1 ? targets[0] : targets[weightedIndex(action, request, random) ?? -1];
  if (target?.slotOf === undefined) return target;
  const slot = target.slotOf(request);
  return slot && { ...target, slot };
}

function weightedIndex(action: ForwardAction, request: RequestView, random: Random): number | undefined {
  const { weights, totalWeight, weightHeader } = action;
  const value = weightHeader === undefined ? undefined : request.header(weightHeader);
  if (value === undefined || !/^\d{1,20}$/.test(value)) return pickWeighted(weights, totalWeight, random);
  const at = Number(BigInt(value) % BigInt(Math.max(1, totalWeight)));
  return pickWeighted(weights, totalWeight, { next: () => 0, below: () => at });
}
