// One proxy process: a node's proxy with its virtual sidecars, or one gateway. Starts, serves, drains.

import { messageOf } from "../kernel/errors.ts";
import { Metrics } from "../kernel/metrics.ts";
import { socketErrors } from "../wire/socket.ts";
import { type ListenerFacts, listenerFacts } from "./admin/listeners.ts";
import type { AdminView } from "./admin/pages.ts";
import { startAdmin } from "./admin/server.ts";
import type { ConnectionInfo, Runtime } from "./chain.ts";
import { systemResolve } from "./clusters/dns.ts";
import { Drain } from "./drain.ts";
import { InboundRegistry } from "./inbound.ts";
import { LogFiles, type LogSinks } from "./log/sinks.ts";
import { boundSockets, NodeProxy } from "./node_proxy.ts";
import { PodSource } from "./pod_source.ts";
import { Sockets, type WantedSocket } from "./sockets.ts";
import { Sweeper } from "./sweep.ts";
import { SeriesRegistry } from "./telemetry/series.ts";
import type { AdminSettings, ProxyOptions, RunningProxy } from "./types.ts";
import { XdsNode } from "./xds_node.ts";

const warmPollMs = 10;
/** A certificate that does not exist holds a restart up no longer: the predecessor has not got it either. */
const certificatesMaxMs = 5_000;

/** What differs between the two roles. */
interface Role {
  isReady(): boolean;
  nodes(): { name: string; node: XdsNode }[];
  podSource: Runtime["podSource"];
  isVirtual(connection: ConnectionInfo): boolean;
  close(): void;
}

/** Resolves when the admin server listens; listeners follow as xDS tells them. */
export async function startProxy(options: ProxyOptions): Promise<RunningProxy> {
  const { clock, log, xds, admin } = options;
  socketErrors.report = (error) => log.warn("connection lost", { error: messageOf(error) });
  const sweeper = new Sweeper(clock);
  const metrics = new Metrics();
  const series = new SeriesRegistry(metrics);
  sweeper.add(series);
  const sockets = new Sockets(log, options.takesOver);
  const runtime: Runtime = {
    clock,
    random: options.random,
    log,
    metrics,
    series,
    sweeper,
    inbound: new InboundRegistry(),
    resolve: options.resolve ?? systemResolve,
    podSource: (host, entered) => role.podSource(host, entered),
    isVirtual: (connection) => role.isVirtual(connection),
    draining: false,
    closes: "nothing",
  };
  const sinks = new LogFiles({ log, metrics, clock });
  const reopenLogs = (): void => sinks.reopen();
  process.on("SIGUSR1", reopenLogs);
  const deps = { runtime, sinks };
  const role: Role = options.role === "node" ? nodeRole(options, sockets, deps) : routerRole(options, sockets, deps);
  const drain = new Drain(runtime, sockets);
  const listeners = (node: XdsNode) => listenerFacts(node.listeners.values(), sockets);
  const pages = admin && startAdmin(adminView(admin, { options, runtime, role, sockets, listeners, drain }));
  let closed = false;
  let stopping: Promise<void> | undefined;
  const stopPages = () => (stopping ??= pages?.stop());
  const takeOver = async (): Promise<void> => {
    const startMs = clock.monotonicMs();
    const isComplete = () => role.nodes().every(({ node }) => node.isComplete);
    const isLate = () => clock.monotonicMs() - startMs > certificatesMaxMs;
    while (!closed && !(role.isReady() && (isComplete() || isLate()))) await clock.sleep(warmPollMs);
    if (!closed) sockets.release();
  };
  return {
    adminPort: pages?.port,
    isSettled: () => role.isReady() && role.nodes().every(({ node }) => !node.isWarming),
    listeners: () => role.nodes().flatMap(({ node }) => listeners(node)),
    bindFailures: () => sockets.failures(),
    serving: options.takesOver ? takeOver() : Promise.resolve(),
    drain: (times = {}) => drain.drain(times, () => void stopPages()),
    async close() {
      closed = true;
      await drain.end();
      role.close();
      xds.close();
      sweeper.close();
      process.off("SIGUSR1", reopenLogs);
      sinks.close();
      await stopPages();
    },
  };
}

interface ViewParts {
  options: ProxyOptions;
  runtime: Runtime;
  role: Role;
  sockets: Sockets;
  listeners(node: XdsNode): ListenerFacts[];
  drain: Drain;
}

function adminView(
  settings: AdminSettings,
  { options, runtime, role, sockets, listeners, drain }: ViewParts,
): AdminView {
  const { clock } = options;
  let healthy = true;
  return {
    settings,
    clock,
    metrics: runtime.metrics,
    startedMs: clock.monotonicMs(),
    state: () => (runtime.draining || !healthy ? "DRAINING" : role.isReady() ? "LIVE" : "PRE_INITIALIZING"),
    nodes: role.nodes,
    listeners,
    sockets: () => sockets.bound(),
    // The admin pages themselves stay.
    drain: () => void drain.drain({}, () => {}),
    setHealthy: (value) => {
      healthy = value;
    },
  };
}

type Deps = { runtime: Runtime; sinks: LogSinks };

function nodeRole({ nodeId, bindMode, xds, random }: ProxyOptions, sockets: Sockets, deps: Deps): Role {
  const proxy = new NodeProxy({ nodeId, ...bindMode, xds, sockets }, deps);
  const { podGateway } = bindMode;
  const source = podGateway === undefined ? undefined : new PodSource(podGateway, random.next());
  return {
    isReady: () => proxy.isReady,
    nodes: () => [{ name: nodeId, node: proxy.own }, ...proxy.sidecars()],
    podSource: (host, entered) => (proxy.isDirect(host, entered) ? source : undefined),
    isVirtual: (connection) => bindMode.mode === "ports" || proxy.isVirtual(connection),
    close: () => proxy.close(),
  };
}

function routerRole({ nodeId, xds }: ProxyOptions, sockets: Sockets, deps: Deps): Role {
  const { runtime } = deps;
  const node: XdsNode = new XdsNode(xds.open(nodeId), nodeId, true, { ...deps, onListeners: () => sync() });
  const sync = () => {
    const wanted = new Map<string, WantedSocket>();
    boundSockets(node, runtime, wanted);
    sockets.sync(wanted);
  };
  runtime.sweeper.add({ onTick: () => sockets.retry() });
  return {
    isReady: () => node.isReady,
    nodes: () => [{ name: nodeId, node }],
    podSource: () => undefined,
    // A gateway has no original destination to pass through to.
    isVirtual: () => true,
    close: () => node.close(),
  };
}
