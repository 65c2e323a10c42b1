// An endpoint's HTTP/2 connections: a request goes to one with room, else it waits for one that is being opened.

import type { OwnedSocket } from "../../wire/socket.ts";
import type { Runtime } from "../chain.ts";
import type { ClusterSlot, Endpoint } from "../clusters/cluster.ts";
import type { Cluster, Http2Use } from "../clusters/config.ts";
import { Dial, type DialListener } from "../dial.ts";
import { type ConnectionKeeper, Http2UpstreamConnection, streamsAssumed } from "./h2_upstream.ts";
import { countConnection, uncountConnection } from "./upstream.ts";
import type { Upstream } from "./upstream_contract.ts";

/** A request that waits for a connection to be opened. */
export interface PoolWaiter {
  onPooled(upstream: Upstream): void;
  onPoolFailed(timedOut: boolean, reason: string): void;
  /** The connection that was opened has no room for it: it asks anew. */
  onPoolFull(): void;
}

/** How a connection is opened on behalf of a request. */
export interface DialFacts {
  callerFields: string;
  entered: boolean;
}

/** Lives as long as its endpoint. At most one connection is being opened at a time per `streamsAssumed` waiting requests. */
export class Http2Pool implements ConnectionKeeper {
  readonly #endpoint: Endpoint;
  readonly #slot: ClusterSlot;
  readonly #runtime: Runtime;
  readonly #connections: Http2UpstreamConnection[] = [];
  readonly #waiters = new Set<PoolWaiter>();
  #dials = 0;

  constructor(endpoint: Endpoint, slot: ClusterSlot, runtime: Runtime) {
    this.#endpoint = endpoint;
    this.#slot = slot;
    this.#runtime = runtime;
  }

  /** A request's hold on a connection that has room for it. */
  take(): Upstream | undefined {
    for (const connection of this.#connections) if (connection.hasRoom) return connection.request();
    return undefined;
  }
  /** A connection is being opened that will have room for one more. */
  get expectsRoom(): boolean {
    return this.#waiters.size < this.#expected;
  }
  /** Requests that connections being opened will have room for. */
  get #expected(): number {
    const allowed = this.#slot.current?.http2?.streamsMax ?? streamsAssumed;
    return this.#dials * Math.min(allowed, streamsAssumed);
  }
  wait(waiter: PoolWaiter): void {
    this.#waiters.add(waiter);
  }
  /** Harmless when it does not wait. */
  forget(waiter: PoolWaiter): void {
    this.#waiters.delete(waiter);
  }

  dial(cluster: Cluster, http2: Http2Use, { callerFields, entered }: DialFacts): void {
    this.#dials++;
    const endpoint = this.#endpoint;
    countConnection(endpoint, this.#slot);
    const listener: DialListener = {
      onDialed: (socket, rest) => this.#onDialed(socket, rest, this.#slot.current ?? cluster, http2),
      onDialFailed: (reason) => this.#onDialFailed(reason),
    };
    new Dial(endpoint.transport, cluster.connectTimeoutMs, callerFields, this.#runtime, listener, entered, "h2");
  }

  #onDialed(socket: OwnedSocket, rest: Buffer | undefined, cluster: Cluster, http2: Http2Use): void {
    this.#dials--;
    const use = cluster.http2 ?? http2;
    const endpoint = this.#endpoint;
    const connection = new Http2UpstreamConnection(socket, endpoint, this.#slot, cluster, use, this.#runtime, this);
    this.#connections.push(connection);
    this.#serve();
    this.#askAnew();
    if (rest) connection.onData(rest);
  }
  #onDialFailed(reason: string): void {
    this.#dials--;
    const endpoint = this.#endpoint;
    this.#slot.counts.connectFailures++;
    uncountConnection(endpoint, this.#slot);
    this.#runtime.log.debug("connect failed", { endpoint: endpoint.address, reason });
    // As many as the other dials have no room for.
    for (const waiter of [...this.#waiters]) {
      if (this.#waiters.size <= this.#expected) return;
      if (this.#waiters.delete(waiter)) waiter.onPoolFailed(reason === "connection timeout", reason);
    }
  }

  #serve(): void {
    for (const waiter of [...this.#waiters]) {
      const upstream = this.take();
      if (upstream === undefined) return;
      if (this.#waiters.delete(waiter)) waiter.onPooled(upstream);
      else upstream.abandon();
    }
  }

  /** Those that are more than was thought to fit. */
  #askAnew(): void {
    const surplus = [...this.#waiters].slice(this.#expected);
    for (const waiter of surplus) this.#waiters.delete(waiter);
    for (const waiter of surplus) waiter.onPoolFull();
  }

  onRoom(): void {
    if (this.#waiters.size > 0) this.#serve();
    // Those that a limit on connections holds back.
    if (this.#endpoint.waiting.length > 0) this.#endpoint.waiting.shift()!.onConnectionFree();
  }
  onGone(connection: Http2UpstreamConnection): void {
    const index = this.#connections.indexOf(connection);
    if (index < 0) return;
    this.#connections.splice(index, 1);
    uncountConnection(this.#endpoint, this.#slot);
  }

  /** The endpoint is gone: no further requests. */
  retire(): void {
    for (const connection of [...this.#connections]) connection.retire();
  }
}
