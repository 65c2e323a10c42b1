// accessLogging of Telemetry and MeshConfig → Envoy's access logs for one side of a workload. Pure.

import { create, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { type AccessLog, AccessLogSchema } from "#gen/xds/envoy/config/accesslog/v3/accesslog_pb.js";
import type { SubstitutionFormatStringSchema } from "#gen/xds/envoy/config/core/v3/substitution_format_string_pb.js";
import { FileAccessLogSchema } from "#gen/xds/envoy/extensions/access_loggers/file/v3/file_pb.js";
import type { TelemetrySpec } from "../api/telemetry.ts";
import { pack } from "./envoy.ts";
import { type Direction, isAbout } from "./telemetry-levels.ts";
import { type FileLogProvider, fileLogOf } from "./telemetry-providers.ts";
import { logFilterOf } from "./translate-log-filter.ts";
import type { Model } from "./types.ts";

/** Istio's (EnvoyTextLogFormat). */
const textFormat =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% ' +
  '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ' +
  '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% ' +
  "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/** Istio's (EnvoyJSONLogFormatIstio). */
const jsonFormat: JsonObject = {
  start_time: "%START_TIME%",
  route_name: "%ROUTE_NAME%",
  method: "%REQ(:METHOD)%",
  path: "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
  protocol: "%PROTOCOL%",
  response_code: "%RESPONSE_CODE%",
  response_flags: "%RESPONSE_FLAGS%",
  response_code_details: "%RESPONSE_CODE_DETAILS%",
  connection_termination_details: "%CONNECTION_TERMINATION_DETAILS%",
  bytes_received: "%BYTES_RECEIVED%",
  bytes_sent: "%BYTES_SENT%",
  duration: "%DURATION%",
  upstream_service_time: "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
  x_forwarded_for: "%REQ(X-FORWARDED-FOR)%",
  user_agent: "%REQ(USER-AGENT)%",
  request_id: "%REQ(X-REQUEST-ID)%",
  authority: "%REQ(:AUTHORITY)%",
  upstream_host: "%UPSTREAM_HOST%",
  upstream_cluster: "%UPSTREAM_CLUSTER_RAW%",
  upstream_local_address: "%UPSTREAM_LOCAL_ADDRESS%",
  downstream_local_address: "%DOWNSTREAM_LOCAL_ADDRESS%",
  downstream_remote_address: "%DOWNSTREAM_REMOTE_ADDRESS%",
  requested_server_name: "%REQUESTED_SERVER_NAME%",
  upstream_transport_failure_reason: "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
};

export interface KeyedLog {
  log: AccessLog;
  /** Equal for equal logs. */
  key: string;
}

/**
 * A level that names providers replaces those of the level above; one that does not goes on with them, the first with the mesh's
 * default ones. Where nobody says anything MeshConfig.accessLogFile holds.
 */
export function accessLogsOf(model: Model, levels: readonly TelemetrySpec[], direction: Direction): KeyedLog[] {
  const defaults = model.settings.defaultProviders?.accessLogging ?? [];
  const providers = new Map(defaults.map((name) => [name, { disabled: false, filter: "" }]));
  let asked = defaults.length > 0;
  for (const { accessLogging = [] } of levels) {
    if (accessLogging.length > 0) asked = true;
    const entries = accessLogging.filter(({ match }) => isAbout(match?.mode, direction));
    const inherited = [...providers.keys()];
    if (entries.some((entry) => entry.providers?.length)) providers.clear();
    for (const entry of entries) {
      const names = entry.providers?.length ? entry.providers.map(({ name }) => name) : inherited;
      for (const name of names)
        providers.set(name, { disabled: entry.disabled ?? false, filter: entry.filter?.expression ?? "" });
    }
  }
  if (!asked) return meshLog(model);
  return [...providers].flatMap(([name, { disabled, filter }]) => {
    const file = fileLogOf(model, name);
    return file === undefined || disabled ? [] : [logOf(file.path || "/dev/stdout", formatOf(file), filter)];
  });
}

type Format = MessageInitShape<typeof SubstitutionFormatStringSchema>;

const textOf = (text: string): Format => ({
  format: {
    case: "textFormatSource",
    value: { specifier: { case: "inlineString", value: text.endsWith("\n") ? text : `${text}\n` } },
  },
});

function formatOf({ logFormat, omitEmptyValues }: FileLogProvider): Format {
  const { text, labels } = logFormat ?? {};
  const format: Format =
    labels === undefined ? textOf(text || textFormat) : { format: { case: "jsonFormat", value: labels as JsonObject } };
  return { ...format, ...(omitEmptyValues && { omitEmptyValues }) };
}

/** accessLogFile, accessLogFormat and accessLogEncoding. */
function meshLog({ settings }: Model): KeyedLog[] {
  const { accessLogFile, accessLogFormat, accessLogEncoding } = settings;
  if (!accessLogFile) return [];
  const isJson = accessLogEncoding === "JSON";
  const format: Format = isJson
    ? { format: { case: "jsonFormat", value: objectOf(accessLogFormat) ?? jsonFormat } }
    : textOf(accessLogFormat || textFormat);
  return [logOf(accessLogFile, format, "")];
}

/** Undefined for what is no JSON object: Istio's own format holds then, as in Istio. */
function objectOf(text: string | undefined): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text || "null");
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined;
  } catch {
    return undefined;
  }
}

function logOf(path: string, format: Format, expression: string): KeyedLog {
  const filter = logFilterOf(expression);
  const log = create(AccessLogSchema, {
    name: "envoy.access_loggers.file",
    ...(filter && { filter }),
    configType: {
      case: "typedConfig",
      value: pack(FileAccessLogSchema, { path, accessLogFormat: { case: "logFormat", value: format } }),
    },
  });
  return { log, key: JSON.stringify([path, format, expression]) };
}
