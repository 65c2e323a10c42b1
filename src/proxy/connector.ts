// Gets one try its connection: a kept one, a new one, or a place in the queue for the next that is free.

import type { OwnedSocket } from "../wire/socket.ts";
import { admitsPending, type RoutePriority, usageOf } from "./balancing/circuit_breaker.ts";
import type { Runtime } from "./chain.ts";
import type { ClusterSlot, ConnectionWaiter, Endpoint, Usage, WorkloadIdentity } from "./clusters/cluster.ts";
import type { Cluster } from "./clusters/config.ts";
import { Dial, type DialListener } from "./dial.ts";
import { countConnection, UpstreamConnection, uncountConnection } from "./http/upstream.ts";
import { callerFields } from "./telemetry/edges.ts";

export interface ConnectorUser {
  /** Named to a tunnel's other side. */
  readonly caller: WorkloadIdentity;
  /** The endpoint's own inbound chain was gone through. */
  readonly entered: boolean;
  /** Whose circuit breakers apply. */
  readonly priority: RoutePriority;
  /** May come from inside `connect`. */
  onConnected(upstream: UpstreamConnection): void;
  onConnectFailed(timedOut: boolean, reason: string): void;
  /** Connections and queue are full. */
  onOverflow(): void;
  /** A connection was handed over out of the event loop's own turn: what is held back can go out. */
  onConnectLater(): void;
}

/** idle → dialling → connected | failed; idle → waiting → idle. One try at a time; reused try after try. */
export class Connector implements DialListener {
  readonly #runtime: Runtime;
  readonly #user: ConnectorUser;
  #endpoint!: Endpoint;
  #slot!: ClusterSlot;
  #cluster!: Cluster;
  #dial: Dial | undefined;
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
    const { priority } = this.#user;
    const thresholds = priority === "high" ? cluster.highThresholds : cluster.thresholds;
    // As Envoy: every host may have one connection whatever the limit, so that a request in the queue is always served.
    if (slot.connectionsActive >= thresholds.connectionsMax && endpoint.connections > 0) {
      const usage = usageOf(slot, priority);
      if (admitsPending(thresholds, usage)) this.#wait(usage);
      else this.#user.onOverflow();
      return;
    }
    const { transport } = endpoint;
    countConnection(endpoint, slot);
    const { caller, entered } = this.#user;
    const fields = transport.connectTarget === undefined ? "" : callerFields(caller);
    this.#dial = new Dial(transport, cluster.connectTimeoutMs, fields, this.#runtime, this, entered);
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
          this.connect(endpoint, slot, slot.current ?? this.#cluster, false);
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
