// Access logs: Envoy's AccessLog messages compiled to a filter, a line format and a place to write to.

import type { Message } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import type { AccessLog as AccessLogMessage } from "#gen/xds/envoy/config/accesslog/v3/accesslog_pb.js";
import type { SubstitutionFormatString } from "#gen/xds/envoy/config/core/v3/substitution_format_string_pb.js";
import { FileAccessLogSchema } from "#gen/xds/envoy/extensions/access_loggers/file/v3/file_pb.js";
import {
  StderrAccessLogSchema,
  StdoutAccessLogSchema,
} from "#gen/xds/envoy/extensions/access_loggers/stream/v3/stream_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { Random } from "../../kernel/random.ts";
import { unpack } from "../compile/any.ts";
import { dataText } from "../compile/data_source.ts";
import { compileLogFilter, type LogFilter } from "./access_log_filter.ts";
import { type compileBodyText, compileJson, compileLogText, envoyFormat, type TextFormat } from "./formatter.ts";
import type { LogSink, LogSinks } from "./sinks.ts";
import { type Needs, noNeeds, type StreamInfo } from "./stream_info.ts";

/** What a chain's log or logs want, once a request or connection is over. */
export interface AccessLog {
  readonly needs: Needs;
  log(info: StreamInfo): void;
}

export interface AccessLogDeps {
  sinks: LogSinks;
  random: Random;
}

/** Undefined when there is nothing to log. `owner` names the listener in errors. */
export function compileAccessLogs(
  messages: readonly AccessLogMessage[],
  deps: AccessLogDeps,
  owner: string,
): AccessLog | undefined {
  if (messages.length === 0) return undefined;
  const needs = noNeeds();
  const logs = messages.map((message) => compileOne(message, deps, needs, owner));
  return {
    needs,
    log(info) {
      for (let i = 0; i < logs.length; i++) {
        const { filter, line, sink } = logs[i]!;
        if (filter === undefined || filter(info)) sink.write(line(info));
      }
    },
  };
}

interface CompiledLog {
  filter: LogFilter | undefined;
  line: TextFormat;
  sink: LogSink;
}

function compileOne(message: AccessLogMessage, deps: AccessLogDeps, needs: Needs, owner: string): CompiledLog {
  const at = `${owner}, access log ${message.name}`;
  const config = message.configType.case === "typedConfig" ? message.configType.value : undefined;
  if (!config) throw new MeshbedError("ACCESS_LOG_INVALID", `${at}: no typed config`);
  const { path, line } = target(config, needs, at);
  const filter = message.filter && compileLogFilter(message.filter, deps.random, needs, at);
  return { filter, line, sink: deps.sinks.open(path) };
}

function target(config: Any, needs: Needs, at: string): { path: string; line: TextFormat } {
  const file = unpack(config, FileAccessLogSchema);
  if (file) {
    if (file.path === "") throw new MeshbedError("ACCESS_LOG_INVALID", `${at}: path is empty`);
    const { accessLogFormat: format } = file;
    switch (format.case) {
      case "format":
        return { path: file.path, line: compileLogText(format.value || envoyFormat, false, needs) };
      case "jsonFormat":
      case "typedJsonFormat":
        return { path: file.path, line: jsonLine(format.value, false, false, needs) };
      default:
        return { path: file.path, line: lineFormat(format.value, needs, at) };
    }
  }
  for (const [schema, path] of [
    [StdoutAccessLogSchema, "/dev/stdout"],
    [StderrAccessLogSchema, "/dev/stderr"],
  ] as const) {
    const stream = unpack(config, schema);
    if (stream) return { path, line: lineFormat(stream.accessLogFormat.value, needs, at) };
  }
  throw new MeshbedError(
    "ACCESS_LOG_UNSUPPORTED",
    `${at}: ${config.typeUrl.split("/").at(-1)} is not supported; FileAccessLog, StdoutAccessLog and StderrAccessLog are`,
  );
}

const jsonLine = (
  struct: Parameters<typeof compileJson>[0],
  omit: boolean,
  sorted: boolean,
  needs: Needs,
): TextFormat => {
  const format = compileJson(struct, omit, sorted, needs);
  return (info) => `${format(info)}\n`;
};

function lineFormat(message: SubstitutionFormatString | undefined, needs: Needs, at: string): TextFormat {
  if (message === undefined) return compileLogText(envoyFormat, false, needs);
  return compileFormat(message, needs, at, compileLogText, "\n");
}

/** Envoy's default text unless the message says otherwise. JSON ends with `jsonEnd`. */
export function compileFormat(
  message: SubstitutionFormatString,
  needs: Needs,
  at: string,
  compileText: typeof compileLogText | typeof compileBodyText,
  jsonEnd: string,
): TextFormat {
  refuseFormatters(message.formatters, at);
  const { format, omitEmptyValues: omit } = message;
  switch (format.case) {
    case "textFormat":
      return compileText(format.value || envoyFormat, omit, needs);
    case "textFormatSource":
      return compileText(dataText(format.value, at) || envoyFormat, omit, needs);
    case "jsonFormat": {
      const json = compileJson(format.value, omit, message.jsonFormatOptions?.sortProperties ?? false, needs);
      return jsonEnd === "" ? json : (info) => json(info) + jsonEnd;
    }
    default:
      return compileText(envoyFormat, omit, needs);
  }
}

/** Extensions that only add operators known here anyway. */
const builtIn = ["envoy.formatter.req_without_query", "envoy.formatter.metadata"];

function refuseFormatters(formatters: readonly (Message & { name: string })[], at: string): void {
  for (const { name } of formatters)
    if (!builtIn.includes(name)) throw new MeshbedError("FORMAT_INVALID", `${at}: formatter ${name} is not supported`);
}
