// A sidecar's listeners: outbound per service port, inbound per container port, and the tunnel's end. Pure.

import { create } from "@bufbuild/protobuf";
import type { Cluster } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { TrafficDirection } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import type { Filter, FilterChain } from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener, ListenerSchema } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { SubjectAltNameMatcher_SanType as SanType } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { matchesMap } from "../api/selectors.ts";
import type { Service } from "../api/types.ts";
import { adsSource, downstreamTls, durationOf, istioMetadata, tcpAddress } from "./envoy.ts";
import { httpManager, type ListenerTelemetry, statsFilters, tcpProxy } from "./filters.ts";
import { isVisible } from "./hosts.ts";
import { isHttp } from "./model.ts";
import { type AppliedPolicy, policyFor, subsetPolicy, tcpSettingsOf } from "./policies.ts";
import { type Audience, bindOf, servesPort, sidecarFor } from "./sidecar-scope.ts";
import { inboundCluster, inboundName, outboundName, passthroughName } from "./translate-clusters.ts";
import { type InboundPool, ingressPorts } from "./translate-ingress.ts";
import { routeMatch } from "./translate-match.ts";
import { clusterOf } from "./translate-routes.ts";
import { type PeerModes, peerModeOf, peerModesOf } from "./translate-security.ts";
import { type SecurityChain, securityChain } from "./translate-security-chain.ts";
import { strictFilter } from "./translate-security-rbac.ts";
import { filterChain, type StreamContext, streamChains } from "./translate-streams.ts";
import { noTelemetry, telemetryOf } from "./translate-telemetry.ts";
import { type RuleIndex, rulesFor } from "./translate-virtual-hosts.ts";
import { trustDomainsOf } from "./trust-domains.ts";
import type { Model, PortModel, RuleSet, ServiceModel, Workload } from "./types.ts";

const inboundPort = 15006;

export interface ListenerOptions {
  name: string;
  address: string;
  port: number;
  /** Of its only chain, unless `chains` are given. */
  filters?: readonly Filter[];
  chains?: readonly FilterChain[];
  /** Bound as written; otherwise matched against what a connection was made to. */
  bind: boolean;
  about?: string;
}

export function outboundListener(options: ListenerOptions): Listener {
  return create(ListenerSchema, {
    name: options.name,
    address: tcpAddress(options.address, options.port),
    filterChains: options.chains ? [...options.chains] : [{ filters: [...(options.filters ?? [])] }],
    trafficDirection: TrafficDirection.OUTBOUND,
    bindToPort: options.bind,
    ...(options.about !== undefined && { metadata: istioMetadata({ workload: options.about }) }),
  });
}

/** TCP: a listener per service address. */
export function tcpListeners(context: StreamContext, service: ServiceModel, audience: Audience): Listener[] {
  const listeners: Listener[] = [];
  for (const port of service.ports) {
    if (isHttp(port.protocol) || port.protocol === "udp" || !servesPort(audience, service, port.port)) continue;
    if (bindOf(audience, port.port) !== undefined) continue;
    for (const address of service.addresses) {
      const chains = streamChains(context, service, port, { address, cidr: undefined });
      const options = { name: `${address}_${port.port}`, address, port: port.port, bind: false };
      listeners.push(outboundListener({ ...options, chains: chains.map(filterChain) }));
    }
  }
  return listeners;
}

/** The first tcp rule for the mesh and this port decides; without one, the service itself. */
export function tcpFilters(
  model: Model,
  service: ServiceModel,
  port: PortModel,
  ruleSet: RuleSet | undefined,
  telemetry: ListenerTelemetry,
  policy?: AppliedPolicy,
): Filter[] {
  const name = outboundName(port.port, "", service.host);
  const rule = ruleSet?.gateways.has("mesh")
    ? ruleSet.object.spec?.tcp?.find(
        ({ match }) =>
          match === undefined ||
          match.length === 0 ||
          match.some(
            (m) =>
              (m.port === undefined || m.port === port.port) && (!m.gateways?.length || m.gateways.includes("mesh")),
          ),
      )
    : undefined;
  const all = rule?.route ?? [];
  const context = { namespace: ruleSet?.namespace ?? "", listenerPort: port.port };
  const destinations = (all.length === 1 ? all : all.filter(({ weight }) => (weight ?? 0) > 0)).map((route) => ({
    name: clusterOf(model, route.destination, context),
    weight: route.weight || 1,
  }));
  const settings = policy && tcpSettingsOf(subsetPolicy(policy, undefined, port.port));
  const proxy = tcpProxy(name, destinations.length > 0 ? destinations : [{ name, weight: 1 }], telemetry, settings);
  return [...statsFilters(telemetry), proxy];
}

/** In `ports` mode: a listener per service the kubelet gave this pod a port for; plain TCP without `rules`. */
export function portListeners(model: Model, workload: Workload, rules: RuleIndex | undefined): Listener[] {
  const listeners: Listener[] = [];
  for (const [key, localPort] of Object.entries(workload.servicePorts).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const found = servicePortOf(model, key);
    if (found === undefined || !isVisible(found.service.exportTo, workload.namespace)) continue;
    const { service, port } = found;
    const name = `127.0.0.1_${localPort}`;
    const telemetry = rules ? telemetryOf(model, workload, "CLIENT") : noTelemetry;
    const routes = `${service.host}:${port.port}`;
    const filters =
      rules && isHttp(port.protocol)
        ? [httpManager({ statPrefix: `outbound_${name}`, routes, edge: false, telemetry })]
        : tcpFilters(
            model,
            service,
            port,
            rules && rulesFor(rules, service.host),
            telemetry,
            rules && policyFor(model, service, workload.namespace),
          );
    const about = workload.about;
    listeners.push(outboundListener({ name, address: "127.0.0.1", port: localPort, filters, bind: true, about }));
  }
  return listeners;
}

/** "namespace/service:port" */
export function servicePortOf(model: Model, key: string): { service: ServiceModel; port: PortModel } | undefined {
  const [, namespace, name, number] = /^([^/]+)\/([^:]+):(\d+)$/.exec(key) ?? [];
  const service = model.serviceByHost.get(`${name}.${namespace}.svc.${model.config.clusterDomain}`);
  const port = service?.ports.find((candidate) => candidate.port === Number(number));
  return service && port && { service, port };
}

export interface InboundPort {
  containerPort: number;
  port: PortModel;
  service: ServiceModel;
  /** Where the process listens, unless on the same. */
  target?: number;
  pool?: InboundPool;
}

/** Container ports that services lead to; of several services the oldest names the port's protocol. */
export function inboundPorts(model: Model, workload: Workload): InboundPort[] {
  const ports = new Map<number, InboundPort>();
  const services = model.services.filter(
    ({ namespace, service }) => namespace === workload.namespace && selects(service.spec?.selector, workload.labels),
  );
  for (const service of services.sort(byAge))
    for (const port of service.ports) {
      if (port.protocol === "udp") continue;
      const containerPort = containerPortOf(workload, port.targetPort);
      if (containerPort !== undefined && !ports.has(containerPort))
        ports.set(containerPort, { containerPort, port, service });
    }
  return [...ports.values()].sort((a, b) => a.containerPort - b.containerPort);
}

const byAge = (a: ServiceModel, b: ServiceModel): number => {
  const [x, y] = [age(a.service), age(b.service)];
  return x < y ? -1 : x > y ? 1 : 0;
};
const age = (service: Service): string => `${service.metadata.creationTimestamp} ${service.metadata.name}`;

/** An empty selector selects nothing. */
export const selects = (
  selector: Readonly<Record<string, string>> | undefined,
  labels: Readonly<Record<string, string>>,
): boolean => selector !== undefined && Object.keys(selector).length > 0 && matchesMap(selector, labels);

export function containerPortOf(workload: Workload, targetPort: number | string): number | undefined {
  if (typeof targetPort === "number") return targetPort;
  for (const container of workload.pod.spec?.containers ?? [])
    for (const port of container.ports ?? []) if (port.name === targetPort) return port.containerPort;
  return undefined;
}

/** What reaches the workload: a chain per port behind one listener, the clusters they lead to, and the tunnel's end. */
export function inbound(model: Model, workload: Workload): { listeners: Listener[]; clusters: Cluster[] } {
  const about = istioMetadata({ workload: workload.about });
  const ports = ingressPorts(inboundPorts(model, workload), sidecarFor(model, workload));
  const clusters = ports.map(({ containerPort, port, service, target = containerPort, pool }) => {
    const at = workload.ports[target] ?? target;
    return inboundCluster(workload, containerPort, service, port.protocol, workload.ip, at, pool);
  });
  const rules = inboundRules(model, workload);
  const virtualInbound = create(ListenerSchema, {
    name: "virtualInbound",
    address: tcpAddress(workload.ip, inboundPort),
    filterChains: [
      ...ports.map(({ containerPort, port }) => ({
        name: `${workload.ip}_${containerPort}`,
        filterChainMatch: { destinationPort: containerPort },
        filters: inboundFilters(containerPort, port, rules),
      })),
      ...namedPorts(workload, rules, ports),
    ],
    ...otherPorts(rules),
    trafficDirection: TrafficDirection.INBOUND,
    bindToPort: false,
    metadata: about,
  });
  return {
    listeners: [virtualInbound, tunnelEnd(model, workload)],
    clusters: [...clusters, ...rules.security.clusters],
  };
}

/** The workload's end of tunnels: who comes in this way has proved who it is. */
function tunnelEnd(model: Model, workload: Workload): Listener {
  const sds = (name: string) => ({ name, sdsConfig: adsSource });
  return create(ListenerSchema, {
    name: "connect_terminate",
    address: tcpAddress(workload.ip, workload.tunnelPort),
    filterChains: [
      {
        filters: [tcpProxy("connect_terminate", [{ name: "virtualInbound", weight: 1 }])],
        transportSocket: downstreamTls({
          requireClientCertificate: true,
          commonTlsContext: {
            tlsCertificateSdsSecretConfigs: [sds("default")],
            validationContextType: {
              case: "combinedValidationContext",
              value: {
                // Who is of this mesh by name, too, and not only by authority.
                defaultValidationContext: {
                  matchTypedSubjectAltNames: trustDomainsOf(model).map((domain) => ({
                    sanType: SanType.URI,
                    matcher: { matchPattern: { case: "prefix", value: `spiffe://${domain}/` } },
                  })),
                },
                validationContextSdsSecretConfig: sds("ROOTCA"),
              },
            },
            alpnProtocols: ["http/1.1"],
          },
        }),
      },
    ],
    trafficDirection: TrafficDirection.INBOUND,
    bindToPort: model.config.mode === "ports",
    metadata: istioMetadata({ workload: workload.about }),
  });
}

/** What policies say for all inbound chains of a workload. */
interface InboundRules {
  peers: PeerModes;
  security: SecurityChain;
  telemetry: ListenerTelemetry;
}

function inboundRules(model: Model, workload: Workload): InboundRules {
  return {
    peers: peerModesOf(model, workload),
    security: securityChain(model, workload),
    telemetry: telemetryOf(model, workload, "SERVER"),
  };
}

/** STRICT: whoever has not proved to be of the mesh is sent away before anything is read. */
const strictFilters = (peers: PeerModes, containerPort: number): Filter[] =>
  peerModeOf(peers, containerPort) === "STRICT" ? [strictFilter] : [];

/** Ports that no service leads to are passed through; policies hold for them as for connections. */
function otherPorts(rules: InboundRules): { defaultFilterChain?: { name: string; filters: Filter[] } } {
  const filters = passthroughFilters(rules, 0);
  return filters.length === 1 ? {} : { defaultFilterChain: { name: "virtualInbound-catchall", filters } };
}

const passthroughFilters = ({ peers, security }: InboundRules, containerPort: number): Filter[] => [
  ...strictFilters(peers, containerPort),
  ...security.tcp,
  tcpProxy(passthroughName, [{ name: passthroughName, weight: 1 }]),
];

/** Those of them that a PeerAuthentication names. */
const namedPorts = (workload: Workload, rules: InboundRules, known: readonly InboundPort[]) =>
  [...rules.peers.ports.keys()]
    .filter((port) => !known.some(({ containerPort }) => containerPort === port))
    .map((port) => ({
      name: `${workload.ip}_${port}`,
      filterChainMatch: { destinationPort: port },
      filters: passthroughFilters(rules, port),
    }));

function inboundFilters(containerPort: number, port: PortModel, rules: InboundRules): Filter[] {
  const { peers, security, telemetry } = rules;
  const strict = strictFilters(peers, containerPort);
  const cluster = inboundName(containerPort);
  if (!isHttp(port.protocol)) {
    const proxy = tcpProxy(cluster, [{ name: cluster, weight: 1 }], telemetry);
    return [...strict, ...security.tcp, ...statsFilters(telemetry), proxy];
  }
  const routes = inboundRoutes(cluster, port);
  const statPrefix = `inbound_${containerPort}`;
  return [
    ...strict,
    httpManager({ statPrefix, routes, edge: false, inbound: true, security: security.http, telemetry }),
  ];
}

const inboundRoutes = (cluster: string, port: PortModel): RouteConfiguration =>
  create(RouteConfigurationSchema, {
    name: cluster,
    virtualHosts: [
      {
        name: `inbound|http|${port.port}`,
        domains: ["*"],
        routes: [
          {
            name: "default",
            match: routeMatch(undefined),
            action: {
              case: "route",
              value: { clusterSpecifier: { case: "cluster", value: cluster }, timeout: durationOf(0) },
            },
          },
        ],
      },
    ],
    validateClusters: false,
  });
