// TCP proxying: one client connection, one endpoint, bytes both ways; neighbours and tunnels as for HTTP.

import { type OwnedSocket, type SocketOwner, SocketWriter } from "../wire/socket.ts";
import { pick, pickWeighted } from "./balance.ts";
import type { ConnectionInfo, Runtime, TcpChain } from "./chain.ts";
import type { ClusterSlot, Endpoint } from "./cluster.ts";
import { Dial, type DialListener } from "./dial.ts";
import { baggageOf, inboundEdge, neighbourEdge, outboundEdge } from "./edges.ts";
import { joinSockets } from "./join.ts";
import { originalDestination } from "./original_dst.ts";
import type { EdgeStats } from "./telemetry.ts";

/** A → B: dialling (client paused) → joined → closed; or dialling → closed. */
export class TcpSession implements SocketOwner, DialListener {
  readonly #socket: OwnedSocket;
  readonly #chain: TcpChain;
  readonly #connection: ConnectionInfo;
  readonly #runtime: Runtime;
  readonly #onClosed: () => void;
  readonly #writer: SocketWriter;
  #early: Buffer | undefined;
  #clientEnded = false;
  #slot: ClusterSlot | undefined;
  #endpoint: Endpoint | undefined;
  #dial: Dial | undefined;
  #edges: EdgeStats[] = [];
  #tries = 0;
  #failed: Endpoint[] = [];
  #closed = false;

  constructor(
    socket: OwnedSocket,
    chain: TcpChain,
    connection: ConnectionInfo,
    runtime: Runtime,
    early: Buffer | undefined,
    onClosed: () => void,
  ) {
    this.#socket = socket;
    this.#chain = chain;
    this.#connection = connection;
    this.#runtime = runtime;
    this.#early = early;
    this.#onClosed = onClosed;
    this.#writer = new SocketWriter(socket);
    socket.data = this;
    socket.pause();
    const index = pickWeighted(chain.weights, chain.totalWeight, runtime.random);
    this.#slot = index === undefined ? undefined : chain.targets[index];
    this.#try();
  }

  #try(): void {
    const slot = this.#slot;
    const cluster = slot?.current;
    if (!slot || !cluster || slot.connectionsActive >= cluster.thresholds.connectionsMax) {
      this.#giveUp();
      return;
    }
    const endpoint =
      cluster.balancing.policy === "ORIGINAL_DST"
        ? originalDestination(slot, this.#connection, this.#runtime)
        : pick(slot, this.#runtime.random, this.#failed);
    if (!endpoint) {
      this.#giveUp();
      return;
    }
    this.#tries++;
    this.#endpoint = endpoint;
    this.#edges = [this.#edgeOf(endpoint, slot)];
    let to = endpoint;
    if (!this.#chain.inbound) {
      const neighbour = this.#runtime.inbound.of(endpoint)?.slot.current;
      if (neighbour?.kind === "tcp") {
        const own = neighbour.targets[0] && pick(neighbour.targets[0], this.#runtime.random, undefined);
        const peer = { identity: this.#chain.owner.identity, authenticated: true };
        const { host, port } = own?.transport ?? endpoint.transport;
        const seen = { ...this.#connection, localAddress: host, localPort: port, peer, secure: true };
        if (!own || neighbour.networkFilters.some((filter) => filter.onConnection(seen) === "close")) {
          this.#giveUp();
          return;
        }
        this.#edges.push(neighbourEdge(this.#runtime.metrics, neighbour, endpoint, this.#chain.owner));
        to = own;
      }
    }
    const { transport } = to;
    const baggage = transport.connectTarget === undefined ? "" : baggageOf(this.#chain.owner.identity);
    this.#dial = new Dial(transport, cluster.connectTimeoutMs, baggage, this.#runtime.clock, this);
  }

  #edgeOf(endpoint: Endpoint, slot: ClusterSlot): EdgeStats {
    const { metrics } = this.#runtime;
    return this.#chain.inbound
      ? inboundEdge(metrics, this.#chain, this.#connection)
      : outboundEdge(metrics, this.#chain.owner, endpoint, slot);
  }

  onDialed(socket: OwnedSocket, rest: Buffer | undefined): void {
    this.#dial = undefined;
    const endpoint = this.#endpoint!;
    const slot = this.#slot!;
    endpoint.active++;
    endpoint.connections++;
    slot.connectionsActive++;
    endpoint.outlier?.local("final");
    slot.counts.connections++;
    const series = this.#edges.map((edge) => edge.tcp());
    for (const { opened } of series) opened.value++;
    const onClosed = (): void => {
      endpoint.active--;
      endpoint.connections--;
      slot.connectionsActive--;
      for (const { closed } of series) closed.value++;
      this.#onClosed();
    };
    const writers = { first: this.#writer, second: new SocketWriter(socket) };
    joinSockets(this.#socket, socket, writers, { first: this.#early, second: rest }, this.#runtime, {
      idleMs: this.#chain.idleMs,
      durationMaxMs: this.#chain.maxDurationMs,
      onBytes(fromClient, count) {
        for (const one of series) {
          if (fromClient) one.receivedBytes.value += count;
          else one.sentBytes.value += count;
        }
      },
      onClosed,
    });
    if (this.#clientEnded) this.#socket.data.onEnd();
  }

  onDialFailed(reason: string): void {
    this.#dial = undefined;
    this.#endpoint!.failures++;
    this.#endpoint!.outlier?.local(reason === "connection timeout" ? "timeout" : "connect-failed");
    this.#slot!.counts.connectFailures++;
    this.#runtime.log.debug("connect failed", { endpoint: this.#endpoint!.address, reason });
    this.#failed.push(this.#endpoint!);
    if (this.#tries >= this.#chain.connectTriesMax || this.#slot?.current?.balancing.policy === "ORIGINAL_DST")
      this.#giveUp();
    else this.#try();
  }

  #giveUp(): void {
    this.#close();
    this.#socket.terminate();
  }

  onData(chunk: Buffer): void {
    // One read may still arrive after pause(); the socket brings no more.
    this.#early = this.#early ? Buffer.concat([this.#early, chunk]) : chunk;
  }
  onDrain(): void {}
  onEnd(): void {
    this.#clientEnded = true;
  }
  onClose(): void {
    this.#dial?.abort();
    this.#close();
  }
  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClosed();
  }
}
