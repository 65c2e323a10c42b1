// Contracts of the Gateway API's part: what became of every gateway, listener and route, from which rules and statuses follow.

import type {
  GatewayClass,
  GRPCRoute,
  HTTPRoute,
  KubernetesGateway,
  Service,
  ServiceEntry,
  TCPRoute,
  TLSRoute,
} from "../../api/types.ts";
import type { OwnedRule } from "../types.ts";

export const gatewayGroup = "gateway.networking.k8s.io";

export type Route = HTTPRoute | GRPCRoute | TLSRoute | TCPRoute;
export type ListenerSpec = KubernetesGateway["spec"]["listeners"][number];
export type ParentRef = NonNullable<HTTPRoute["spec"]["parentRefs"]>[number];
export type HttpRouteRule = NonNullable<HTTPRoute["spec"]["rules"]>[number];
export type HttpRouteMatch = NonNullable<HttpRouteRule["matches"]>[number];
export type HttpRouteFilter = NonNullable<HttpRouteRule["filters"]>[number];
export type GrpcRouteRule = NonNullable<GRPCRoute["spec"]["rules"]>[number];
export type BackendRef = TCPRoute["spec"]["rules"][number]["backendRefs"][number];

/** What a condition will say. */
export interface Verdict {
  ok: boolean;
  /** CamelCase, as the Gateway API names it. */
  reason: string;
  message: string;
}

export interface ListenerState {
  spec: ListenerSpec;
  /** Lower case; undefined: any. */
  hostname: string | undefined;
  kinds: readonly string[];
  accepted: Verdict;
  conflicted: Verdict;
  resolved: Verdict;
  /** "namespace/name" of Secrets that are there and may be used. */
  credentials: readonly string[];
}

/** Accepted, without conflict and complete: it becomes a server. */
export const isUsable = ({ accepted, conflicted, resolved, spec, credentials }: ListenerState): boolean =>
  accepted.ok && conflicted.ok && (resolved.ok || !needsCertificate(spec) || credentials.length > 0);

/** TLS ends here. */
export const needsCertificate = ({ protocol, tls }: ListenerSpec): boolean =>
  protocol === "HTTPS" || (protocol === "TLS" && tls?.mode !== "Passthrough");

export interface GatewayState {
  gateway: KubernetesGateway;
  key: string;
  accepted: Verdict;
  listeners: readonly ListenerState[];
  /** "namespace/name" of the Services that lead to it: its own, or those its addresses name. */
  services: readonly string[];
  /** Its pods: of the namespace, with all of the labels. */
  pods: readonly { namespace: string; labels: Readonly<Record<string, string>> }[];
  /** Addresses that cannot be used. */
  unusable: readonly string[];
}

export interface Attachment {
  gateway: GatewayState;
  listener: ListenerState;
  /** What both the listener and the route are for; "*" for any. */
  hosts: readonly string[];
}

export interface ParentState {
  ref: ParentRef;
  accepted: Verdict;
  attachments: readonly Attachment[];
  /** In the mesh: whom the rules are for. */
  target: Service | ServiceEntry | undefined;
}

export interface RouteState {
  route: Route;
  parents: readonly ParentState[];
  resolved: Verdict;
  /** Some rules are not carried out. */
  partiallyInvalid: string | undefined;
  /** Of HTTPRoutes and GRPCRoutes. */
  http: readonly RankedRule[];
  /** Of TLSRoutes and TCPRoutes. */
  destinations: readonly StreamDestination[];
  /** Fields that are accepted and have no effect. */
  notices: readonly Notice[];
}

export interface Notice {
  field: string;
  message: string;
}

/** How specific a match is, most important first; more is more. */
export type Rank = readonly number[];

export interface RankedRule {
  owned: OwnedRule;
  rank: Rank;
}

export interface StreamDestination {
  destination: { host: string; port?: { number: number } };
  weight: number;
}

export interface GatewayApiState {
  classes: readonly { object: GatewayClass; accepted: Verdict }[];
  gateways: readonly GatewayState[];
  routes: readonly RouteState[];
}

/** A field of a derived rule's redirect that Istio's language lacks: replaces the prefix that matched. */
export interface PrefixRedirect {
  uriPrefix?: string;
}
