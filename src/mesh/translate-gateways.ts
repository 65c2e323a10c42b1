// A gateway pod's listeners and routes from Gateways and VirtualServices. Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Cluster } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { TrafficDirection, type TransportSocket } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import {
  type Filter,
  type FilterChain,
  FilterChainSchema,
} from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener, ListenerSchema } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import {
  VirtualHost_TlsRequirementType as RequireTls,
  type Route,
  RouteSchema,
  type VirtualHost,
  VirtualHostSchema,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import {
  TlsParameters_TlsProtocol as Tls,
  type TlsParametersSchema,
} from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { cipherSuites } from "../api/cipher-suites.ts";
import { adsSource, downstreamTls, istioMetadata, tcpAddress } from "./envoy.ts";
import { type HttpFilter, httpManager, type ListenerTelemetry, statsFilters, tcpProxy } from "./filters.ts";
import { type Binding, bindingsOf, type Server, serversOf } from "./gateway-servers.ts";
import { hostCovers, resolveGateway } from "./hosts.ts";
import type { Memo } from "./memo.ts";
import { proxySettings } from "./mesh-settings.ts";
import { policyFor } from "./policies.ts";
import { routeMatch } from "./translate-match.ts";
import { clusterOf, httpRoutes } from "./translate-routes.ts";
import { securityChain } from "./translate-security-chain.ts";
import { telemetryOf } from "./translate-telemetry.ts";
import type { GatewayServer, HttpDestination, Model, RuleSet, Workload } from "./types.ts";

export interface GatewayResources {
  listeners: Listener[];
  routes: RouteConfiguration[];
  /** For keys of tokens. */
  clusters: Cluster[];
  /** SDS names the listeners ask for: "kubernetes://<credentialName>[-cacert]". */
  credentials: string[];
}

/** `memo` keeps the virtual hosts that a change does not concern. */
export function gatewayResources(model: Model, workload: Workload, memo: Memo): GatewayResources {
  const listeners: Listener[] = [];
  const routes: RouteConfiguration[] = [];
  const credentials = new Set<string>();
  const { byPort } = serversOf(model, workload);
  const rules = edgeRules(model, workload);
  for (const [port, servers] of [...byPort].sort(([a], [b]) => a - b)) {
    const chains: FilterChain[] = [];
    if (servers[0]!.kind === "http") {
      const name = `http.${port}`;
      routes.push(routeConfiguration(model, workload, memo, name, port, servers));
      chains.push(create(FilterChainSchema, { filters: [edgeFilter(port, name, rules)] }));
    } else
      for (const server of servers) {
        for (const name of credentialNames(server.server)) credentials.add(name);
        if (server.kind === "https") {
          const name = secureRouteName(server, port);
          const table = routeConfiguration(model, workload, memo, name, port, [server]);
          table.virtualHosts.push(...misdirected(server, servers, port));
          routes.push(table);
          chains.push(secureChain(server, [edgeFilter(port, name, rules)]));
        } else chains.push(...streamChains(model, workload, server, port, rules));
      }
    if (chains.length > 0) listeners.push(gatewayListener(workload, port, chains));
  }
  return { listeners, routes, clusters: rules.clusters, credentials: [...credentials] };
}

/** What policies say for all listeners of a gateway. */
interface EdgeRules {
  http: readonly HttpFilter[];
  tcp: readonly Filter[];
  clusters: Cluster[];
  telemetry: ListenerTelemetry;
  trustedHops: number;
}

function edgeRules(model: Model, workload: Workload): EdgeRules {
  const telemetry = telemetryOf(model, workload, "CLIENT");
  const security = securityChain(model, workload);
  return {
    http: security.http,
    tcp: [...security.tcp, ...statsFilters(telemetry)],
    clusters: security.clusters,
    telemetry,
    trustedHops: trustedHopsOf(model, workload),
  };
}

const edgeFilter = (port: number, routes: string, { http: security, telemetry, trustedHops }: EdgeRules) =>
  httpManager({ statPrefix: `outbound_0.0.0.0_${port}`, routes, edge: true, security, telemetry, trustedHops });

/** gatewayTopology.numTrustedProxies, of the pod's own ProxyConfig (annotation) before the mesh's. */
function trustedHopsOf({ settings }: Model, { pod }: Workload): number {
  const text = pod.metadata.annotations?.["proxy.istio.io/config"];
  const mesh = settings.defaultConfig?.gatewayTopology?.numTrustedProxies;
  return Number((text && proxySettings(text)?.gatewayTopology?.numTrustedProxies) ?? mesh ?? 0) || 0;
}

/** Istio: GatewayRDSRouteName. */
function secureRouteName({ server, gateway }: Server, port: number): string {
  return `https.${port}.${server.port.name}.${gateway.metadata.name}.${gateway.metadata.namespace}`;
}

/** Bound to the pod's own address: the node's proxy holds the wildcard. */
function gatewayListener(workload: Workload, port: number, filterChains: FilterChain[]): Listener {
  return create(ListenerSchema, {
    name: `0.0.0.0_${port}`,
    address: tcpAddress(workload.ip, workload.ports[port] ?? port),
    filterChains,
    trafficDirection: TrafficDirection.OUTBOUND,
    bindToPort: true,
    metadata: istioMetadata({ workload: workload.about }),
  });
}

/** Hosts that no VirtualService has get none of the virtual hosts: 404. */
function routeConfiguration(
  model: Model,
  workload: Workload,
  memo: Memo,
  name: string,
  port: number,
  servers: readonly Server[],
): RouteConfiguration {
  const hosts = new Map<string, HostParts>();
  const hostOf = (host: string) => {
    let entry = hosts.get(host);
    if (entry === undefined) {
      entry = { rules: [], redirect: false };
      hosts.set(host, entry);
    }
    return entry;
  };
  const done = new Set<string>();
  for (const server of servers) {
    const bindings = bindingsOf(model, server, workload.namespace);
    const redirect = server.server.tls?.httpsRedirect === true;
    if (redirect) for (const { host } of server.hosts) hostOf(host).redirect = true;
    for (const { rules, hosts: bound } of bindings) {
      // A derived set without rules keeps a host from another listener's.
      if (!rules.derived && !rules.object.spec?.http?.length) continue;
      const gateways = new Set(servers.map(({ key }) => key).filter((key) => rules.gateways.has(key)));
      const routes = boundRoutes(model, workload, memo, rules, gateways, server);
      for (const host of bound) {
        const entry = hostOf(host);
        if (redirect) entry.redirect = true;
        // Two servers of one port may lead to the same VirtualService and host: its routes count once.
        if (done.has(`${rules.key} ${host}`)) continue;
        done.add(`${rules.key} ${host}`);
        entry.rules.push(routes);
      }
    }
  }
  const virtualHosts = [...hosts].map(([host, { rules, redirect }]) =>
    memo.get(`edge-host|${workload.key}|${name}|${host}`, [redirect, ...rules], () =>
      virtualHost(host, port, rules, redirect),
    ),
  );
  if (virtualHosts.length === 0)
    virtualHosts.push(create(VirtualHostSchema, { name: `blackhole:${port}`, domains: ["*"] }));
  return create(RouteConfigurationSchema, {
    name,
    virtualHosts,
    validateClusters: false,
    ignorePortInHostMatching: true,
  });
}

/** What a virtual host is made of, in the order of the rules' age. */
interface HostParts {
  rules: BoundRoutes[];
  redirect: boolean;
}

type BoundRoutes = ReturnType<typeof httpRoutes>;

function virtualHost(host: string, port: number, rules: readonly BoundRoutes[], redirect: boolean): VirtualHost {
  const catchAll = rules.find((one) => one.catchAll)?.catchAll;
  const routes = rules.flatMap((one) => one.routes);
  return create(VirtualHostSchema, {
    name: `${host}:${port}`,
    domains: [host],
    // Said twice: the requirement is Istio's way, the route holds for proxies that do not know it.
    routes: redirect ? [toHttps] : catchAll ? [...routes, catchAll] : routes,
    requireTls: redirect ? RequireTls.ALL : RequireTls.NONE,
    includeRequestAttemptCount: true,
  });
}

/** The same object until the rules, or what is said of the services they lead to, change. */
function boundRoutes(
  model: Model,
  workload: Workload,
  memo: Memo,
  rules: RuleSet,
  gateways: ReadonlySet<string>,
  server: Server,
): BoundRoutes {
  const { namespace, labels } = workload;
  const listenerPort = server.server.port.number;
  const tls = server.kind === "https";
  const inputs: unknown[] = [workload, rules];
  for (const host of rules.destinations) {
    const service = model.serviceByHost.get(host);
    // What is hashed by is said in the route.
    const policies = service && policyFor(model, service, { namespace }).rules;
    inputs.push(service?.service, ...(policies ?? []).map(({ object }) => object));
  }
  const key = [workload.key, listenerPort, tls, ...gateways, rules.derived, rules.key].join("|");
  return memo.get(`edge-routes|${key}`, inputs, () =>
    httpRoutes(model, rules, { gateways, listenerPort, clientLabels: labels, clientNamespace: namespace, tls }),
  );
}

const toHttps: Route = create(RouteSchema, {
  name: "https-redirect",
  match: routeMatch(undefined),
  action: { case: "redirect", value: { schemeRewriteSpecifier: { case: "httpsRedirect", value: true } } },
});

/**
 * A browser asks over an open HTTP/2 connection for every host its certificate covers; 421 makes it open another, which the
 * host's own server takes (RFC 9110 section 15.5.20). Without it this server's 404 would stand for the other's pages.
 */
function misdirected(server: Server, servers: readonly Server[], port: number): VirtualHost[] {
  const isOwn = (host: string) => server.hosts.some((own) => hostCovers(own.host, host));
  const others = servers.flatMap(({ kind, hosts }) => (kind === "https" ? hosts.map(({ host }) => host) : []));
  const domains = [...new Set(others)].filter((host) => host !== "*" && !isOwn(host)).sort();
  if (domains.length === 0) return [];
  return [create(VirtualHostSchema, { name: `misdirected:${port}`, domains, routes: [toOwnConnection] })];
}

const toOwnConnection: Route = create(RouteSchema, {
  name: "misdirected",
  match: routeMatch(undefined),
  action: { case: "directResponse", value: { status: 421 } },
});

function secureChain(server: Server, filters: Filter[]): FilterChain {
  return create(FilterChainSchema, {
    ...chainMatch(server.hosts.map(({ host }) => host)),
    filters,
    transportSocket: tlsOf(server.server),
  });
}

/** "*" among the hosts: any server name, also none. */
const chainMatch = (hosts: readonly string[]) =>
  hosts.includes("*") ? {} : { filterChainMatch: { serverNames: [...new Set(hosts)].sort() } };

const protocols: Readonly<Record<string, Tls>> = {
  TLSV1_0: Tls.TLSv1_0,
  TLSV1_1: Tls.TLSv1_1,
  TLSV1_2: Tls.TLSv1_2,
  TLSV1_3: Tls.TLSv1_3,
};

function tlsOf(server: GatewayServer): TransportSocket {
  const tls = server.tls;
  const sds = (name: string) => ({ name, sdsConfig: adsSource });
  const { certificates, roots } = credentialsOf(server);
  const rules = {
    verifyCertificateHash: tls?.verifyCertificateHash ?? [],
    verifyCertificateSpki: tls?.verifyCertificateSpki ?? [],
    matchSubjectAltNames: (tls?.subjectAltNames ?? []).map((name) => ({
      matchPattern: { case: "exact", value: name } as const,
    })),
  };
  const hasRules = Object.values(rules).some(({ length }) => length > 0);
  const tlsParams: MessageInitShape<typeof TlsParametersSchema> = {
    // Istio: 1.2 unless something else is asked for.
    tlsMinimumProtocolVersion: protocols[tls?.minProtocolVersion ?? ""] ?? Tls.TLSv1_2,
    tlsMaximumProtocolVersion: protocols[tls?.maxProtocolVersion ?? ""] ?? Tls.TLS_AUTO,
    // As Istio: unknown ones and repetitions are warned about and left out.
    cipherSuites: [...new Set(tls?.cipherSuites ?? [])].filter((suite) => cipherSuites.includes(suite)),
  };
  return downstreamTls({
    // OPTIONAL_MUTUAL: who shows a certificate must show a good one.
    requireClientCertificate: tls?.mode === "MUTUAL" || tls?.mode === "ISTIO_MUTUAL",
    commonTlsContext: {
      tlsParams,
      tlsCertificateSdsSecretConfigs: certificates.map(sds),
      ...(roots !== undefined && {
        validationContextType: hasRules
          ? ({
              case: "combinedValidationContext",
              value: { defaultValidationContext: rules, validationContextSdsSecretConfig: sds(roots) },
            } as const)
          : ({ case: "validationContextSdsSecretConfig", value: sds(roots) } as const),
      }),
      alpnProtocols: ["h2", "http/1.1"],
    },
  });
}

/** SDS names of a server: its certificates (one per key type) and, where clients may show one, the roots to check it. */
function credentialsOf(server: GatewayServer): { certificates: readonly string[]; roots: string | undefined } {
  const tls = server.tls;
  if (tls === undefined || tls.mode === "PASSTHROUGH" || tls.mode === "AUTO_PASSTHROUGH")
    return { certificates: [], roots: undefined };
  if (tls.mode === "ISTIO_MUTUAL") return { certificates: ["default"], roots: "ROOTCA" };
  const credentials = tls.credentialName === undefined ? (tls.credentialNames ?? []) : [tls.credentialName];
  const isMutual = tls.mode === "MUTUAL" || tls.mode === "OPTIONAL_MUTUAL";
  const roots = tls.caCertCredentialName ?? credentials[0];
  return {
    certificates: credentials.map((name) => `kubernetes://${name}`),
    roots: isMutual && roots !== undefined ? `kubernetes://${roots}-cacert` : undefined,
  };
}

/** As a list. */
export function credentialNames(server: GatewayServer): string[] {
  const { certificates, roots } = credentialsOf(server);
  return roots === undefined ? [...certificates] : [...certificates, roots];
}

/** TCP and TLS servers: bytes go on by port or server name. */
function streamChains(model: Model, workload: Workload, server: Server, port: number, rules: EdgeRules): FilterChain[] {
  return bindingsOf(model, server, workload.namespace).flatMap((binding) =>
    server.kind === "passthrough"
      ? sniChains(model, server, binding, rules)
      : portChains(model, server, binding, port, rules),
  );
}

function sniChains(model: Model, server: Server, { rules }: Binding, { tcp, telemetry }: EdgeRules): FilterChain[] {
  return (rules.object.spec?.tls ?? []).flatMap(({ match, route }) => {
    const names = match
      .filter(
        ({ gateways, port }) => namesGateway(gateways, rules, server) && (!port || port === server.server.port.number),
      )
      .flatMap(({ sniHosts }) => sniHosts);
    const destinations = destinationsOf(model, rules, server, route ?? []);
    if (names.length === 0 || destinations.length === 0) return [];
    return [
      create(FilterChainSchema, {
        ...chainMatch(names),
        filters: [...tcp, tcpProxy(`outbound_${names[0]}`, destinations, telemetry)],
      }),
    ];
  });
}

function portChains(
  model: Model,
  server: Server,
  { rules }: Binding,
  port: number,
  { tcp, telemetry }: EdgeRules,
): FilterChain[] {
  const rule = rules.object.spec?.tcp?.find(
    ({ match }) =>
      !match?.length ||
      match.some((m) => namesGateway(m.gateways, rules, server) && (!m.port || m.port === server.server.port.number)),
  );
  const destinations = destinationsOf(model, rules, server, rule?.route ?? []);
  if (destinations.length === 0) return [];
  const filters = [...tcp, tcpProxy(`outbound_0.0.0.0_${port}`, destinations, telemetry)];
  return server.kind === "tls" ? [secureChain(server, filters)] : [create(FilterChainSchema, { filters })];
}

const namesGateway = (gateways: readonly string[] | undefined, rules: RuleSet, server: Server): boolean =>
  !gateways?.length || gateways.some((name) => resolveGateway(name, rules.namespace) === server.key);

function destinationsOf(
  model: Model,
  rules: RuleSet,
  server: Server,
  all: readonly Pick<HttpDestination, "destination" | "weight">[],
): { name: string; weight: number }[] {
  const context = { namespace: rules.namespace, listenerPort: server.server.port.number };
  const live = all.length === 1 ? all : all.filter(({ weight }) => (weight ?? 0) > 0);
  return live.map(({ destination, weight }) => ({
    name: clusterOf(model, destination, context),
    weight: weight || 1,
  }));
}
