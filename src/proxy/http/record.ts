// What one request comes to: times, bytes, outcome. At its end it is told to the metrics, and described for logs and spans.

import type { Head } from "../../wire/http1_head.ts";
import type { HeaderEdits } from "../../wire/http1_write.ts";
import type { ConnectionInfo, HttpChain, Runtime } from "../chain.ts";
import type { ClusterSlot } from "../clusters/cluster.ts";
import { asSeenBy } from "../inbound.ts";
import { joinFlags } from "../log/response_flags.ts";
import { fieldAfter, fieldOfLines, type Needs, type StreamInfo } from "../log/stream_info.ts";
import type { Route } from "../routing/route.ts";
import { statusClass } from "../telemetry/counts.ts";
import { inboundEdge, neighbourEdge, outboundEdge } from "../telemetry/edges.ts";
import { GrpcMessages } from "../telemetry/grpc_messages.ts";
import type { GrpcOutcome } from "../telemetry/telemetry.ts";
import { finishSpan, injectSpan, type Span, startSpan, type Tracing } from "../tracing/tracing.ts";
import { trustedAddress } from "./forwarded.ts";
import type { Forwarding } from "./forwarding.ts";
import { grpcStatusOf } from "./grpc.ts";
import type { RequestView } from "./request.ts";

/** The request as its exchange holds it. */
export interface RecordedRequest {
  readonly chain: HttpChain;
  readonly client: ConnectionInfo;
  readonly request: RequestView;
  readonly requestEdits: HeaderEdits;
  readonly responseEdits: HeaderEdits;
  readonly forwarding: Forwarding;
  readonly matchedRoute: Route | undefined;
  readonly cluster: ClusterSlot | undefined;
  readonly filterStates: ReadonlyMap<string, unknown> | undefined;
  /** So far, head included. */
  readonly responseBytes: number;
}

/** Reused request after request. */
export class RequestRecord {
  readonly #runtime: Runtime;
  readonly #of: RecordedRequest;
  #startMs = 0;
  #startedAtMs = 0;
  /** What logs want kept; undefined: nothing. */
  #needs: Needs | undefined;
  #responseHeaders: Map<string, string> | undefined;
  #requestEndMs = -1;
  #responseStartMs = -1;
  #extraFlags = "";
  #span: Span | undefined;
  /** grpc-status, of a gRPC request's answer. */
  #grpcStatus: string | undefined;
  /** Of the workload in this process that the request went to. */
  #nearSpan: Span | undefined;
  headBytes = 0;
  bodyBytes = 0;
  responseBodyBytes = 0;
  status = 0;
  flags = "-";
  details = "";
  /** gRPC messages, counted for clients that speak HTTP/2; made with the first body. */
  requestMessages: GrpcMessages | undefined;
  responseMessages: GrpcMessages | undefined;
  /** While an answer's head is being prepared. */
  responseHead: Head | undefined;

  constructor(runtime: Runtime, of: RecordedRequest) {
    this.#runtime = runtime;
    this.#of = of;
  }

  begin(chain: HttpChain, headBytes: number, hasBody: boolean): void {
    const { clock } = this.#runtime;
    this.#startMs = clock.monotonicMs();
    this.#span = undefined;
    this.#nearSpan = undefined;
    this.#needs = chain.accessLog?.needs;
    if (chain.tracing !== undefined || this.#needs !== undefined) this.#startedAtMs = clock.now();
    this.#responseHeaders = undefined;
    this.#grpcStatus = undefined;
    this.requestMessages?.reset();
    this.responseMessages?.reset();
    if (this.#needs !== undefined) {
      this.#requestEndMs = hasBody ? -1 : 0;
      this.#responseStartMs = -1;
    }
    this.headBytes = headBytes;
    this.bodyBytes = 0;
    this.responseBodyBytes = 0;
    this.status = 0;
    this.flags = "-";
    this.#extraFlags = "";
    this.details = "";
  }

  /** The request's route is known. */
  trace(tracing: Tracing, route: Route | undefined): void {
    const { request, requestEdits } = this.#of;
    this.#span = startSpan(tracing, request, requestEdits, route, this.#runtime.random);
  }

  /** It enters a neighbour's chain, perhaps not for the first time. */
  traceNear(tracing: Tracing, route: Route | undefined): void {
    const { request, requestEdits } = this.#of;
    if (this.#span !== undefined) injectSpan(this.#span, requestEdits);
    this.#nearSpan = startSpan(tracing, request, requestEdits, route, this.#runtime.random);
  }

  addFlag(flag: string): void {
    this.#extraFlags = this.#extraFlags === "" ? flag : `${this.#extraFlags},${flag}`;
  }
  get #allFlags(): string {
    const extra = this.#extraFlags;
    return extra === "" ? this.flags : this.flags === "-" ? extra : joinFlags(this.flags, extra);
  }
  get #elapsedMs(): number {
    return this.#runtime.clock.monotonicMs() - this.#startMs;
  }

  requestEnded(): void {
    if (this.#needs?.times) this.#requestEndMs = this.#elapsedMs;
  }
  /** Of a body in HTTP/2; whether it is gRPC's is asked at the end. */
  seeRequest(chunk: Buffer, from: number, to: number): void {
    this.requestMessages ??= new GrpcMessages();
    this.requestMessages.see(chunk, from, to);
  }
  seeResponse(chunk: Buffer, from: number, to: number): void {
    this.responseMessages ??= new GrpcMessages();
    this.responseMessages.see(chunk, from, to);
  }
  /** The upstream's answer is about to be sent as `edits` say. */
  answered(head: Head, edits: HeaderEdits): void {
    if (this.details === "") this.details = "via_upstream";
    this.responseHead = undefined;
    if (this.#of.request.isGrpc) this.#grpcStatus = fieldAfter(head, edits, "grpc-status");
    this.#answeredFor(this.#needs, head, edits);
    const near = this.#of.forwarding.neighbour;
    if (near !== undefined) this.#answeredFor(near.accessLog?.needs, head, edits);
  }
  #answeredFor(needs: Needs | undefined, head: Head, edits: HeaderEdits): void {
    if (needs === undefined) return;
    for (const name of needs.responseHeaders) this.#keep(name, fieldAfter(head, edits, name));
    if (needs.times) this.#responseStartMs = this.#elapsedMs;
  }
  /** An answer made here is about to be sent. */
  answeredLocally(lines: string): void {
    if (this.#of.request.isGrpc) this.#grpcStatus = fieldOfLines(lines, "grpc-status");
    if (this.#needs !== undefined)
      for (const name of this.#needs.responseHeaders) this.#keep(name, fieldOfLines(lines, name));
  }
  /** A trailer section as HTTP/1.1 writes it. */
  trailers(section: Buffer): void {
    if (!this.#of.request.isGrpc && this.#needs === undefined) return;
    const status = fieldOfLines(section.latin1Slice(0, section.length - 2), "grpc-status");
    if (status === undefined) return;
    this.#grpcStatus = status;
    if (this.#needs?.responseHeaders.has("grpc-status")) this.#keep("grpc-status", status);
  }
  #keep(name: string, value: string | undefined): void {
    if (value === undefined) return;
    this.#responseHeaders ??= new Map();
    this.#responseHeaders.set(name, value);
  }

  /** The request is over. */
  report(): void {
    const { chain, client, request, forwarding, responseBytes } = this.#of;
    const { series } = this.#runtime;
    const { status } = this;
    const durationMs = this.#elapsedMs;
    const flags = this.#allFlags;
    const requestBytes = this.headBytes + this.bodyBytes;
    const span = this.#span?.sampled ? this.#span : undefined;
    const traceId = span?.traceId ?? "";
    // As Istio: an answer that is not gRPC's own has the status that gRPC makes of it.
    const grpc = request.isGrpc ? this.#grpcOutcome(status) : undefined;
    if (!chain.telemetry.off) {
      const edge = chain.inbound
        ? inboundEdge(series, chain, client)
        : outboundEdge(series, chain, forwarding.endpoint, this.#countedAs, request.host);
      edge.request(status, flags, durationMs, requestBytes, responseBytes, traceId, grpc);
    }
    chain.counts.ended[statusClass(status)]!++;
    if (forwarding.neighbour && !forwarding.neighbour.telemetry.off) {
      const near = neighbourEdge(series, forwarding.neighbour, forwarding.endpoint!, chain.owner);
      near.request(status, flags, durationMs, requestBytes, responseBytes, traceId, grpc);
    }
    if (chain.accessLog !== undefined || span !== undefined) {
      const info = this.streamInfo();
      chain.accessLog?.log(info);
      if (span !== undefined) finishSpan(span, info);
    }
    if (forwarding.neighbour !== undefined) this.#reportNear(forwarding.neighbour);
  }

  get #countedAs(): ClusterSlot | undefined {
    const { cluster, matchedRoute } = this.#of;
    return cluster ?? (matchedRoute?.action.kind === "direct" ? matchedRoute.action.countedAs : undefined);
  }

  #grpcOutcome(status: number): GrpcOutcome {
    return {
      status: this.#grpcStatus ?? (status === 0 ? "" : String(grpcStatusOf(status))),
      requestMessages: this.requestMessages?.count ?? 0,
      responseMessages: this.responseMessages?.count ?? 0,
    };
  }

  /** The neighbour's own log and span, as if the request had come to it over the wire. */
  #reportNear(near: HttpChain): void {
    const span = this.#nearSpan?.sampled ? this.#nearSpan : undefined;
    if (near.accessLog === undefined && span === undefined) return;
    const info = this.streamInfo();
    const { forwarding, chain, client } = this.#of;
    info.owner = near.owner;
    info.route = forwarding.neighbourRoute;
    info.cluster = forwarding.toSlot;
    info.endpoint = forwarding.destination;
    info.connection = asSeenBy((forwarding.destination ?? forwarding.endpoint)!, client, chain.owner);
    if (near.accessLog !== undefined) near.accessLog.log(info);
    if (span !== undefined) finishSpan(span, info);
  }

  /** What formats are made of, as of now. */
  streamInfo(): StreamInfo {
    const { chain, client, request, requestEdits, responseEdits, forwarding, matchedRoute, cluster } = this.#of;
    const needs = this.#needs;
    const durationMs = this.#elapsedMs;
    return {
      type: "DownstreamEnd",
      owner: chain.owner,
      connection: client,
      clientAddress: trustedAddress(request, client.remoteAddress, chain.edge, chain.trustedHops),
      request,
      requestEdits,
      responseHead: this.responseHead,
      responseEdits,
      responseHeaders: this.#responseHeaders,
      startedAtMs: needs || this.#span ? this.#startedAtMs : this.#runtime.clock.now() - durationMs,
      durationMs,
      requestEndMs: this.#requestEndMs,
      responseStartMs: this.#responseStartMs,
      status: this.status,
      flags: this.#allFlags,
      details: this.details,
      terminationDetails: "",
      failure: forwarding.failure,
      requestHeadBytes: this.headBytes,
      requestBodyBytes: this.bodyBytes,
      responseBodyBytes: this.responseBodyBytes,
      responseBytes: this.#of.responseBytes,
      route: matchedRoute,
      cluster,
      endpoint: forwarding.endpoint,
      upstreamLocalAddress: forwarding.localAddress,
      tries: forwarding.tries,
      metadata: request.metadata,
      filterState: this.#of.filterStates,
      traceId: this.#span?.traceId ?? "",
      traced: this.#span?.sampled ?? false,
      localReplyBody: "",
    };
  }
}
