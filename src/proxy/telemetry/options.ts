// What Istio's Telemetry API makes of the standard metrics: the configuration of the `istio.stats` filter (stats.PluginConfig).

import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { TypedStructSchema as UdpaTypedStructSchema } from "#gen/xds/udpa/type/v1/typed_struct_pb.js";
import { TypedStructSchema } from "#gen/xds/xds/type/v3/typed_struct_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { unpack } from "../compile/any.ts";

export const statsFilterName = "istio.stats";

/** Without the "istio_" in front, as the configuration names them. */
export const metricNames = [
  "requests_total",
  "request_duration_milliseconds",
  "request_bytes",
  "response_bytes",
  "request_messages_total",
  "response_messages_total",
  "tcp_connections_opened_total",
  "tcp_connections_closed_total",
  "tcp_sent_bytes_total",
  "tcp_received_bytes_total",
] as const;
export type MetricName = (typeof metricNames)[number];

export interface MetricOptions {
  drop: boolean;
  /** Labels set to a fixed value, or undefined to remove them. */
  labels: Readonly<Record<string, string | undefined>>;
}

export interface TelemetryOptions {
  /** Tells configurations apart: equal ones are one object. */
  readonly key: string;
  /** Nothing is measured at all. */
  readonly off: boolean;
  /** Only metrics that differ from Istio's standard. */
  readonly metrics: Readonly<Partial<Record<MetricName, MetricOptions>>>;
  /** Trace ids of sampled requests are kept beside histogram buckets (OpenMetrics exemplars). */
  readonly exemplars: boolean;
  /** A destination the control plane does not name is called by the Host field. */
  readonly hostFallback: boolean;
}

/** Without an `istio.stats` filter. */
export const standardTelemetry: TelemetryOptions = {
  key: "",
  off: false,
  metrics: {},
  exemplars: false,
  hostFallback: false,
};

const known = new Map<string, TelemetryOptions>();
/** Configurations remembered; beyond, equal ones may be several objects, which costs only look-ups. */
const knownMax = 100;

/** `config` is a TypedStruct of stats.PluginConfig; `owner` names the listener in errors. */
export function compileTelemetry(config: Any | undefined, owner: string): TelemetryOptions {
  if (config === undefined) return standardTelemetry;
  const at = `${owner}, filter ${statsFilterName}`;
  const struct = structOf(config, at);
  const key = JSON.stringify(struct);
  const before = known.get(key);
  if (before) return before;
  const metrics: Partial<Record<MetricName, MetricOptions>> = {};
  for (const entry of listOf(struct["metrics"])) override(metrics, entry, at);
  const options: TelemetryOptions = {
    key,
    off: metricNames.every((name) => metrics[name]?.drop),
    metrics,
    exemplars: struct["exemplars"] === true,
    hostFallback: (struct["disable_host_header_fallback"] ?? struct["disableHostHeaderFallback"]) !== true,
  };
  if (known.size < knownMax) known.set(key, options);
  return options;
}

function structOf(config: Any, at: string): JsonObject {
  const typed = unpack(config, UdpaTypedStructSchema) ?? unpack(config, TypedStructSchema);
  if (typed) return typed.value ?? {};
  if (config.typeUrl.endsWith("/stats.PluginConfig") && config.value.length === 0) return {};
  throw new MeshbedError("TELEMETRY_UNSUPPORTED", `${at}: its configuration must be a TypedStruct`);
}

const listOf = (value: JsonValue | undefined): JsonObject[] =>
  Array.isArray(value) ? value.filter((item): item is JsonObject => typeof item === "object" && item !== null) : [];

/** One entry of `metrics`; without a name it is about all of them. */
function override(metrics: Partial<Record<MetricName, MetricOptions>>, entry: JsonObject, at: string): void {
  const name = entry["name"];
  const names = metricNames.filter((metric) => !name || metric === name);
  if (names.length === 0) throw new MeshbedError("TELEMETRY_UNSUPPORTED", `${at}: there is no metric ${name}`);
  const labels: Record<string, string | undefined> = {};
  for (const [tag, expression] of Object.entries((entry["dimensions"] ?? {}) as JsonObject))
    labels[tag] = literalOf(expression, tag, at);
  for (const tag of (entry["tags_to_remove"] ?? entry["tagsToRemove"] ?? []) as JsonValue[])
    labels[String(tag)] = undefined;
  for (const metric of names) {
    const before = metrics[metric];
    metrics[metric] = {
      drop: before?.drop === true || entry["drop"] === true,
      labels: { ...before?.labels, ...labels },
    };
  }
}

/** Expressions other than a quoted text would have to be evaluated per request. */
function literalOf(expression: JsonValue, tag: string, at: string): string {
  const literal = typeof expression === "string" ? /^(['"])([^'"]*)\1$/.exec(expression.trim()) : null;
  if (literal && /^[a-zA-Z_]\w*$/.test(tag)) return literal[2]!;
  throw new MeshbedError(
    "TELEMETRY_UNSUPPORTED",
    `${at}: dimension ${tag}: only a quoted text is supported, not ${JSON.stringify(expression)}`,
  );
}
