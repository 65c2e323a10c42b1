// Telemetry → access logs and the configuration of the standard metrics, per workload and direction. Pure.

import type { JsonObject } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import {
  type AccessLog,
  type AccessLogFilter,
  AccessLogFilterSchema,
  AccessLogSchema,
  ComparisonFilter_Op as Op,
} from "#gen/xds/envoy/config/accesslog/v3/accesslog_pb.js";
import { FileAccessLogSchema } from "#gen/xds/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { TypedStructSchema } from "#gen/xds/udpa/type/v1/typed_struct_pb.js";
import type { MetricOverride, TelemetryMode, TelemetrySpec } from "../api/telemetry.ts";
import type { Telemetry } from "../api/types.ts";
import { pack } from "./envoy.ts";
import type { ListenerTelemetry } from "./filters.ts";
import { policiesFor } from "./translate-security.ts";
import type { Model, Workload } from "./types.ts";

export type Direction = "CLIENT" | "SERVER";

export const noTelemetry: ListenerTelemetry = { key: "", accessLog: [], stats: undefined };

/** The one provider there is: Envoy's text to standard output. */
export const logProvider = "envoy";
export const metricsProvider = "prometheus";

/** Istio's (EnvoyTextLogFormat). */
const textFormat =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% ' +
  '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ' +
  '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% ' +
  "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/** What the Telemetry objects say for one side of a workload: root namespace < namespace < workload, the oldest of each. */
export function telemetryOf(model: Model, workload: Workload, direction: Direction): ListenerTelemetry {
  if (model.telemetries.length === 0) return noTelemetry;
  const levels = telemetryLevels(model, workload).map(({ spec }) => spec ?? {});
  const accessLog = accessLogsOf(levels, direction);
  const metrics = metricsOf(levels, direction);
  if (accessLog.length === 0 && metrics.length === 0) return noTelemetry;
  return {
    key: JSON.stringify([accessLog.map(({ key }) => key), metrics]),
    accessLog: accessLog.map(({ log }) => log),
    stats:
      metrics.length === 0
        ? undefined
        : pack(TypedStructSchema, {
            typeUrl: "type.googleapis.com/stats.PluginConfig",
            value: { disable_host_header_fallback: true, metrics },
          }),
  };
}

function telemetryLevels(model: Model, workload: Workload): Telemetry[] {
  const all = policiesFor(model.telemetries, model, workload);
  const { rootNamespace } = model.config;
  const isWide = ({ spec }: Telemetry) =>
    !Object.keys(spec?.selector?.matchLabels ?? {}).length && !spec?.targetRef && !spec?.targetRefs?.length;
  const levels = [
    all.find((each) => isWide(each) && each.metadata.namespace === rootNamespace),
    all.find((each) => isWide(each) && each.metadata.namespace === workload.namespace),
    all.find((each) => !isWide(each)),
  ];
  return [...new Set(levels)].filter((level) => level !== undefined);
}

const isAbout = (mode: TelemetryMode | undefined, direction: Direction): boolean =>
  mode === undefined || mode === "CLIENT_AND_SERVER" || mode === direction;

// ---- access logs ----

/** A level that names providers replaces those of the level above; one that does not goes on with them. */
function accessLogsOf(levels: readonly TelemetrySpec[], direction: Direction): { log: AccessLog; key: string }[] {
  const providers = new Map<string, { disabled: boolean; filter: string }>();
  for (const { accessLogging = [] } of levels) {
    const entries = accessLogging.filter(({ match }) => isAbout(match?.mode, direction));
    const inherited = [...providers.keys()];
    if (entries.some((entry) => entry.providers?.length)) providers.clear();
    for (const entry of entries) {
      const names = entry.providers?.length ? entry.providers.map(({ name }) => name) : inherited;
      for (const name of names)
        providers.set(name, { disabled: entry.disabled ?? false, filter: entry.filter?.expression ?? "" });
    }
  }
  const own = providers.get(logProvider);
  return own === undefined || own.disabled ? [] : [{ log: logOf(own.filter), key: own.filter }];
}

function logOf(expression: string): AccessLog {
  const filter = logFilterOf(expression);
  return create(AccessLogSchema, {
    name: "envoy.access_loggers.file",
    ...(filter && { filter }),
    configType: {
      case: "typedConfig",
      value: pack(FileAccessLogSchema, {
        path: "/dev/stdout",
        accessLogFormat: {
          case: "logFormat",
          value: {
            format: { case: "textFormatSource", value: { specifier: { case: "inlineString", value: textFormat } } },
          },
        },
      }),
    },
  });
}

/** "response.code >= 400"; undefined for any other expression: everything is logged. */
export function logFilterOf(expression: string): AccessLogFilter | undefined {
  const [, operator, number] = /^\s*response\.code\s*(>=|<=|==|>|<)\s*(\d{1,3})\s*$/.exec(expression) ?? [];
  if (operator === undefined) return undefined;
  const code = Number(number) + (operator === ">" ? 1 : operator === "<" ? -1 : 0);
  return create(AccessLogFilterSchema, {
    filterSpecifier: {
      case: "statusCodeFilter",
      value: {
        comparison: {
          op: operator === "==" ? Op.EQ : operator.startsWith(">") ? Op.GE : Op.LE,
          value: { defaultValue: code, runtimeKey: "telemetry.response_code" },
        },
      },
    },
  });
}

// ---- metrics ----

const metricNames: Readonly<Record<string, string>> = {
  REQUEST_COUNT: "requests_total",
  REQUEST_DURATION: "request_duration_milliseconds",
  REQUEST_SIZE: "request_bytes",
  RESPONSE_SIZE: "response_bytes",
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
function metricsOf(levels: readonly TelemetrySpec[], direction: Direction): JsonObject[] {
  const metrics = new Map<string, { drop: boolean; tags: Map<string, string | undefined> }>();
  for (const { metrics: rules = [] } of levels)
    for (const { overrides = [], providers } of rules) {
      if (providers?.length && !providers.some(({ name }) => name === metricsProvider)) continue;
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
