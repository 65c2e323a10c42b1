// Contracts of the xds room: resource types, where a proxy gets them from, what a control plane serves.

import type { Message } from "@bufbuild/protobuf";

export const typeUrls = {
  listener: "type.googleapis.com/envoy.config.listener.v3.Listener",
  route: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
  cluster: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
  endpoint: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
  secret: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
  nameTable: "type.googleapis.com/istio.networking.nds.v1.NameTable",
  workload: "type.googleapis.com/meshbed.workload.v1.Workload",
} as const;
export type TypeUrl = (typeof typeUrls)[keyof typeof typeUrls];

/** A decoded resource with the name it is subscribed by. */
export interface NamedResource {
  name: string;
  message: Message;
}

/** What one response brought, less what the subscriber has already. */
export interface ResourceChange {
  changed: readonly NamedResource[];
  /** Gone, or subscribed to by name and not there. */
  removed: readonly string[];
  version: string;
}

/** Resources that cannot be used, by name, with the reason. */
export type Refusals = ReadonlyMap<string, string>;

/** Takes a change and answers what of it cannot be used: that keeps its last good state (NACK). Must not throw. */
export type ResourceHandler = (change: ResourceChange) => Refusals | undefined;

export interface Subscription {
  /** Replaces the names; ignored for a wildcard subscription. The subscriber forgets by itself what it no longer names. */
  setNames(names: readonly string[]): void;
  close(): void;
}

/** Where one xDS node (one virtual sidecar, gateway or node proxy) gets its resources from. Implementations: ADS over gRPC, static. */
export interface XdsSource {
  /** Listener, cluster and workload are wildcard ("*"); route, endpoint and secret by name. */
  subscribe(typeUrl: TypeUrl, names: "*" | readonly string[], handler: ResourceHandler): Subscription;
  close(): void;
}

/** The sources of one proxy process: one stream per node id, sharing one connection. Reconnects with back-off; last good state stays. */
export interface XdsConnection {
  open(nodeId: string, metadata?: Record<string, string>): XdsSource;
  close(): void;
}

/** Resources of one type. Names must be unique. Equal `version` means equal resources. */
export interface ResourceSet {
  readonly version: string;
  readonly resources: readonly NamedResource[];
  /** What it is joined of. Nodes share parts: two states of one are compared once for all of them. */
  readonly parts?: readonly ResourceSet[];
}

/** Everything one node id is to be told. */
export interface Snapshot {
  readonly resources: Readonly<Partial<Record<TypeUrl, ResourceSet>>>;
}
