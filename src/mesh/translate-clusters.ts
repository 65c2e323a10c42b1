// Services and DestinationRules → clusters. Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Cluster,
  ClusterSchema,
  Cluster_DiscoveryType as Discovery,
  Cluster_LbPolicy as Lb,
} from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import {
  type OutlierDetection,
  OutlierDetectionSchema,
} from "#gen/xds/envoy/config/cluster/v3/outlier_detection_pb.js";
import { parseDurationMs } from "../api/duration.ts";
import { adsSource, durationOf, istioMetadata, tcpAddress } from "./envoy.ts";
import { isHttp } from "./model.ts";
import { type AppliedPolicy, type PortPolicy, policyOfPort, weightsLocalities, withMeshSettings } from "./policies.ts";
import { balancingOf } from "./translate-balancing.ts";
import { dnsDiscovery } from "./translate-entries.ts";
import { setHttpOptions, setServerProtocol } from "./translate-http-options.ts";
import { identityPrefixes, serverNameOptions, upstreamTls } from "./translate-upstream-tls.ts";
import type { Model, PortModel, Protocol, ServiceModel, Subset, Workload } from "./types.ts";

/** Istio: connectTimeout of the mesh configuration. */
const connectTimeoutMs = 10_000;
/** Istio: no limit unless a connectionPool is set. */
const unlimited = 4_294_967_295;
/** Istio, of a retryBudget that does not say. */
const retryBudgetPercent = 20;
const retryConcurrencyMin = 3;

export const passthroughName = "PassthroughCluster";
export const blackHoleName = "BlackHoleCluster";

export const outboundName = (port: number, subset: string, host: string): string =>
  `outbound|${port}|${subset}|${host}`;
export const inboundName = (port: number): string => `inbound|${port}||`;

/** Connects to where the caller wanted to go. */
export const passthroughCluster: Cluster = create(ClusterSchema, {
  name: passthroughName,
  clusterDiscoveryType: { case: "type", value: Discovery.ORIGINAL_DST },
  lbPolicy: Lb.CLUSTER_PROVIDED,
  connectTimeout: durationOf(connectTimeoutMs),
  circuitBreakers: thresholds(undefined),
  metadata: namedAfterItself(passthroughName),
});

/** Refuses everything. */
export const blackHoleCluster: Cluster = create(ClusterSchema, {
  name: blackHoleName,
  clusterDiscoveryType: { case: "type", value: Discovery.STATIC },
  connectTimeout: durationOf(connectTimeoutMs),
  metadata: namedAfterItself(blackHoleName),
});

/** Metrics name the cluster where there is no service, and as host what a request asks for (Istio). */
function namedAfterItself(name: string) {
  return istioMetadata({ services: [{ host: "unknown", name, namespace: "unknown" }] });
}

/** The clusters of a service: per port one for all endpoints and one per subset. */
export function serviceClusters(model: Model, service: ServiceModel, policy: AppliedPolicy): Cluster[] {
  const clusters: Cluster[] = [];
  for (const port of service.ports) {
    if (port.protocol === "udp") continue;
    for (const subset of [undefined, ...policy.subsets]) {
      const own = policyOfPort(policy.trafficPolicy, subset?.trafficPolicy, port.port);
      clusters.push(cluster(model, service, port, subset, withMeshSettings(model, own)));
    }
  }
  return clusters;
}

function cluster(
  model: Model,
  service: ServiceModel,
  port: PortModel,
  subset: Subset | undefined,
  policy: PortPolicy,
): Cluster {
  const name = outboundName(port.port, subset?.name ?? "", service.host);
  const { connectionPool: pool, outlierDetection: outlier } = policy;
  const { entry } = service;
  const tls = entry && policy.tls ? withNames(policy.tls, entry.subjectAltNames) : policy.tls;
  const isOriginal = entry?.resolution === "NONE";
  const balancing = isOriginal ? { lbPolicy: Lb.CLUSTER_PROVIDED } : balancingOf(policy.loadBalancer);
  const connectMs = pool?.tcp?.connectTimeout === undefined ? undefined : parseDurationMs(pool.tcp.connectTimeout);
  const passthrough = balancing.lbPolicy === Lb.CLUSTER_PROVIDED;
  const byDns = !passthrough && entry !== undefined && entry.resolution !== "STATIC";
  const transportSocket = upstreamTls(
    tls,
    `outbound_.${port.port}_.${subset?.name ?? ""}_.${service.host}`,
    identityPrefixes(model, service.namespace),
  );
  const serverName = serverNameOptions(tls);
  const message = create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: "type", value: passthrough ? Discovery.ORIGINAL_DST : Discovery.EDS },
    ...(!passthrough && !byDns && { edsClusterConfig: { edsConfig: adsSource, serviceName: name } }),
    connectTimeout: durationOf(connectMs ?? connectTimeoutMs),
    ...balancing,
    // No panic unless asked for, as Istio: with a few pods per service it would hit the ones known to fail.
    ...(!passthrough && {
      commonLbConfig: {
        healthyPanicThreshold: { value: outlier?.minHealthPercent ?? 0 },
        ...(weightsLocalities(policy) && {
          localityConfigSpecifier: { case: "localityWeightedLbConfig", value: {} } as const,
        }),
      },
    }),
    circuitBreakers: thresholds(pool, policy.retryBudget),
    ...keepAliveOf(pool?.tcp?.tcpKeepalive),
    ...(outlier && { outlierDetection: outlierDetection(outlier) }),
    ...(transportSocket && { transportSocket }),
    metadata: istioMetadata({
      services: [{ host: service.host, name: service.name, namespace: service.namespace }],
      ...(subset !== undefined && { subset: subset.name }),
    }),
  });
  if (byDns) Object.assign(message, dnsDiscovery(model, service, port, subset, policy, name));
  const hostNamed = isHttp(port.protocol) ? serverName : undefined;
  setHttpOptions(message, port.protocol, pool, hostNamed, model.settings);
  return message;
}

/** Names that the entry knows count where the rule has none of its own. */
const withNames = (tls: NonNullable<PortPolicy["tls"]>, names: readonly string[]): NonNullable<PortPolicy["tls"]> =>
  tls.subjectAltNames?.length || names.length === 0 ? tls : { ...tls, subjectAltNames: [...names] };

/** 0 means unset (Istio), not none at all. */
function thresholds(pool: PortPolicy["connectionPool"], budget?: PortPolicy["retryBudget"]) {
  return {
    thresholds: [
      {
        maxConnections: pool?.tcp?.maxConnections || unlimited,
        maxPendingRequests: pool?.http?.http1MaxPendingRequests || unlimited,
        maxRequests: pool?.http?.http2MaxRequests || unlimited,
        maxRetries: pool?.http?.maxRetries || unlimited,
        ...(budget && {
          retryBudget: {
            budgetPercent: { value: budget.percent ?? retryBudgetPercent },
            minRetryConcurrency: budget.minRetryConcurrency ?? retryConcurrencyMin,
          },
        }),
      },
    ],
  };
}

type KeepAlive = NonNullable<NonNullable<PortPolicy["connectionPool"]>["tcp"]>["tcpKeepalive"];

/** Envoy has whole seconds. */
function keepAliveOf(settings: KeepAlive): Pick<MessageInitShape<typeof ClusterSchema>, "upstreamConnectionOptions"> {
  if (settings === undefined) return {};
  const seconds = (text: string | undefined) => (text ? Math.ceil((parseDurationMs(text) ?? 0) / 1000) : 0);
  const { probes } = settings;
  const [time, interval] = [seconds(settings.time), seconds(settings.interval)];
  const tcpKeepalive = {
    ...(probes && { keepaliveProbes: probes }),
    ...(time > 0 && { keepaliveTime: time }),
    ...(interval > 0 && { keepaliveInterval: interval }),
  };
  return { upstreamConnectionOptions: { tcpKeepalive } };
}

/** Istio's defaults where a field is absent (LIMITS of outlier detection); only consecutive errors are looked at. */
function outlierDetection(settings: NonNullable<PortPolicy["outlierDetection"]>): OutlierDetection {
  const intervalMs = parseDurationMs(settings.interval ?? "10s") ?? 10_000;
  const ejectionMs = parseDurationMs(settings.baseEjectionTime ?? "30s") ?? 30_000;
  const gateway = settings.consecutiveGatewayErrors;
  const any5xx = settings.consecutive5xxErrors;
  const local = settings.consecutiveLocalOriginFailures;
  return create(OutlierDetectionSchema, {
    interval: durationOf(intervalMs),
    baseEjectionTime: durationOf(ejectionMs),
    maxEjectionPercent: settings.maxEjectionPercent || 10,
    enforcingSuccessRate: 0,
    ...(settings.splitExternalLocalOriginErrors && {
      splitExternalLocalOriginErrors: true,
      enforcingLocalOriginSuccessRate: 0,
      ...(local && { consecutiveLocalOriginFailure: local, enforcingConsecutiveLocalOriginFailure: 100 }),
    }),
    ...(any5xx !== undefined && { consecutive5xx: any5xx, enforcingConsecutive5xx: any5xx > 0 ? 100 : 0 }),
    ...(gateway !== undefined && {
      consecutiveGatewayFailure: gateway,
      enforcingConsecutiveGatewayFailure: gateway > 0 ? 100 : 0,
    }),
  });
}

/** The cluster of a workload's own port; `address` and `port` are where its process listens. */
export function inboundCluster(
  workload: Workload,
  containerPort: number,
  service: ServiceModel,
  protocol: Protocol,
  address: string,
  port: number,
  pool?: PortPolicy["connectionPool"],
): Cluster {
  const name = inboundName(containerPort);
  const cluster = create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: "type", value: Discovery.STATIC },
    connectTimeout: durationOf(connectTimeoutMs),
    circuitBreakers: thresholds(pool),
    loadAssignment: {
      clusterName: name,
      endpoints: [
        {
          lbEndpoints: [
            {
              hostIdentifier: { case: "endpoint", value: { address: tcpAddress(address, port) } },
              metadata: istioMetadata({ workload: workload.about }),
            },
          ],
        },
      ],
    },
    metadata: istioMetadata({ services: [{ host: service.host, name: service.name, namespace: service.namespace }] }),
  });
  setServerProtocol(cluster, protocol);
  return cluster;
}
