// One request of an HTTP/2 client: the client codec's contract over a stream. Reused request after request, as its exchange is.

import type { HpackEncoder } from "../../wire/hpack_encoder.ts";
import type { Framing } from "../../wire/http1_body.ts";
import { Head, known } from "../../wire/http1_head.ts";
import { type HeaderEdits, newEdits } from "../../wire/http1_write.ts";
import { h2Error } from "../../wire/http2_frames.ts";
import type { Http2Stream, StreamUser } from "../../wire/http2_stream.ts";
import { writeLocalBlock, writeResponseBlock } from "../../wire/http2_write.ts";
import type { ConnectionInfo, HttpChain, Runtime } from "../chain.ts";
import { sweepPeriodMs } from "../sweep.ts";
import type { Downstream } from "./downstream.ts";
import { Exchange } from "./exchange.ts";
import { isBodiless, typeLine } from "./reply.ts";
import { BodyPace } from "./slow_client.ts";
import type { UpstreamConnection } from "./upstream.ts";

/** What a stream needs of its client's connection. */
export interface StreamHost {
  readonly connection: ConnectionInfo;
  readonly encoder: HpackEncoder;
  /** The chain as it is now; undefined: no further requests. */
  chain(): HttpChain | undefined;
  /** An answer's head is about to be sent. */
  onAnswer(): void;
  /** The request is to be started when the current read has been looked at. */
  startLater(stream: ServerStream): void;
  /** Nobody uses it any more. */
  recycle(stream: ServerStream): void;
}

/** An interim answer has no body, whatever its fields say. */
const interimEdits = newEdits();
interimEdits.dropIds[known.contentLength] = 1;

export class ServerStream implements Downstream, StreamUser {
  readonly connection: ConnectionInfo;
  readonly understandsChunked = false;
  readonly isHead = false;
  readonly head = new Head();
  readonly exchange: Exchange;
  readonly #host: StreamHost;
  readonly #runtime: Runtime;
  #stream: Http2Stream | undefined;
  #chain: HttpChain | undefined;
  #sinceMs = 0;
  readonly #pace = new BodyPace();
  #paused = false;
  responseBytes = 0;

  constructor(host: StreamHost, runtime: Runtime) {
    this.connection = host.connection;
    this.#host = host;
    this.#runtime = runtime;
    this.exchange = new Exchange(runtime, this);
  }

  begin(stream: Http2Stream): this {
    this.#stream = stream;
    this.#paused = false;
    this.responseBytes = 0;
    return this;
  }

  // ---- the request ----

  onHead(ended: boolean): void {
    const chain = this.#host.chain();
    const { head, exchange } = this;
    if (chain === undefined) {
      this.#stream!.reset(h2Error.refusedStream);
      return;
    }
    this.#chain = chain;
    const { nowMs } = this.#runtime.sweeper;
    this.#sinceMs = nowMs;
    if (!ended) this.#pace.begin(nowMs);
    exchange.begin(head, chain, head.end - head.start, !ended);
    exchange.request.isHttp2 = true;
    exchange.request.isBare = !ended;
    // What comes with the same read goes in one write with the head.
    if (ended) this.start();
    else this.#host.startLater(this);
  }
  start(): void {
    const { exchange } = this;
    if (!exchange.active) return;
    // A tunnel per stream is not offered.
    if (this.head.method() === "CONNECT") exchange.reply(501, "", "-", "", "connect_not_supported");
    else exchange.start();
  }
  onHeadTooLarge(): void {
    const chain = this.#host.chain();
    if (chain === undefined) this.#stream!.reset(h2Error.refusedStream);
    else {
      this.sendLocal(431, "", "", chain);
      this.end(false);
    }
  }

  onData(chunk: Buffer, from: number, to: number): boolean {
    this.#pace.grown += to - from;
    return this.exchange.active ? this.exchange.onRequestData(chunk, from, to) : true;
  }
  onEnd(trailers: Buffer | undefined): void {
    if (this.exchange.active) this.exchange.onRequestEnd(trailers);
  }
  onRoom(): void {
    if (this.exchange.active) this.exchange.onDownstreamDrain();
  }
  onReset(_code: number, how: "remote" | "protocol" | "connection"): void {
    if (how === "remote") this.exchange.abort("DR", "http2.remote_reset");
    else if (how === "protocol") this.exchange.abort("DPE", "http2.violation.of.messaging.rule");
    else this.exchange.abort("DC");
    this.#settle();
  }

  pauseRequest(): void {
    this.#paused = true;
    this.#stream?.pause();
  }
  resumeRequest(): void {
    this.#paused = false;
    this.#stream?.resume();
  }

  // ---- the answer ----

  /** A stream ends by itself. */
  closeAfterAnswer(): void {}
  /** Frames of one event are written together. */
  flush(): void {}

  sendContinue(): void {
    this.#sendBlock(writeLocalBlock(this.#host.encoder, 100, ""), false);
  }
  sendInterim(head: Head): void {
    this.#sendBlock(writeResponseBlock(this.#host.encoder, head, interimEdits), false);
  }
  sendHead(head: Head, edits: HeaderEdits, framing: Framing): void {
    if (head.status === 204) edits.dropIds[known.contentLength] = 1;
    this.#host.onAnswer();
    this.#sendBlock(writeResponseBlock(this.#host.encoder, head, edits), framing === "none");
  }
  #sendBlock(length: number, end: boolean): void {
    this.responseBytes += length;
    this.#stream?.sendHead(length, end);
  }
  sendBody(chunk: Buffer, from: number, to: number): boolean {
    this.responseBytes += to - from;
    return this.#stream?.write(chunk, from, to) ?? true;
  }
  finishBody(trailers: Buffer | undefined): void {
    this.#stream?.end(trailers === undefined ? "" : trailers.latin1Slice(0, trailers.length - 2));
  }
  sendLocal(status: number, body: string, headers: string, chain: HttpChain, contentType = "text/plain"): void {
    this.#host.onAnswer();
    const bytes = isBodiless(status) || this.exchange.isHead ? empty : Buffer.from(body);
    const described =
      body === "" || isBodiless(status)
        ? ""
        : `content-length: ${Buffer.byteLength(body)}\r\n${typeLine(headers, contentType)}`;
    const server = chain.serverName === undefined ? "" : `server: ${chain.serverName}\r\n`;
    const lines = `${described}${headers}date: ${this.#runtime.sweeper.httpDate}\r\n${server}`;
    this.#sendBlock(writeLocalBlock(this.#host.encoder, status, lines), bytes.length === 0);
    if (bytes.length === 0) return;
    this.sendBody(bytes, 0, bytes.length);
    this.finishBody(undefined);
  }

  end(requestComplete: boolean): void {
    const stream = this.#stream;
    // Nobody reads what is left of the request.
    if (!requestComplete) stream?.dropRest();
    stream?.resume();
    this.#settle();
  }
  reset(): void {
    this.#stream?.reset(h2Error.internal);
    this.#settle();
  }
  /** Never asked for: CONNECT is refused, and HTTP/2 knows no Upgrade. */
  upgrade(_head: Head | undefined, _edits: HeaderEdits, upstream: UpstreamConnection): void {
    upstream.abandon();
    this.reset();
  }

  /** Both the stream and its exchange may be over. */
  onStreamClosed(): void {
    this.#settle();
  }
  #settle(): void {
    if (this.#stream === undefined || !this.#stream.closed || this.exchange.active) return;
    this.#stream = undefined;
    this.#host.recycle(this);
  }

  onTick(nowMs: number): void {
    const { exchange } = this;
    const chain = this.#chain;
    if (chain === undefined) return;
    if (!exchange.active) {
      // The answer is complete here, but the client does not take it.
      if (nowMs - exchange.lastActiveMs > chain.streamIdleMs) this.reset();
      return;
    }
    if (!exchange.requestComplete && nowMs - this.#sinceMs > chain.requestTimeoutMs + sweepPeriodMs)
      exchange.reply(408, "request timeout", "-", "", "request_overall_timeout");
    else if (!exchange.requestComplete && this.#pace.isTooSlow(nowMs, chain.bodyWindowMs, this.#paused))
      exchange.reply(408, "request body too slow", "-", "", "request_body_too_slow");
    else if (nowMs - exchange.lastActiveMs > exchange.idleMs + sweepPeriodMs)
      exchange.reply(exchange.requestComplete ? 504 : 408, "stream timeout", "SI", "", "stream_idle_timeout");
  }
}

const empty: Buffer = Buffer.alloc(0);
