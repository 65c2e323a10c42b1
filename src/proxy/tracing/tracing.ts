// Spans: one per request and proxy. Started when the request's route is known, told to the next hop, exported when the request is over.

import type { Random } from "../../kernel/random.ts";
import { type HeaderEdits, removeHeader, setHeader } from "../../wire/http1_write.ts";
import { draws } from "../compile/fraction.ts";
import type { RequestView } from "../http/request.ts";
import { fieldAfter, type StreamInfo } from "../log/stream_info.ts";
import type { Route } from "../routing/route.ts";
import { b3FieldsOf, b3SingleOf, type Extracted, extract, traceparentOf } from "./trace_context.ts";

export interface Span {
  tracing: Tracing;
  traceId: string;
  spanId: string;
  /** "" at a root. */
  parentId: string;
  traceState: string;
  sampled: boolean;
  /** Zipkin: the client's span, seen from the server. */
  shared: boolean;
  name: string;
  kind: "client" | "server";
  /** The forms in which a context came. */
  came: Pick<Extracted, "w3c" | "b3" | "b3Single">;
}

export interface FinishedSpan extends Span {
  startedAtMs: number;
  durationMs: number;
  isError: boolean;
  tags: readonly (readonly [string, string])[];
}

/** A span's way to its collector. */
export interface SpanSink {
  add(span: FinishedSpan): void;
}

/** HttpConnectionManager.tracing, compiled. */
export interface Tracing {
  sink: SpanSink;
  /** The form that is always written; others are kept up to date when they came. */
  form: "w3c" | "b3";
  kind: "client" | "server";
  /** A server joins its client's span (Zipkin). */
  sharesSpans: boolean;
  /** New traces get 128 bits. */
  longIds: boolean;
  /** Shares between 0 and 1. */
  clientSampling: number;
  randomSampling: number;
  overallSampling: number;
  pathCharsMax: number;
  customTags: readonly CustomTag[];
}

export interface CustomTag {
  name: string;
  value: (info: StreamInfo) => string | undefined;
}

const hex32 = (random: Random): string => random.below(0x1_0000_0000).toString(16).padStart(8, "0");
/** Never all zeros, which stands for "none". */
function newId(random: Random, words: number): string {
  let id = "";
  for (let i = 0; i < words; i++) id += hex32(random);
  return /[1-9a-f]/.test(id) ? id : newId(random, words);
}

export function startSpan(
  tracing: Tracing,
  request: RequestView,
  edits: HeaderEdits,
  route: Route | undefined,
  random: Random,
): Span {
  const found = extract((name) => fieldAfter(request.head, edits, name), tracing.form);
  const { context } = found;
  const shared = tracing.sharesSpans && tracing.kind === "server" && context !== undefined;
  const span: Span = {
    tracing,
    traceId: context?.traceId ?? newId(random, tracing.longIds ? 4 : 2),
    spanId: shared ? context.spanId : newId(random, 2),
    parentId: (shared ? context.parentId : context?.spanId) ?? "",
    traceState: context?.traceState ?? "",
    sampled: context?.sampled ?? found.sampled ?? decide(tracing, request, random),
    shared,
    name: nameOf(tracing, request, edits, route),
    kind: tracing.kind,
    came: found,
  };
  injectSpan(span, edits);
  return span;
}

/** A caller who has decided is followed; this is for those who have not. */
function decide(tracing: Tracing, request: RequestView, random: Random): boolean {
  const forced =
    (request.header("x-client-trace-id") !== undefined && draws(tracing.clientSampling, random)) ||
    request.header("x-envoy-force-trace") !== undefined;
  return (forced || draws(tracing.randomSampling, random)) && draws(tracing.overallSampling, random);
}

const decoratorField = "x-envoy-decorator-operation";

/** The route's decorator, which a client's proxy tells the server's; else Envoy's "ingress" or "egress <host>". */
function nameOf(tracing: Tracing, request: RequestView, edits: HeaderEdits, route: Route | undefined): string {
  const decorator = route?.decorator;
  if (tracing.kind === "server") {
    const told = fieldAfter(request.head, edits, decoratorField);
    if (told !== undefined) removeHeader(edits, decoratorField);
    return told || decorator?.operation || "ingress";
  }
  if (decorator?.propagate) setHeader(edits, decoratorField, decorator.operation);
  return decorator?.operation ?? `egress ${request.authority}`;
}

/** The request goes on as this span's child. */
export function injectSpan(span: Span, edits: HeaderEdits): void {
  const { form } = span.tracing;
  const { came } = span;
  if (form === "w3c" || came.w3c) put(edits, "traceparent", traceparentOf(span, span.sampled), came.w3c);
  if (form === "b3" || came.b3)
    for (const [name, value] of b3FieldsOf(span, span.sampled)) put(edits, name, value, came.b3);
  if (came.b3Single) setHeader(edits, "b3", b3SingleOf(span, span.sampled));
}

/** Most requests bring no context: there is nothing to take out first. */
function put(edits: HeaderEdits, name: string, value: string, came: boolean): void {
  if (came || edits.added.includes(name)) setHeader(edits, name, value);
  else edits.added += `${name}: ${value}\r\n`;
}

/** The request is over; for a sampled span. */
export function finishSpan(span: Span, info: StreamInfo): void {
  const { startedAtMs, durationMs, status } = info;
  const isError = status >= 500 || status === 0;
  span.tracing.sink.add({ ...span, startedAtMs, durationMs, isError, tags: tagsOf(span, info, isError) });
}

/** Envoy's tags, and those Istio's control plane adds. */
function tagsOf(span: Span, info: StreamInfo, isError: boolean): [string, string][] {
  const { request, requestEdits, connection, cluster, owner } = info;
  const field = (name: string): string => (request && fieldAfter(request.head, requestEdits, name)) || "-";
  const path = (request?.path ?? "").slice(0, span.tracing.pathCharsMax);
  const { identity } = owner;
  const tags: [string, string][] = [
    ["component", "proxy"],
    ["node_id", owner.nodeId],
    ["guid:x-request-id", field("x-request-id")],
    ["http.url", `${request?.scheme}://${request?.authority}${path}`],
    ["http.method", request?.method ?? "-"],
    ["http.protocol", request?.protocol ?? "HTTP/1.1"],
    ["downstream_cluster", field("x-envoy-downstream-service-cluster")],
    ["user_agent", field("user-agent")],
    ["request_size", String(info.requestBodyBytes)],
    ["response_size", String(info.responseBodyBytes)],
    ["http.status_code", String(info.status)],
    ["response_flags", info.flags],
    ["peer.address", `${connection.remoteAddress}:${connection.remotePort}`],
    ["istio.canonical_service", identity.canonicalService],
    ["istio.canonical_revision", identity.canonicalRevision],
    ["istio.namespace", identity.namespace],
    ["istio.cluster_id", identity.cluster],
  ];
  if (cluster) tags.push(["upstream_cluster", cluster.name], ["upstream_cluster.name", cluster.name]);
  if (info.endpoint) tags.push(["upstream_address", info.endpoint.address]);
  if (isError) tags.push(["error", "true"]);
  for (const { name, value } of span.tracing.customTags) {
    const text = value(info);
    if (text !== undefined) tags.push([name, text]);
  }
  return tags;
}
