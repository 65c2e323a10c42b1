// A kept HTTP/1.1 connection to an endpoint: one request at a time, answers framed strictly, reused or closed.

import { HeadAccumulator } from "../../wire/accumulate.ts";
import { allowedTrailers, ChunkedScanner, type Framing, responseFraming } from "../../wire/http1_body.ts";
import { Head, releaseHead, responseHeadBytesMax, scanResponseHead } from "../../wire/http1_head.ts";
import { coalescedBodyBytesMax, scratch } from "../../wire/http1_write.ts";
import { release } from "../../wire/release.ts";
import { closeSocket, type OwnedSocket, type SocketOwner, SocketWriter } from "../../wire/socket.ts";
import type { Runtime } from "../chain.ts";
import type { ClusterSlot, Endpoint, IdleConnection } from "../clusters/cluster.ts";
import type { Cluster } from "../clusters/config.ts";
import type { Swept } from "../sweep.ts";
import { writeRequestHead } from "./headers.ts";
import type { SentRequest, Upstream, UpstreamLoss, UpstreamUser } from "./upstream_contract.ts";

/** From the attempt to connect until `uncountConnection`. */
export function countConnection(endpoint: Endpoint, slot: ClusterSlot): void {
  endpoint.connections++;
  slot.connectionsActive++;
  slot.counts.connections++;
}
export function uncountConnection(endpoint: Endpoint, slot: ClusterSlot): void {
  endpoint.connections--;
  slot.connectionsActive--;
  endpoint.waiting.shift()?.onConnectionFree();
}

/** Interim answers before the final one; a server that sends more has lost its way. */
const interimMax = 16;
/** Idle connections kept per endpoint; more are closed when they become idle. */
const idlePerEndpointMax = 512;

/** Its connection is counted by whoever dialled it. */
export class UpstreamConnection implements Upstream, SocketOwner, IdleConnection, Swept {
  readonly socket: OwnedSocket;
  readonly writer: SocketWriter;
  readonly endpoint: Endpoint;
  readonly #slot: ClusterSlot;
  readonly #cluster: Cluster;
  readonly #runtime: Runtime;
  #user: UpstreamUser | undefined;
  #served = 0;
  #idleSinceMs = 0;
  readonly #openedMs: number;
  #closed = false;
  #paused = false;
  #state: "head" | "body" = "head";
  #gotBytes = false;
  #interims = 0;
  #framing: Framing = "none";
  #remaining = 0;
  #keepAlive = true;
  /** The request's body comes bare and goes in chunks. */
  #enchunks = false;
  readonly #head = new Head();
  readonly #partial = new HeadAccumulator();
  #chunked: ChunkedScanner | undefined;

  constructor(socket: OwnedSocket, endpoint: Endpoint, slot: ClusterSlot, cluster: Cluster, runtime: Runtime) {
    this.socket = socket;
    this.writer = new SocketWriter(socket);
    this.endpoint = endpoint;
    this.#slot = slot;
    this.#cluster = cluster;
    this.#runtime = runtime;
    this.#openedMs = runtime.sweeper.nowMs;
    socket.data = this;
    if (cluster.keepAliveMs > 0) socket.setKeepAlive(true, cluster.keepAliveMs);
    runtime.sweeper.add(this);
  }

  #localAddress = "";
  /** "ip:port" of our end; looked up once. */
  get localAddress(): string {
    if (this.#localAddress === "") this.#localAddress = `${this.socket.localAddress}:${this.socket.localPort}`;
    return this.#localAddress;
  }

  get http1(): this {
    return this;
  }
  get reused(): boolean {
    return this.#served > 0;
  }

  /** The user cannot take more of the answer for now. */
  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.socket.pause();
  }
  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.socket.resume();
  }

  /** Starts an exchange; the request is written by `send`, or through `writer`. */
  use(user: UpstreamUser): void {
    this.#user = user;
    this.#state = "head";
    this.#gotBytes = false;
    this.#interims = 0;
    this.#keepAlive = true;
  }

  /** Head and whatever of the body is here in one write. */
  send(
    { request, requestEdits, isUpgrade }: SentRequest,
    parts: readonly Buffer[] | undefined,
    keeps: boolean,
  ): boolean {
    this.#enchunks = request.isBare && request.head.contentLength < 0;
    scratch.clear();
    writeRequestHead(scratch, request, requestEdits, isUpgrade);
    let next = 0;
    if (parts !== undefined && !this.#enchunks)
      while (next < parts.length && parts[next]!.length <= coalescedBodyBytesMax - scratch.length) {
        scratch.copy(parts[next]!, 0, parts[next]!.length);
        next++;
      }
    let room = this.writer.write(scratch.buffer, 0, scratch.length, "reused");
    if (parts === undefined) return room;
    for (; next < parts.length; next++) {
      const part = parts[next]!;
      room = this.write(part, 0, part.length, keeps ? "kept" : "read");
      if (room && !keeps && parts[next + 1]?.buffer !== part.buffer) release(part);
    }
    return room;
  }

  write(chunk: Buffer, from: number, to: number, kind: "kept" | "read"): boolean {
    if (!this.#enchunks) return this.writer.write(chunk, from, to, kind);
    scratch.clear();
    scratch.text(`${(to - from).toString(16)}\r\n`);
    if (to - from <= coalescedBodyBytesMax) scratch.copy(chunk, from, to);
    else {
      this.writer.write(scratch.buffer, 0, scratch.length, "reused");
      this.writer.write(chunk, from, to, kind);
      scratch.clear();
    }
    scratch.text("\r\n");
    return this.writer.write(scratch.buffer, 0, scratch.length, "reused");
  }
  end(trailers: Buffer | undefined): void {
    if (!this.#enchunks) return;
    scratch.clear();
    scratch.text("0\r\n");
    const section = trailers && allowedTrailers(trailers);
    if (section) scratch.copy(section, 0, section.length);
    else scratch.text("\r\n");
    this.writer.write(scratch.buffer, 0, scratch.length, "reused");
  }

  /** The exchange is over and both messages are complete: back to the pool, or closed. */
  release(): void {
    this.#user = undefined;
    this.#served++;
    const { endpoint } = this;
    const keep =
      this.#keepAlive &&
      !this.#closed &&
      !endpoint.removed &&
      !this.writer.blocked &&
      this.#slot.current !== undefined &&
      this.#served < this.#cluster.requestsPerConnectionMax &&
      this.#runtime.sweeper.nowMs - this.#openedMs < this.#cluster.connectionMaxMs &&
      endpoint.idle.length < idlePerEndpointMax;
    if (!keep) {
      this.close();
      return;
    }
    // The client may have been full at the answer's last byte; the next answer is another client's.
    this.resume();
    this.#idleSinceMs = this.#runtime.sweeper.nowMs;
    endpoint.idle.push(this);
    endpoint.waiting.shift()?.onConnectionFree();
  }

  /** The user has lost interest (its client left, or it tries elsewhere): the connection cannot be used again. */
  abandon(): void {
    this.#user = undefined;
    this.#forget();
    this.socket.terminate();
  }

  /** A tunnel takes the socket over; it still counts as this endpoint's connection until `tunnelClosed`. */
  detach(): OwnedSocket {
    this.#user = undefined;
    this.resume();
    this.#runtime.sweeper.delete(this);
    return this.socket;
  }
  tunnelClosed(): void {
    this.#forget();
  }

  close(): void {
    this.#user = undefined;
    this.#forget();
    closeSocket(this.socket);
  }

  #forget(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#runtime.sweeper.delete(this);
    const { idle } = this.endpoint;
    const index = idle.lastIndexOf(this);
    if (index >= 0) idle.splice(index, 1);
    uncountConnection(this.endpoint, this.#slot);
  }

  onTick(nowMs: number): void {
    if (this.#user !== undefined) return;
    const { connectionIdleMs, connectionMaxMs } = this.#cluster;
    if (nowMs - this.#idleSinceMs > connectionIdleMs || nowMs - this.#openedMs > connectionMaxMs) this.close();
  }

  onData(chunk: Buffer): void {
    const user = this.#user;
    if (user === undefined) {
      // An answer nobody asked for: whatever it is, the connection cannot be trusted with a request.
      this.close();
      return;
    }
    this.#gotBytes = true;
    if (this.#state === "head") this.#readHead(chunk);
    else {
      this.#readBody(user, chunk, 0);
      user.onResponseFlush();
    }
  }

  #readHead(chunk: Buffer): void {
    let all = chunk;
    if (!this.#partial.empty) {
      const collected = this.#partial.append(chunk, 0, chunk.length, responseHeadBytesMax);
      if (collected === undefined) return;
      all = collected;
    }
    let from = 0;
    for (;;) {
      const end = scanResponseHead(this.#head, all, from, all.length);
      if (end === 0) {
        this.#partial.append(all, from, all.length, responseHeadBytesMax);
        return;
      }
      if (end < 0) {
        this.#lose("protocol");
        return;
      }
      const { status } = this.#head;
      if (status >= 200 || status === 101) {
        this.#begin(all, end);
        return;
      }
      if (++this.#interims > interimMax) {
        this.#lose("protocol");
        return;
      }
      this.#user!.onInterim(this.#head);
      from = end;
      if (from === all.length) return;
    }
  }

  #begin(chunk: Buffer, end: number): void {
    const user = this.#user!;
    const head = this.#head;
    if (head.status === 101 || (user.isConnect && head.status < 300)) {
      user.onUpgraded(head, end < chunk.length ? chunk.subarray(end) : undefined);
      return;
    }
    this.#framing = responseFraming(head, user.isHead);
    // A 204 that announces a body may well be followed by one (RFC 9112 §6.3).
    const lies = head.status === 204 && (head.chunked || head.contentLength > 0);
    this.#keepAlive = head.keepAlive && this.#framing !== "close" && !lies;
    this.#remaining = head.contentLength;
    if (this.#framing === "chunked") {
      this.#chunked ??= new ChunkedScanner();
      this.#chunked.reset(user.keepsTrailers);
    }
    this.#state = "body";
    if (!user.onResponseHead(head, this.#framing)) return;
    if (this.#framing === "none") this.#end(user, end < chunk.length);
    else if (end < chunk.length) this.#readBody(user, chunk, end);
    user.onResponseFlush();
  }

  #readBody(user: UpstreamUser, chunk: Buffer, from: number): void {
    const length = chunk.length;
    if (this.#framing === "length") {
      const to = Math.min(length, from + this.#remaining);
      this.#remaining -= to - from;
      const done = user.onResponseBody(chunk, from, to);
      if (this.#remaining === 0) this.#end(user, to < length);
      if (done) this.#letGo(chunk);
    } else if (this.#framing === "chunked") {
      const scanner = this.#chunked!;
      const raw = !user.wantsPayload;
      const to = scanner.scan(chunk, from, length, raw);
      if (to < 0) {
        this.#lose("protocol");
        return;
      }
      const { ranges } = scanner;
      let done = true;
      for (let i = 0; i < ranges.length; i += 2) done = user.onResponseBody(chunk, ranges[i]!, ranges[i + 1]!) && done;
      if (scanner.done) {
        if (scanner.keepsTrailers) {
          const trailers = scanner.takeTrailers();
          if (raw) user.onResponseBody(trailers, 0, trailers.length);
          else user.onResponseTrailers(trailers);
        }
        this.#end(user, to < length);
      }
      if (done) this.#letGo(chunk);
    } else if (user.onResponseBody(chunk, from, length)) this.#letGo(chunk);
  }
  #letGo(chunk: Buffer): void {
    releaseHead(this.#head);
    release(chunk);
  }

  /** `surplus`: bytes past the answer's end; they belong to nothing. */
  #end(user: UpstreamUser, surplus: boolean): void {
    if (surplus) this.#keepAlive = false;
    user.onResponseEnd();
  }

  #lose(how: UpstreamLoss): void {
    const user = this.#user;
    this.#user = undefined;
    this.#forget();
    this.socket.terminate();
    user?.onUpstreamLost(how);
  }

  onDrain(): void {
    if (this.writer.flush()) this.#user?.onUpstreamDrain();
  }

  onEnd(): void {
    this.#over();
    closeSocket(this.socket);
  }
  onClose(): void {
    this.#over();
  }
  #over(): void {
    const user = this.#user;
    if (user === undefined) {
      this.#forget();
      return;
    }
    if (this.#state === "body" && this.#framing === "close") {
      this.#keepAlive = false;
      this.#forget();
      user.onResponseEnd();
      user.onResponseFlush();
      return;
    }
    if (this.#state === "body") this.#lose("midway");
    else this.#lose(this.#gotBytes ? "reset" : this.reused ? "stale" : "reset");
  }
}
