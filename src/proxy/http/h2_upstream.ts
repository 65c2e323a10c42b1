// A shared HTTP/2 connection to an endpoint: how many requests it takes, when it ends. The requests are h2_request.ts.

import { Http2Connection, type Http2Observer } from "../../wire/http2_connection.ts";
import { streamIdMax } from "../../wire/http2_frames.ts";
import type { StreamUser } from "../../wire/http2_stream.ts";
import { closeSocket, type OwnedSocket, type SocketOwner } from "../../wire/socket.ts";
import type { Runtime } from "../chain.ts";
import type { ClusterSlot, Endpoint } from "../clusters/cluster.ts";
import type { Cluster, Http2Use } from "../clusters/config.ts";
import type { Swept } from "../sweep.ts";
import { Http2Request } from "./h2_request.ts";

/** Until a server's settings have arrived; RFC 9113 §6.5.2 asks servers for no less. */
export const streamsAssumed = 100;

/** Whoever holds the endpoint's connections. */
export interface ConnectionKeeper {
  /** There may be room for a request now. */
  onRoom(): void;
  onGone(connection: Http2UpstreamConnection): void;
}

/** open → draining (no new requests) → gone. Counted by whoever dialled it, uncounted by its keeper. */
export class Http2UpstreamConnection implements SocketOwner, Swept, Http2Observer {
  readonly h2: Http2Connection;
  readonly #socket: OwnedSocket;
  readonly #endpoint: Endpoint;
  readonly #slot: ClusterSlot;
  readonly #use: Http2Use;
  readonly #cluster: Cluster;
  readonly #runtime: Runtime;
  readonly #keeper: ConnectionKeeper;
  #served = 0;
  /** Handed out, but no stream opened yet. */
  #reserved = 0;
  #settled = false;
  readonly #openedMs: number;
  #idleSinceMs: number;
  #gone = false;
  /** Requests whose users wait for the end of the current read. */
  readonly touched: Http2Request[] = [];
  #localAddress = "";

  constructor(
    socket: OwnedSocket,
    endpoint: Endpoint,
    slot: ClusterSlot,
    cluster: Cluster,
    http2: Http2Use,
    runtime: Runtime,
    keeper: ConnectionKeeper,
  ) {
    this.#socket = socket;
    this.#endpoint = endpoint;
    this.#slot = slot;
    this.#cluster = cluster;
    this.#use = http2;
    this.#runtime = runtime;
    this.#keeper = keeper;
    this.#openedMs = runtime.sweeper.nowMs;
    this.#idleSinceMs = this.#openedMs;
    socket.data = this;
    if (cluster.keepAliveMs > 0) socket.setKeepAlive(true, cluster.keepAliveMs);
    this.h2 = new Http2Connection(socket, false, http2.limits, this);
    runtime.sweeper.add(this);
  }

  get localAddress(): string {
    if (this.#localAddress === "") this.#localAddress = `${this.#socket.localAddress}:${this.#socket.localPort}`;
    return this.#localAddress;
  }

  /** Takes another request now. */
  get hasRoom(): boolean {
    const { h2 } = this;
    if (this.#isSpent || h2.over) return false;
    const { streamsMax: allowed } = this.#slot.current?.http2 ?? this.#use;
    const streamsMax = Math.min(allowed, this.#settled ? h2.peerStreamsMax : streamsAssumed);
    return h2.streams.size + this.#reserved < streamsMax;
  }
  get #isSpent(): boolean {
    const { h2 } = this;
    return (
      this.#gone ||
      h2.draining ||
      this.#endpoint.removed ||
      this.#served >= this.#cluster.requestsPerConnectionMax ||
      this.#runtime.sweeper.nowMs - this.#openedMs > this.#cluster.connectionMaxMs ||
      h2.lastStreamId > streamIdMax - 4
    );
  }

  request(): Http2Request {
    const reused = this.#served > 0;
    this.#served++;
    this.#reserved++;
    return new Http2Request(this, reused);
  }
  /** A request's stream has been opened, or never will be. */
  unreserve(): void {
    this.#reserved--;
  }

  onData(chunk: Buffer): void {
    this.h2.onData(chunk);
    const { touched } = this;
    for (let i = 0; i < touched.length; i++) touched[i]!.flush();
    touched.length = 0;
  }
  onDrain(): void {
    this.h2.onDrain();
  }
  onEnd(): void {
    this.#lost();
    closeSocket(this.#socket);
  }
  onClose(): void {
    this.#lost();
  }
  #lost(): void {
    this.#forget();
    this.h2.closed();
  }

  // ---- what the codec tells ----

  nowMs(): number {
    return this.#runtime.sweeper.nowMs;
  }
  accept(): StreamUser {
    throw new Error("a server opened a stream");
  }
  onStreamClosed(): void {
    if (this.#gone) return;
    if (this.h2.streams.size === 0) {
      this.#idleSinceMs = this.#runtime.sweeper.nowMs;
      if (this.#isSpent) {
        this.close();
        return;
      }
    }
    this.#keeper.onRoom();
  }
  onSettings(): void {
    this.#settled = true;
    this.#keeper.onRoom();
  }
  onGoAway(): void {
    if (this.h2.streams.size === 0) this.close();
  }
  onFailed(code: number, why: string): void {
    this.#runtime.log.debug("HTTP/2 connection failed", { endpoint: this.#endpoint.address, code, why });
    this.close();
  }

  onTick(nowMs: number): void {
    if (this.h2.streams.size > 0 || this.#reserved > 0) return;
    if (this.#isSpent || nowMs - this.#idleSinceMs > this.#cluster.connectionIdleMs) this.close();
  }

  /** No further requests; those in progress go on. */
  retire(): void {
    if (this.h2.streams.size === 0) this.close();
  }
  close(): void {
    if (this.#gone) return;
    this.h2.announceEnd(true);
    this.h2.output.flush();
    this.#forget();
    closeSocket(this.#socket);
    this.h2.closed();
  }
  #forget(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#runtime.sweeper.delete(this);
    this.#keeper.onGone(this);
  }
}
