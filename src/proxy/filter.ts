// The contract of filters. A filter is one file with one factory; a chain's filters are an explicit list (compile_http.ts).

import type { ConnectionInfo } from "./chain.ts";
import type { RequestView } from "./request.ts";

/** What a filter may see and do. It lives as long as the request. */
export interface FilterRequest {
  readonly request: RequestView;
  readonly connection: ConnectionInfo;
  /** Settings of the filter `name` on the matched route, as its compileSettings made them. */
  settings(name: string): unknown;
  /** Answers instead of the upstream; the filter returns "stop". */
  reply(status: number, body: string, flags: string, headers?: string): void;
  /** After "stop": goes on with the next filter. Harmless when the request is gone. */
  resume(): void;
  /** Runs `callback` later unless the request has ended by then; one at a time. */
  after(delayMs: number, callback: () => void): void;
  /** A complete header line ("name: value\r\n") for the answer, whoever gives it. */
  addResponseHeader(line: string): void;
  /** Recorded as a response flag without ending the request (DI). */
  addFlag(flag: string): void;
}

export interface Filter {
  readonly name: string;
  /** "stop": the filter answered, or calls resume() later. */
  onRequest(request: FilterRequest): "continue" | "stop";
}

/** Decides on a connection by its addresses and peer, before any byte is read. */
export interface NetworkFilter {
  readonly name: string;
  onConnection(connection: ConnectionInfo): "continue" | "close";
}
