// Envoy Cluster and ClusterLoadAssignment messages → the data path's clusters and endpoints. Throws for what it cannot carry out.

import {
  type Cluster as ClusterMessage,
  Cluster_DiscoveryType as DiscoveryType,
  Cluster_DnsLookupFamily as DnsLookupFamily,
} from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { HealthStatus } from "#gen/xds/envoy/config/core/v3/health_check_pb.js";
import type { HttpProtocolOptions } from "#gen/xds/envoy/config/core/v3/protocol_pb.js";
import type { LbEndpoint, LocalityLbEndpoints } from "#gen/xds/envoy/config/endpoint/v3/endpoint_components_pb.js";
import type { ClusterLoadAssignment } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { HttpProtocolOptionsSchema as UpstreamOptionsSchema } from "#gen/xds/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { Endpoint, type EndpointHealth, type Placement, parseWorkload, type Transport } from "../clusters/cluster.ts";
import {
  type Cluster,
  connectionIdleDefaultMs,
  connectTimeoutDefaultMs,
  type DnsFamily,
  type DnsSettings,
} from "../clusters/config.ts";
import { compileClientTls, tunnelTls } from "../tls/compile_client.ts";
import type { SecretStore } from "../tls/secrets.ts";
import { durationMs, istioMetadata, serviceOf, socketAddress, unpack } from "./any.ts";
import { compileBalancing } from "./balancing.ts";
import { upstreamHttp2 } from "./http2.ts";
import { compileHealthCheck, compileOutlier, compileThresholds, defaultPriority, highPriority } from "./resilience.ts";

export interface CompiledCluster {
  cluster: Cluster;
  /** Endpoints that came with the cluster: STATIC, and the names of STRICT_DNS and LOGICAL_DNS. */
  inline: ClusterLoadAssignment | undefined;
  /** Secrets its TLS needs. */
  secretNames: string[];
}

/** Certificate and roots of this node id, for tunnels. */
export const tunnelSecrets = { certificate: "default", roots: "ROOTCA" } as const;

const {
  STATIC: staticType,
  EDS: edsType,
  STRICT_DNS: strictDnsType,
  LOGICAL_DNS: logicalDnsType,
  ORIGINAL_DST: originalType,
} = DiscoveryType;

export function compileCluster(message: ClusterMessage, secrets: SecretStore): CompiledCluster {
  const { name } = message;
  const discovery = message.clusterDiscoveryType;
  if (discovery.case === "clusterType")
    throw new MeshbedError("CLUSTER_UNSUPPORTED", `cluster ${name}: custom cluster types are not supported`);
  const type = discovery.value ?? staticType;
  if (message.healthChecks.length > 1)
    throw new MeshbedError("CLUSTER_UNSUPPORTED", `cluster ${name}: more than one health check is not supported`);
  const [check] = message.healthChecks;
  const { tls, secretNames } = compileClientTls(message, secrets);
  const options = commonOptions(message);
  const requestsMax = options?.maxRequestsPerConnection || message.maxRequestsPerConnection;
  const dns = dnsOf(message, type);
  const cluster: Cluster = {
    name,
    ...(type === originalType ? originalBalancing : compileBalancing(message)),
    connectTimeoutMs: durationMs(message.connectTimeout, connectTimeoutDefaultMs),
    connectionIdleMs: durationMs(options?.idleTimeout, connectionIdleDefaultMs) || Number.POSITIVE_INFINITY,
    connectionMaxMs: durationMs(options?.maxConnectionDuration, 0) || Number.POSITIVE_INFINITY,
    keepAliveMs: keepAliveMs(message),
    requestsPerConnectionMax: requestsMax || Number.POSITIVE_INFINITY,
    http2: upstreamHttp2(message),
    thresholds: compileThresholds(message, defaultPriority),
    highThresholds: compileThresholds(message, highPriority),
    outlier: message.outlierDetection && compileOutlier(message.outlierDetection, name),
    healthCheck: check && compileHealthCheck(check, name),
    service: serviceOf(message.metadata),
    metadata: message.metadata?.filterMetadata,
    tls,
    edsName: type === edsType ? message.edsClusterConfig?.serviceName || name : undefined,
    dns,
  };
  return { cluster, inline: type === staticType || dns ? message.loadAssignment : undefined, secretNames };
}

/** Linux' own. */
const keepAliveDefaultMs = 7_200_000;

/** Time to the first probe; how often and how many follow is the kernel's to say. */
function keepAliveMs({ upstreamConnectionOptions }: ClusterMessage): number {
  const keepAlive = upstreamConnectionOptions?.tcpKeepalive;
  return keepAlive === undefined ? 0 : (keepAlive.keepaliveTime ?? 0) * 1000 || keepAliveDefaultMs;
}

const originalBalancing = {
  balancing: { policy: "ORIGINAL_DST" },
  panicThresholdPercent: 0,
  localityWeighted: false,
  subsets: undefined,
} as const;

/** The extension's options win over the cluster's own deprecated field. */
function commonOptions(message: ClusterMessage): HttpProtocolOptions | undefined {
  const any = message.typedExtensionProtocolOptions["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
  return (any && unpack(any, UpstreamOptionsSchema)?.commonHttpProtocolOptions) ?? message.commonHttpProtocolOptions;
}

/** Envoy's dns_refresh_rate. */
const dnsRefreshDefaultMs = 5_000;

const families: Readonly<Record<DnsLookupFamily, DnsFamily>> = {
  [DnsLookupFamily.AUTO]: "v6-preferred",
  [DnsLookupFamily.V4_ONLY]: "v4",
  [DnsLookupFamily.V6_ONLY]: "v6",
  [DnsLookupFamily.V4_PREFERRED]: "v4-preferred",
  [DnsLookupFamily.ALL]: "all",
};

function dnsOf(message: ClusterMessage, type: DiscoveryType): DnsSettings | undefined {
  if (type !== strictDnsType && type !== logicalDnsType) return undefined;
  const kind = type === strictDnsType ? "STRICT" : "LOGICAL";
  const count = message.loadAssignment?.endpoints.flatMap(({ lbEndpoints }) => lbEndpoints).length ?? 0;
  if (kind === "LOGICAL" && count !== 1)
    throw new MeshbedError("CLUSTER_INVALID", `cluster ${message.name}: LOGICAL_DNS needs exactly one endpoint`);
  const refreshMs = durationMs(message.dnsRefreshRate, dnsRefreshDefaultMs);
  const failureRefreshMs = durationMs(message.dnsFailureRefreshRate?.baseInterval, refreshMs);
  return { kind, refreshMs, failureRefreshMs, family: families[message.dnsLookupFamily] };
}

/** The endpoints of one assignment, for one cluster. */
export function compileEndpoints(
  assignment: ClusterLoadAssignment,
  cluster: Cluster,
  tunnelContext: () => object | undefined,
): Endpoint[] {
  return assignment.endpoints.flatMap((group) =>
    group.lbEndpoints.map((entry) => compileEndpoint(entry, group, cluster, tunnelContext)),
  );
}

/** For `ClusterSlot.setEndpoints`; undefined is Envoy's default. */
export const overprovisioningOf = (assignment: ClusterLoadAssignment): number | undefined =>
  assignment.policy?.overprovisioningFactor;

/** Every priority up to the highest is looked at, so it is bounded; Envoy's bound. */
const priorityMax = 128;

const healths: Readonly<Partial<Record<HealthStatus, EndpointHealth>>> = {
  [HealthStatus.UNHEALTHY]: "unhealthy",
  [HealthStatus.DRAINING]: "unhealthy",
  [HealthStatus.TIMEOUT]: "unhealthy",
  [HealthStatus.DEGRADED]: "degraded",
};

function compileEndpoint(
  entry: LbEndpoint,
  group: LocalityLbEndpoints,
  cluster: Cluster,
  tunnelContext: () => object | undefined,
): Endpoint {
  if (entry.hostIdentifier.case !== "endpoint")
    throw new MeshbedError("ENDPOINT_UNSUPPORTED", `cluster ${cluster.name}: an endpoint without an address`);
  const { host, port } = socketAddress(entry.hostIdentifier.value.address, `cluster ${cluster.name}`);
  const address = `${host}:${port}`;
  const tunnel = entry.metadata?.filterMetadata["meshbed.tunnel"];
  let transport: Transport = { host, port, tls: cluster.tls, connectTarget: undefined };
  let key = cluster.tls ? `${address} ${cluster.tls.key}` : address;
  if (tunnel) {
    const { address: via, identity, aliases } = tunnel;
    const parts = typeof via === "string" ? /^(.+):(\d+)$/.exec(via) : null;
    if (!parts || typeof identity !== "string")
      throw new MeshbedError("ENDPOINT_INVALID", `cluster ${cluster.name}: bad tunnel metadata on ${address}`);
    const tls = tunnelTls(identity, Array.isArray(aliases) ? aliases : [], tunnelContext);
    transport = { host: parts[1]!, port: Number(parts[2]), tls, connectTarget: address };
    key = `${address} ${via} ${identity}`;
  }
  const workload = istioMetadata(entry.metadata)["workload"];
  const identity = parseWorkload(typeof workload === "string" ? workload : "");
  const endpoint = new Endpoint(address, key, transport, identity);
  endpoint.metadata = entry.metadata?.filterMetadata;
  endpoint.placement = placementOf(entry, group, address, cluster.name);
  return endpoint;
}

function placementOf(entry: LbEndpoint, group: LocalityLbEndpoints, address: string, clusterName: string): Placement {
  const { priority, locality } = group;
  if (priority > priorityMax)
    throw new MeshbedError("ENDPOINT_INVALID", `cluster ${clusterName}: priority ${priority} is above ${priorityMax}`);
  const hashKey = entry.metadata?.filterMetadata["envoy.lb"]?.["hash_key"];
  const named = entry.hostIdentifier.case === "endpoint" ? entry.hostIdentifier.value : undefined;
  const check = named?.healthCheckConfig;
  return {
    weight: entry.loadBalancingWeight ?? 1,
    priority,
    health: healths[entry.healthStatus] ?? "healthy",
    locality: locality ? `${locality.region}/${locality.zone}/${locality.subZone}` : "",
    localityWeight: group.loadBalancingWeight ?? 0,
    hashKey: typeof hashKey === "string" && hashKey !== "" ? hashKey : address,
    hostname: named?.hostname ?? "",
    healthCheck: check && { disabled: check.disableActiveHealthCheck, port: check.portValue, host: check.hostname },
  };
}
