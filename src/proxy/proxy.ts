// One proxy process: a node's proxy with its virtual sidecars, or one gateway. Starts, serves, drains.

import { messageOf } from "../kernel/errors.ts";
import { Metrics } from "../kernel/metrics.ts";
import { socketErrors } from "../wire/socket.ts";
import { type ListenerFacts, listenerFacts } from "./admin/listeners.ts";
import type { AdminView } from "./admin/pages.ts";
import { startAdmin } from "./admin.ts";
import type { ConnectionInfo, Runtime } from "./chain.ts";
import { systemResolve } from "./dns_cluster.ts";
import { InboundRegistry } from "./inbound.ts";
import { LogFiles, type LogSinks } from "./log_sinks.ts";
import { boundSockets, NodeProxy } from "./node_proxy.ts";
import { Sockets, type WantedSocket } from "./sockets.ts";
import { Sweeper } from "./sweep.ts";
import type { AdminSettings, ProxyOptions, RunningProxy } from "./types.ts";
import { XdsNode } from "./xds_node.ts";

/** Envoy's drain time. */
const drainMaxMs = 45_000;
const drainPollMs = 5;

/** What differs between the two roles. */
interface Role {
  isReady(): boolean;
  nodes(): { name: string; node: XdsNode }[];
  isVirtual(connection: ConnectionInfo): boolean;
  close(): void;
}

/** Resolves when the admin server listens; listeners follow as xDS tells them. */
export async function startProxy(options: ProxyOptions): Promise<RunningProxy> {
  const { clock, log, xds, admin } = options;
  socketErrors.report = (error) => log.warn("connection lost", { error: messageOf(error) });
  const sweeper = new Sweeper(clock);
  const metrics = new Metrics();
  const sockets = new Sockets(log);
  const runtime: Runtime = {
    clock,
    random: options.random,
    log,
    metrics,
    sweeper,
    inbound: new InboundRegistry(),
    resolve: options.resolve ?? systemResolve,
    isVirtual: (connection) => role.isVirtual(connection),
    draining: false,
  };
  const sinks = new LogFiles({ log, metrics, clock });
  const reopenLogs = (): void => sinks.reopen();
  process.on("SIGUSR1", reopenLogs);
  const deps = { runtime, sinks };
  const role: Role = options.role === "node" ? nodeRole(options, sockets, deps) : routerRole(options, sockets, deps);
  const drain = (): void => {
    runtime.draining = true;
    sockets.close();
    // Idle clients are told at once.
    sweeper.sweep();
  };
  const listeners = (node: XdsNode) => listenerFacts(node.listeners.values(), sockets);
  const pages = admin && startAdmin(adminView(admin, { options, runtime, role, sockets, listeners, drain }));
  return {
    adminPort: pages?.port,
    isSettled: () => role.isReady() && role.nodes().every(({ node }) => !node.isWarming),
    listeners: () => role.nodes().flatMap(({ node }) => listeners(node)),
    bindFailures: () => sockets.failures(),
    async close() {
      drain();
      const deadlineMs = clock.monotonicMs() + drainMaxMs;
      while (sockets.open > 0 && clock.monotonicMs() < deadlineMs) await clock.sleep(drainPollMs);
      role.close();
      xds.close();
      sweeper.close();
      process.off("SIGUSR1", reopenLogs);
      sinks.close();
      await pages?.stop();
    },
  };
}

interface ViewParts {
  options: ProxyOptions;
  runtime: Runtime;
  role: Role;
  sockets: Sockets;
  listeners(node: XdsNode): ListenerFacts[];
  drain(): void;
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
    drain,
    setHealthy: (value) => {
      healthy = value;
    },
  };
}

type Deps = { runtime: Runtime; sinks: LogSinks };

function nodeRole({ nodeId, bindMode, xds }: ProxyOptions, sockets: Sockets, deps: Deps): Role {
  const proxy = new NodeProxy({ nodeId, nodeIp: bindMode.nodeIp, xds, sockets }, deps);
  return {
    isReady: () => proxy.isReady,
    nodes: () => [{ name: nodeId, node: proxy.own }, ...proxy.sidecars()],
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
    // A gateway has no original destination to pass through to.
    isVirtual: () => true,
    close: () => node.close(),
  };
}
