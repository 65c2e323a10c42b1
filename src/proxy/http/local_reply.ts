// Answers made by the proxy, changed as HttpConnectionManager.local_reply_config says: status, body, format, fields.

import type { SubstitutionFormatString } from "#gen/xds/envoy/config/core/v3/substitution_format_string_pb.js";
import type { LocalReplyConfig } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { Random } from "../../kernel/random.ts";
import { dataText } from "../compile/data_source.ts";
import { compileAdditions } from "../compile/headers.ts";
import { compileFormat } from "../log/access_log.ts";
import { compileLogFilter, type LogFilter } from "../log/access_log_filter.ts";
import { compileBodyText, type TextFormat } from "../log/formatter.ts";
import { noNeeds, type StreamInfo } from "../log/stream_info.ts";
import type { HeaderAddition } from "../routing/route.ts";

export interface LocalAnswer {
  status: number;
  body: string;
  contentType: string;
  add: readonly HeaderAddition[];
}

/** `info` has the answer's status and body; the result is what is sent instead. */
export type LocalReply = (info: StreamInfo) => LocalAnswer;

interface Body {
  text: TextFormat;
  contentType: string;
}

export function compileLocalReply(
  config: LocalReplyConfig | undefined,
  random: Random,
  owner: string,
): LocalReply | undefined {
  if (config === undefined) return undefined;
  const at = `${owner}, local_reply_config`;
  const plain = { text: (info: StreamInfo) => info.localReplyBody, contentType: "text/plain" };
  const base = config.bodyFormat ? compileBody(config.bodyFormat, at) : plain;
  const mappers = config.mappers.map((mapper, index) => {
    const where = `${at}, mapper ${index}`;
    const filter: LogFilter = mapper.filter ? compileLogFilter(mapper.filter, random, noNeeds(), where) : () => true;
    return {
      filter,
      status: mapper.statusCode,
      body: mapper.body && dataText(mapper.body, where),
      format: mapper.bodyFormatOverride && compileBody(mapper.bodyFormatOverride, where),
      add: compileAdditions(mapper.headersToAdd),
    };
  });
  return (info) => {
    const mapper = mappers.find(({ filter }) => filter(info));
    if (mapper?.body !== undefined) info.localReplyBody = mapper.body;
    if (mapper?.status !== undefined) info.status = mapper.status;
    const { text, contentType } = mapper?.format ?? base;
    return { status: info.status, body: text(info), contentType, add: mapper?.add ?? [] };
  };
}

function compileBody(message: SubstitutionFormatString, at: string): Body {
  const text = compileFormat(message, noNeeds(), at, compileBodyText, "\n");
  const json = message.format.case === "jsonFormat";
  return { text, contentType: message.contentType || (json ? "application/json" : "text/plain") };
}
