// Envoy Cluster and ClusterLoadAssignment messages → the data path's clusters and endpoints. Throws for what it cannot carry out.

import {
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  type Cluster as ClusterMessage,
} from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { HealthStatus } from "#gen/xds/envoy/config/core/v3/health_check_pb.js";
import type { LbEndpoint } from "#gen/xds/envoy/config/endpoint/v3/endpoint_components_pb.js";
import type { ClusterLoadAssignment } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { UpstreamTlsContextSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { MeshbedError } from "../kernel/errors.ts";
import { durationMs, istioMetadata, serviceOf, socketAddress, unpack } from "./any.ts";
import {
  type ClientTls,
  type Cluster,
  Endpoint,
  type LoadBalancing,
  parseWorkload,
  type Thresholds,
  type Transport,
} from "./cluster.ts";
import { clientContextDefaults, dataText, type SecretStore } from "./secrets.ts";

/** Istio's default; Envoy's is 5 s. */
const connectTimeoutMs = 10_000;
/** Envoy's connection idle timeout. */
const idleMs = 3_600_000;

export interface CompiledCluster {
  cluster: Cluster;
  /** Endpoints that came with the cluster (STATIC). */
  inline: ClusterLoadAssignment | undefined;
  /** Secrets its TLS needs. */
  secretNames: string[];
}

/** Certificate and roots of this node id, for tunnels. */
export const tunnelSecrets = { certificate: "default", roots: "ROOTCA" } as const;

export function compileCluster(message: ClusterMessage, secrets: SecretStore): CompiledCluster {
  const { name } = message;
  const discovery = message.clusterDiscoveryType;
  if (discovery.case === "clusterType")
    throw new MeshbedError("CLUSTER_UNSUPPORTED", `cluster ${name}: custom cluster types are not supported`);
  const type = discovery.value ?? Cluster_DiscoveryType.STATIC;
  const supported = [Cluster_DiscoveryType.STATIC, Cluster_DiscoveryType.EDS, Cluster_DiscoveryType.ORIGINAL_DST];
  if (!supported.includes(type))
    throw new MeshbedError("CLUSTER_UNSUPPORTED", `cluster ${name}: ${Cluster_DiscoveryType[type]} is not supported`);
  const { tls, secretNames } = compileClientTls(message, secrets);
  const cluster: Cluster = {
    name,
    policy: type === Cluster_DiscoveryType.ORIGINAL_DST ? "ORIGINAL_DST" : policyOf(message),
    connectTimeoutMs: durationMs(message.connectTimeout, connectTimeoutMs),
    connectionIdleMs: durationMs(message.commonHttpProtocolOptions?.idleTimeout, idleMs) || Number.POSITIVE_INFINITY,
    requestsPerConnectionMax: message.maxRequestsPerConnection || Number.POSITIVE_INFINITY,
    thresholds: thresholdsOf(message),
    service: serviceOf(message.metadata),
    tls,
    edsName: type === Cluster_DiscoveryType.EDS ? message.edsClusterConfig?.serviceName || name : undefined,
  };
  return { cluster, inline: type === Cluster_DiscoveryType.STATIC ? message.loadAssignment : undefined, secretNames };
}

function policyOf(message: ClusterMessage): LoadBalancing {
  switch (message.lbPolicy) {
    case Cluster_LbPolicy.ROUND_ROBIN:
      return "ROUND_ROBIN";
    case Cluster_LbPolicy.LEAST_REQUEST:
      return "LEAST_REQUEST";
    case Cluster_LbPolicy.RANDOM:
      return "RANDOM";
    case Cluster_LbPolicy.CLUSTER_PROVIDED:
      return "LEAST_REQUEST";
    default:
      throw new MeshbedError(
        "CLUSTER_UNSUPPORTED",
        `cluster ${message.name}: load balancing ${Cluster_LbPolicy[message.lbPolicy]} is not supported`,
      );
  }
}

function thresholdsOf(message: ClusterMessage): Thresholds {
  const set = message.circuitBreakers?.thresholds[0];
  return {
    connectionsMax: set?.maxConnections ?? Number.POSITIVE_INFINITY,
    pendingRequestsMax: set?.maxPendingRequests ?? Number.POSITIVE_INFINITY,
    requestsMax: set?.maxRequests ?? Number.POSITIVE_INFINITY,
    retriesMax: set?.maxRetries ?? Number.POSITIVE_INFINITY,
  };
}

function compileClientTls(
  message: ClusterMessage,
  secrets: SecretStore,
): { tls: ClientTls | undefined; secretNames: string[] } {
  const config = message.transportSocket?.configType;
  const context = config?.case === "typedConfig" ? unpack(config.value, UpstreamTlsContextSchema) : undefined;
  if (context === undefined) return { tls: undefined, secretNames: [] };
  const common = context.commonTlsContext;
  const certificate = common?.tlsCertificateSdsSecretConfigs[0]?.name;
  const validation = common?.validationContextType;
  let roots: string | { caPem: string } | undefined;
  if (validation?.case === "validationContextSdsSecretConfig") roots = validation.value.name;
  else if (validation?.case === "validationContext" && validation.value.trustedCa)
    roots = { caPem: dataText(validation.value.trustedCa, message.name) };
  const secretNames = [certificate, roots].filter((name) => typeof name === "string");
  const build = secrets.context({ ...clientContextDefaults, certificate, roots });
  const verify = roots === undefined || context.sni === "" ? undefined : { hostName: context.sni };
  const key = JSON.stringify([context.sni, certificate, roots]);
  return { tls: { context: build, serverName: context.sni, key, verify }, secretNames };
}

/** The endpoints of one assignment, for one cluster. */
export function compileEndpoints(
  assignment: ClusterLoadAssignment,
  cluster: Cluster,
  tunnelContext: () => object | undefined,
): Endpoint[] {
  const endpoints: Endpoint[] = [];
  for (const locality of assignment.endpoints)
    for (const entry of locality.lbEndpoints) {
      const endpoint = compileEndpoint(entry, cluster, tunnelContext);
      endpoint.priority = locality.priority;
      endpoints.push(endpoint);
    }
  return endpoints;
}

const unusable = new Set<HealthStatus>([HealthStatus.UNHEALTHY, HealthStatus.DRAINING, HealthStatus.TIMEOUT]);

function compileEndpoint(entry: LbEndpoint, cluster: Cluster, tunnelContext: () => object | undefined): Endpoint {
  if (entry.hostIdentifier.case !== "endpoint")
    throw new MeshbedError("ENDPOINT_UNSUPPORTED", `cluster ${cluster.name}: an endpoint without an address`);
  const { host, port } = socketAddress(entry.hostIdentifier.value.address, `cluster ${cluster.name}`);
  const address = `${host}:${port}`;
  const tunnel = entry.metadata?.filterMetadata["meshbed.tunnel"];
  let transport: Transport = { host, port, tls: cluster.tls, connectTarget: undefined };
  let key = cluster.tls ? `${address} ${cluster.tls.key}` : address;
  if (tunnel) {
    const { address: via, identity } = tunnel;
    const parts = typeof via === "string" ? /^(.+):(\d+)$/.exec(via) : null;
    if (!parts || typeof identity !== "string")
      throw new MeshbedError("ENDPOINT_INVALID", `cluster ${cluster.name}: bad tunnel metadata on ${address}`);
    const tls = { context: tunnelContext, serverName: "", key: identity, verify: { spiffeId: identity } };
    transport = { host: parts[1]!, port: Number(parts[2]), tls, connectTarget: address };
    key = `${address} ${via} ${identity}`;
  }
  const workload = istioMetadata(entry.metadata)["workload"];
  const identity = parseWorkload(typeof workload === "string" ? workload : "");
  const endpoint = new Endpoint(address, key, transport, identity);
  endpoint.weight = entry.loadBalancingWeight ?? 1;
  endpoint.healthy = !unusable.has(entry.healthStatus);
  return endpoint;
}
