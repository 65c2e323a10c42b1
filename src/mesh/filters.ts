// Network filters: HTTP connection manager and TCP proxy, as Istio configures them.

import { create } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import type { AccessLog } from "#gen/xds/envoy/config/accesslog/v3/accesslog_pb.js";
import { type Filter, FilterSchema } from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import type { RouteConfiguration } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { CorsSchema } from "#gen/xds/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { HTTPFaultSchema } from "#gen/xds/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { RouterSchema } from "#gen/xds/envoy/extensions/filters/http/router/v3/router_pb.js";
import {
  HttpConnectionManager_ForwardClientCertDetails as ClientCert,
  HttpConnectionManager_CodecType as Codec,
  HttpConnectionManagerSchema,
  type HttpConnectionManager_Tracing as Tracing,
} from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { TcpProxySchema } from "#gen/xds/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { adsSource, durationOf, pack } from "./envoy.ts";

export interface HttpFilter {
  name: string;
  configType: { case: "typedConfig"; value: Any };
}

export const httpFilter = (name: string, config: Any): HttpFilter => ({
  name,
  configType: { case: "typedConfig", value: config },
});

export const networkFilter = (name: string, config: Any): Filter =>
  create(FilterSchema, { name, configType: { case: "typedConfig", value: config } });

/** What a listener says about what goes through it. */
export interface ListenerTelemetry {
  /** Tells configurations apart. */
  key: string;
  accessLog: readonly AccessLog[];
  /** Of the filter istio.stats; undefined for the standard metrics. */
  stats: Any | undefined;
  tracing: Tracing | undefined;
}

const statsFilter = "istio.stats";

/** Made once: the filters' own configuration is empty, routes carry what differs. */
const httpFilters: readonly HttpFilter[] = [
  // A fault is injected before anything else can answer.
  { name: "envoy.filters.http.fault", configType: { case: "typedConfig", value: pack(HTTPFaultSchema, {}) } },
  // Answers preflights, so it comes before what would send them on.
  { name: "envoy.filters.http.cors", configType: { case: "typedConfig", value: pack(CorsSchema, {}) } },
  // Always last: sends the request on.
  { name: "envoy.filters.http.router", configType: { case: "typedConfig", value: pack(RouterSchema, {}) } },
];

/** Requests are routed by an RDS resource (its name) or by a route configuration of their own. */
export function httpManager(options: {
  statPrefix: string;
  routes: string | RouteConfiguration;
  /** At the edge: the caller's address is the truth, not what its headers say. */
  edge: boolean;
  /** Proxies before the edge whose x-forwarded-for is believed. */
  trustedHops?: number;
  /** A workload's own listener: its application learns who called. */
  inbound?: boolean;
  /** Who the caller is and what it may do: before everything else. */
  security?: readonly HttpFilter[];
  telemetry?: ListenerTelemetry;
}): Filter {
  const { routes, edge, inbound = false, statPrefix, security = [], telemetry } = options;
  const stats = telemetry?.stats ? [httpFilter(statsFilter, telemetry.stats)] : [];
  return create(FilterSchema, {
    name: "envoy.filters.network.http_connection_manager",
    configType: {
      case: "typedConfig",
      value: pack(HttpConnectionManagerSchema, {
        codecType: Codec.AUTO,
        statPrefix,
        routeSpecifier:
          typeof routes === "string"
            ? { case: "rds", value: { configSource: adsSource, routeConfigName: routes } }
            : { case: "routeConfig", value: routes },
        httpFilters: [...security, ...stats, ...httpFilters],
        accessLog: [...(telemetry?.accessLog ?? [])],
        ...(telemetry?.tracing && { tracing: telemetry.tracing }),
        useRemoteAddress: edge,
        xffNumTrustedHops: options.trustedHops ?? 0,
        normalizePath: true,
        mergeSlashes: true,
        ...(edge && { requestHeadersTimeout: durationOf(10_000) }),
        upgradeConfigs: [{ upgradeType: "websocket" }],
        // As Istio: what clients claim ends at the edge, and with a workload's own outbound listener.
        ...(edge && {
          forwardClientCertDetails: ClientCert.SANITIZE_SET,
          setCurrentClientCertDetails: { subject: true, cert: true, uri: true, dns: true },
        }),
        ...(inbound && {
          forwardClientCertDetails: ClientCert.APPEND_FORWARD,
          setCurrentClientCertDetails: { subject: true, uri: true, dns: true },
        }),
      }),
    },
  });
}

export interface TcpSettings {
  idleTimeoutMs: number | undefined;
  maxDurationMs: number | undefined;
  /** A client's connections go to one endpoint. */
  hashSourceIp: boolean;
}

/** One cluster, or several with weights. */
export function tcpProxy(
  statPrefix: string,
  clusters: readonly { name: string; weight: number }[],
  telemetry?: ListenerTelemetry,
  settings?: TcpSettings,
): Filter {
  const only = clusters.length === 1 ? clusters[0] : undefined;
  return create(FilterSchema, {
    name: "envoy.filters.network.tcp_proxy",
    configType: {
      case: "typedConfig",
      value: pack(TcpProxySchema, {
        statPrefix,
        clusterSpecifier: only
          ? { case: "cluster", value: only.name }
          : { case: "weightedClusters", value: { clusters: [...clusters] } },
        accessLog: [...(telemetry?.accessLog ?? [])],
        ...(settings?.idleTimeoutMs && { idleTimeout: durationOf(settings.idleTimeoutMs) }),
        ...(settings?.maxDurationMs && { maxDownstreamConnectionDuration: durationOf(settings.maxDurationMs) }),
        ...(settings?.hashSourceIp && { hashPolicy: [{ policySpecifier: { case: "sourceIp", value: {} } }] }),
      }),
    },
  });
}

/** Before the TCP proxy, where metrics are not the standard ones. */
export const statsFilters = ({ stats }: ListenerTelemetry): Filter[] =>
  stats === undefined ? [] : [networkFilter(statsFilter, stats)];
