// Fault injection (envoy.filters.http.fault): delays, aborts and slows down a share of requests, as configured or as the request asks.

import { type HTTPFault, HTTPFaultSchema } from "#gen/xds/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { durationMs } from "../compile/any.ts";
import { draws, shareOf } from "../compile/fraction.ts";
import type { Filter, FilterDeps, FilterFactory, FilterRequest, FilterResponse } from "../filter.ts";
import type { RequestView } from "../http/request.ts";
import { compileHeader, type FieldTest } from "../routing/match.ts";
import { Throttle } from "./throttle.ts";

/** "header": the request says how much (x-envoy-fault-…), if it says anything. */
interface Fault {
  delayMs: number | "header";
  delayShare: number;
  abort: { status: number } | { grpcStatus: number } | "header";
  abortShare: number;
  rateKib: number | "header";
  rateShare: number;
  tests: readonly FieldTest[];
  upstreamCluster: string;
  downstreamNodes: ReadonlySet<string>;
  activeMax: number;
}

/** An omitted percentage injects nothing. */
function compile(message: HTTPFault): Fault {
  const { delay, abort, responseRateLimit: rate } = message;
  const delayType = delay?.faultDelaySecifier;
  const abortType = abort?.errorType;
  return {
    delayMs: delayType?.case === "headerDelay" ? "header" : durationMs(delayType?.value, 0),
    delayShare: shareOf(delay?.percentage, 0),
    abort:
      abortType?.case === "headerAbort"
        ? "header"
        : abortType?.case === "grpcStatus"
          ? { grpcStatus: abortType.value }
          : { status: abortType?.value ?? 503 },
    abortShare: shareOf(abort?.percentage, 0),
    rateKib: rate?.limitType.case === "fixedLimit" ? Number(rate.limitType.value.limitKbps) : "header",
    rateShare: shareOf(rate?.percentage, 0),
    tests: message.headers.map(compileHeader),
    upstreamCluster: message.upstreamCluster,
    downstreamNodes: new Set(message.downstreamNodes),
    activeMax: message.maxActiveFaults ?? Number.POSITIVE_INFINITY,
  };
}

/** A non-negative number in a field of the request. */
function numberOf(request: RequestView, name: string): number | undefined {
  const value = request.header(name);
  return value !== undefined && /^\d{1,9}$/.test(value) ? Number(value) : undefined;
}

/** The request may ask for less than the configured share, not for more. Its number counts hundredths. */
function shareFor(request: RequestView, name: string, share: number): number {
  const asked = numberOf(request, name);
  return asked === undefined ? share : Math.min(share, asked / 100);
}

function applies(fault: Fault, { request, route }: FilterRequest): boolean {
  const { upstreamCluster, downstreamNodes, tests } = fault;
  if (upstreamCluster !== "") {
    const targets = route?.action.kind === "forward" ? route.action.targets : [];
    if (targets.length !== 1 || targets[0]!.slot.name !== upstreamCluster) return false;
  }
  if (downstreamNodes.size > 0 && !downstreamNodes.has(request.header("x-envoy-downstream-service-node") ?? ""))
    return false;
  return tests.every((test) => test(request));
}

const rateState = "envoy.filters.http.fault.rate";

class FaultFilter implements Filter {
  readonly name: string;
  readonly #chainWide: Fault;
  readonly #deps: FilterDeps;
  /** Requests with an injected fault that are not over. */
  #active = 0;

  constructor(name: string, config: HTTPFault, deps: FilterDeps) {
    this.name = name;
    this.#chainWide = compile(config);
    this.#deps = deps;
  }

  onRequest(exchange: FilterRequest): "continue" | "stop" {
    const fault = (exchange.settings(this.name) as Fault | undefined) ?? this.#chainWide;
    if (fault.delayShare === 0 && fault.abortShare === 0 && fault.rateShare === 0) return "continue";
    if (this.#active >= fault.activeMax || !applies(fault, exchange)) return "continue";
    const { request } = exchange;
    const { random } = this.#deps;
    let injected = this.#limitRate(fault, exchange);
    const delayMs =
      fault.delayMs === "header" ? (numberOf(request, "x-envoy-fault-delay-request") ?? 0) : fault.delayMs;
    const delayShare =
      fault.delayMs === "header"
        ? shareFor(request, "x-envoy-fault-delay-request-percentage", fault.delayShare)
        : fault.delayShare;
    const delayed = delayMs > 0 && draws(delayShare, random);
    if (delayed) {
      injected = true;
      exchange.addFlag("DI");
      exchange.after(delayMs, () => {
        if (!this.#abort(fault, exchange)) exchange.resume();
      });
    }
    if (injected) this.#count(exchange);
    return delayed || this.#abort(fault, exchange) ? "stop" : "continue";
  }

  #count(exchange: FilterRequest): void {
    this.#active++;
    exchange.whenOver(() => {
      this.#active--;
    });
  }

  #abort(fault: Fault, exchange: FilterRequest): boolean {
    const { request } = exchange;
    let { abort, abortShare } = fault;
    if (abort === "header") {
      const status = numberOf(request, "x-envoy-fault-abort-request");
      const grpcStatus = numberOf(request, "x-envoy-fault-abort-grpc-request");
      if (status !== undefined && status >= 200 && status < 600) abort = { status };
      else if (grpcStatus !== undefined) abort = { grpcStatus };
      else return false;
      abortShare = shareFor(request, "x-envoy-fault-abort-request-percentage", abortShare);
    }
    if (!draws(abortShare, this.#deps.random)) return false;
    const text = "fault filter abort";
    if ("status" in abort) exchange.reply(abort.status, text, "FI", "", "fault_filter_abort");
    else if (!request.header("content-type")?.startsWith("application/grpc"))
      exchange.reply(200, text, "FI", "", "fault_filter_abort");
    else {
      // A gRPC answer without messages: its status stands in the head.
      const fields = `content-type: application/grpc\r\ngrpc-status: ${abort.grpcStatus}\r\ngrpc-message: ${text}\r\n`;
      exchange.reply(200, "", "FI", fields, "fault_filter_abort");
    }
    return true;
  }

  #limitRate(fault: Fault, exchange: FilterRequest): boolean {
    const { request } = exchange;
    if (fault.rateShare === 0) return false;
    const byHeader = fault.rateKib === "header";
    const rateKib = fault.rateKib === "header" ? numberOf(request, "x-envoy-fault-throughput-response") : fault.rateKib;
    const share = byHeader
      ? shareFor(request, "x-envoy-fault-throughput-response-percentage", fault.rateShare)
      : fault.rateShare;
    if (!rateKib || !draws(share, this.#deps.random)) return false;
    exchange.setFilterState(rateState, rateKib);
    return true;
  }

  onResponse(exchange: FilterRequest, response: FilterResponse): void {
    const rateKib = exchange.filterState(rateState) as number | undefined;
    if (rateKib === undefined) return;
    response.transformBody((sink) => new Throttle(rateKib, this.#deps.clock, sink));
  }
}

export const faultFactory: FilterFactory<typeof HTTPFaultSchema, typeof HTTPFaultSchema> = {
  config: HTTPFaultSchema,
  perRoute: HTTPFaultSchema,
  create: (name, config, deps) => new FaultFilter(name, config, deps),
  settings: compile,
};
