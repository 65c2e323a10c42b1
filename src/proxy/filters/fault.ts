// Fault injection (envoy.filters.http.fault): delays and aborts a share of requests, as a VirtualService's `fault` asks for.

import { type HTTPFault, HTTPFaultSchema } from "#gen/xds/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import {
  FractionalPercent_DenominatorType as Denominator,
  type FractionalPercent,
} from "#gen/xds/envoy/type/v3/percent_pb.js";
import { durationMs } from "../any.ts";
import type { Filter, FilterDeps, FilterFactory, FilterRequest } from "../filter.ts";
import { compileHeader, type RequestTest } from "../match.ts";

interface Fault {
  delayMs: number;
  delayShare: number;
  abortStatus: number;
  abortShare: number;
  tests: readonly RequestTest[];
}

const perDenominator: Record<Denominator, number> = {
  [Denominator.HUNDRED]: 100,
  [Denominator.TEN_THOUSAND]: 10_000,
  [Denominator.MILLION]: 1_000_000,
};

/** An omitted percentage injects nothing. */
const shareOf = (percent: FractionalPercent | undefined): number =>
  percent === undefined ? 0 : percent.numerator / perDenominator[percent.denominator];

function compile({ delay, abort, headers }: HTTPFault): Fault {
  const fixed = delay?.faultDelaySecifier;
  return {
    delayMs: fixed?.case === "fixedDelay" ? durationMs(fixed.value, 0) : 0,
    delayShare: shareOf(delay?.percentage),
    abortStatus: abort?.errorType.case === "httpStatus" ? abort.errorType.value : 503,
    abortShare: shareOf(abort?.percentage),
    tests: headers.map(compileHeader),
  };
}

function abort(fault: Fault, exchange: FilterRequest, deps: FilterDeps): boolean {
  if (fault.abortShare === 0 || deps.random.next() >= fault.abortShare) return false;
  exchange.reply(fault.abortStatus, "fault filter abort", "FI", "", "fault_filter_abort");
  return true;
}

function create(name: string, config: HTTPFault, deps: FilterDeps): Filter {
  const chainWide = compile(config);
  return {
    name,
    onRequest(exchange) {
      const fault = (exchange.settings(name) as Fault | undefined) ?? chainWide;
      if (!fault.tests.every((test) => test(exchange.request))) return "continue";
      if (fault.delayMs > 0 && fault.delayShare > 0 && deps.random.next() < fault.delayShare) {
        exchange.addFlag("DI");
        exchange.after(fault.delayMs, () => {
          if (!abort(fault, exchange, deps)) exchange.resume();
        });
        return "stop";
      }
      return abort(fault, exchange, deps) ? "stop" : "continue";
    },
  };
}

export const faultFactory: FilterFactory<typeof HTTPFaultSchema, typeof HTTPFaultSchema> = {
  config: HTTPFaultSchema,
  perRoute: HTTPFaultSchema,
  create,
  settings: compile,
};
