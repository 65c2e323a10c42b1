// Builds small configurations and starts a proxy on them: for this room's tests and for bench/. Nothing at run time imports it.

import { create, type DescMessage, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema, type Duration, DurationSchema } from "@bufbuild/protobuf/wkt";
import { type Cluster, Cluster_DiscoveryType, ClusterSchema } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { TrafficDirection } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignmentSchema,
} from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import type { FilterChainSchema } from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener, ListenerSchema } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import type { RouteSchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { RouterSchema } from "#gen/xds/envoy/extensions/filters/http/router/v3/router_pb.js";
import { HttpConnectionManagerSchema } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { TcpProxySchema } from "#gen/xds/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { type Secret, SecretSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { DownstreamTlsContextSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { type Workload, WorkloadSchema } from "#gen/xds/meshbed/workload/v1/workload_pb.js";
import { realClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { connectMemory, type MemorySnapshots, memorySnapshots } from "../xds/memory.ts";
import { type NamedResource, type Snapshot, typeUrls } from "../xds/types.ts";
import { startProxy } from "./proxy.ts";
import type { ProxyOptions, RunningProxy } from "./types.ts";

export interface Configuration {
  listeners?: Listener[];
  clusters?: Cluster[];
  routes?: RouteConfiguration[];
  endpoints?: ClusterLoadAssignment[];
  secrets?: Secret[];
  workloads?: Workload[];
}

export function pack<S extends DescMessage>(schema: S, init: MessageInitShape<S>): Any {
  const value = toBinary(schema, create(schema, init) as MessageShape<S>);
  return create(AnySchema, { typeUrl: `type.googleapis.com/${schema.typeName}`, value });
}
export const milliseconds = (count: number): Duration =>
  create(DurationSchema, { seconds: BigInt(Math.floor(count / 1000)), nanos: (count % 1000) * 1e6 });

const addressOf = (host: string, port: number) =>
  ({
    address: { case: "socketAddress", value: { address: host, portSpecifier: { case: "portValue", value: port } } },
  }) as const;
const istio = (fields: Record<string, string | { host: string; name: string; namespace: string }[]>) => ({
  filterMetadata: { istio: fields },
});

/** No limits, as Istio says it; Envoy's own defaults let three retries be under way. */
const unlimited = 4_294_967_295;
const noLimits = {
  maxConnections: unlimited,
  maxPendingRequests: unlimited,
  maxRequests: unlimited,
  maxRetries: unlimited,
};

/** STATIC with these "ip:port", or EDS when there are none. */
export function cluster(
  name: string,
  addresses?: readonly string[],
  more: MessageInitShape<typeof ClusterSchema> = {},
): Cluster {
  const type = addresses ? Cluster_DiscoveryType.STATIC : Cluster_DiscoveryType.EDS;
  const init: MessageInitShape<typeof ClusterSchema> = {
    name,
    clusterDiscoveryType: { case: "type", value: type },
    ...(addresses && { loadAssignment: assignment(name, addresses) }),
    circuitBreakers: { thresholds: [noLimits] },
    metadata: istio({ services: [{ host: `${name}.test`, name, namespace: "test" }] }),
  };
  return create(ClusterSchema, { ...init, ...more } as typeof init);
}

export interface EndpointFacts {
  weight?: number;
  priority?: number;
  /** Through a tunnel: the other proxy's address, and who it must be. */
  tunnel?: { address: string; identity: string };
}

export function assignment(
  clusterName: string,
  addresses: readonly string[],
  facts: EndpointFacts | ((address: string) => EndpointFacts) = {},
): ClusterLoadAssignment {
  return create(ClusterLoadAssignmentSchema, {
    clusterName,
    endpoints: addresses.map((text) => {
      const { weight = 1, priority = 0, tunnel } = typeof facts === "function" ? facts(text) : facts;
      const [host, port] = text.split(":");
      const metadata = { filterMetadata: { istio: { workload: "server;test;server;v1;Kubernetes" } } };
      if (tunnel) Object.assign(metadata.filterMetadata, { "meshbed.tunnel": tunnel });
      const hostIdentifier = { case: "endpoint", value: { address: addressOf(host!, Number(port)) } } as const;
      return { priority, lbEndpoints: [{ hostIdentifier, loadBalancingWeight: weight, metadata }] };
    }),
  });
}

type RouteInit = MessageInitShape<typeof RouteSchema>;

export const prefix = (value: string) => ({ pathSpecifier: { case: "prefix", value } }) as const;
/** A StringMatcher. */
export const exact = (value: string) => ({ matchPattern: { case: "exact", value } }) as const;
export const toCluster = (name: string) =>
  ({ case: "route", value: { clusterSpecifier: { case: "cluster", value: name } } }) as const;

/** One virtual host for every name, unless `domains` says otherwise. */
export const routes = (name: string, list: RouteInit[], domains: string[] = ["*"]): RouteConfiguration =>
  create(RouteConfigurationSchema, { name, virtualHosts: [{ name: "all", domains, routes: list }] });

export interface ListenerFacts {
  name?: string;
  inbound?: boolean;
  workload?: string;
  bindToPort?: boolean;
}
type ChainInit = MessageInitShape<typeof FilterChainSchema>;

export function listener(host: string, port: number, chains: ChainInit[], facts: ListenerFacts = {}): Listener {
  const { name = `${host}_${port}`, inbound = false, workload, bindToPort = true } = facts;
  return create(ListenerSchema, {
    name,
    address: addressOf(host, port),
    filterChains: chains,
    bindToPort,
    trafficDirection: inbound ? TrafficDirection.INBOUND : TrafficDirection.OUTBOUND,
    ...(workload !== undefined && { metadata: istio({ workload }) }),
  });
}

type ManagerInit = MessageInitShape<typeof HttpConnectionManagerSchema>;

/** A chain that serves HTTP with the route configuration `routeConfigName` from RDS. */
export function httpChain(routeConfigName: string, manager: ManagerInit = {}, chain: ChainInit = {}): ChainInit {
  const router = { name: "router", configType: { case: "typedConfig", value: pack(RouterSchema, {}) } } as const;
  const init: ManagerInit = { routeSpecifier: { case: "rds", value: { routeConfigName } } };
  const httpFilters = [...(manager.httpFilters ?? []), router];
  const config = pack(HttpConnectionManagerSchema, { ...init, ...manager, httpFilters } as ManagerInit);
  return { filters: [{ name: "http", configType: { case: "typedConfig", value: config } }], ...chain };
}

export function tcpChain(clusterName: string, chain: ChainInit = {}): ChainInit {
  const config = pack(TcpProxySchema, { statPrefix: "tcp", clusterSpecifier: { case: "cluster", value: clusterName } });
  return { filters: [{ name: "tcp", configType: { case: "typedConfig", value: config } }], ...chain };
}

/** TLS at a listener with SDS secrets; with `roots` a client certificate is required. */
export function serverTls(certificate: string, roots?: string): NonNullable<ChainInit["transportSocket"]> {
  const value = pack(DownstreamTlsContextSchema, {
    commonTlsContext: {
      tlsCertificateSdsSecretConfigs: [{ name: certificate }],
      ...(roots !== undefined && {
        validationContextType: { case: "validationContextSdsSecretConfig", value: { name: roots } } as const,
      }),
    },
    requireClientCertificate: roots !== undefined,
  });
  return { name: "tls", configType: { case: "typedConfig", value } };
}

/** A DataSource. */
export const inline = (text: string) => ({ specifier: { case: "inlineString", value: text } }) as const;
export const keyPair = (name: string, pair: { certPem: string; keyPem: string }): Secret =>
  create(SecretSchema, {
    name,
    type: {
      case: "tlsCertificate",
      value: { certificateChain: inline(pair.certPem), privateKey: inline(pair.keyPem) },
    },
  });
export const trusted = (name: string, certPem: string): Secret =>
  create(SecretSchema, { name, type: { case: "validationContext", value: { trustedCa: inline(certPem) } } });

export const workload = (name: string, address: string, nodeId: string): Workload =>
  create(WorkloadSchema, { name, address, nodeId });

let versions = 0;

export function snapshotOf(configuration: Configuration): Snapshot {
  const version = String(++versions);
  const of = (resources: NamedResource[]) => ({ version, resources });
  const named = (list: ({ name: string } & NamedResource["message"])[] = []) =>
    list.map((message) => ({ name: message.name, message }));
  const { listeners, clusters, secrets, workloads, endpoints = [] } = configuration;
  return {
    resources: {
      [typeUrls.listener]: of(named(listeners)),
      [typeUrls.cluster]: of(named(clusters)),
      [typeUrls.route]: of(named(configuration.routes)),
      [typeUrls.endpoint]: of(endpoints.map((message) => ({ name: message.clusterName, message }))),
      [typeUrls.secret]: of(named(secrets)),
      [typeUrls.workload]: of(named(workloads)),
    },
  };
}

export interface FixtureProxy {
  readonly running: RunningProxy;
  readonly snapshots: MemorySnapshots;
  /** Replaces the configuration of the proxy's own node. */
  configure(configuration: Configuration): Promise<void>;
  metrics(): Promise<string>;
  close(): Promise<void>;
}

const settleMs = 20;

/** A proxy in this process; resolves when it has its configuration and listens. */
export async function startFixture(
  configuration: Configuration,
  more: Partial<ProxyOptions> = {},
  others: Record<string, Configuration> = {},
): Promise<FixtureProxy> {
  const { nodeId = "router~127.0.0.1~gateway.test~test.svc.cluster.local" } = more;
  const snapshots = memorySnapshots();
  snapshots.set(nodeId, snapshotOf(configuration));
  for (const [node, its] of Object.entries(others)) snapshots.set(node, snapshotOf(its));
  const running = await startProxy({
    role: "router",
    nodeId,
    bindMode: { nodeIp: "127.0.0.1", mode: "ports" },
    xds: connectMemory({ source: snapshots, log: silentLog, clock: realClock }),
    admin: { host: "127.0.0.1", port: 0 },
    clock: realClock,
    random: seededRandom(1),
    log: silentLog,
    ...more,
  });
  const admin = `http://127.0.0.1:${running.adminPort}`;
  for (let i = 0; i < 100 && !(await fetch(`${admin}/ready`)).ok; i++) await realClock.sleep(settleMs);
  return {
    running,
    snapshots,
    async configure(next) {
      snapshots.set(nodeId, snapshotOf(next));
      await realClock.sleep(settleMs);
    },
    metrics: async () => (await fetch(`${admin}/metrics`)).text(),
    close: () => running.close(),
  };
}

/** A port that was free on this address a moment ago. */
export function freePort(host = "127.0.0.1"): number {
  const probe = Bun.listen({ hostname: host, port: 0, socket: { data() {} } });
  const { port } = probe;
  probe.stop(true);
  return port;
}

export interface RawAnswer {
  text: string;
  /** The server closed the connection. */
  closed: boolean;
}

/** Sends bytes as they are and collects what comes back: until the server closes, `enough` says so, or the time is up. */
export async function raw(
  port: number,
  pieces: string | readonly (string | Uint8Array)[],
  enough: (text: string) => boolean = () => false,
  timeoutMs = 1_500,
): Promise<RawAnswer> {
  const { promise, resolve } = Promise.withResolvers<RawAnswer>();
  let text = "";
  const finish = (closed: boolean): void => resolve({ text, closed });
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data(_socket, chunk) {
        text += chunk.latin1Slice(0, chunk.length);
        if (enough(text)) finish(false);
      },
      close: () => finish(true),
      error: () => finish(true),
    },
  });
  const cancel = realClock.after(timeoutMs, () => finish(false));
  for (const piece of typeof pieces === "string" ? [pieces] : pieces) {
    socket.write(piece);
    if (typeof pieces !== "string") await realClock.sleep(2);
  }
  const answer = await promise;
  cancel();
  socket.terminate();
  return answer;
}

/** Heads of requests for `raw`, and the status codes of what came back. */
export const getRequest = (...lines: string[]): string =>
  `${["GET / HTTP/1.1", "host: a", ...lines].join("\r\n")}\r\n\r\n`;
export const statusesOf = (text: string): number[] =>
  [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status));

/** Polls until `condition` holds; throws after `timeoutMs` with what it waited for. */
export async function until(what: string, condition: () => boolean, timeoutMs = 3_000): Promise<void> {
  const deadlineMs = realClock.monotonicMs() + timeoutMs;
  while (!condition()) {
    if (realClock.monotonicMs() > deadlineMs) throw new Error(`not reached: ${what}`);
    await realClock.sleep(2);
  }
}
