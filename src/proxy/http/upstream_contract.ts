// The contract between a request and the server's codec. HTTP/1.1 implements it in upstream.ts, HTTP/2 in h2_request.ts.

import type { Framing } from "../../wire/http1_body.ts";
import type { Head } from "../../wire/http1_head.ts";
import type { HeaderEdits } from "../../wire/http1_write.ts";
import type { RequestView } from "./request.ts";
import type { UpstreamConnection } from "./upstream.ts";

/** How an exchange ended without its answer. */
export type UpstreamLoss =
  /** A reused connection was closed before the first byte. */
  | "stale"
  | "reset"
  /** After the head. */
  | "midway"
  | "protocol"
  /** HTTP/2: the server has not looked at the request. */
  | "refused"
  /** HTTP/2: the server gave up this request alone. */
  | "remote";

/** The request that currently uses the connection. */
export interface UpstreamUser {
  readonly isHead: boolean;
  /** A 2xx opens a tunnel. */
  readonly isConnect: boolean;
  /** Trailers are wanted: with the body if that is wanted with its framing, else by `onResponseTrailers`. */
  readonly keepsTrailers: boolean;
  /** Body bytes are wanted without chunk framing. */
  readonly wantsPayload: boolean;
  /**
   * False: the answer is not wanted (a retry follows); the connection has been given up. The head's bytes are gone after the
   * first bytes of the body: later needs are met by strings.
   */
  onResponseHead(head: Head, framing: Framing): boolean;
  /** True: all of it has been written or copied, so that the read's memory may be let go. */
  onResponseBody(chunk: Buffer, from: number, to: number): boolean;
  /** Before onResponseEnd: a trailer section as HTTP/1.1 writes it, empty line included. */
  onResponseTrailers(section: Buffer): void;
  onResponseEnd(): void;
  /** All of one read has been handed over: what is held back for coalescing goes out now. */
  onResponseFlush(): void;
  /** An interim answer other than 101. */
  onInterim(head: Head): void;
  /** 101, or 2xx to CONNECT: the connection is the user's now. */
  onUpgraded(head: Head, rest: Buffer | undefined): void;
  onUpstreamLost(how: UpstreamLoss): void;
  /** The send buffer has room again. */
  onUpstreamDrain(): void;
}

/** A request as it is sent. */
export interface SentRequest {
  readonly request: RequestView;
  readonly requestEdits: HeaderEdits;
  readonly isUpgrade: boolean;
  /** Nothing follows the head (and what is sent with it). */
  readonly requestComplete: boolean;
}

/** One request's hold on a connection. */
export interface Upstream {
  /** The connection as a whole, where it is one; HTTP/2 shares it with others. */
  readonly http1: UpstreamConnection | undefined;
  /** "ip:port" of our end. */
  readonly localAddress: string;
  /** Starts an exchange; `send` follows. */
  use(user: UpstreamUser): void;
  /** The head and what there is of the body. `keeps`: the parts stay the caller's. False: full; the user's onUpstreamDrain follows. */
  send(sent: SentRequest, parts: readonly Buffer[] | undefined, keeps: boolean): boolean;
  /** More of the body. `kind` as for SocketWriter.write. False: full. */
  write(chunk: Buffer, from: number, to: number, kind: "kept" | "read"): boolean;
  /** Of a bare body: nothing follows but these trailers. */
  end(trailers: Buffer | undefined): void;
  /** The user cannot take more of the answer for now. */
  pause(): void;
  resume(): void;
  /** The exchange is over and both messages are complete. */
  release(): void;
  /** The user has lost interest. */
  abandon(): void;
  /** The answer is complete, the request is not. */
  close(): void;
}
