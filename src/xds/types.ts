// Contracts of the xds room: resource types, where a proxy gets them from, what a control plane serves.

import type { Message } from "@bufbuild/protobuf";

export const typeUrls = {
  listener: "type.googleapis.com/envoy.config.listener.v3.Listener",
  route: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
  cluster: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
  endpoint: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
  secret: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
  workload: "type.googleapis.com/meshbed.workload.v1.Workload",
} as const;
export type TypeUrl = (typeof typeUrls)[keyof typeof typeUrls];

/** A decoded resource with the name it is subscribed by. */
export interface NamedResource {
  name: string;
  message: Message;
}

/** Called with the whole current set for the subscribed names. Returning accepts (ACK); a throw refuses it (NACK, the old set stays). */
export type ResourceHandler = (resources: readonly NamedResource[], version: string) => void;

export interface Subscription {
  /** Replaces the names; ignored for a wildcard subscription. */
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

/** Everything one node id is to be told. Resource names must be unique per type. Equal `version` means equal resources of that type. */
export interface Snapshot {
  readonly resources: Readonly<Partial<Record<TypeUrl, { version: string; resources: readonly NamedResource[] }>>>;
}
