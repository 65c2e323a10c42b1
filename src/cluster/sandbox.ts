// The process inside the namespaces: makes the machines and links, starts and restarts everything on them, relays to the host.

import { rmSync } from "node:fs";
import { prepareSandbox } from "../host/sandbox.ts";
import { createTopology, type Topology } from "../host/topology.ts";
import { aborted } from "../kernel/abort.ts";
import { realClock } from "../kernel/clock.ts";
import { insideRelays } from "./balancers.ts";
import { Children } from "./children.ts";
import { type ClusterConfig, kubeletRestartMs, mainCommand, masterOf, type NodeConfig, relaySocket } from "./config.ts";
import { serveOrders } from "./control.ts";
import { type ClusterEvent, emitEvent } from "./events.ts";
import { startRelay, type Target } from "./relay.ts";
import { controlPlaneSettings } from "./tuning.ts";

const clock = realClock;

async function createMachines(config: ClusterConfig): Promise<Topology | undefined> {
  if (config.isolation.mode === "ports") return undefined;
  const startedMs = clock.monotonicMs();
  await prepareSandbox(clock);
  const { nodes, clients, linkBitsPerSecond } = config;
  const topology = await createTopology(
    { nodes, clients, ...(linkBitsPerSecond !== undefined && { linkBitsPerSecond }) },
    clock,
  );
  const links = linkBitsPerSecond === undefined ? "links unlimited" : `links of ${linkBitsPerSecond / 1e6} Mbit/s`;
  const detail = `${nodes.length + clients.length} machines, ${links}`;
  emitEvent({ type: "step", name: "network", detail, ms: clock.monotonicMs() - startedMs });
  return topology;
}

/** Where connections from the host go now; a gateway is chosen in turn. */
class Targets {
  #gateways: { http: string[]; https: string[] } = { http: [], https: [] };
  #turn = 0;

  take(event: ClusterEvent): void {
    if (event.type === "status") this.#gateways = event.gateway;
  }
  gateway(port: "http" | "https"): Target | undefined {
    const addresses = this.#gateways[port];
    const address = addresses[this.#turn++ % Math.max(1, addresses.length)];
    if (address === undefined) return undefined;
    const colon = address.lastIndexOf(":");
    return { hostname: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
  }
}

function relayToHost(config: ClusterConfig, targets: Targets): void {
  const routes = {
    api: () => ({ hostname: masterOf(config).ip, port: config.apiPort }),
    http: () => targets.gateway("http"),
    https: () => targets.gateway("https"),
  };
  for (const [name, to] of Object.entries(routes)) {
    const unix = relaySocket(name as keyof typeof routes);
    rmSync(unix, { force: true });
    startRelay({ unix }, to);
  }
}

/**
 * The control plane has the processors for itself until its API answers; the nodes could not do anything before.
 * (All at once took 1.7 s to the first request through the gateway on two cores, so 1.4 s.) Returns what starts the nodes, once.
 */
function startAll(config: ClusterConfig, topology: Topology | undefined, children: Children): () => void {
  const main = mainCommand(config);
  const on = (node: NodeConfig, ...args: string[]) => {
    const argv = [...main, args[0]!, config.stateDir, ...args.slice(1)];
    return topology ? topology.argvOn(node.name, argv) : argv;
  };
  const master = masterOf(config);
  children.start({
    name: "control-plane",
    argv: on(master, "control-plane", "apply"),
    restartArgv: on(master, "control-plane"),
    env: controlPlaneSettings,
    restartMs: 0,
  });
  let started = false;
  return () => {
    if (started) return;
    started = true;
    for (const node of config.nodes) {
      children.start({
        name: `kubelet-${node.name}`,
        argv: on(node, "kubelet", node.name),
        restartMs: kubeletRestartMs,
      });
      children.start({
        name: `proxy-${node.name}`,
        argv: on(node, "node-proxy", node.name),
        takeOverArgv: on(node, "node-proxy", node.name, "take-over"),
        restartMs: 0,
      });
    }
  };
}

/** Runs with the state folder as working folder until `signal` aborts. */
export async function runSandbox(config: ClusterConfig, signal: AbortSignal): Promise<void> {
  const topology = await createMachines(config);
  const targets = new Targets();
  const balancers = insideRelays();
  const children = new Children(config, clock, (event) => {
    targets.take(event);
    balancers.take(event);
    if (event.type === "api-ready") startNodes();
    emitEvent(event);
  });
  const startNodes = startAll(config, topology, children);
  relayToHost(config, targets);
  serveOrders(children);
  await aborted(signal);
  await children.stop();
}
