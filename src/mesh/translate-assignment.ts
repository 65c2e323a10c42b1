// Endpoints grouped by locality → a load assignment. Pure.

import { create } from "@bufbuild/protobuf";
import { type Metadata, MetadataSchema } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import { HealthStatus } from "#gen/xds/envoy/config/core/v3/health_check_pb.js";
import { type LbEndpoint, LbEndpointSchema } from "#gen/xds/envoy/config/endpoint/v3/endpoint_components_pb.js";
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignmentSchema,
} from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { tcpAddress } from "./envoy.ts";
import type { Endpoint } from "./translate-endpoints.ts";
import type { LocalityGroup } from "./translate-locality.ts";
import type { Workload } from "./types.ts";

/** `tunnel`: endpoints in the mesh are reached by its tunnel. */
export function assignment(
  clusterName: string,
  groups: readonly LocalityGroup<Endpoint>[],
  tunnel: boolean,
): ClusterLoadAssignment {
  return create(ClusterLoadAssignmentSchema, {
    clusterName,
    endpoints: groups.map(({ locality, priority, weight, endpoints }) => ({
      locality,
      priority,
      loadBalancingWeight: weight,
      lbEndpoints: endpoints.map((endpoint) => lbEndpoint(endpoint, tunnel)),
    })),
  });
}

function lbEndpoint(endpoint: Endpoint, tunnel: boolean): LbEndpoint {
  const { workload } = endpoint;
  return create(LbEndpointSchema, {
    hostIdentifier: { case: "endpoint", value: { address: tcpAddress(endpoint.address, endpoint.port) } },
    healthStatus: endpoint.draining ? HealthStatus.DRAINING : HealthStatus.HEALTHY,
    loadBalancingWeight: endpoint.weight || 1,
    ...(workload && { metadata: endpointMetadata(workload, endpoint.address, tunnel && endpoint.peers !== "DISABLE") }),
  });
}

function endpointMetadata(workload: Workload, address: string, tunnel: boolean): Metadata {
  const filterMetadata: Metadata["filterMetadata"] = { istio: { workload: workload.about } };
  if (tunnel && workload.injected)
    filterMetadata["meshbed.tunnel"] = {
      address: `${address}:${workload.tunnelPort}`,
      identity: workload.identity,
      ...(workload.otherIdentities && { aliases: [...workload.otherIdentities] }),
    };
  return create(MetadataSchema, { filterMetadata });
}
