// The client's side of HTTP/2: one connection, its requests side by side, and how it ends. The requests are h2_server_stream.ts.

import type { HpackEncoder } from "../../wire/hpack_encoder.ts";
import { Http2Connection, type Http2Observer } from "../../wire/http2_connection.ts";
import type { Http2Stream } from "../../wire/http2_stream.ts";
import { closeSocket, type OwnedSocket, type SocketOwner } from "../../wire/socket.ts";
import { allowsOn, type ChainSlot, type ConnectionInfo, type HttpChain, type Runtime } from "../chain.ts";
import type { Swept } from "../sweep.ts";
import { ServerStream, type StreamHost } from "./h2_server_stream.ts";

/** After our last frame the client may still be sending: this long it is read and dropped, so that no RST overtakes the frame. */
const lingerMs = 2000;
/** Requests' objects kept for the next ones. */
const freeMax = 64;

/** open → ending (GOAWAY, in two steps) → lingering → closed. */
export class Http2ServerConnection implements SocketOwner, Swept, Http2Observer, StreamHost {
  readonly connection: ConnectionInfo;
  readonly #socket: OwnedSocket;
  readonly #slot: ChainSlot;
  #chain: HttpChain;
  readonly #runtime: Runtime;
  readonly #onClosed: () => void;
  readonly #h2: Http2Connection;
  readonly #active = new Set<ServerStream>();
  readonly #free: ServerStream[] = [];
  readonly #byStream = new Map<number, ServerStream>();
  readonly #starting: ServerStream[] = [];
  #state: "open" | "announced" | "ending" | "lingering" | "closed" = "open";
  #requests = 0;
  readonly #openedMs: number;
  /** When the last stream ended, or lingering started. */
  #sinceMs: number;

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
    this.#slot = slot;
    this.#chain = chain;
    this.#runtime = runtime;
    this.#onClosed = onClosed;
    this.#openedMs = runtime.sweeper.nowMs;
    this.#sinceMs = this.#openedMs;
    socket.data = this;
    this.#h2 = new Http2Connection(socket, true, chain.http2, this);
    runtime.sweeper.add(this);
  }

  get encoder(): HpackEncoder {
    return this.#h2.encoder;
  }

  // ---- the socket ----

  onData(chunk: Buffer): void {
    if (this.#state === "lingering" || this.#state === "closed") return;
    this.#h2.onData(chunk);
    const starting = this.#starting;
    for (let i = 0; i < starting.length; i++) starting[i]!.start();
    starting.length = 0;
  }
  onDrain(): void {
    this.#h2.onDrain();
  }
  onEnd(): void {
    // As Envoy: a client that has closed its side does not wait for an answer.
    this.#lost();
    closeSocket(this.#socket);
  }
  onClose(): void {
    this.#lost();
  }
  #lost(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#runtime.sweeper.delete(this);
    this.#h2.closed();
    this.#onClosed();
  }

  // ---- what the codec tells ----

  nowMs(): number {
    return this.#runtime.sweeper.nowMs;
  }
  accept(stream: Http2Stream): ServerStream {
    this.#requests++;
    const user = (this.#free.pop() ?? new ServerStream(this, this.#runtime)).begin(stream);
    this.#active.add(user);
    this.#byStream.set(stream.id, user);
    return user;
  }
  onStreamClosed(stream: Http2Stream): void {
    const user = this.#byStream.get(stream.id);
    this.#byStream.delete(stream.id);
    if (this.#byStream.size === 0) this.#sinceMs = this.#runtime.sweeper.nowMs;
    user?.onStreamClosed();
    this.#endWhenDone();
  }
  onSettings(): void {}
  onGoAway(): void {
    this.#endWhenDone();
  }
  onFailed(code: number, why: string): void {
    this.#runtime.log.debug("HTTP/2 connection refused", { client: this.connection.remoteAddress, code, why });
    // Who does not read will not read this either.
    if (this.#h2.output.flooded) this.#socket.terminate();
    else this.#linger();
  }

  // ---- what its requests ask ----

  chain(): HttpChain | undefined {
    const { current } = this.#slot;
    if (current?.kind !== "http") return undefined;
    if (current !== this.#chain && !allowsOn(current, this.connection)) {
      if (this.#state === "open") this.#announce();
      return undefined;
    }
    this.#chain = current;
    return current;
  }
  onAnswer(): void {
    if (this.#state === "open" && this.#mustEnd()) this.#announce();
  }
  startLater(stream: ServerStream): void {
    this.#starting.push(stream);
  }
  recycle(stream: ServerStream): void {
    this.#active.delete(stream);
    if (this.#free.length < freeMax) this.#free.push(stream);
  }

  // ---- the end ----

  #mustEnd(): boolean {
    const { connectionMaxMs, requestsPerConnectionMax } = this.#chain;
    return (
      this.#runtime.draining ||
      this.#runtime.closes !== "nothing" ||
      this.#slot.current?.kind !== "http" ||
      this.#runtime.sweeper.nowMs - this.#openedMs > connectionMaxMs ||
      this.#requests >= requestsPerConnectionMax
    );
  }
  /** "No more, please": what is on its way is still answered. The next tick says which requests those were. */
  #announce(): void {
    this.#state = "announced";
    this.#h2.announceEnd(false);
  }
  #endWhenDone(): void {
    if (this.#byStream.size > 0 || !this.#h2.draining) return;
    if (this.#state === "ending" || this.#state === "open") this.#linger();
  }
  #linger(): void {
    if (this.#state === "lingering" || this.#state === "closed") return;
    this.#state = "lingering";
    this.#sinceMs = this.#runtime.sweeper.nowMs;
    this.#h2.output.flush();
    this.#h2.output.writer.end();
  }

  onTick(nowMs: number): void {
    const { closes } = this.#runtime;
    const chain = this.#chain;
    if (this.#state === "lingering") {
      // The last answer may still be on its way over a slow link: close, don't reset.
      const waitMs = this.#h2.output.blocked ? chain.streamIdleMs : lingerMs;
      if (nowMs - this.#sinceMs > waitMs) closeSocket(this.#socket);
      return;
    }
    // A broken answer must look broken: the client sees a reset.
    if (closes === "all" && this.#active.size > 0) return void this.#socket.terminate();
    for (const stream of [...this.#active]) stream.onTick(nowMs);
    const { unfinishedSinceMs } = this.#h2;
    const isIdle = this.#byStream.size === 0;
    if (unfinishedSinceMs >= 0 && nowMs - unfinishedSinceMs > chain.headerTimeoutMs) this.#socket.terminate();
    else if (isIdle && this.#h2.awaitsPreface && nowMs - this.#openedMs > chain.headerTimeoutMs)
      this.#socket.terminate();
    else if (this.#state === "announced") {
      this.#state = "ending";
      this.#h2.announceEnd(true);
      this.#endWhenDone();
    } else if (
      this.#state === "open" &&
      (this.#mustEnd() || (isIdle && nowMs - this.#sinceMs > chain.connectionIdleMs))
    )
      this.#announce();
  }
}
