// The proxy's admin pages, as Envoy and Istio's agent name them: metrics, readiness, and what each virtual sidecar holds.

import { toJson } from "@bufbuild/protobuf";
import { type RouteConfiguration, RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import type { Metrics } from "../kernel/metrics.ts";
import { typeUrls } from "../xds/types.ts";
import type { Chain } from "./chain.ts";
import type { XdsNode } from "./xds_node.ts";

export interface AdminOptions {
  host: string;
  port: number;
  metrics: Metrics;
  isReady(): boolean;
  /** Named "namespace/pod", or by node id. */
  nodes(): { name: string; node: XdsNode }[];
}

const help = `meshbed proxy
  /metrics            Prometheus text, all workloads of this process
  /ready              200 when every listener serves (also /healthz/ready)
  /workloads          the xDS nodes in this process
  /listeners          ?workload=namespace/pod
  /clusters           ?workload=namespace/pod; endpoints with their state
  /config_dump        ?workload=namespace/pod; listeners, routes, clusters as they are in force
`;

export interface Admin {
  readonly port: number;
  stop(): Promise<void>;
}

export function startAdmin(options: AdminOptions): Admin {
  const chosen = (url: URL) => {
    const wanted = url.searchParams.get("workload");
    return options.nodes().filter(({ name }) => wanted === null || name === wanted);
  };
  const perNode = (url: URL, describe: (node: XdsNode) => unknown) => {
    const nodes = chosen(url);
    if (nodes.length === 0) return new Response("no such workload here; see /workloads\n", { status: 404 });
    return Response.json(Object.fromEntries(nodes.map(({ name, node }) => [name, describe(node)])));
  };
  const server = Bun.serve({
    hostname: options.host,
    port: options.port,
    reusePort: true,
    fetch(request) {
      const url = new URL(request.url);
      if (request.method !== "GET") return new Response("only GET\n", { status: 405 });
      switch (url.pathname) {
        case "/metrics":
        case "/stats/prometheus":
          return new Response(options.metrics.expose(), { headers: { "content-type": "text/plain; version=0.0.4" } });
        case "/ready":
        case "/healthz/ready":
          return options.isReady() ? new Response("LIVE\n") : new Response("PRE_INITIALIZING\n", { status: 503 });
        case "/workloads":
          return Response.json(
            options.nodes().map(({ name, node }) => ({ name, node: node.nodeId, ready: node.isReady })),
          );
        case "/listeners":
          return perNode(url, describeListeners);
        case "/clusters":
          return perNode(url, describeClusters);
        case "/config_dump":
          return perNode(url, (node) => ({
            node: node.nodeId,
            listeners: describeListeners(node),
            routes: describeRoutes(node),
            clusters: describeClusters(node),
          }));
        default:
          return new Response(help, { status: url.pathname === "/" ? 200 : 404 });
      }
    },
  });
  return { port: server.port!, stop: () => server.stop(true) };
}

const describeListeners = (node: XdsNode) =>
  [...node.listeners.values()].map(({ name, host, port, direction, bindToPort, chains, fallback }) => ({
    name,
    address: `${host}:${port}`,
    direction,
    bindToPort,
    chains: [...chains, ...(fallback ? [fallback] : [])].map(({ destinationPort, serverNames, tls, slot }) => ({
      ...(destinationPort !== undefined && { destinationPort }),
      ...(serverNames.length > 0 && { serverNames }),
      tls: tls !== undefined,
      ...describeChain(slot.current),
    })),
  }));

function describeChain(chain: Chain | undefined) {
  if (!chain) return { protocol: "none" };
  if (chain.kind === "tcp") return { protocol: "tcp", clusters: chain.targets.map(({ name }) => name) };
  return { protocol: "http", route: chain.routes.name, filters: chain.filters.map(({ name }) => name) };
}

const describeRoutes = (node: XdsNode) =>
  [...node.accepted.of(typeUrls.route).values()].map(({ message }) =>
    toJson(RouteConfigurationSchema, message as RouteConfiguration),
  );

const describeClusters = (node: XdsNode) =>
  [...node.clusters.values()].map((slot) => ({
    name: slot.name,
    known: slot.current !== undefined,
    policy: slot.current?.balancing.policy,
    requestsActive: slot.requestsActive,
    connections: slot.connectionsActive,
    endpoints: slot.all.map((endpoint) => ({
      address: endpoint.address,
      via: endpoint.transport.connectTarget === undefined ? "plain" : "mtls",
      weight: endpoint.weight,
      healthy: endpoint.healthy,
      active: endpoint.active,
      connections: endpoint.connections,
      requests: endpoint.requests,
      failures: endpoint.failures,
      workload: endpoint.workload.workload,
    })),
  }));
