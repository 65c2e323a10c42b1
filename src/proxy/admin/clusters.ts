// /clusters: every cluster with its circuit breakers and endpoints, in Envoy's text form and as admin.v3.Clusters.

import type { ClusterSlot, Endpoint } from "../clusters/cluster.ts";
import type { Thresholds } from "../clusters/config.ts";

/** What Envoy prints for "no limit". */
const unlimited = 4_294_967_295;
const limit = (value: number): number => (Number.isFinite(value) ? value : unlimited);

const breakers = (thresholds: Thresholds): [string, number][] => [
  ["max_connections", limit(thresholds.connectionsMax)],
  ["max_pending_requests", limit(thresholds.pendingRequestsMax)],
  ["max_requests", limit(thresholds.requestsMax)],
  ["max_retries", limit(thresholds.retriesMax)],
];

const hostStats = (endpoint: Endpoint): { type: "COUNTER" | "GAUGE"; name: string; value: number }[] => [
  { type: "GAUGE", name: "cx_active", value: endpoint.connections },
  { type: "GAUGE", name: "rq_active", value: endpoint.active },
  { type: "COUNTER", name: "rq_error", value: endpoint.failures },
  { type: "COUNTER", name: "rq_total", value: endpoint.requests },
];

/** Envoy's health flags; "healthy" without any. */
function healthFlags({ failedActiveCheck, outlier, placement }: Endpoint): string {
  const flags = [
    ...(failedActiveCheck ? ["/failed_active_hc"] : []),
    ...(outlier?.ejected ? ["/failed_outlier_check"] : []),
    ...(placement.health === "unhealthy" ? ["/failed_eds_health"] : []),
    ...(placement.health === "degraded" ? ["/degraded_eds_health"] : []),
  ];
  return flags.length === 0 ? "healthy" : flags.join("");
}

/** `isDynamic`: told by a control plane. A cluster that a route names and nobody has described is not one. */
export function clustersText(slots: Iterable<ClusterSlot>, isDynamic: boolean): string {
  const lines: string[] = [];
  for (const { name, current, all } of slots) {
    if (!current) continue;
    lines.push(`${name}::observability_name::${name}`);
    for (const [priority, thresholds] of [
      ["default_priority", current.thresholds],
      ["high_priority", current.highThresholds],
    ] as const)
      for (const [what, value] of breakers(thresholds)) lines.push(`${name}::${priority}::${what}::${value}`);
    lines.push(`${name}::added_via_api::${isDynamic}`);
    if (current.edsName !== undefined) lines.push(`${name}::eds_service_name::${current.edsName}`);
    for (const endpoint of all) {
      const host = `${name}::${endpoint.address}`;
      for (const stat of hostStats(endpoint)) lines.push(`${host}::${stat.name}::${stat.value}`);
      lines.push(
        `${host}::hostname::${endpoint.placement.healthCheck?.host ?? ""}`,
        `${host}::health_flags::${healthFlags(endpoint)}`,
        `${host}::weight::${endpoint.weight}`,
        ...localityOf(endpoint).map(([field, value]) => `${host}::${field}::${value}`),
        `${host}::canary::false`,
        `${host}::priority::${endpoint.priority}`,
      );
    }
  }
  return lines.map((line) => `${line}\n`).join("");
}

function localityOf({ placement }: Endpoint): [string, string][] {
  const [region = "", zone = "", subZone = ""] = placement.locality.split("/");
  return [
    ["region", region],
    ["zone", zone],
    ["sub_zone", subZone],
  ];
}

const edsHealth = { healthy: "HEALTHY", degraded: "DEGRADED", unhealthy: "UNHEALTHY" } as const;

export function clustersJson(slots: Iterable<ClusterSlot>, isDynamic: boolean): unknown {
  const statuses = [];
  for (const { name, current, all } of slots)
    if (current)
      statuses.push({
        name,
        added_via_api: isDynamic,
        host_statuses: all.map(hostStatus),
        circuit_breakers: {
          thresholds: [
            Object.fromEntries(breakers(current.thresholds)),
            { priority: "HIGH", ...Object.fromEntries(breakers(current.highThresholds)) },
          ],
        },
        observability_name: name,
        ...(current.edsName !== undefined && { eds_service_name: current.edsName }),
      });
  return { cluster_statuses: statuses };
}

function hostStatus(endpoint: Endpoint): unknown {
  const { address, placement, failedActiveCheck, outlier, weight, priority, transport } = endpoint;
  const colon = address.lastIndexOf(":");
  return {
    address: { socket_address: { address: address.slice(0, colon), port_value: Number(address.slice(colon + 1)) } },
    stats: hostStats(endpoint).map((stat) => ({ ...stat, value: String(stat.value) })),
    health_status: {
      eds_health_status: edsHealth[placement.health],
      ...(failedActiveCheck && { failed_active_health_check: true }),
      ...(outlier?.ejected && { failed_outlier_check: true }),
    },
    weight,
    ...(priority > 0 && { priority }),
    locality: Object.fromEntries(localityOf(endpoint).filter(([, value]) => value !== "")),
    // Beyond Envoy's fields: the mesh's tunnel, when the endpoint is reached through one.
    ...(transport.connectTarget !== undefined && { tunnel: `${transport.host}:${transport.port}` }),
  };
}
