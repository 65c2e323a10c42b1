// What a gRPC client without a proxy is told (Istio: metadata GENERATOR "grpc"): per service port an API listener, routes, clusters, endpoints.
// It speaks plain text: clusters that ask for TLS are left out, so that nothing is sent in the clear that must not be.

import { create } from "@bufbuild/protobuf";
import {
  type Cluster,
  ClusterSchema,
  Cluster_DiscoveryType as Discovery,
  Cluster_LbPolicy as Lb,
} from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { LocalityLbEndpointsSchema } from "#gen/xds/envoy/config/endpoint/v3/endpoint_components_pb.js";
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignmentSchema,
} from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { type Listener, ListenerSchema } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import type { Route } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { HTTPFaultSchema } from "#gen/xds/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { RouterSchema } from "#gen/xds/envoy/extensions/filters/http/router/v3/router_pb.js";
import { HttpConnectionManagerSchema } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { hostPort } from "../kernel/host_port.ts";
import { adsSource, pack } from "./envoy.ts";
import { outboundName } from "./translate-clusters.ts";
import { type Client, type RuleIndex, singleServiceRoutes } from "./translate-virtual-hosts.ts";
import type { Model, PortModel, ServiceModel } from "./types.ts";

const faultFilter = "envoy.filters.http.fault";

/** Ports that calls can go to. */
const portsOf = (service: ServiceModel): PortModel[] =>
  service.ports.filter(({ protocol }) => protocol === "grpc" || protocol === "http2" || protocol === "http");

/** What "xds:///host:port" asks for. */
export const apiListeners = (services: readonly ServiceModel[]): Listener[] =>
  services.flatMap((service) =>
    portsOf(service).map(({ port }) =>
      create(ListenerSchema, {
        name: hostPort(service.host, port),
        apiListener: {
          apiListener: pack(HttpConnectionManagerSchema, {
            httpFilters: [
              { name: faultFilter, configType: { case: "typedConfig", value: pack(HTTPFaultSchema, {}) } },
              {
                name: "envoy.filters.http.router",
                configType: { case: "typedConfig", value: pack(RouterSchema, {}) },
              },
            ],
            routeSpecifier: {
              case: "rds",
              value: { configSource: adsSource, routeConfigName: outboundName(port, "", service.host) },
            },
          }),
        },
      }),
    ),
  );

export const proxylessRoutes = (
  model: Model,
  services: readonly ServiceModel[],
  rules: RuleIndex,
  client: Client,
): RouteConfiguration[] =>
  services.flatMap((service) =>
    portsOf(service).map(({ port }) => {
      const { virtualHosts } = singleServiceRoutes(model, service, rules, client, port);
      return create(RouteConfigurationSchema, {
        name: outboundName(port, "", service.host),
        virtualHosts: virtualHosts.map((host) => ({ ...host, routes: host.routes.map(proxylessRoute) })),
      });
    }),
  );

/** gRPC only forwards: what answers or redirects becomes a route whose calls fail. It refuses filters' settings that it does not know. */
function proxylessRoute(route: Route): Route {
  const fault = route.typedPerFilterConfig[faultFilter];
  return {
    ...route,
    ...(route.action.case !== "route" && { action: { case: "nonForwardingAction", value: {} as never } }),
    typedPerFilterConfig: fault ? { [faultFilter]: fault } : {},
  };
}

/** Of Envoy's policies gRPC knows round robin and ring hash; what else is set becomes round robin, as in Istio. */
export function proxylessCluster(cluster: Cluster): Cluster | undefined {
  const { name, lbPolicy, lbConfig, clusterDiscoveryType, circuitBreakers } = cluster;
  const isEds = clusterDiscoveryType.case === "type" && clusterDiscoveryType.value === Discovery.EDS;
  if (!isEds || cluster.transportSocket || cluster.transportSocketMatches.length > 0) return undefined;
  const isRing = lbPolicy === Lb.RING_HASH && lbConfig.case === "ringHashLbConfig";
  return create(ClusterSchema, {
    name,
    clusterDiscoveryType,
    edsClusterConfig: { edsConfig: adsSource, serviceName: cluster.edsClusterConfig?.serviceName ?? name },
    lbPolicy: isRing ? Lb.RING_HASH : Lb.ROUND_ROBIN,
    ...(isRing && { lbConfig }),
    ...(circuitBreakers && { circuitBreakers }),
  });
}

/** gRPC wants every locality named and weighted. */
export const proxylessEndpoints = (assignment: ClusterLoadAssignment): ClusterLoadAssignment =>
  create(ClusterLoadAssignmentSchema, {
    ...assignment,
    endpoints: assignment.endpoints.map(({ lbEndpoints, locality, loadBalancingWeight, priority }) =>
      create(LocalityLbEndpointsSchema, {
        lbEndpoints,
        locality: locality ?? {},
        loadBalancingWeight: loadBalancingWeight ?? Math.max(1, lbEndpoints.length),
        priority,
      }),
    ),
  });
