// TCP proxying: one client connection, one endpoint, bytes both ways; neighbours and tunnels as for HTTP.

import { type OwnedSocket, type SocketOwner, SocketWriter } from "../wire/socket.ts";
import { pick, pickWeighted } from "./balancing/balance.ts";
import { hashOf } from "./balancing/consistent.ts";
import { allowsOn, type Chain, type ChainSlot, type ConnectionInfo, type Runtime, type TcpChain } from "./chain.ts";
import type { ClusterSlot, Endpoint } from "./clusters/cluster.ts";
import { originalDestination } from "./clusters/original_dst.ts";
import { Dial, type DialListener } from "./dial.ts";
import { countConnection, uncountConnection } from "./http/upstream.ts";
import { asSeenBy } from "./inbound.ts";
import { joinSockets } from "./join.ts";
import { plainInfo, type StreamInfo } from "./log/stream_info.ts";
import { callerFields, inboundEdge, neighbourEdge, outboundEdge } from "./telemetry/edges.ts";
import type { EdgeStats } from "./telemetry/telemetry.ts";

/** A → B: dialling (client paused) → joined → closed; or dialling → closed. */
export class TcpSession implements SocketOwner, DialListener {
  readonly #socket: OwnedSocket;
  readonly #place: ChainSlot;
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
  /** Set when the chain has an access log: written when the connection is over. */
  readonly #info: StreamInfo | undefined;
  readonly #startMs: number;
  /** The newest chain that lets it go on. */
  #checked: Chain;

  constructor(
    socket: OwnedSocket,
    place: ChainSlot,
    chain: TcpChain,
    connection: ConnectionInfo,
    runtime: Runtime,
    early: Buffer | undefined,
    onClosed: () => void,
  ) {
    this.#socket = socket;
    this.#place = place;
    this.#chain = chain;
    this.#checked = chain;
    this.#connection = connection;
    this.#runtime = runtime;
    this.#early = early;
    this.#onClosed = onClosed;
    this.#writer = new SocketWriter(socket);
    this.#startMs = runtime.clock.monotonicMs();
    if (chain.accessLog) this.#info = plainInfo("TcpConnectionEnd", chain.owner, connection, runtime.clock.now());
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
      this.#giveUp(slot && cluster ? "UO" : "NC");
      return;
    }
    const endpoint =
      cluster.balancing.policy === "ORIGINAL_DST"
        ? originalDestination(slot, this.#connection, this.#runtime)
        : pick(slot, this.#runtime.random, this.#failed, this.#hash());
    if (!endpoint) {
      if (this.#tries === 0 && !this.#chain.inbound && !this.#chain.telemetry.off)
        outboundEdge(this.#runtime.series, this.#chain, undefined, slot, "").refused("UH");
      this.#giveUp(this.#tries > 0 ? "UF,URX" : "UH");
      return;
    }
    this.#tries++;
    this.#endpoint = endpoint;
    this.#edges = [this.#edgeOf(endpoint, slot)];
    let to = endpoint;
    if (!this.#chain.inbound) {
      const neighbour = this.#runtime.inbound.tunnelEnd(endpoint, this.#chain.owner)?.slot.current;
      if (neighbour?.kind === "tcp") {
        const own = neighbour.targets[0] && pick(neighbour.targets[0], this.#runtime.random, undefined);
        const seen = asSeenBy(own ?? endpoint, this.#connection, this.#chain.owner);
        if (!own || neighbour.networkFilters.some((filter) => filter.onConnection(seen) === "close")) {
          this.#giveUp(own ? "UAEX" : "UH");
          return;
        }
        this.#edges.push(neighbourEdge(this.#runtime.series, neighbour, endpoint, this.#chain.owner));
        to = own;
      }
    }
    const { transport } = to;
    // From the attempt on, so that a crowd that arrives at once finds the limit.
    countConnection(endpoint, slot);
    const caller = transport.connectTarget === undefined ? "" : callerFields(this.#chain.owner.identity);
    const entered = this.#chain.inbound || to !== endpoint;
    this.#dial = new Dial(transport, cluster.connectTimeoutMs, caller, this.#runtime, this, entered);
  }

  #hash(): bigint | undefined {
    return this.#chain.hashSourceIp ? hashOf(this.#connection.remoteAddress) : undefined;
  }

  #edgeOf(endpoint: Endpoint, slot: ClusterSlot): EdgeStats {
    const { series } = this.#runtime;
    return this.#chain.inbound
      ? inboundEdge(series, this.#chain, this.#connection)
      : outboundEdge(series, this.#chain, endpoint, slot, "");
  }

  onDialed(socket: OwnedSocket, rest: Buffer | undefined): void {
    this.#dial = undefined;
    const endpoint = this.#endpoint!;
    const slot = this.#slot!;
    endpoint.active++;
    endpoint.outlier?.local("final");
    const keepAliveMs = slot.current?.keepAliveMs ?? 0;
    if (keepAliveMs > 0) socket.setKeepAlive(true, keepAliveMs);
    const series = this.#edges.map((edge) => edge.tcp());
    for (const { opened } of series) opened.value++;
    const onClosed = (how: "ended" | "idle" | "expired" | "forbidden"): void => {
      endpoint.active--;
      uncountConnection(endpoint, slot);
      for (const { closed } of series) closed.value++;
      if (this.#info && how === "expired") this.#info.flags = "DT";
      if (this.#info && how === "forbidden") this.#info.flags = "UAEX";
      this.#close();
    };
    const info = this.#info;
    if (info && this.#chain.accessLog!.needs.upstreamLocalAddress)
      info.upstreamLocalAddress = `${socket.localAddress}:${socket.localPort}`;
    const writers = { first: this.#writer, second: new SocketWriter(socket) };
    joinSockets(this.#socket, socket, writers, { first: this.#early, second: rest }, this.#runtime, {
      idleMs: this.#chain.idleMs,
      durationMaxMs: this.#chain.maxDurationMs,
      mayGoOn: () => this.#mayGoOn(),
      onBytes(fromClient, count) {
        for (const one of series) {
          if (fromClient) one.receivedBytes.value += count;
          else one.sentBytes.value += count;
        }
        if (info === undefined) return;
        if (fromClient) info.requestBodyBytes += count;
        else info.responseBodyBytes += count;
      },
      onClosed,
    });
    if (this.#clientEnded) this.#socket.data.onEnd();
  }

  #mayGoOn(): boolean {
    const { current } = this.#place;
    if (current === undefined || current === this.#checked) return true;
    this.#checked = current;
    return allowsOn(current, this.#connection);
  }

  onDialFailed(reason: string): void {
    this.#dial = undefined;
    uncountConnection(this.#endpoint!, this.#slot!);
    this.#endpoint!.failures++;
    this.#endpoint!.outlier?.local(reason === "connection timeout" ? "timeout" : "connect-failed");
    this.#slot!.counts.connectFailures++;
    this.#runtime.log.debug("connect failed", { endpoint: this.#endpoint!.address, reason });
    if (this.#info) this.#info.failure = reason;
    this.#failed.push(this.#endpoint!);
    if (this.#tries >= this.#chain.connectTriesMax || this.#slot?.current?.balancing.policy === "ORIGINAL_DST")
      this.#giveUp("UF,URX");
    else this.#try();
  }

  #giveUp(flags: string): void {
    if (this.#info) this.#info.flags = flags;
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
    if (this.#dial !== undefined) {
      this.#dial.abort();
      this.#dial = undefined;
      uncountConnection(this.#endpoint!, this.#slot!);
    }
    if (this.#info) this.#info.flags = "DC";
    this.#close();
  }
  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#info) this.#log(this.#info);
    this.#onClosed();
  }
  #log(info: StreamInfo): void {
    info.durationMs = this.#runtime.clock.monotonicMs() - this.#startMs;
    info.cluster = this.#slot;
    info.endpoint = this.#endpoint;
    info.tries = this.#tries;
    info.responseBytes = info.responseBodyBytes;
    this.#chain.accessLog!.log(info);
  }
}
