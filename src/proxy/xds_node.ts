// The configuration of one xDS node (a virtual sidecar, a gateway, a node's own listeners): subscribes, compiles, swaps.
// Only what changed is compiled, all of it before any goes live; what cannot be used is refused by name and keeps its last good state.
// What goes live does so in one turn of the event loop.

import type { Cluster as ClusterMessage } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import type { ClusterLoadAssignment } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import type { Listener as ListenerMessage } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import type { RouteConfiguration } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import type { Secret } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { Cancel } from "../kernel/clock.ts";
import { getOrAdd } from "../kernel/map.ts";
import {
  type Refusals,
  type ResourceChange,
  type Subscription,
  type TypeUrl,
  typeUrls,
  type XdsSource,
} from "../xds/types.ts";
import { AcceptedResources } from "./accepted.ts";
import type { Chain, ChainOwner, ChainSlot, InboundStats, RouteSlot, Runtime } from "./chain.ts";
import {
  ClusterSlot,
  type Endpoint,
  parseWorkload,
  unknownWorkload,
  type WorkloadIdentity,
} from "./clusters/cluster.ts";
import type { Cluster } from "./clusters/config.ts";
import { startMonitors } from "./clusters/monitors.ts";
import { compileAll } from "./compile/change.ts";
import {
  type CompiledCluster,
  compileCluster,
  compileEndpoints,
  overprovisioningOf,
  tunnelSecrets,
} from "./compile/cluster.ts";
import { type CompiledListener, compileListener, type ListenerContext } from "./compile/listener.ts";
import { compileRoutes, type RouteContext } from "./compile/route.ts";
import type { LogSinks } from "./log/sinks.ts";
import { Registrations } from "./registrations.ts";
import type { RouteTable } from "./routing/route.ts";
import { type DownstreamCounts, newDownstreamCounts } from "./telemetry/counts.ts";
import { takeFiles } from "./tls/file_secrets.ts";
import { defaultTlsParams } from "./tls/params.ts";
import { SecretStore } from "./tls/secrets.ts";
import { SpanExporters } from "./tracing/span_exporter.ts";

/** A table or listener waits at most this long for what it refers to (warming), then goes live as it is. */
const warmingMaxMs = 5_000;

/** Load assignments that compile: checked once for all nodes of the process. */
const compiledOnce = new WeakSet<ClusterLoadAssignment>();

interface KnownCluster extends CompiledCluster {
  message: ClusterMessage;
  /** Of a STATIC cluster. */
  endpoints: Endpoint[] | undefined;
}
interface KnownListener {
  message: ListenerMessage;
  compiled: CompiledListener;
  /** Route configurations it takes from RDS. */
  routeNames: ReadonlySet<string>;
}

export interface XdsNodeDeps {
  runtime: Runtime;
  sinks: LogSinks;
  /** Live listeners have changed. */
  onListeners(): void;
}

export class XdsNode {
  readonly nodeId: string;
  readonly owner: ChainOwner;
  readonly secrets = new SecretStore();
  /** What xDS told and this node took, for the admin pages. */
  readonly accepted = new AcceptedResources();
  /** Live listeners by name. */
  readonly listeners = new Map<string, CompiledListener>();
  readonly clusters = new Map<string, ClusterSlot>();
  readonly routes = new Map<string, RouteSlot>();
  /** By "http.<stat_prefix>" and "tcp.<stat_prefix>". */
  readonly downstream = new Map<string, DownstreamCounts>();
  readonly #deps: XdsNodeDeps;
  readonly #source: XdsSource;
  readonly #subscriptions: { route: Subscription; endpoint: Subscription; secret: Subscription };
  readonly #tunnelContext: () => object | undefined;
  readonly #hosts: RouteContext["hosts"] = new WeakMap();
  readonly #slots: RouteContext["slots"] = new WeakMap();
  readonly #chains = new Map<string, ChainSlot>();
  readonly #exporters = new SpanExporters();
  readonly #stats = new Map<string, InboundStats>();
  readonly #knownClusters = new Map<string, KnownCluster>();
  readonly #knownListeners = new Map<string, KnownListener>();
  readonly #knownTables = new Set<string>();
  readonly #assignments = new Map<string, ClusterLoadAssignment>();
  /** Clusters by the name of the load assignment they take. */
  #byAssignment = new Map<string, string[]>();
  /** Compiled, but what they refer to is not there yet. */
  readonly #waitingTables = new Map<string, RouteTable>();
  readonly #waitingListeners = new Map<string, CompiledListener>();
  /** No longer told of; they go when nothing waits, as until then what serves may refer to them. */
  readonly #removedClusters = new Set<string>();
  readonly #registrations: Registrations;
  #byAddress = new Map<string, CompiledListener>();
  #rest: CompiledListener | undefined;
  #workload: string | undefined;
  readonly #certified: boolean;
  #cancelWarming: Cancel | undefined;
  #listed = false;
  #warmed = false;

  /** `certified`: it has an identity of its own, so it asks for the tunnel's certificate from the start. */
  constructor(source: XdsSource, nodeId: string, certified: boolean, deps: XdsNodeDeps) {
    this.nodeId = nodeId;
    this.#source = source;
    this.#deps = deps;
    this.owner = { nodeId, identity: unknownWorkload, stats: undefined };
    this.#registrations = new Registrations(deps.runtime.inbound, this.owner);
    const roots = { secret: tunnelSecrets.roots, inline: undefined };
    this.#tunnelContext = this.secrets.clientContext(tunnelSecrets.certificate, roots, defaultTlsParams);
    this.#certified = certified;
    const names = certified ? Object.values(tunnelSecrets) : [];
    const take = (
      typeUrl: TypeUrl,
      asked: "*" | readonly string[],
      apply: (change: ResourceChange) => Refusals,
    ): Subscription =>
      source.subscribe(typeUrl, asked, (change) => {
        const refused = apply(change);
        this.accepted.take(typeUrl, change, refused, deps.runtime.clock.now());
        return refused;
      });
    this.#subscriptions = {
      secret: take(typeUrls.secret, names, (change) => this.#onSecrets(change)),
      endpoint: take(typeUrls.endpoint, [], (change) => this.#onEndpoints(change)),
      route: take(typeUrls.route, [], (change) => this.#onRoutes(change)),
    };
    take(typeUrls.cluster, "*", (change) => this.#onClusters(change));
    take(typeUrls.listener, "*", (change) => this.#onListeners(change));
  }

  /** All of its first configuration serves, or was waited for long enough. What comes later warms beside what serves. */
  get isReady(): boolean {
    return this.#warmed && this.listeners.size > 0;
  }
  /** Told of, and nothing is missing: no cluster's endpoints, no certificate. */
  get isComplete(): boolean {
    const secured = [...this.listeners.values()].flatMap((listener) =>
      chainsOf(listener).flatMap(({ tls }) => tls ?? []),
    );
    return this.#warmed && secured.every((tls) => tls.context("") !== undefined);
  }

  /** The outbound listener for a destination: the exact address, else the wildcard of its port, else the one that takes the rest. */
  outboundListener(host: string, port: number): CompiledListener | undefined {
    return this.#byAddress.get(`${host}:${port}`) ?? this.#byAddress.get(`0.0.0.0:${port}`) ?? this.#rest;
  }

  /** For a connection to the workload itself: the listener of exactly this address (the tunnel), else virtualInbound with a chain for the port. */
  inboundListener(host: string, port: number): CompiledListener | undefined {
    for (const listener of this.listeners.values())
      if (listener.direction === "inbound" && listener.port === port && listener.host === host) return listener;
    const virtual = this.listeners.get("virtualInbound");
    const hasChain = virtual?.chains.some(({ destinationPort }) => destinationPort === port) || virtual?.fallback;
    return hasChain ? virtual : undefined;
  }

  /** The chain behind a CONNECT target: by the endpoint's own address, else by container port. */
  tunnelChain(host: string, port: number): ChainSlot | undefined {
    const slot = this.#registrations.slot(`${host}:${port}`);
    if (slot) return slot;
    const inbound = this.listeners.get("virtualInbound");
    if (inbound?.host !== host) return undefined;
    return inbound.chains.find(({ destinationPort }) => destinationPort === port)?.slot;
  }

  /** Something was taken that does not serve yet, as what it refers to is not there. */
  get isWarming(): boolean {
    return this.#waitingTables.size + this.#waitingListeners.size > 0;
  }

  /** Compiles a cluster or listener without serving it; throws as taking it would. Names the secrets and the EDS resource it needs. */
  check(
    typeUrl: TypeUrl,
    message: ClusterMessage | ListenerMessage,
  ): { secretNames: string[]; edsName: string | undefined } {
    if (typeUrl === typeUrls.cluster) {
      const { secretNames, cluster } = this.#compileCluster(message as ClusterMessage);
      return { secretNames, edsName: cluster.edsName };
    }
    const { compiled } = this.#compileListener(message as ListenerMessage);
    return { secretNames: chainsOf(compiled).flatMap(({ tls }) => tls?.secretNames ?? []), edsName: undefined };
  }

  close(): void {
    this.#cancelWarming?.();
    this.#exporters.close();
    this.#source.close();
    this.#registrations.follow(undefined);
    for (const slot of this.#chains.values()) slot.current = undefined;
    for (const slot of this.clusters.values()) {
      slot.stopMonitors?.();
      slot.current = undefined;
      slot.setEndpoints([]);
    }
    this.listeners.clear();
    this.#byAddress.clear();
  }

  // ---- what xDS tells ----

  #onClusters(change: ResourceChange): Refusals {
    const { made, refused } = compileAll(change, (message: ClusterMessage) => this.#compileCluster(message));
    for (const name of change.removed) if (this.#knownClusters.delete(name)) this.#removedClusters.add(name);
    for (const [name, known] of made) {
      this.#knownClusters.set(name, known);
      this.#removedClusters.delete(name);
    }
    for (const [name, known] of made) this.#applyCluster(this.#cluster(name), known);
    this.#byAssignment = new Map();
    for (const [name, { cluster }] of this.#knownClusters)
      if (cluster.edsName !== undefined) getOrAdd(this.#byAssignment, cluster.edsName, () => []).push(name);
    const edsNames = new Set(this.#byAssignment.keys());
    for (const name of this.#assignments.keys()) if (!edsNames.has(name)) this.#assignments.delete(name);
    this.accepted.keep(typeUrls.endpoint, edsNames);
    this.#subscriptions.endpoint.setNames([...edsNames]);
    this.#wantSecrets();
    this.#settle();
    return refused;
  }

  #compileCluster(message: ClusterMessage): KnownCluster {
    const compiled = compileCluster(message, this.secrets);
    const { cluster, inline } = compiled;
    const isStatic = cluster.edsName === undefined && cluster.balancing.policy !== "ORIGINAL_DST";
    const endpoints = inline ? compileEndpoints(inline, cluster, this.#tunnelContext) : isStatic ? [] : undefined;
    return { ...compiled, message, endpoints };
  }

  #applyCluster(slot: ClusterSlot, { cluster, endpoints, inline }: KnownCluster): void {
    if (slot.current === cluster) return;
    slot.current = cluster;
    forgetStats(slot);
    startMonitors(slot, endpoints ?? [], this.#deps.runtime, () => this.#settle());
    if (cluster.dns) return;
    if (endpoints) slot.setEndpoints(endpoints, inline && overprovisioningOf(inline));
    else if (cluster.edsName === undefined) slot.warm = true;
    else {
      const assignment = this.#assignments.get(cluster.edsName);
      if (assignment) this.#setEndpoints(slot, cluster, assignment);
    }
  }
  #setEndpoints(slot: ClusterSlot, cluster: Cluster, assignment: ClusterLoadAssignment): void {
    const make = () => compileEndpoints(assignment, cluster, this.#tunnelContext);
    if (!compiledOnce.has(assignment)) make();
    compiledOnce.add(assignment);
    slot.setEndpointsLazily(make, overprovisioningOf(assignment));
  }

  #dropClusters(): void {
    for (const name of this.#removedClusters) {
      const slot = this.#cluster(name);
      slot.stopMonitors?.();
      slot.current = undefined;
      slot.setEndpoints([]);
      slot.warm = false;
    }
    this.#removedClusters.clear();
  }

  #onEndpoints(change: ResourceChange): Refusals {
    const { made, refused } = compileAll(change, (message: ClusterLoadAssignment, edsName) => {
      const clusters = (this.#byAssignment.get(edsName) ?? []).map((name) => this.#knownClusters.get(name)!.cluster);
      if (!compiledOnce.has(message))
        for (const cluster of clusters) compileEndpoints(message, cluster, this.#tunnelContext);
      compiledOnce.add(message);
      return { message, clusters };
    });
    for (const [edsName, { message, clusters }] of made) {
      this.#assignments.set(edsName, message);
      for (const cluster of clusters) this.#setEndpoints(this.#cluster(cluster.name), cluster, message);
    }
    // One that never was may still come: what refers to it goes on waiting (warming).
    for (const edsName of change.removed)
      if (this.#assignments.delete(edsName))
        for (const name of this.#byAssignment.get(edsName) ?? []) this.#cluster(name).setEndpoints([]);
    this.#settle();
    return refused;
  }

  #onRoutes(change: ResourceChange): Refusals {
    const { made, refused } = compileAll(change, (message: RouteConfiguration) => this.#compileRoutes(message));
    for (const [name, table] of made) {
      this.#knownTables.add(name);
      this.#waitingTables.set(name, table);
    }
    this.#forgetTables(change.removed);
    this.#settle();
    return refused;
  }

  /** A table in use goes on until its listener does. */
  #forgetTables(names: Iterable<string>): void {
    for (const name of names) {
      this.#knownTables.delete(name);
      this.#waitingTables.delete(name);
    }
  }

  #onListeners(change: ResourceChange): Refusals {
    const { made, refused } = compileAll(change, (message: ListenerMessage) => this.#compileListener(message));
    this.#listed = true;
    let removed = false;
    for (const name of change.removed) {
      const known = this.#knownListeners.get(name);
      if (known === undefined) continue;
      removed = true;
      this.#knownListeners.delete(name);
      this.#waitingListeners.delete(name);
      this.listeners.delete(name);
      for (const { slot } of chainsOf(known.compiled)) slot.current = undefined;
    }
    for (const [name, known] of made) {
      this.#knownListeners.set(name, known);
      this.#waitingListeners.set(name, known.compiled);
    }
    const routeNames = new Set([...this.#knownListeners.values()].flatMap(({ routeNames }) => [...routeNames]));
    this.#forgetTables([...this.#knownTables].filter((name) => !routeNames.has(name)));
    this.accepted.keep(typeUrls.route, routeNames);
    this.#subscriptions.route.setNames([...routeNames]);
    const speaking = [...this.#knownListeners.values()].find(({ compiled }) => compiled.workload !== undefined);
    this.#workload = speaking?.compiled.workload;
    this.#identify();
    this.#wantSecrets();
    this.#settle(removed);
    return refused;
  }

  #onSecrets(change: ResourceChange): Refusals {
    const { refused } = compileAll(change, (message: Secret) => this.secrets.take(message));
    // One that is gone serves until nobody names it, as in Envoy.
    this.#identify();
    return refused;
  }

  // ---- compiling ----

  #compileRoutes(message: RouteConfiguration): RouteTable {
    return compileRoutes(message, {
      slot: (name) => this.#cluster(name),
      known: (name) => this.clusters.get(name),
      random: this.#deps.runtime.random,
      hosts: this.#hosts,
      slots: this.#slots,
    });
  }

  #compileListener(message: ListenerMessage): KnownListener {
    const { runtime, sinks } = this.#deps;
    const routeNames = new Set<string>();
    const context: ListenerContext = {
      clock: runtime.clock,
      random: runtime.random,
      runtime,
      owner: this.owner,
      secrets: this.secrets,
      sinks,
      exporters: this.#exporters,
      cluster: (name) => this.#cluster(name),
      routes: (name) => {
        routeNames.add(name);
        return this.#routeSlot(name);
      },
      inlineRoutes: (config, key) => ({ name: key, current: this.#compileRoutes(config) }),
      chainSlot: (key) => getOrAdd(this.#chains, key, () => ({ current: undefined })),
      counts: (key) => getOrAdd(this.downstream, key, newDownstreamCounts),
      stats: (key) => getOrAdd(this.#stats, key, () => ({ byPeer: new Map() })),
    };
    return { message, compiled: compileListener(message, context), routeNames };
  }

  #cluster(name: string): ClusterSlot {
    return getOrAdd(this.clusters, name, () => new ClusterSlot(name, this.#deps.runtime.clock));
  }
  #routeSlot(name: string): RouteSlot {
    return getOrAdd(this.routes, name, () => ({ name, current: undefined }));
  }

  #wantSecrets(): void {
    const names = new Set<string>(this.#certified ? Object.values(tunnelSecrets) : []);
    for (const { secretNames } of this.#knownClusters.values()) for (const name of secretNames) names.add(name);
    for (const { compiled } of this.#knownListeners.values())
      for (const { tls } of chainsOf(compiled)) for (const name of tls?.secretNames ?? []) names.add(name);
    this.secrets.keep(names);
    this.accepted.keep(typeUrls.secret, names);
    this.#subscriptions.secret.setNames(takeFiles(names, this.secrets, this.#deps.runtime.log));
  }

  /** Who this node is: what its listeners say, and what its certificate proves. */
  #identify(): void {
    const principal = this.secrets.spiffeId(tunnelSecrets.certificate) ?? "unknown";
    const identity: WorkloadIdentity =
      this.#workload === undefined ? { ...unknownWorkload, principal } : parseWorkload(this.#workload, principal);
    const [role, address] = this.nodeId.split("~");
    if (role === "sidecar" && address) identity.address = address;
    if (JSON.stringify(identity) === JSON.stringify(this.owner.identity)) return;
    this.owner.identity = identity;
    this.owner.stats = undefined;
    for (const slot of this.clusters.values()) forgetStats(slot);
  }

  // ---- going live ----

  /** Brings to life whatever has all it refers to: tables first, then the listeners that use them. */
  #settle(changed = false): void {
    for (const [name, table] of this.#waitingTables) if (table.clusters.every(isWarm)) this.#serveTable(name, table);
    let served = changed;
    for (const [name, listener] of this.#waitingListeners)
      if (chainsOf(listener).every(({ chain }) => isComplete(chain))) {
        this.#serveListener(name, listener);
        served = true;
      }
    this.#watchWarming();
    if (!this.isWarming) this.#dropClusters();
    if (!this.#warmed && this.#listed && !this.isWarming) {
      this.#warmed = true;
      served = true;
    }
    this.#registrations.follow(this.listeners.get("virtualInbound"));
    if (served) this.#publish();
  }

  #watchWarming(): void {
    if (!this.isWarming) {
      this.#cancelWarming?.();
      this.#cancelWarming = undefined;
    } else this.#cancelWarming ??= this.#deps.runtime.clock.after(warmingMaxMs, () => this.#stopWaiting());
  }

  #stopWaiting(): void {
    this.#cancelWarming = undefined;
    const waiting = [...this.#waitingTables.keys(), ...this.#waitingListeners.keys()].join(", ");
    this.#deps.runtime.log.warn("served before everything it refers to arrived", { node: this.nodeId, waiting });
    for (const [name, table] of this.#waitingTables) this.#serveTable(name, table);
    for (const [name, listener] of this.#waitingListeners) this.#serveListener(name, listener);
    this.#dropClusters();
    this.#warmed = true;
    this.#registrations.follow(this.listeners.get("virtualInbound"));
    this.#publish();
  }

  #serveTable(name: string, table: RouteTable): void {
    this.#routeSlot(name).current = table;
    this.#waitingTables.delete(name);
  }

  #serveListener(name: string, listener: CompiledListener): void {
    const before = this.listeners.get(name);
    const kept = new Set(chainsOf(listener).map(({ slot }) => slot));
    for (const { slot } of before ? chainsOf(before) : []) if (!kept.has(slot)) slot.current = undefined;
    for (const { slot, chain } of chainsOf(listener)) slot.current = chain;
    this.listeners.set(name, listener);
    this.#waitingListeners.delete(name);
  }

  #publish(): void {
    this.#byAddress = new Map();
    this.#rest = undefined;
    for (const listener of this.listeners.values())
      if (listener.takesRest) this.#rest = listener;
      else if (listener.direction === "outbound") this.#byAddress.set(`${listener.host}:${listener.port}`, listener);
    this.#deps.onListeners();
  }
}

const chainsOf = ({ chains, fallback }: CompiledListener) => (fallback ? [...chains, fallback] : chains);

const isWarm = (slot: ClusterSlot): boolean => slot.current === undefined || slot.warm;

/** What a chain refers to is there: its route table, which waits for its own clusters, or its clusters. */
const isComplete = (chain: Chain | undefined): boolean =>
  chain?.kind === "http" ? chain.routes.current !== undefined : (chain?.targets ?? []).every(isWarm);

/** Series are looked up again with the new labels. */
function forgetStats(slot: ClusterSlot): void {
  slot.stats = undefined;
  for (const endpoint of slot.made) {
    endpoint.stats = undefined;
    endpoint.neighbourStats = undefined;
  }
}
