// Gets one try its connection: a kept one, a new one, or a place in the queue for the next that is free.

import type { OwnedSocket } from "../wire/socket.ts";
import { admitsPending, type RoutePriority, usageOf } from "./balancing/circuit_breaker.ts";
import type { Runtime } from "./chain.ts";
import type { ClusterSlot, ConnectionWaiter, Endpoint, Usage, WorkloadIdentity } from "./clusters/cluster.ts";
import type { Cluster } from "./clusters/config.ts";
import { Dial, type DialListener } from "./dial.ts";
import { Http2Pool, type PoolWaiter } from "./http/h2_pool.ts";
import { countConnection, UpstreamConnection, uncountConnection } from "./http/upstream.ts";
import type { Upstream } from "./http/upstream_contract.ts";
import { callerFields } from "./telemetry/edges.ts";

export interface ConnectorUser {
  /** Named to a tunnel's other side. */
  readonly caller: WorkloadIdentity;
  /** The endpoint's own inbound chain was gone through. */
  readonly entered: boolean;
  /** Whose circuit breakers apply. */
  readonly priority: RoutePriority;
  /** May come from inside `connect`. */
  onConnected(upstream: Upstream): void;
  onConnectFailed(timedOut: boolean, reason: string): void;
  /** Connections and queue are full. */
  onOverflow(): void;
  /** A connection was handed over out of the event loop's own turn: what is held back can go out. */
  onConnectLater(): void;
}

/** idle → dialling → connected | failed; idle → waiting → idle. One try at a time; reused try after try. */
export class Connector implements DialListener, PoolWaiter {
  readonly #runtime: Runtime;
  readonly #user: ConnectorUser;
  #endpoint!: Endpoint;
  #slot!: ClusterSlot;
  #cluster!: Cluster;
  #dial: Dial | undefined;
  /** Where this waits for a connection that is being opened. */
  #pool: Http2Pool | undefined;
  #http2 = false;
  #waiter: ConnectionWaiter | undefined;
  /** Where the waiter is counted. */
  #queue: Usage | undefined;

  constructor(runtime: Runtime, user: ConnectorUser) {
    this.#runtime = runtime;
    this.#user = user;
  }

  /** `fresh`: no kept connection, as those tried before had been closed by the server. */
  connect(endpoint: Endpoint, slot: ClusterSlot, cluster: Cluster, fresh: boolean): void {
    const idle = fresh ? undefined : endpoint.idle.pop();
    if (idle !== undefined) {
      this.#user.onConnected(idle as UpstreamConnection);
      return;
    }
    this.#endpoint = endpoint;
    this.#slot = slot;
    this.#cluster = cluster;
    this.#http2 = false;
    if (this.#isFull()) return;
    const { transport } = endpoint;
    countConnection(endpoint, slot);
    const { caller, entered } = this.#user;
    const fields = transport.connectTarget === undefined ? "" : callerFields(caller);
    this.#dial = new Dial(transport, cluster.connectTimeoutMs, fields, this.#runtime, this, entered);
  }

  /** A stream on a connection that the endpoint shares between requests. */
  connectHttp2(endpoint: Endpoint, slot: ClusterSlot, cluster: Cluster): void {
    endpoint.http2 ??= new Http2Pool(endpoint, slot, this.#runtime);
    const pool = endpoint.http2 as Http2Pool;
    const upstream = pool.take();
    if (upstream !== undefined) {
      this.#user.onConnected(upstream);
      return;
    }
    this.#endpoint = endpoint;
    this.#slot = slot;
    this.#cluster = cluster;
    this.#http2 = true;
    if (!pool.expectsRoom) {
      if (this.#isFull()) return;
      const { caller, entered = false } = this.#user;
      const fields = endpoint.transport.connectTarget === undefined ? "" : callerFields(caller);
      pool.dial(cluster, cluster.http2!, { callerFields: fields, entered });
    }
    this.#pool = pool;
    pool.wait(this);
  }
  onPooled(upstream: Upstream): void {
    this.#pool = undefined;
    this.#user.onConnected(upstream);
    this.#user.onConnectLater();
  }
  onPoolFailed(timedOut: boolean, reason: string): void {
    this.#pool = undefined;
    this.#user.onConnectFailed(timedOut, reason);
  }

  onPoolFull(): void {
    this.#pool = undefined;
    const cluster = this.#slot.current ?? this.#cluster;
    if (cluster.http2 !== undefined) this.connectHttp2(this.#endpoint, this.#slot, cluster);
    else this.connect(this.#endpoint, this.#slot, cluster, false);
  }

  /**
   * No further connection may be opened: waits for a free one, or overflows. As Envoy: every host may have one connection whatever the
   * limit, so that a request in the queue is always served.
   */
  #isFull(): boolean {
    const { priority } = this.#user;
    const slot = this.#slot;
    const thresholds = priority === "high" ? this.#cluster.highThresholds : this.#cluster.thresholds;
    if (slot.connectionsActive < thresholds.connectionsMax || this.#endpoint.connections === 0) return false;
    const usage = usageOf(slot, priority);
    if (admitsPending(thresholds, usage)) this.#wait(usage);
    else this.#user.onOverflow();
    return true;
  }

  #wait(usage: Usage): void {
    const endpoint = this.#endpoint;
    const slot = this.#slot;
    const waiter: ConnectionWaiter = {
      onConnectionFree: () => {
        usage.pendingActive--;
        // Not from inside the exchange that has just given the connection back.
        queueMicrotask(() => {
          if (this.#waiter !== waiter) {
            endpoint.waiting.shift()?.onConnectionFree();
            return;
          }
          this.#waiter = undefined;
          const cluster = slot.current ?? this.#cluster;
          if (this.#http2 && cluster.http2 !== undefined) this.connectHttp2(endpoint, slot, cluster);
          else this.connect(endpoint, slot, cluster, false);
          this.#user.onConnectLater();
        });
      },
    };
    this.#waiter = waiter;
    usage.pendingActive++;
    this.#queue = usage;
    endpoint.waiting.push(waiter);
  }

  onDialed(socket: OwnedSocket, rest: Buffer | undefined): void {
    this.#dial = undefined;
    const cluster = this.#slot.current ?? this.#cluster;
    const upstream = new UpstreamConnection(socket, this.#endpoint, this.#slot, cluster, this.#runtime);
    this.#user.onConnected(upstream);
    // Whoever speaks on the socket now: the connection, or what took it over.
    if (rest) socket.data.onData(rest);
  }
  onDialFailed(reason: string): void {
    this.#dial = undefined;
    this.#slot.counts.connectFailures++;
    uncountConnection(this.#endpoint, this.#slot);
    this.#runtime.log.debug("connect failed", { endpoint: this.#endpoint.address, reason });
    this.#user.onConnectFailed(reason === "connection timeout", reason);
  }

  /** The try is over without a connection. Harmless at any other time. */
  abort(): void {
    this.#pool?.forget(this);
    this.#pool = undefined;
    if (this.#dial !== undefined) {
      this.#dial.abort();
      this.#dial = undefined;
      uncountConnection(this.#endpoint, this.#slot);
    }
    const waiter = this.#waiter;
    if (waiter === undefined) return;
    this.#waiter = undefined;
    const { waiting } = this.#endpoint;
    const index = waiting.indexOf(waiter);
    if (index < 0) return;
    waiting.splice(index, 1);
    this.#queue!.pendingActive--;
  }
}
