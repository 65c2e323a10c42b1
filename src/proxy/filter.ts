// The contract of filters. A filter is one file with one factory; filters/registry.ts lists them, a listener's chain orders them.

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import type { Clock } from "../kernel/clock.ts";
import type { Random } from "../kernel/random.ts";
import type { Framing } from "../wire/http1_body.ts";
import type { ChainOwner, ConnectionInfo, Runtime } from "./chain.ts";
import type { ClusterSlot } from "./clusters/cluster.ts";
import type { InfoSource } from "./http/headers.ts";
import type { RequestView } from "./http/request.ts";
import type { HeaderRules, Route } from "./routing/route.ts";

/** What a filter may see and do. It lives as long as the request. */
export interface FilterRequest extends InfoSource {
  readonly request: RequestView;
  readonly connection: ConnectionInfo;
  /** Who is believed to have sent the request first: by x-forwarded-for as far as it is trusted, else the connection's peer. */
  readonly remoteAddress: string;
  /** The matched route of the chain whose filters run. */
  readonly route: Route | undefined;
  /** Settings of the filter `name` on the matched route, as its compileSettings made them. */
  settings(name: string): unknown;
  /** Answers instead of the upstream; the filter returns "stop". `headers`: complete lines. `details`: RESPONSE_CODE_DETAILS. */
  reply(status: number, body: string, flags: string, headers?: string, details?: string): void;
  /** After "stop": goes on with the next filter. Harmless when the request is gone. */
  resume(): void;
  /** Runs `callback` later unless the request has ended by then; one at a time. */
  after(delayMs: number, callback: () => void): void;
  /** Sets (replaces) a field of the request as it goes upstream. `name` in lower case. */
  setRequestHeader(name: string, value: string): void;
  removeRequestHeader(name: string): void;
  /** Configured additions and removals; values may have command operators. */
  applyRequestRules(rules: HeaderRules): void;
  /** A complete header line ("name: value\r\n") for the answer, whoever gives it. */
  addResponseHeader(line: string): void;
  /** Recorded as a response flag without ending the request (DI). */
  addFlag(flag: string): void;
  /** What one filter tells later ones, the route match and the access log (Envoy's dynamic metadata), by filter name. */
  metadata(namespace: string): unknown;
  setMetadata(namespace: string, value: unknown): void;
  /** What a filter keeps until its answer, or shares without logging it (Envoy's filter state). */
  filterState(key: string): unknown;
  setFilterState(key: string, value: unknown): void;
  /** Chooses the route again, after fields or metadata have changed (Envoy: clear_route_cache). */
  clearRouteCache(): void;
  /** Called once when the request is over, however it ends. */
  whenOver(callback: () => void): void;
}

/** An answer on its way to the client, before its head is sent. */
export interface FilterResponse {
  readonly status: number;
  /** A field of the upstream's head, by lower-case name; undefined when absent or for an answer made by the proxy. */
  header(name: string): string | undefined;
  removeHeader(name: string): void;
  /** A complete header line ("name: value\r\n"). */
  addHeader(line: string): void;
  applyRules(rules: HeaderRules): void;
  /** "none": the answer has no body. "local": made by the proxy. */
  readonly framing: Framing | "local";
  /** The body goes through `make`'s transform; its length becomes unknown. At most one per answer, and only if it has a body: else false. */
  transformBody(make: (sink: BodySink) => BodyTransform): boolean;
}

/** Changes a body on its way. Memory is bounded: after `write` says false it gets no more until it calls `sink.onRoom`. */
export interface BodyTransform {
  /** Consumes or copies the bytes before it returns: their memory is used again. */
  write(chunk: Buffer, from: number, to: number): boolean;
  end(): void;
  /** The client takes bytes again after `sink.push` said false. */
  onDrain(): void;
  /** The request is over before the end; frees what it holds. */
  abort(): void;
}

export interface BodySink {
  /** False: the client is full, until `onDrain`. Harmless when the request is gone. */
  push(chunk: Buffer): boolean;
  /** Everything has been pushed. */
  end(): void;
  onRoom(): void;
}

export interface Filter {
  readonly name: string;
  /** "stop": the filter answered, or calls resume() later. */
  onRequest(request: FilterRequest): "continue" | "stop";
  /** Called in the chain's reverse order. */
  onResponse?(request: FilterRequest, response: FilterResponse): void;
}

/** What a filter is made with. */
export interface FilterDeps {
  clock: Clock;
  random: Random;
  runtime: Runtime;
  /** Whose chain it is, where that is known. */
  owner?: ChainOwner;
  /** For filters that send requests of their own. */
  cluster(name: string): ClusterSlot;
}

/** One kind of HTTP filter. `create`: from its chain-wide form; `settings`: its per-route form, `outer` those of the level around. */
export interface FilterFactory<Config extends DescMessage = DescMessage, PerRoute extends DescMessage = DescMessage> {
  config: Config;
  perRoute: PerRoute;
  create(name: string, config: MessageShape<Config>, deps: FilterDeps): Filter;
  settings(message: MessageShape<PerRoute>, outer: unknown): unknown;
}

/** One kind of network filter. */
export interface NetworkFilterFactory<Config extends DescMessage = DescMessage> {
  config: Config;
  create(name: string, config: MessageShape<Config>, deps: FilterDeps): NetworkFilter;
}

/** Decides on a connection by its addresses and peer, before any byte is read. */
export interface NetworkFilter {
  readonly name: string;
  onConnection(connection: ConnectionInfo): "continue" | "close";
  /** Asked of a connection that is open when the configuration has changed; absent: it may stay. */
  allowsOn?(connection: ConnectionInfo): boolean;
}
