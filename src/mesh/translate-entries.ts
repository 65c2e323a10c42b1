// How clusters of ServiceEntries find their endpoints where EDS does not tell them: by the caller's destination, or by DNS. Pure.

import { create } from "@bufbuild/protobuf";
import {
  type Cluster,
  Cluster_DiscoveryType as Discovery,
  Cluster_DnsLookupFamily as Family,
} from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { matchesMap } from "../api/selectors.ts";
import { durationOf } from "./envoy.ts";
import type { PortPolicy } from "./policies.ts";
import { givenEndpoints } from "./service-entries.ts";
import { assignment } from "./translate-assignment.ts";
import { groupByLocality } from "./translate-locality.ts";
import type { Model, PortModel, ServiceModel, Subset } from "./types.ts";

/** The time to live of the cluster's own DNS; Istio asks every 60 s or as often as the answer allows. */
const dnsRefreshMs = 5_000;

/** Of a cluster named `name` whose endpoints are names: STRICT_DNS uses every address of every name, LOGICAL_DNS one of one name. */
export function dnsDiscovery(
  model: Model,
  service: ServiceModel,
  port: PortModel,
  subset: Subset | undefined,
  policy: PortPolicy,
  name: string,
): Pick<Cluster, "clusterDiscoveryType" | "dnsLookupFamily" | "dnsRefreshRate" | "respectDnsTtl" | "loadAssignment"> {
  const isLogical = service.entry?.resolution === "DNS_ROUND_ROBIN";
  const endpoints = givenEndpoints(model, service, port).filter(
    ({ labels }) => subset === undefined || matchesMap(subset.labels, labels ?? {}),
  );
  const used = isLogical ? endpoints.slice(0, 1) : endpoints;
  const loadAssignment =
    used.length > 0
      ? assignment(name, groupByLocality(model, used, policy, undefined), false)
      : create(ClusterLoadAssignmentSchema, { clusterName: name });
  return {
    // Envoy takes no logical cluster without a name.
    clusterDiscoveryType: {
      case: "type",
      value: isLogical && used.length > 0 ? Discovery.LOGICAL_DNS : Discovery.STRICT_DNS,
    },
    dnsLookupFamily: Family.V4_ONLY,
    dnsRefreshRate: durationOf(dnsRefreshMs),
    respectDnsTtl: true,
    loadAssignment,
  };
}
