// The client's side of HTTP/1.1: reads requests off one connection in order, writes answers, decides between keep-alive and close.

import { HeadAccumulator } from "../../wire/accumulate.ts";
import { allowedTrailers, ChunkedScanner, type Framing, requestFraming } from "../../wire/http1_body.ts";
import { Head, headError, releaseHead, requestHeadBytesMax, scanRequestHead } from "../../wire/http1_head.ts";
import type { HeaderEdits } from "../../wire/http1_write.ts";
import { startsWithPreface } from "../../wire/http2_frames.ts";
import type { Relay } from "../../wire/relay.ts";
import { release } from "../../wire/release.ts";
import { closeSocket, type OwnedSocket, type SocketOwner, SocketWriter } from "../../wire/socket.ts";
import { allowsOn, type ChainSlot, type ConnectionInfo, type HttpChain, type Runtime } from "../chain.ts";
import { joinSockets } from "../join.ts";
import type { AccessLog } from "../log/access_log.ts";
import { plainInfo } from "../log/stream_info.ts";
import { type Swept, sweepPeriodMs } from "../sweep.ts";
import { AnswerWriter, endsConnection } from "./answer_writer.ts";
import type { Downstream } from "./downstream.ts";
import { Exchange } from "./exchange.ts";
import { Http2ServerConnection } from "./h2_server.ts";
import { isBodiless, localHead } from "./reply.ts";
import { BodyPace } from "./slow_client.ts";
import type { UpstreamConnection } from "./upstream.ts";

/** After our FIN the client may still be sending: this long and this much is read and dropped, so that no RST overtakes the answer. */
const lingerMs = 2000;
const lingerBytesMax = 1024 * 1024;
/** A spent connection in use is told so with its next answer; only an idle one is simply closed. */
const spentIdleMs = 750;

const statusOf: Record<number, number> = {
  [headError.malformed]: 400,
  [headError.tooLarge]: 431,
  [headError.version]: 505,
  [headError.notImplemented]: 501,
};

/** RESPONSE_CODE_DETAILS; all others are errors of the codec. */
const refusalDetails: Readonly<Record<number, string>> = {
  408: "request_header_timeout",
  431: "http1.headers_too_large",
  505: "low_version",
};

export class HttpServerConnection implements SocketOwner, Downstream, Swept {
  readonly connection: ConnectionInfo;
  readonly #socket: OwnedSocket;
  readonly #writer: SocketWriter;
  readonly #answer: AnswerWriter;
  readonly #runtime: Runtime;
  readonly #slot: ChainSlot;
  #chain: HttpChain;
  readonly #exchange: Exchange;
  readonly #onClosed: () => void;
  readonly #head = new Head();
  readonly #partial = new HeadAccumulator();
  #chunked: ChunkedScanner | undefined;
  #state: "open" | "lingering" | "closed" | "handed over" = "open";
  #processing = false;
  #paused = false;
  /** Once the connection is handed over. */
  #tunnel: Relay | undefined;
  /** Bytes past the current request (pipelining). */
  #rest: Buffer | undefined;
  #framing: Framing = "none";
  #bodyLeft = 0;
  #bodyDone = true;
  #keepAlive = true;
  #writtenBefore = 0;
  /** When the connection became idle, the current head began, or lingering started. */
  #sinceMs: number;
  readonly #openedMs: number;
  #requests = 0;
  readonly #pace = new BodyPace();
  #lingered = 0;

  constructor(
    socket: OwnedSocket,
    slot: ChainSlot,
    chain: HttpChain,
    connection: ConnectionInfo,
    runtime: Runtime,
    onClosed: () => void,
  ) {
    this.connection = connection;
    this.#socket = socket;
    this.#writer = new SocketWriter(socket);
    this.#answer = new AnswerWriter(this.#writer);
    this.#slot = slot;
    this.#chain = chain;
    this.#runtime = runtime;
    this.#onClosed = onClosed;
    this.#sinceMs = runtime.sweeper.nowMs;
    this.#openedMs = this.#sinceMs;
    this.#exchange = new Exchange(runtime, this);
    runtime.sweeper.add(this);
    socket.data = this;
  }

  get understandsChunked(): boolean {
    return this.#head.minor === 1;
  }
  get responseBytes(): number {
    return this.#writer.bytesWritten - this.#writtenBefore;
  }

  // ---- reading ----

  onData(chunk: Buffer): void {
    if (this.#state === "lingering") {
      this.#lingered += chunk.length;
      if (this.#lingered > lingerBytesMax) this.#socket.terminate();
      return;
    }
    if (!this.#exchange.active) this.#process(chunk);
    else if (!this.#bodyDone) this.#feedBody(chunk, 0);
    else {
      // The next request, before this one is answered: it waits, and so does the client.
      this.#rest = this.#rest ? Buffer.concat([this.#rest, chunk]) : chunk;
      this.pauseRequest();
    }
    this.flush();
  }

  /** Request after request, as long as they are answered at once; the loop keeps pipelines off the stack. */
  #process(chunk: Buffer): void {
    let data: Buffer | undefined = chunk;
    this.#processing = true;
    while (data !== undefined && this.#state === "open") {
      this.#begin(data);
      data = undefined;
      if (!this.#exchange.active && this.#rest) {
        // A client that does not read its answers gets no further ones.
        if (this.#writer.blocked) {
          this.pauseRequest();
          break;
        }
        data = this.#rest;
        this.#rest = undefined;
      }
    }
    this.#processing = false;
  }

  #begin(chunk: Buffer): void {
    let all = chunk;
    if (this.#partial.empty) this.#sinceMs = this.#runtime.sweeper.nowMs;
    else {
      const collected = this.#partial.append(chunk, 0, chunk.length, requestHeadBytesMax);
      if (collected === undefined) return;
      all = collected;
    }
    const head = this.#head;
    let end = scanRequestHead(head, all, 0, all.length);
    if (end === 0) {
      this.#partial.append(all, 0, all.length, requestHeadBytesMax);
      return;
    }
    const current = this.#slot.current;
    if (current?.kind === "http" && current !== this.#chain) {
      this.#chain = current;
      if (!allowsOn(current, this.connection)) {
        this.#socket.terminate();
        return;
      }
    }
    const { headersMax, headBytesMax } = this.#chain;
    if (end - head.start > headBytesMax || (end > 0 && head.count > headersMax)) end = headError.tooLarge;
    this.#requests++;
    this.#keepAlive =
      end > 0 && head.keepAlive && current?.kind === "http" && !this.#runtime.draining && !this.#isSpent;
    this.#writtenBefore = this.#writer.bytesWritten;
    if (end < 0) {
      if (this.#speaksHttp2(all)) this.#becomeHttp2(all);
      else this.#refuse(statusOf[end]!);
      return;
    }
    const framing = requestFraming(head);
    this.#framing = framing;
    this.#bodyDone = framing === "none";
    this.#bodyLeft = head.contentLength;
    if (!this.#bodyDone) this.#pace.begin(this.#runtime.sweeper.nowMs);
    if (framing === "chunked") {
      this.#chunked ??= new ChunkedScanner();
      this.#chunked.reset(this.#chain.trailers);
    }
    this.#exchange.begin(head, this.#chain, end - head.start, !this.#bodyDone);
    if (end < all.length) {
      if (this.#bodyDone) this.#rest = all.subarray(end);
      else {
        // The head in memory of its own: the read is let go with the body.
        head.buffer = Buffer.from(all.subarray(0, end));
        this.#feedBody(all, end);
      }
    }
    if (this.#exchange.active) this.#exchange.start();
  }

  #feedBody(chunk: Buffer, from: number): void {
    const exchange = this.#exchange;
    this.#pace.grown += chunk.length - from;
    let to = chunk.length;
    let done = true;
    if (this.#framing === "length") {
      to = Math.min(to, from + this.#bodyLeft);
      this.#bodyLeft -= to - from;
      this.#bodyDone = this.#bodyLeft === 0;
      if (this.#bodyDone) exchange.onRequestEnd();
      done = exchange.onRequestData(chunk, from, to);
    } else {
      const scanner = this.#chunked!;
      to = scanner.scan(chunk, from, to, true);
      if (to < 0) {
        this.#keepAlive = false;
        exchange.reply(400, "", "DPE", "", "http1.codec_error");
        return;
      }
      this.#bodyDone = scanner.done;
      if (this.#bodyDone) exchange.onRequestEnd();
      const { ranges } = scanner;
      for (let i = 0; i < ranges.length; i += 2)
        done = exchange.onRequestData(chunk, ranges[i]!, ranges[i + 1]!) && done;
      if (scanner.done && scanner.keepsTrailers) {
        const trailers = scanner.takeTrailers();
        exchange.onRequestData(trailers, 0, trailers.length);
      }
    }
    // A copy: the body's writer lets the read go.
    if (to < chunk.length && this.#state === "open") this.#rest = Buffer.from(chunk.subarray(to));
    if (done) release(chunk);
  }

  /** HTTP/2 with prior knowledge (RFC 9113 §3.3): its preface is no request that could be answered. */
  #speaksHttp2(bytes: Buffer): boolean {
    return this.#requests === 1 && this.#chain.codec === "auto" && startsWithPreface(bytes) !== false;
  }
  #becomeHttp2(bytes: Buffer): void {
    this.#state = "handed over";
    this.#runtime.sweeper.delete(this);
    const args = [this.#slot, this.#chain, this.connection, this.#runtime, this.#onClosed] as const;
    new Http2ServerConnection(this.#socket, ...args).onData(bytes);
  }

  /** Not a request at all: answered here, without an exchange. */
  #refuse(status: number): void {
    this.#keepAlive = false;
    this.#bodyDone = true;
    this.sendLocal(status, "", "", this.#chain);
    if (this.#chain.accessLog) this.#logRefusal(this.#chain.accessLog, status);
    this.#lingerClose();
  }

  #logRefusal(accessLog: AccessLog, status: number): void {
    const info = plainInfo("DownstreamEnd", this.#chain.owner, this.connection, this.#runtime.clock.now());
    info.status = status;
    info.flags = status === 408 ? "-" : "DPE";
    info.details = refusalDetails[status] ?? "http1.codec_error";
    accessLog.log(info);
  }

  pauseRequest(): void {
    if (this.#paused || this.#state !== "open") return;
    this.#paused = true;
    this.#socket.pause();
  }
  resumeRequest(): void {
    if (!this.#paused || this.#rest !== undefined || this.#state !== "open") return;
    this.#paused = false;
    this.#socket.resume();
  }

  // ---- writing ----

  closeAfterAnswer(): void {
    this.#keepAlive = false;
  }

  sendContinue(): void {
    if (this.#head.minor === 1) this.#answer.continue();
  }
  sendInterim(head: Head): void {
    if (this.#head.minor === 1) this.#answer.interim(head);
  }
  sendHead(head: Head, edits: HeaderEdits, framing: Framing, chain: HttpChain): void {
    const { minor } = this.#head;
    // As Envoy: nobody waits for the rest of a request that is answered already.
    if (this.#runtime.draining || !this.#bodyDone || endsConnection(framing, minor)) this.#keepAlive = false;
    this.#answer.head(head, edits, framing, minor, this.#keepAlive, chain.trailers);
  }
  sendBody(chunk: Buffer, from: number, to: number, kind: "kept" | "read"): boolean {
    return this.#answer.body(chunk, from, to, kind);
  }
  flush(): void {
    this.#answer.flush();
  }
  finishBody(trailers: Buffer | undefined): void {
    this.#answer.finish(trailers && this.#chain.trailers ? allowedTrailers(trailers) : undefined);
  }

  sendLocal(status: number, body: string, headers: string, chain: HttpChain, contentType = "text/plain"): void {
    this.flush();
    // What is left of a request nobody reads: its connection cannot carry another one.
    if (!this.#bodyDone || this.#runtime.draining) this.#keepAlive = false;
    const head = localHead(status, body, {
      date: this.#runtime.sweeper.httpDate,
      server: chain.serverName,
      close: !this.#keepAlive,
      headers: this.#keepAlive && this.#head.minor === 0 ? `${headers}connection: keep-alive\r\n` : headers,
      contentType,
    });
    const bytes = Buffer.from(this.#exchange.isHead || isBodiless(status) ? head : head + body);
    this.#writer.write(bytes, 0, bytes.length, "kept");
  }

  end(requestComplete: boolean): void {
    releaseHead(this.#head);
    if (!this.#keepAlive || !requestComplete) {
      this.#lingerClose();
      return;
    }
    this.#sinceMs = this.#runtime.sweeper.nowMs;
    if (this.#processing) return;
    if (this.#writer.blocked) this.pauseRequest();
    else this.#goOn();
  }

  /** The next request of a pipeline, or more from the client. */
  #goOn(): void {
    const rest = this.#rest;
    this.#rest = undefined;
    if (rest) {
      this.#process(rest);
      this.flush();
    }
    if (!this.#exchange.active && !this.#writer.blocked) this.resumeRequest();
  }

  get #serverLine(): string {
    const { serverName } = this.#chain;
    return serverName === undefined ? "" : `server: ${serverName}\r\n`;
  }

  reset(): void {
    if (this.#tunnel !== undefined) this.#tunnel.abort();
    else this.#socket.terminate();
  }

  upgrade(head: Head | undefined, edits: HeaderEdits, upstream: UpstreamConnection, rest: Buffer | undefined): void {
    if (head !== undefined) this.#answer.tunnelHead(head, edits);
    else this.#answer.established(`${edits.added}date: ${this.#runtime.sweeper.httpDate}\r\n${this.#serverLine}`);
    this.#state = "handed over";
    this.#runtime.sweeper.delete(this);
    const early = { first: this.#rest, second: rest };
    this.#rest = undefined;
    const exchange = this.#exchange;
    const writers = { first: this.#writer, second: upstream.writer };
    this.#tunnel = joinSockets(this.#socket, upstream.detach(), writers, early, this.#runtime, {
      idleMs: exchange.idleMs,
      durationMaxMs: Number.POSITIVE_INFINITY,
      onBytes: (fromClient, count) => exchange.onTunnelBytes(fromClient, count),
      onClosed: (how) => {
        upstream.tunnelClosed();
        exchange.onTunnelClosed(how === "idle" ? "SI" : "-");
        releaseHead(this.#head);
        this.#onClosed();
      },
    });
  }

  #lingerClose(): void {
    if (this.#state !== "open") return;
    this.#state = "lingering";
    this.#sinceMs = this.#runtime.sweeper.nowMs;
    this.#rest = undefined;
    this.#writer.end();
    if (this.#paused) this.#socket.resume();
  }

  onDrain(): void {
    if (!this.#writer.flush()) return;
    if (this.#exchange.active) this.#exchange.onDownstreamDrain();
    else if (this.#state === "open") this.#goOn();
  }

  // ---- the end of the connection ----

  onEnd(): void {
    // As Envoy: a client that has closed its side does not wait for an answer.
    this.#exchange.abort("DC");
    if (this.#writer.blocked) this.#writer.end();
    else closeSocket(this.#socket);
  }
  onClose(): void {
    if (this.#state === "closed" || this.#state === "handed over") return;
    this.#state = "closed";
    this.#runtime.sweeper.delete(this);
    this.#exchange.abort("DC");
    this.#onClosed();
  }

  onTick(nowMs: number): void {
    if (this.#state === "lingering") {
      // The answer may still be on its way over a slow link: close, don't reset.
      const waitMs = this.#writer.blocked ? this.#chain.streamIdleMs : lingerMs;
      if (nowMs - this.#sinceMs > waitMs) closeSocket(this.#socket);
      return;
    }
    const exchange = this.#exchange;
    const { closes } = this.#runtime;
    if (exchange.active) {
      // A broken answer must look broken: the client sees a reset.
      if (closes === "all") return this.#socket.terminate();
      if (!exchange.requestComplete && nowMs - this.#sinceMs > this.#chain.requestTimeoutMs + sweepPeriodMs) {
        exchange.reply(408, "request timeout", "-", "", "request_overall_timeout");
        return;
      }
      if (this.#isSpent) this.#keepAlive = false;
      if (!this.#bodyDone && this.#pace.isTooSlow(nowMs, this.#chain.bodyWindowMs, this.#paused)) {
        this.#keepAlive = false;
        exchange.reply(408, "request body too slow", "-", "", "request_body_too_slow");
        return;
      }
      if (nowMs - exchange.lastActiveMs <= exchange.idleMs + sweepPeriodMs) return;
      if (exchange.requestComplete) exchange.reply(504, "stream timeout", "SI", "", "stream_idle_timeout");
      else exchange.reply(408, "stream timeout", "SI", "", "stream_idle_timeout");
      return;
    }
    const waitedMs = nowMs - this.#sinceMs;
    if (!this.#partial.empty) {
      if (waitedMs > Math.min(this.#chain.headerTimeoutMs, this.#chain.requestTimeoutMs)) this.#refuse(408);
    } else if (this.#writer.blocked) {
      // The answer is complete here, but the client does not take it.
      if (waitedMs > this.#chain.streamIdleMs) this.#socket.terminate();
    } else if (
      waitedMs > this.#chain.connectionIdleMs ||
      (waitedMs > spentIdleMs && this.#isSpent) ||
      closes !== "nothing" ||
      this.#slot.current === undefined
    )
      closeSocket(this.#socket);
  }

  /** Has carried all it may, in time or in requests. */
  get #isSpent(): boolean {
    const { connectionMaxMs, requestsPerConnectionMax } = this.#chain;
    return this.#runtime.sweeper.nowMs - this.#openedMs > connectionMaxMs || this.#requests >= requestsPerConnectionMax;
  }
}
