// Which requests an access log or a local reply mapper is about: Envoy's AccessLogFilter compiled to a predicate.

import {
  type AccessLogFilter,
  type ComparisonFilter,
  ComparisonFilter_Op as Op,
} from "#gen/xds/envoy/config/accesslog/v3/accesslog_pb.js";
import { AccessLogType } from "#gen/xds/envoy/data/accesslog/v3/accesslog_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { Random } from "../../kernel/random.ts";
import { draws, shareOf } from "../compile/fraction.ts";
import { compileHeader } from "../routing/match.ts";
import { operatorOf } from "./operators.ts";
import { isResponseFlag } from "./response_flags.ts";
import type { Needs, StreamInfo } from "./stream_info.ts";

export type LogFilter = (info: StreamInfo) => boolean;

export function compileLogFilter(message: AccessLogFilter, random: Random, needs: Needs, at: string): LogFilter {
  const { filterSpecifier: filter } = message;
  const compileAll = (filters: readonly AccessLogFilter[]): LogFilter[] =>
    filters.map((one) => compileLogFilter(one, random, needs, at));
  switch (filter.case) {
    case "statusCodeFilter":
      return compare(filter.value.comparison, ({ status }) => status, at);
    case "durationFilter":
      return compare(filter.value.comparison, ({ durationMs }) => durationMs, at);
    // Health checks are answered by a filter of their own and are requests like others here.
    case "notHealthCheckFilter":
      return () => true;
    case "traceableFilter":
      return ({ traced }) => traced;
    case "runtimeFilter": {
      const share = shareOf(filter.value.percentSampled, 0);
      return () => draws(share, random);
    }
    case "andFilter": {
      const all = compileAll(filter.value.filters);
      return (info) => all.every((one) => one(info));
    }
    case "orFilter": {
      const any = compileAll(filter.value.filters);
      return (info) => any.some((one) => one(info));
    }
    case "headerFilter": {
      const test = filter.value.header && compileHeader(filter.value.header);
      if (!test) break;
      return ({ request }) => request !== undefined && test(request);
    }
    case "responseFlagFilter":
      return compileFlags(filter.value.flags, at);
    case "grpcStatusFilter": {
      const status = operatorOf("GRPC_STATUS_NUMBER", undefined, needs)!;
      const { statuses, exclude } = filter.value;
      return (info) => statuses.includes((status(info) ?? 0) as (typeof statuses)[number]) !== exclude;
    }
    case "logTypeFilter": {
      const { types, exclude } = filter.value;
      return ({ type }) => types.includes(AccessLogType[type]) !== exclude;
    }
    default:
      break;
  }
  throw new MeshbedError("ACCESS_LOG_UNSUPPORTED", `${at}: filter "${filter.case ?? "empty"}" is not supported`);
}

/** Runtime keys are not read: the default value counts. */
function compare(comparison: ComparisonFilter | undefined, read: (info: StreamInfo) => number, at: string): LogFilter {
  const wanted = comparison?.value?.defaultValue;
  switch (wanted === undefined ? undefined : comparison!.op) {
    case Op.EQ:
      return (info) => read(info) === wanted;
    case Op.GE:
      return (info) => read(info) >= wanted!;
    case Op.LE:
      return (info) => read(info) <= wanted!;
    default:
      throw new MeshbedError("ACCESS_LOG_INVALID", `${at}: a comparison without operator or value`);
  }
}

/** Without flags: any flag. */
function compileFlags(flags: readonly string[], at: string): LogFilter {
  const unknown = flags.find((flag) => !isResponseFlag(flag));
  if (unknown !== undefined)
    throw new MeshbedError("ACCESS_LOG_INVALID", `${at}: there is no response flag ${unknown}`);
  if (flags.length === 0) return (info) => info.flags !== "-";
  return (info) => info.flags.split(",").some((flag) => flags.includes(flag));
}
