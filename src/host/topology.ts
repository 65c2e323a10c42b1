// The inner network: one bridge, one network namespace per node and client machine, limited links, and the routes
// that hand a pod's traffic to its node's proxy. Runs inside the sandbox.

import type { Clock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import {
  bridgeIp,
  entriesCidr,
  gatewayCidrOfNode,
  machinesCidr,
  podCidrOfNode,
  podsCidr,
  servicesCidr,
  tunnelPort,
} from "./addresses.ts";
import { mustRun, toolPath } from "./process.ts";

export interface Machine {
  /** Also the name of its network namespace. */
  name: string;
  ip: string;
}

export interface TopologySpec {
  nodes: readonly Machine[];
  clients: readonly Machine[];
  /** Of every machine's link, each way. Unlimited when absent. */
  linkBitsPerSecond?: number;
}

export interface Topology {
  /** `argv` run on that machine's network. It replaces itself with the program: no process, no wait. Throws MACHINE_UNKNOWN. */
  argvOn(machine: string, argv: readonly string[]): string[];
  /** Changes every machine's link; undefined lifts the limit. */
  limitLinks(bitsPerSecond: number | undefined): Promise<void>;
  /** Removes machines and bridge; whatever still runs on them keeps its network until it ends. */
  remove(): Promise<void>;
}

export const machinesMax = 80;

/**
 * Routing tables of a node. The kernel's own `local` table holds every address, for a socket may bind or answer from
 * what that table holds; so what is really the node's stands in a table of its own.
 */
export const podRoutesTable = 200;
const ownTable = 201;
const tunnelTable = 202;

/** `argv` in the named network namespace. */
export function inNetworkNamespace(name: string, argv: readonly string[]): string[] {
  return [toolPath("nsenter"), `--net=/run/netns/${name}`, "--", ...argv];
}

/**
 * Shaping by token bucket. A burst of 2 ms at the link's rate lets the kernel hand over whole 64 KiB segments, which
 * keeps the processor cost of a full gigabit low; 20 ms of queue is what a switch port of that rate buffers.
 */
export function shaping(bitsPerSecond: number): string {
  const burstBytes = Math.max(128 * 1024, Math.round((bitsPerSecond / 8) * 0.002));
  return `root tbf rate ${Math.round(bitsPerSecond)}bit burst ${burstBytes} latency 20ms`;
}

function bridgeBatch(machines: readonly Machine[]): string {
  const lines = [
    "link add br0 type bridge",
    `addr add ${bridgeIp}/24 dev br0`,
    "link set br0 up",
    ...machines.flatMap(({ name }, i) => [
      `netns add ${name}`,
      `link add m${i} type veth peer name eth0 netns ${name}`,
      `link set m${i} master br0 up`,
    ]),
  ];
  return `${lines.join("\n")}\n`;
}

/** Sent by a node itself (iif lo): to its pods through their links, to other nodes' pods through those nodes. */
function podRoutes(node: Machine, nodes: readonly Machine[]): string[] {
  const table = `table ${podRoutesTable}`;
  return [
    ...nodes
      .filter((other) => other.ip !== node.ip)
      .map((other) => `route add ${podCidrOfNode(other.ip)} via ${other.ip} src ${node.ip} ${table}`),
    // An address no pod has (any more) must not fall through to the local routes: the proxy would call itself.
    `route add unreachable ${podsCidr} ${table}`,
    `route add unreachable ${entriesCidr} ${table}`,
  ];
}

/**
 * Routes of a node ("AnyIP"): whatever a pod sends, to a service, a pod or the outside, and whatever arrives for one
 * of its pods is local, so a listener of the node accepts it and sees the original destination as its local address.
 */
export function nodeBatch(node: Machine, nodes: readonly Machine[]): string {
  const podCidr = podCidrOfNode(node.ip);
  const lines = [
    "link set lo up",
    `addr add ${node.ip}/24 dev eth0`,
    "link set eth0 up",
    `route add default via ${bridgeIp}`,
    ...podRoutes(node, nodes),
    `route add local ${node.ip} dev eth0 table ${ownTable}`,
    `route add local 127.0.0.0/8 dev lo src 127.0.0.1 table ${ownTable}`,
    `route add local ${servicesCidr} dev lo src ${node.ip} table ${ownTable}`,
    `route add local ${podsCidr} dev lo src ${node.ip} table ${ownTable}`,
    `route add local ${podCidr} dev lo src ${node.ip} table ${tunnelTable}`,
    // A gateway on this node reaches the tunnel of a pod on this node, which is the proxy's and not the pod's.
    `rule add pref 40 iif lo ipproto tcp dport ${tunnelPort} lookup ${tunnelTable}`,
    // So does whatever else runs on this node: only its agents, who dial from the pods' gateway address, reach a pod directly.
    // By the port range of outgoing connections, as answers to pods must find their way.
    `rule add pref 45 iif lo from ${node.ip} ipproto tcp sport ${ephemeralPorts.first}-${ephemeralPorts.last} lookup ${tunnelTable}`,
    `rule add pref 50 iif lo lookup ${podRoutesTable}`,
    ...gatewayRules(node),
    `rule add pref 60 from ${podCidr} lookup local`,
    `rule add pref 100 lookup ${ownTable}`,
    // The node's own packets in a pod's name (answers of the tunnel) must find their way before rule 60.
    `rule add pref 51 iif lo lookup ${ownTable}`,
    "rule add pref 52 iif lo lookup main",
    "rule del pref 0",
    "route add local default dev lo table local",
  ];
  return `${lines.join("\n")}\n`;
}

/**
 * Gateway pods are reached directly, and send like the node itself: to a pod of this node by its proxy, to all others straight.
 */
function gatewayRules({ ip }: Machine): string[] {
  const gateways = gatewayCidrOfNode(ip);
  return [
    `rule add pref 30 to ${gateways} lookup ${podRoutesTable}`,
    ...[tunnelTable, podRoutesTable, ownTable, "main"].map(
      (table, i) => `rule add pref ${31 + i} from ${gateways} lookup ${table}`,
    ),
  ];
}

function clientBatch(client: Machine): string {
  return `link set lo up\naddr add ${client.ip}/24 dev eth0\nlink set eth0 up\nroute add default via ${bridgeIp}\n`;
}

/** As Linux by itself, but for the last one, which rules cannot name; clear of the mesh (15000–15100): a reply to 15008 would be taken for the tunnel. */
const ephemeralPorts = { first: 32_768, last: 65_534 } as const;

const machineSysctls = `cd /proc/sys/net
echo 1 > ipv6/conf/eth0/disable_ipv6
echo 1 > ipv6/conf/default/disable_ipv6
echo 1 > ipv4/conf/all/accept_local
echo 0 > ipv4/conf/all/rp_filter
echo 0 > ipv4/conf/default/rp_filter
echo 0 > ipv4/conf/eth0/rp_filter
echo 1 > ipv4/ip_forward
echo 0 > ipv4/conf/all/send_redirects
echo 0 > ipv4/ip_unprivileged_port_start
echo "${ephemeralPorts.first} ${ephemeralPorts.last}" > ipv4/ip_local_port_range
echo 16384 > ipv4/tcp_max_syn_backlog
echo 1 > ipv4/tcp_tw_reuse
echo 16384 > core/somaxconn`;

function machineScript(batch: string, bitsPerSecond: number | undefined): string {
  const limit = bitsPerSecond === undefined ? "" : `tc qdisc add dev eth0 ${shaping(bitsPerSecond)} || exit 1\n`;
  return `(${machineSysctls}) 2>/dev/null\nip -batch - <<'END' || exit 1\n${batch}END\n${limit}`;
}

function check(machines: readonly Machine[]): void {
  if (machines.length > machinesMax)
    throw new MeshbedError("TOPOLOGY_INVALID", `${machines.length} machines are more than ${machinesMax}`);
  for (const [i, machine] of machines.entries()) {
    if (!/^[a-z0-9][a-z0-9.-]{0,62}$/.test(machine.name))
      throw new MeshbedError("TOPOLOGY_INVALID", `'${machine.name}' cannot name a machine`);
    if (!machine.ip.startsWith("172.20.0."))
      throw new MeshbedError("TOPOLOGY_INVALID", `${machine.name}'s IP ${machine.ip} is not in ${machinesCidr}`);
    if (machines.findIndex((other) => other.name === machine.name || other.ip === machine.ip) !== i)
      throw new MeshbedError("TOPOLOGY_INVALID", `two machines share the name ${machine.name} or the IP ${machine.ip}`);
  }
}

/** Builds the network. Throws TOPOLOGY_INVALID, or TOPOLOGY_FAILED with what `ip` or `tc` said. */
export async function createTopology(spec: TopologySpec, clock: Clock): Promise<Topology> {
  const machines = [...spec.nodes, ...spec.clients];
  check(machines);
  const shell = (script: string, on?: string) => {
    const argv = ["/bin/sh", "-c", script];
    return mustRun(on === undefined ? argv : inNetworkNamespace(on, argv), "TOPOLOGY_FAILED", clock);
  };
  const batch = (tool: string, input: string) =>
    mustRun([toolPath(tool), "-batch", "-"], "TOPOLOGY_FAILED", clock, input);
  const rate = spec.linkBitsPerSecond;
  await batch("ip", bridgeBatch(machines));
  const downlinks = (verb: string, what: string) =>
    batch("tc", machines.map((_, i) => `qdisc ${verb} dev m${i} ${what}\n`).join(""));
  await Promise.all([
    ...spec.nodes.map((node) => shell(machineScript(nodeBatch(node, spec.nodes), rate), node.name)),
    ...spec.clients.map((client) => shell(machineScript(clientBatch(client), rate), client.name)),
    ...(rate === undefined ? [] : [downlinks("add", shaping(rate))]),
  ]);
  let limited = rate !== undefined;
  return {
    argvOn(machine, argv) {
      if (!machines.some((known) => known.name === machine))
        throw new MeshbedError("MACHINE_UNKNOWN", `there is no machine '${machine}'`);
      return inNetworkNamespace(machine, argv);
    },
    async limitLinks(bitsPerSecond) {
      if (bitsPerSecond === undefined && !limited) return;
      const verb = bitsPerSecond === undefined ? "del" : "replace";
      const what = bitsPerSecond === undefined ? "root" : shaping(bitsPerSecond);
      await Promise.all([
        downlinks(verb, what),
        ...machines.map(({ name }) => shell(`tc qdisc ${verb} dev eth0 ${what}`, name)),
      ]);
      limited = bitsPerSecond !== undefined;
    },
    async remove() {
      // Links first: a namespace's own go only some time after its name.
      const lines = machines.map(({ name }, i) => `link del m${i}\nnetns del ${name}\n`);
      await batch("ip", `${lines.join("")}link del br0\n`);
    },
  };
}
