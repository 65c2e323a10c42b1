// A node's proxy: one virtual sidecar per workload of the node, all on shared wildcard sockets, plus the node's own listeners.

import type { Workload } from "#gen/xds/meshbed/workload/v1/workload_pb.js";
import { nobody, type OwnedSocket, type SocketOwner } from "../wire/socket.ts";
import { typeUrls, type XdsConnection } from "../xds/types.ts";
import { Acceptance } from "./accept.ts";
import type { ChainSlot, ConnectionInfo, Runtime, TcpChain } from "./chain.ts";
import { ClusterSlot, unknownWorkload } from "./clusters/cluster.ts";
import { clusterDefaults, unlimitedThresholds } from "./clusters/config.ts";
import type { CompiledListener } from "./compile/listener.ts";
import { type Dispatch, dispatch, type LocalWorkload } from "./dispatch.ts";
import { type Sockets, socketKey, type WantedSocket } from "./sockets.ts";
import { startChain } from "./start_chain.ts";
import type { Swept } from "./sweep.ts";
import { newDownstreamCounts } from "./telemetry/counts.ts";
import { standardTelemetry } from "./telemetry/options.ts";
import { XdsNode, type XdsNodeDeps } from "./xds_node.ts";

/** A connection of a pod that is not known yet is held this long; it normally takes a few milliseconds. */
const parkMaxMs = 5_000;
const parkedMax = 1_024;
const passthroughIdleMs = 3_600_000;

export function connectionInfo(socket: OwnedSocket): ConnectionInfo {
  return {
    remoteAddress: socket.remoteAddress,
    remotePort: socket.remotePort,
    localAddress: socket.localAddress,
    localPort: socket.localPort,
    secure: false,
    serverName: "",
    peer: { identity: unknownWorkload, authenticated: false },
  };
}

/** Starts a listener's work on a fresh connection. */
export function acceptOn(
  node: XdsNode,
  listener: CompiledListener,
  socket: OwnedSocket,
  runtime: Runtime,
  onClosed: () => void,
  early?: Buffer,
): void {
  const destination = { listener, tunnelChain: (host: string, port: number) => node.tunnelChain(host, port) };
  new Acceptance(socket, destination, connectionInfo(socket), runtime, early, onClosed);
}

/** Sockets for the listeners of `node` that are bound as they say. */
export function boundSockets(node: XdsNode, runtime: Runtime, into: Map<string, WantedSocket>): void {
  for (const { name, host, port, bindToPort } of node.listeners.values()) {
    if (!bindToPort) continue;
    into.set(socketKey({ name, host, port }), {
      host,
      port,
      onConnection(socket, onClosed) {
        const listener = node.listeners.get(name);
        if (listener) return acceptOn(node, listener, socket, runtime, onClosed);
        onClosed();
        socket.terminate();
      },
    });
  }
}

/** Plain TCP to the original destination, whatever the port. */
function passthroughChain(node: XdsNode): ChainSlot {
  const slot = new ClusterSlot("PassthroughCluster");
  slot.current = {
    ...clusterDefaults(slot.name),
    balancing: { policy: "ORIGINAL_DST" },
    connectionIdleMs: passthroughIdleMs,
    thresholds: unlimitedThresholds,
  };
  slot.warm = true;
  const chain: TcpChain = {
    kind: "tcp",
    owner: node.owner,
    inbound: false,
    targets: [slot],
    weights: [1],
    totalWeight: 1,
    networkFilters: [],
    accessLog: undefined,
    telemetry: standardTelemetry,
    idleMs: passthroughIdleMs,
    maxDurationMs: Number.POSITIVE_INFINITY,
    connectTriesMax: 1,
    hashSourceIp: false,
    stats: { byPeer: new Map() },
    counts: newDownstreamCounts(),
  };
  return { current: chain };
}

/** A connection that waits for its pod to become known. It is paused; one read may be under way all the same. */
class Parked implements SocketOwner {
  readonly socket: OwnedSocket;
  readonly onClosed: () => void;
  readonly sinceMs: number;
  readonly #forget: (parked: Parked) => void;
  early: Buffer | undefined;
  ended = false;

  constructor(socket: OwnedSocket, sinceMs: number, onClosed: () => void, forget: (parked: Parked) => void) {
    this.socket = socket;
    this.sinceMs = sinceMs;
    this.onClosed = onClosed;
    this.#forget = forget;
    socket.data = this;
    socket.pause();
  }
  onData(chunk: Buffer): void {
    this.early = this.early ? Buffer.concat([this.early, chunk]) : Buffer.from(chunk);
  }
  onDrain(): void {}
  onEnd(): void {
    this.ended = true;
  }
  onClose(): void {
    this.#forget(this);
    this.onClosed();
  }
}

export class NodeProxy implements Swept {
  readonly own: XdsNode;
  readonly #nodeIp: string;
  /** Else no address is ours but those of bound listeners: a wildcard socket would take the port of a pod that has died. */
  readonly #intercepts: boolean;
  readonly #xds: XdsConnection;
  readonly #runtime: Runtime;
  readonly #sockets: Sockets;
  readonly #deps: XdsNodeDeps;
  readonly #byAddress = new Map<string, LocalWorkload>();
  readonly #byName = new Map<string, LocalWorkload>();
  readonly #parked = new Set<Parked>();
  readonly #passthrough = new Map<XdsNode, ChainSlot>();
  #known = false;
  #syncScheduled = false;

  constructor(
    options: { nodeId: string; nodeIp: string; mode: "namespaces" | "ports"; xds: XdsConnection; sockets: Sockets },
    deps: Omit<XdsNodeDeps, "onListeners">,
  ) {
    this.#nodeIp = options.nodeIp;
    this.#intercepts = options.mode === "namespaces";
    this.#xds = options.xds;
    this.#sockets = options.sockets;
    this.#runtime = deps.runtime;
    this.#deps = { ...deps, onListeners: () => this.#changed() };
    const source = options.xds.open(options.nodeId);
    this.own = new XdsNode(source, options.nodeId, false, this.#deps);
    const workloads = new Map<string, Workload>();
    source.subscribe(typeUrls.workload, "*", ({ changed, removed }) => {
      for (const { name, message } of changed) workloads.set(name, message as Workload);
      for (const name of removed) workloads.delete(name);
      this.#onWorkloads(workloads);
      return undefined;
    });
    this.#runtime.sweeper.add(this);
  }

  /** Every workload has been told of, and each has its listeners; so has the node itself, where it has any. */
  get isReady(): boolean {
    return this.#known && this.own.isComplete && this.sidecars().every(({ node }) => node.isReady);
  }
  /** By "namespace/pod". */
  sidecars(): { name: string; node: XdsNode }[] {
    return [...this.#byName.values()].flatMap(({ name, sidecar }) => (sidecar ? { name, node: sidecar } : []));
  }

  /** A pod of this node that may be dialled past this proxy: it is not in the mesh, or its inbound chain was gone through. */
  isDirect(host: string, entered: boolean): boolean {
    const local = this.#byAddress.get(host);
    return local !== undefined && (entered || local.sidecar === undefined);
  }

  /** An address that passing through to would only bring back here: neither caller nor destination is a pod of this node. */
  isVirtual({ remoteAddress, localAddress }: ConnectionInfo): boolean {
    return !this.#byAddress.has(remoteAddress) && !this.#byAddress.has(localAddress);
  }

  #onWorkloads(next: ReadonlyMap<string, Workload>): void {
    this.#known = true;
    for (const [name, local] of this.#byName) {
      const workload = next.get(name);
      if (workload && (local.sidecar?.nodeId ?? "") === workload.nodeId && local.address === workload.address) {
        local.ports = workload.ports;
        continue;
      }
      this.#byName.delete(name);
      if (this.#byAddress.get(local.address) === local) this.#byAddress.delete(local.address);
      if (local.sidecar) this.#passthrough.delete(local.sidecar);
      local.sidecar?.close();
    }
    for (const { name, address, nodeId, ports } of next.values()) {
      if (this.#byName.has(name)) continue;
      const sidecar = nodeId === "" ? undefined : new XdsNode(this.#xds.open(nodeId), nodeId, true, this.#deps);
      const local = { name, address, ports, sidecar };
      this.#byName.set(name, local);
      if (address !== "") this.#byAddress.set(address, local);
    }
    this.#changed();
  }

  /** Several sidecars change in one turn; the sockets follow once. */
  #changed(): void {
    if (this.#syncScheduled) return;
    this.#syncScheduled = true;
    queueMicrotask(() => {
      this.#syncScheduled = false;
      this.#syncSockets();
      for (const parked of this.#parked) this.#unpark(parked, false);
    });
  }

  #syncSockets(): void {
    const wanted = new Map<string, WantedSocket>();
    const wildcard = (port: number) =>
      wanted.set(`0.0.0.0:${port}`, {
        host: "0.0.0.0",
        port,
        onConnection: (socket, onClosed) => this.#onConnection(socket, onClosed),
      });
    for (const node of [this.own, ...this.sidecars().map((sidecar) => sidecar.node)]) {
      boundSockets(node, this.#runtime, wanted);
      if (!this.#intercepts) continue;
      for (const listener of node.listeners.values()) {
        if (listener.bindToPort) continue;
        if (listener.takesRest) for (const port of listener.restPorts) wildcard(port);
        else if (listener.direction === "outbound" || listener.isTunnel) wildcard(listener.port);
        else for (const { destinationPort } of listener.chains) if (destinationPort) wildcard(destinationPort);
      }
    }
    if (this.#intercepts) for (const { ports } of this.#byName.values()) for (const port of ports) wildcard(port);
    this.#sockets.sync(wanted);
  }

  #decide(socket: OwnedSocket): Dispatch {
    const table = { nodeIp: this.#nodeIp, own: this.own, workload: (address: string) => this.#byAddress.get(address) };
    return dispatch(table, socket.remoteAddress, socket.localAddress, socket.localPort);
  }

  #onConnection(socket: OwnedSocket, onClosed: () => void): void {
    const decision = this.#decide(socket);
    if (decision.kind !== "wait") this.#carryOut(decision, socket, onClosed);
    else if (this.#parked.size >= parkedMax) this.#carryOut({ kind: "refuse" }, socket, onClosed);
    else
      this.#parked.add(
        new Parked(socket, this.#runtime.sweeper.nowMs, onClosed, (parked) => this.#parked.delete(parked)),
      );
  }

  #unpark(parked: Parked, isLate: boolean): void {
    let decision = this.#decide(parked.socket);
    if (decision.kind === "wait") {
      if (!isLate) return;
      decision = { kind: "refuse" };
    }
    this.#parked.delete(parked);
    parked.socket.data = nobody;
    parked.socket.resume();
    this.#carryOut(decision, parked.socket, parked.onClosed, parked.early);
    if (parked.ended) parked.socket.data.onEnd();
  }

  #carryOut(
    decision: Exclude<Dispatch, { kind: "wait" }>,
    socket: OwnedSocket,
    onClosed: () => void,
    early?: Buffer,
  ): void {
    if (decision.kind === "listener")
      return acceptOn(decision.node, decision.listener, socket, this.#runtime, onClosed, early);
    if (decision.kind === "refuse") {
      onClosed();
      socket.terminate();
      return;
    }
    let slot = this.#passthrough.get(decision.node);
    if (slot === undefined) {
      slot = passthroughChain(decision.node);
      this.#passthrough.set(decision.node, slot);
    }
    startChain(socket, slot, connectionInfo(socket), this.#runtime, early, onClosed);
  }

  onTick(nowMs: number): void {
    this.#sockets.retry();
    for (const parked of this.#parked) this.#unpark(parked, nowMs - parked.sinceMs > parkMaxMs);
  }

  close(): void {
    for (const { node } of this.sidecars()) node.close();
    this.own.close();
  }
}
