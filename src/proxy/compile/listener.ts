// Envoy Listener messages → compiled listeners: chains told apart by port, server name and protocol, with their network filters.

import type { Any } from "@bufbuild/protobuf/wkt";
import { TrafficDirection, type TransportSocket } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import type {
  FilterChain as FilterChainMessage,
  Filter as NetworkFilterMessage,
} from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import type { Listener as ListenerMessage } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import type { RouteConfiguration } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import {
  HttpConnectionManager_CodecType as CodecType,
  type HttpConnectionManager,
  HttpConnectionManagerSchema,
  type HttpFilter as HttpFilterMessage,
  HttpConnectionManager_ServerHeaderTransformation as ServerHeader,
  HttpConnectionManager_PathWithEscapedSlashesAction as SlashesAction,
} from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { type TcpProxy, TcpProxySchema } from "#gen/xds/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { headerCountMax, requestHeadBytesMax } from "../../wire/http1_head.ts";
import type { Chain, ChainOwner, ChainSlot, HttpChain, InboundStats, RouteSlot, TcpChain } from "../chain.ts";
import type { ClusterSlot } from "../clusters/cluster.ts";
import type { FilterDeps, NetworkFilter } from "../filter.ts";
import { compileNetworkFilter } from "../filters/network_registry.ts";
import { compileFilters } from "../filters/registry.ts";
import { compileHeaderPolicy } from "../http/header_policy.ts";
import { compileLocalReply } from "../http/local_reply.ts";
import type { HostRules } from "../http/request.ts";
import { compileAccessLogs } from "../log/access_log.ts";
import type { LogSinks } from "../log/sinks.ts";
import { type ChainMatch, compileChainMatch } from "../routing/chain_match.ts";
import type { EscapedSlashes } from "../routing/path.ts";
import type { DownstreamCounts } from "../telemetry/counts.ts";
import { compileTelemetry, statsFilterName, type TelemetryOptions } from "../telemetry/options.ts";
import { compileClientCert } from "../tls/client_cert.ts";
import { compileServerTls, type ServerTls } from "../tls/compile_server.ts";
import type { SecretStore } from "../tls/secrets.ts";
import { compileTracing } from "../tracing/compile.ts";
import type { SpanExporters } from "../tracing/span_exporter.ts";
import { durationMs, istioMetadata, socketAddress, unpack } from "./any.ts";
import { downstreamHttp2 } from "./http2.ts";

export interface CompiledChain extends ChainMatch {
  /** Stable across updates: a new configuration fills the same slot. */
  key: string;
  chain: Chain | undefined;
  slot: ChainSlot;
  tls: ServerTls | undefined;
}

export interface CompiledListener {
  name: string;
  host: string;
  port: number;
  bindToPort: boolean;
  /** Takes the connections that no other listener of its workload does (use_original_dst), on these ports as well. */
  takesRest: boolean;
  restPorts: readonly number[];
  direction: "inbound" | "outbound";
  /** connect_terminate: CONNECT selects the chain. */
  isTunnel: boolean;
  chains: readonly CompiledChain[];
  fallback: CompiledChain | undefined;
  /** The first bytes decide: TLS or not, and for which server name. */
  sniffsTls: boolean;
  /** Connections begin with a PROXY protocol header. */
  proxyProtocol: boolean;
  workload: string | undefined;
}

export interface ListenerContext extends FilterDeps {
  owner: ChainOwner;
  secrets: SecretStore;
  sinks: LogSinks;
  exporters: SpanExporters;
  cluster(name: string): ClusterSlot;
  routes(name: string): RouteSlot;
  inlineRoutes(config: RouteConfiguration, key: string): RouteSlot;
  chainSlot(key: string): ChainSlot;
  stats(key: string): InboundStats;
  /** By "http.<stat_prefix>" or "tcp.<stat_prefix>". */
  counts(key: string): DownstreamCounts;
}

/** Istio's gateways and sidecars name themselves so. */
const serverName = "istio-envoy";
const defaultStreamIdleMs = 300_000;
/** Endpoints a TCP connection is tried on (Envoy's max_connect_attempts is 1; further ones hide a pod that has just gone). */
const tcpConnectTriesMax = 3;
const defaultConnectionIdleMs = 3_600_000;
/** Slow heads: strict at the edge; in the mesh a minute, as a busy application may stall. */
const headerTimeoutMs = { edge: 10_000, mesh: 60_000 } as const;

export function compileListener(message: ListenerMessage, context: ListenerContext): CompiledListener {
  const { name } = message;
  const { host, port } = socketAddress(message.address, `listener ${name}`);
  const direction = message.trafficDirection === TrafficDirection.INBOUND ? "inbound" : "outbound";
  const isTunnel = name === "connect_terminate";
  const chains = message.filterChains.map((chain, index) =>
    compileChain(chain, index, { name, direction, isTunnel }, context),
  );
  const fallback =
    message.defaultFilterChain && compileChain(message.defaultFilterChain, -1, { name, direction, isTunnel }, context);
  const all = fallback ? [...chains, fallback] : chains;
  const workload = istioMetadata(message.metadata)["workload"];
  return {
    name,
    host,
    port,
    bindToPort: message.bindToPort ?? true,
    takesRest: message.useOriginalDst === true && message.bindToPort === false,
    restPorts: message.additionalAddresses.map(({ address }) => socketAddress(address, `listener ${name}`).port),
    direction,
    isTunnel,
    chains,
    fallback,
    sniffsTls: all.some(
      ({ tls, serverNames, transportProtocol, applicationProtocols }) =>
        tls || serverNames.length > 0 || transportProtocol !== "" || applicationProtocols.length > 0,
    ),
    proxyProtocol: hasProxyProtocol(message),
    workload: typeof workload === "string" ? workload : undefined,
  };
}

/** Other listener filters (tls_inspector, original_dst, …) say what is done anyway. */
function hasProxyProtocol({ name, listenerFilters }: ListenerMessage): boolean {
  const found = listenerFilters.find((filter) => filter.name === "envoy.filters.listener.proxy_protocol");
  if (found?.configType.case === "typedConfig" && found.configType.value.value.length > 0)
    throw new MeshbedError("LISTENER_UNSUPPORTED", `listener ${name}: options of ${found.name} are not supported`);
  return found !== undefined;
}

interface ListenerFacts {
  name: string;
  direction: "inbound" | "outbound";
  isTunnel: boolean;
}

function compileChain(
  message: FilterChainMessage,
  index: number,
  listener: ListenerFacts,
  context: ListenerContext,
): CompiledChain {
  const at = `listener ${listener.name}, filter chain ${message.name || index}`;
  const match = compileChainMatch(message.filterChainMatch, at);
  const key = `${listener.name}|${message.name || (index < 0 ? "default" : match.text || index)}`;
  return {
    key,
    chain: listener.isTunnel ? undefined : compileFilterChain(message.filters, key, at, listener, context),
    slot: context.chainSlot(key),
    tls: compileTransport(message.transportSocket, at, context.secrets),
    ...match,
  };
}

function compileTransport(
  socket: TransportSocket | undefined,
  at: string,
  secrets: SecretStore,
): ServerTls | undefined {
  if (socket === undefined || /(^|\.)raw_buffer$/.test(socket.name)) return undefined;
  return compileServerTls(socket, at, secrets);
}

function compileFilterChain(
  filters: readonly NetworkFilterMessage[],
  key: string,
  at: string,
  listener: ListenerFacts,
  context: ListenerContext,
): Chain {
  const networkFilters: NetworkFilter[] = [];
  for (const filter of filters) {
    const config: Any | undefined = filter.configType.case === "typedConfig" ? filter.configType.value : undefined;
    const http = config && unpack(config, HttpConnectionManagerSchema);
    if (http) return compileHttp(http, networkFilters, key, at, listener, context);
    const tcp = config && unpack(config, TcpProxySchema);
    if (tcp)
      return { ...compileTcp(tcp, networkFilters, key, at, listener, context), telemetry: telemetryOf(filters, at) };
    const compiled = compileNetworkFilter(filter.name, config, at, context);
    if (compiled) networkFilters.push(compiled);
  }
  throw new MeshbedError("LISTENER_INVALID", `${at}: no terminal filter`);
}

function compileHttp(
  http: HttpConnectionManager,
  networkFilters: readonly NetworkFilter[],
  key: string,
  at: string,
  listener: ListenerFacts,
  context: ListenerContext,
): HttpChain {
  const inbound = listener.direction === "inbound";
  const edge = http.useRemoteAddress === true;
  const specifier = http.routeSpecifier;
  let routes: RouteSlot;
  if (specifier.case === "rds") routes = context.routes(specifier.value.routeConfigName);
  else if (specifier.case === "routeConfig") routes = context.inlineRoutes(specifier.value, key);
  else throw new MeshbedError("LISTENER_INVALID", `${key}: route specifier "${specifier.case}" is not supported`);
  const pass = http.serverHeaderTransformation === ServerHeader.PASS_THROUGH || (inbound && http.serverName === "");
  const upgrades = http.upgradeConfigs
    .filter(({ enabled }) => enabled !== false)
    .map(({ upgradeType }) => upgradeType.toLowerCase());
  // Telemetry is built in; its filter only configures it.
  const httpFilters = http.httpFilters.filter(({ name }) => name !== statsFilterName);
  const filters = compileFilters(httpFilters, context);
  return {
    kind: "http",
    owner: context.owner,
    inbound,
    routes,
    codec: codecOf(http.codecType, at),
    http2: downstreamHttp2(http.http2ProtocolOptions, edge, clientLimits(http, edge)),
    filters,
    responders: filters.filter(({ onResponse }) => onResponse).reverse(),
    networkFilters,
    edge,
    policy: compileHeaderPolicy(http),
    trustedHops: http.xffNumTrustedHops,
    serverName: pass ? undefined : http.serverName || serverName,
    upgrades: new Set(upgrades),
    proxiesContinue: http.proxy100Continue,
    trailers: http.httpProtocolOptions?.enableTrailers ?? false,
    escapedSlashes: escapedSlashesOf(http),
    hostRules: hostRulesOf(http),
    requestTimeoutMs: durationMs(http.requestTimeout, 0) || Number.POSITIVE_INFINITY,
    maxStreamDurationMs: durationMs(http.commonHttpProtocolOptions?.maxStreamDuration, 0),
    clientCert: compileClientCert(http),
    accessLog: compileAccessLogs(http.accessLog, context, at),
    telemetry: telemetryOf(http.httpFilters, at),
    tracing: compileTracing(http.tracing, inbound, context, at),
    localReply: compileLocalReply(http.localReplyConfig, context.random, at),
    streamIdleMs: durationMs(http.streamIdleTimeout, defaultStreamIdleMs) || Number.POSITIVE_INFINITY,
    connectionIdleMs:
      durationMs(http.commonHttpProtocolOptions?.idleTimeout, defaultConnectionIdleMs) || Number.POSITIVE_INFINITY,
    ...clientLimits(http, edge),
    stats: context.stats(key),
    counts: context.counts(`http.${http.statPrefix || listener.name}`),
  };
}

function codecOf(type: CodecType, at: string): HttpChain["codec"] {
  if (type === CodecType.HTTP3) throw new MeshbedError("LISTENER_INVALID", `${at}: HTTP/3 is not supported`);
  return type === CodecType.HTTP1 ? "http1" : type === CodecType.HTTP2 ? "http2" : "auto";
}

/** What one client may take of time, requests and head; 0 switches a timeout off, as in Envoy. */
function clientLimits(http: HttpConnectionManager, edge: boolean) {
  const common = http.commonHttpProtocolOptions;
  const never = Number.POSITIVE_INFINITY;
  const headMs = durationMs(http.requestHeadersTimeout, edge ? headerTimeoutMs.edge : headerTimeoutMs.mesh) || never;
  return {
    headerTimeoutMs: headMs,
    bodyWindowMs: edge ? headMs : never,
    headersMax: Math.min(common?.maxHeadersCount ?? headerCountMax, headerCountMax),
    headBytesMax: Math.min((http.maxRequestHeadersKb ?? 60) * 1024, requestHeadBytesMax),
    connectionMaxMs: durationMs(common?.maxConnectionDuration, 0) || never,
    requestsPerConnectionMax: common?.maxRequestsPerConnection || never,
  };
}

function telemetryOf(filters: readonly (NetworkFilterMessage | HttpFilterMessage)[], at: string): TelemetryOptions {
  const config = filters.find(({ name }) => name === statsFilterName)?.configType;
  return compileTelemetry(config?.case === "typedConfig" ? config.value : undefined, at);
}

function escapedSlashesOf(http: HttpConnectionManager): EscapedSlashes {
  switch (http.pathWithEscapedSlashesAction) {
    case SlashesAction.REJECT_REQUEST:
      return "reject";
    case SlashesAction.UNESCAPE_AND_REDIRECT:
      return "redirect";
    case SlashesAction.UNESCAPE_AND_FORWARD:
      return "forward";
    default:
      return "keep";
  }
}

function hostRulesOf(http: HttpConnectionManager): HostRules | undefined {
  const any = http.stripPortMode.case === "stripAnyHostPort" && http.stripPortMode.value;
  const port = any ? "any" : http.stripMatchingHostPort ? "matching" : "keep";
  return port === "keep" && !http.stripTrailingHostDot ? undefined : { port, trailingDot: http.stripTrailingHostDot };
}

function compileTcp(
  tcp: TcpProxy,
  networkFilters: readonly NetworkFilter[],
  key: string,
  at: string,
  listener: ListenerFacts,
  context: ListenerContext,
): Omit<TcpChain, "telemetry"> {
  const specifier = tcp.clusterSpecifier;
  const targets: ClusterSlot[] = [];
  const weights: number[] = [];
  if (specifier.case === "cluster") {
    targets.push(context.cluster(specifier.value));
    weights.push(1);
  } else if (specifier.case === "weightedClusters")
    for (const { name, weight } of specifier.value.clusters) {
      targets.push(context.cluster(name));
      weights.push(weight);
    }
  else throw new MeshbedError("LISTENER_INVALID", `${key}: tcp_proxy without a cluster`);
  return {
    kind: "tcp",
    owner: context.owner,
    inbound: listener.direction === "inbound",
    targets,
    weights,
    totalWeight: weights.reduce((sum, weight) => sum + weight, 0),
    networkFilters,
    accessLog: compileAccessLogs(tcp.accessLog, context, at),
    idleMs: durationMs(tcp.idleTimeout, defaultConnectionIdleMs) || Number.POSITIVE_INFINITY,
    maxDurationMs: durationMs(tcp.maxDownstreamConnectionDuration, 0) || Number.POSITIVE_INFINITY,
    connectTriesMax: tcp.maxConnectAttempts ?? tcpConnectTriesMax,
    hashSourceIp: tcp.hashPolicy.some(({ policySpecifier }) => policySpecifier.case === "sourceIp"),
    stats: context.stats(key),
    counts: context.counts(`tcp.${tcp.statPrefix || listener.name}`),
  };
}
