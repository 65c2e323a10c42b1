// Telemetry → what each side of a workload logs, traces and counts. Pure.

import type { JsonObject } from "@bufbuild/protobuf";
import { TypedStructSchema } from "#gen/xds/udpa/type/v1/typed_struct_pb.js";
import type { MetricOverride, TelemetrySpec } from "../api/telemetry.ts";
import { pack } from "./envoy.ts";
import type { ListenerTelemetry } from "./filters.ts";
import { type Direction, isAbout, telemetryLevels } from "./telemetry-levels.ts";
import { isMetricsProvider } from "./telemetry-providers.ts";
import { accessLogsOf } from "./translate-access-logs.ts";
import { tracingOf } from "./translate-tracing.ts";
import type { Model, Workload } from "./types.ts";

export const noTelemetry: ListenerTelemetry = { key: "", accessLog: [], stats: undefined, tracing: undefined };

/** What MeshConfig and the Telemetry objects say for one side of a workload. */
export function telemetryOf(model: Model, workload: Workload, direction: Direction): ListenerTelemetry {
  const levels = telemetryLevels(model, workload);
  const accessLog = accessLogsOf(model, levels, direction);
  const metrics = metricsOf(model, levels, direction);
  const traced = tracingOf(model, levels, direction);
  if (accessLog.length === 0 && metrics.length === 0 && traced === undefined) return noTelemetry;
  return {
    key: JSON.stringify([accessLog.map(({ key }) => key), metrics, traced?.key]),
    accessLog: accessLog.map(({ log }) => log),
    tracing: traced?.tracing,
    stats:
      metrics.length === 0
        ? undefined
        : pack(TypedStructSchema, {
            typeUrl: "type.googleapis.com/stats.PluginConfig",
            // As Istio: only a sidecar's own clients are believed about the host they want.
            value: { disable_host_header_fallback: direction === "SERVER" || workload.gateway, metrics },
          }),
  };
}

const metricNames: Readonly<Record<string, string>> = {
  REQUEST_COUNT: "requests_total",
  REQUEST_DURATION: "request_duration_milliseconds",
  REQUEST_SIZE: "request_bytes",
  RESPONSE_SIZE: "response_bytes",
  GRPC_REQUEST_MESSAGES: "request_messages_total",
  GRPC_RESPONSE_MESSAGES: "response_messages_total",
  TCP_OPENED_CONNECTIONS: "tcp_connections_opened_total",
  TCP_CLOSED_CONNECTIONS: "tcp_connections_closed_total",
  TCP_SENT_BYTES: "tcp_sent_bytes_total",
  TCP_RECEIVED_BYTES: "tcp_received_bytes_total",
};

/** The metrics an override is about, by the proxy's names; none for those that do not exist here. */
export function metricsMatched({ match }: MetricOverride): string[] {
  const wanted = match?.metric ?? match?.customMetric ?? "ALL_METRICS";
  if (wanted === "ALL_METRICS") return Object.values(metricNames);
  const name = metricNames[wanted] ?? wanted.replace(/^istio_/, "");
  return Object.values(metricNames).includes(name) ? [name] : [];
}

/** The text of a tag's value; undefined for an expression, which would have to be evaluated per request. */
export const literalTag = (tag: string, value: string | undefined): string | undefined =>
  /^[a-zA-Z_]\w*$/.test(tag) && /^\s*(['"])[^'"]*\1\s*$/.test(value ?? "") ? value : undefined;

/** One entry per metric that differs from the standard; later overrides win field by field. */
function metricsOf(model: Model, levels: readonly TelemetrySpec[], direction: Direction): JsonObject[] {
  const metrics = new Map<string, { drop: boolean; tags: Map<string, string | undefined> }>();
  for (const { metrics: rules = [] } of levels)
    for (const { overrides = [], providers } of rules) {
      if (providers?.length && !providers.some(({ name }) => isMetricsProvider(model, name))) continue;
      for (const override of overrides) if (isAbout(override.match?.mode, direction)) applyOverride(metrics, override);
    }
  const entries: JsonObject[] = [];
  for (const [name, { drop, tags }] of metrics) {
    const set = [...tags].filter((tag): tag is [string, string] => tag[1] !== undefined);
    const removed = [...tags].flatMap(([tag, value]) => (value === undefined ? [tag] : []));
    if (!drop && tags.size === 0) continue;
    entries.push({
      name,
      ...(drop && { drop }),
      ...(set.length > 0 && { dimensions: Object.fromEntries(set) }),
      ...(removed.length > 0 && { tags_to_remove: removed }),
    });
  }
  return entries;
}

function applyOverride(
  metrics: Map<string, { drop: boolean; tags: Map<string, string | undefined> }>,
  override: MetricOverride,
): void {
  for (const name of metricsMatched(override)) {
    const metric = metrics.get(name) ?? { drop: false, tags: new Map() };
    metrics.set(name, metric);
    if (override.disabled !== undefined) metric.drop = override.disabled;
    for (const [tag, { operation, value }] of Object.entries(override.tagOverrides ?? {})) {
      if (operation === "REMOVE") metric.tags.set(tag, undefined);
      else if (literalTag(tag, value) !== undefined) metric.tags.set(tag, value);
    }
  }
}
