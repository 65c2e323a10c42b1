// The client's side of HTTP/1.1: reads requests off one connection in order, writes answers, decides between keep-alive and close.

import { HeadAccumulator } from "../wire/accumulate.ts";
import { ChunkedScanner, type Framing, requestFraming } from "../wire/http1_body.ts";
import { Head, headError, known, releaseHead, requestHeadBytesMax, scanRequestHead } from "../wire/http1_head.ts";
import { coalescedBodyBytesMax, type HeaderEdits, scratch, writeFields } from "../wire/http1_write.ts";
import { type OwnedSocket, type SocketOwner, SocketWriter } from "../wire/socket.ts";
import type { ChainSlot, ConnectionInfo, HttpChain, Runtime } from "./chain.ts";
import type { Downstream } from "./downstream.ts";
import { Exchange } from "./exchange.ts";
import { joinSockets } from "./join.ts";
import { isBodiless, localHead } from "./reply.ts";
import type { Swept } from "./sweep.ts";
import type { UpstreamConnection } from "./upstream.ts";

/** After our FIN the client may still be sending: this long and this much is read and dropped, so that no RST overtakes the answer. */
const lingerMs = 2000;
const lingerBytesMax = 1024 * 1024;

const statusOf: Record<number, number> = {
  [headError.malformed]: 400,
  [headError.tooLarge]: 431,
  [headError.version]: 505,
  [headError.notImplemented]: 501,
};

export class HttpServerConnection implements SocketOwner, Downstream, Swept {
  readonly connection: ConnectionInfo;
  readonly #socket: OwnedSocket;
  readonly #writer: SocketWriter;
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
  /** Bytes past the current request (pipelining). */
  #rest: Buffer | undefined;
  #framing: Framing = "none";
  #bodyLeft = 0;
  #bodyDone = true;
  #keepAlive = true;
  #corked = false;
  #enchunk = false;
  #writtenBefore = 0;
  /** When the connection became idle, the current head began, or lingering started. */
  #sinceMs: number;
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
    this.#slot = slot;
    this.#chain = chain;
    this.#runtime = runtime;
    this.#onClosed = onClosed;
    this.#sinceMs = runtime.sweeper.nowMs;
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
    if (!this.#partial.empty) {
      const collected = this.#partial.append(chunk, 0, chunk.length, requestHeadBytesMax);
      if (collected === undefined) return;
      all = collected;
    }
    const head = this.#head;
    const end = scanRequestHead(head, all, 0, all.length);
    if (end === 0) {
      if (this.#partial.empty) this.#sinceMs = this.#runtime.sweeper.nowMs;
      this.#partial.append(all, 0, all.length, requestHeadBytesMax);
      return;
    }
    const current = this.#slot.current;
    if (current?.kind === "http") this.#chain = current;
    this.#keepAlive = end > 0 && head.keepAlive && current?.kind === "http" && !this.#runtime.draining;
    this.#writtenBefore = this.#writer.bytesWritten;
    if (end < 0) {
      this.#refuse(statusOf[end]!);
      return;
    }
    const framing = requestFraming(head);
    this.#framing = framing;
    this.#bodyDone = framing === "none";
    this.#bodyLeft = head.contentLength;
    if (framing === "chunked") {
      this.#chunked ??= new ChunkedScanner();
      this.#chunked.reset();
    }
    this.#exchange.begin(head, this.#chain, end - head.start, !this.#bodyDone);
    if (end < all.length) {
      if (this.#bodyDone) this.#rest = all.subarray(end);
      else this.#feedBody(all, end);
    }
    if (this.#exchange.active) this.#exchange.start();
  }

  #feedBody(chunk: Buffer, from: number): void {
    const exchange = this.#exchange;
    let to = chunk.length;
    if (this.#framing === "length") {
      to = Math.min(to, from + this.#bodyLeft);
      this.#bodyLeft -= to - from;
      this.#bodyDone = this.#bodyLeft === 0;
      if (this.#bodyDone) exchange.onRequestEnd();
      exchange.onRequestData(chunk, from, to);
    } else {
      const scanner = this.#chunked!;
      to = scanner.scan(chunk, from, to, true);
      if (to < 0) {
        this.#keepAlive = false;
        exchange.reply(400, "", "DPE");
        return;
      }
      this.#bodyDone = scanner.done;
      if (this.#bodyDone) exchange.onRequestEnd();
      const { ranges } = scanner;
      for (let i = 0; i < ranges.length; i += 2) exchange.onRequestData(chunk, ranges[i]!, ranges[i + 1]!);
    }
    if (to < chunk.length && this.#state === "open") this.#rest = chunk.subarray(to);
  }

  /** Not a request at all: answered here, without an exchange. */
  #refuse(status: number): void {
    this.#keepAlive = false;
    this.#bodyDone = true;
    this.sendLocal(status, "", "", this.#chain);
    this.#lingerClose();
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
    if (this.#head.minor === 0) return;
    this.flush();
    this.#writer.write(Buffer.from("HTTP/1.1 100 Continue\r\n\r\n"), 0, 25, false);
  }

  sendHead(head: Head, edits: HeaderEdits, framing: Framing, _chain: HttpChain): void {
    this.flush();
    scratch.clear();
    scratch.text("HTTP/1.1");
    scratch.copy(head.buffer, head.start + 8, head.fieldsStart);
    this.#enchunk = false;
    if (framing === "close" || (framing === "chunked" && !this.understandsChunked)) {
      edits.dropIds[known.transferEncoding] = 1;
      if (this.understandsChunked) {
        this.#enchunk = true;
        edits.added += "transfer-encoding: chunked\r\n";
      } else this.#keepAlive = false;
    }
    if (this.#runtime.draining) this.#keepAlive = false;
    if (!this.#keepAlive) edits.added += "connection: close\r\n";
    else if (this.#head.minor === 0) edits.added += "connection: keep-alive\r\n";
    writeFields(scratch, head, edits);
    this.#corked = true;
  }

  sendBody(chunk: Buffer, from: number, to: number): boolean {
    if (from >= to) return !this.#writer.blocked;
    if (this.#enchunk) {
      if (!this.#corked) scratch.clear();
      this.#corked = true;
      scratch.text(`${(to - from).toString(16)}\r\n`);
    }
    if (this.#corked && scratch.length + to - from <= coalescedBodyBytesMax) scratch.copy(chunk, from, to);
    else {
      this.flush();
      this.#writer.write(chunk, from, to, false);
      if (this.#enchunk) {
        scratch.clear();
        this.#corked = true;
      }
    }
    if (this.#enchunk) scratch.text("\r\n");
    return !this.#writer.blocked;
  }

  flush(): void {
    if (!this.#corked) return;
    this.#corked = false;
    this.#writer.write(scratch.buffer, 0, scratch.length, true);
  }

  finishBody(): void {
    if (this.#enchunk) {
      if (!this.#corked) scratch.clear();
      this.#corked = true;
      this.#enchunk = false;
      scratch.text("0\r\n\r\n");
    }
    this.flush();
  }

  sendLocal(status: number, body: string, headers: string, chain: HttpChain): void {
    this.flush();
    // What is left of a request nobody reads: its connection cannot carry another one.
    if (!this.#bodyDone || this.#runtime.draining) this.#keepAlive = false;
    const head = localHead(status, body, {
      date: this.#runtime.sweeper.httpDate,
      server: chain.serverName,
      close: !this.#keepAlive,
      headers,
    });
    const bytes = Buffer.from(this.#exchange.isHead || isBodiless(status) ? head : head + body);
    this.#writer.write(bytes, 0, bytes.length, false);
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

  reset(): void {
    this.#socket.terminate();
  }

  upgrade(head: Head, edits: HeaderEdits, upstream: UpstreamConnection, rest: Buffer | undefined): void {
    const protocol = head.upgradeIndex < 0 ? "" : head.value(head.upgradeIndex);
    scratch.clear();
    scratch.text("HTTP/1.1");
    scratch.copy(head.buffer, head.start + 8, head.fieldsStart);
    scratch.text(`connection: upgrade\r\nupgrade: ${protocol}\r\n`);
    writeFields(scratch, head, edits);
    this.#writer.write(scratch.buffer, 0, scratch.length, true);
    this.#state = "handed over";
    this.#runtime.sweeper.delete(this);
    const early = { first: this.#rest, second: rest };
    const writers = { first: this.#writer, second: upstream.writer };
    joinSockets(this.#socket, upstream.detach(), writers, early, this.#runtime, {
      idleMs: this.#chain.streamIdleMs,
      onBytes() {},
      onClosed: this.#onClosed,
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
    else this.#socket.end();
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
      if (nowMs - this.#sinceMs > waitMs) this.#socket.end();
      return;
    }
    const exchange = this.#exchange;
    if (exchange.active) {
      if (nowMs - exchange.lastActiveMs <= this.#chain.streamIdleMs) return;
      if (exchange.requestComplete) exchange.reply(504, "stream timeout", "SI");
      else exchange.reply(408, "stream timeout", "SI");
      return;
    }
    const waitedMs = nowMs - this.#sinceMs;
    if (!this.#partial.empty) {
      if (waitedMs > this.#chain.headerTimeoutMs) this.#refuse(408);
    } else if (waitedMs > this.#chain.connectionIdleMs || this.#runtime.draining || this.#slot.current === undefined)
      this.#socket.end();
  }
}
