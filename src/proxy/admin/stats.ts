// Envoy's statistics names, gathered from the counts that the data path keeps anyway; as text, JSON and Prometheus.

import { breakerState, type RoutePriority } from "../balancing/circuit_breaker.ts";
import { ejectionReasons } from "../balancing/outlier.ts";
import type { ClusterSlot } from "../clusters/cluster.ts";
import type { DownstreamCounts } from "../telemetry/counts.ts";

export interface Stat {
  /** Envoy's full name: "cluster.web.upstream_rq_total". */
  name: string;
  kind: "counter" | "gauge";
  value: number;
  /** Envoy's Prometheus name and labels, with what varies taken out of the name. */
  family: string;
  labels: Readonly<Record<string, string>>;
}

/** One proxy process. */
export interface ServerFacts {
  uptimeS: number;
  live: boolean;
  /** Envoy's enum: 0 LIVE, 1 DRAINING, 2 PRE_INITIALIZING. */
  state: number;
  connections: number;
  heapBytes: number;
  residentBytes: number;
}

export interface SocketFacts {
  host: string;
  port: number;
  connections: number;
  active: number;
}

type Labels = Readonly<Record<string, string>>;

/** Makes the stats of one owner: `prefix` in full names, `family` and `labels` for Prometheus. */
const maker =
  (prefix: string, family: string, labels: Labels) =>
  (kind: Stat["kind"], name: string, value: number, generic = name, more: Labels = {}): Stat => ({
    name: `${prefix}.${name}`,
    kind,
    value,
    family: `envoy_${family}_${generic.replaceAll(".", "_")}`,
    labels: { ...more, ...labels },
  });

/** Colons part nothing in a statistics name. */
const plain = (text: string): string => text.replaceAll(":", "_");

export function serverStats(facts: ServerFacts): Stat[] {
  const stat = maker("server", "server", {});
  return [
    stat("gauge", "concurrency", 1),
    stat("gauge", "live", facts.live ? 1 : 0),
    stat("gauge", "memory_allocated", facts.heapBytes),
    stat("gauge", "memory_physical_size", facts.residentBytes),
    stat("gauge", "state", facts.state),
    stat("gauge", "total_connections", facts.connections),
    stat("gauge", "uptime", facts.uptimeS),
  ];
}

export function listenerStats(sockets: Iterable<SocketFacts>): Stat[] {
  return [...sockets].flatMap(({ host, port, connections, active }) => {
    const address = plain(`${host.includes(":") ? `[${host}]` : host}_${port}`);
    const stat = maker(`listener.${address}`, "listener", { envoy_listener_address: address });
    return [stat("gauge", "downstream_cx_active", active), stat("counter", "downstream_cx_total", connections)];
  });
}

/** `key`: "http.<stat_prefix>" or "tcp.<stat_prefix>". */
export function downstreamStats(key: string, counts: DownstreamCounts): Stat[] {
  const isHttp = key.startsWith("http.");
  const label = isHttp ? "envoy_http_conn_manager_prefix" : "envoy_tcp_prefix";
  const stat = maker(plain(key), isHttp ? "http" : "tcp", { [label]: key.slice(key.indexOf(".") + 1) });
  const active = stat("gauge", "downstream_cx_active", counts.connections - counts.connectionsClosed);
  const total = stat("counter", "downstream_cx_total", counts.connections);
  if (!isHttp) return [active, total];
  const completed = counts.ended.reduce((sum, count) => sum + count, 0);
  return [
    active,
    total,
    ...classStats(stat, "downstream_rq", counts.ended),
    stat("gauge", "downstream_rq_active", counts.requests - completed),
    stat("counter", "downstream_rq_completed", completed),
    stat("counter", "downstream_rq_total", counts.requests),
  ];
}

function classStats(stat: ReturnType<typeof maker>, name: string, counts: Float64Array): Stat[] {
  return [1, 2, 3, 4, 5].map((digit) =>
    stat("counter", `${name}_${digit}xx`, counts[digit]!, `${name}_xx`, { envoy_response_code_class: String(digit) }),
  );
}

function breakerStats(stat: ReturnType<typeof maker>, slot: ClusterSlot, priority: RoutePriority): Stat[] {
  const { open, remaining } = breakerState(slot, priority)!;
  const at = `circuit_breakers.${priority}`;
  return [
    ...Object.entries(open).map(([name, isOpen]) => stat("gauge", `${at}.${name}_open`, Number(isOpen))),
    ...Object.entries(remaining ?? {}).map(([name, left]) => stat("gauge", `${at}.remaining_${name}`, left)),
  ];
}

function outlierStats(stat: ReturnType<typeof maker>, { outliers }: ClusterSlot): Stat[] {
  if (outliers === undefined) return [];
  const at = "outlier_detection.ejections";
  const { detectedCount, enforcedCount } = outliers;
  return [
    stat("gauge", `${at}_active`, outliers.ejectedCount),
    ...ejectionReasons.map((reason) => stat("counter", `${at}_detected_${reason}`, detectedCount[reason])),
    ...ejectionReasons.map((reason) => stat("counter", `${at}_enforced_${reason}`, enforcedCount[reason])),
    stat(
      "counter",
      `${at}_enforced_total`,
      Object.values(enforcedCount).reduce((sum, count) => sum + count, 0),
    ),
    stat("counter", `${at}_overflow`, outliers.overflows),
  ];
}

export function clusterStats(slot: ClusterSlot): Stat[] {
  const { counts } = slot;
  if (!slot.current) return [];
  const stat = maker(`cluster.${plain(slot.name)}`, "cluster", { envoy_cluster_name: slot.name });
  const count = (health: string): number => slot.all.filter((endpoint) => endpoint.health === health).length;
  return [
    ...breakerStats(stat, slot, "default"),
    ...breakerStats(stat, slot, "high"),
    stat("gauge", "membership_degraded", count("degraded")),
    stat("gauge", "membership_healthy", count("healthy")),
    stat("gauge", "membership_total", slot.all.length),
    ...outlierStats(stat, slot),
    stat("gauge", "outlier_detection.ejections_active", slot.all.filter(({ outlier }) => outlier?.ejected).length),
    stat("gauge", "upstream_cx_active", slot.connectionsActive),
    stat("counter", "upstream_cx_connect_fail", counts.connectFailures),
    stat("counter", "upstream_cx_total", counts.connections),
    ...classStats(stat, "upstream_rq", counts.answers),
    stat("gauge", "upstream_rq_active", slot.requestsActive + slot.high.requestsActive),
    stat("gauge", "upstream_rq_pending_active", slot.pendingActive + slot.high.pendingActive),
    stat("counter", "upstream_rq_pending_overflow", counts.overflows),
    stat("counter", "upstream_rq_retry", counts.retries),
    stat("counter", "upstream_rq_timeout", counts.timeouts),
    stat("counter", "upstream_rq_total", counts.requests),
  ];
}

// ---- forms ----

export interface StatsFilter {
  /** Of full names. */
  matches(name: string): boolean;
  usedOnly: boolean;
  kind: Stat["kind"] | undefined;
}

export function filterStats(stats: readonly Stat[], { matches, usedOnly, kind }: StatsFilter): Stat[] {
  return stats
    .filter(
      (stat) => (!usedOnly || stat.value !== 0) && (kind === undefined || stat.kind === kind) && matches(stat.name),
    )
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

export const statsText = (stats: readonly Stat[]): string =>
  stats.map(({ name, value }) => `${name}: ${value}\n`).join("");

export const statsJson = (stats: readonly Stat[]): unknown => ({
  stats: stats.map(({ name, value }) => ({ name, value })),
});

/** Text exposition format 0.0.4: the series of a family stand together. */
export function statsPrometheus(stats: readonly Stat[]): string {
  const families = Map.groupBy(stats, ({ family }) => family);
  let text = "";
  for (const [family, series] of families) {
    text += `# TYPE ${family} ${series[0]!.kind}\n`;
    for (const { labels, value } of series) {
      const inside = Object.entries(labels).map(([key, label]) => `${key}="${escapeLabel(label)}"`);
      text += `${family}{${inside.join(",")}} ${value}\n`;
    }
  }
  return text;
}

const escapeLabel = (text: string): string => text.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");
