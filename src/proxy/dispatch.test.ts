// Whose connection is it: the table of dispatch().
import { expect, test } from "bun:test";
import type { CompiledListener } from "./compile/listener.ts";
import { type DispatchTable, dispatch, type LocalWorkload } from "./dispatch.ts";
import type { XdsNode } from "./xds_node.ts";

/** Only what dispatch() looks at. */
function node(name: string, outbound: string[], inboundPorts: number[] = [], isReady = true): XdsNode {
  const listener = (key: string) => ({ name: `${name} ${key}` }) as CompiledListener;
  return {
    nodeId: name,
    isReady,
    outboundListener: (host: string, port: number) =>
      outbound.includes(`${host}:${port}`) ? listener(`out ${host}:${port}`) : undefined,
    inboundListener: (_host: string, port: number) =>
      inboundPorts.includes(port) ? listener(`in ${port}`) : undefined,
  } as unknown as XdsNode;
}

const own = node("own", ["10.96.0.9:80", "192.168.0.1:30080"]);
const workloads: Record<string, LocalWorkload> = {
  "10.244.1.2": {
    name: "v/client",
    address: "10.244.1.2",
    ports: [],
    sidecar: node("client", ["10.96.0.9:80"], [8080]),
  },
  "10.244.1.3": { name: "v/server", address: "10.244.1.3", ports: [], sidecar: node("server", [], [8080, 15008]) },
  "10.244.1.4": { name: "v/plain", address: "10.244.1.4", ports: [], sidecar: undefined },
  "10.244.1.5": { name: "v/new", address: "10.244.1.5", ports: [], sidecar: node("new", [], [8080], false) },
};
const table: DispatchTable = { nodeIp: "192.168.0.1", own, workload: (address) => workloads[address] };

const cases: [string, string, string, number, string][] = [
  ["a mesh pod to a service", "10.244.1.2", "10.96.0.9", 80, "client out 10.96.0.9:80"],
  ["a mesh pod to an unknown port of a service", "10.244.1.2", "10.96.0.9", 81, "passthrough client"],
  ["a mesh pod to another pod's address", "10.244.1.2", "10.244.1.3", 8080, "passthrough client"],
  ["a mesh pod that is not configured yet", "10.244.1.5", "10.96.0.9", 80, "wait"],
  ["a plain pod to a service", "10.244.1.4", "10.96.0.9", 80, "own out 10.96.0.9:80"],
  ["a plain pod elsewhere", "10.244.1.4", "1.1.1.1", 443, "passthrough own"],
  ["a plain pod to a mesh pod", "10.244.1.4", "10.244.1.3", 8080, "server in 8080"],
  ["a plain pod to a plain pod", "10.244.1.4", "10.244.1.4", 80, "passthrough own"],
  ["another node's tunnel to a mesh pod", "192.168.0.2", "10.244.1.3", 15008, "server in 15008"],
  ["another node to a port the pod does not declare", "192.168.0.2", "10.244.1.3", 9999, "passthrough own"],
  ["another node to a plain pod", "192.168.0.2", "10.244.1.4", 80, "passthrough own"],
  ["another node to a pod that is not configured yet", "192.168.0.2", "10.244.1.5", 8080, "wait"],
  ["a pod nobody has told of, to a service", "10.244.1.99", "10.96.0.9", 80, "wait"],
  ["a client outside to a node port", "172.16.0.1", "192.168.0.1", 30080, "own out 192.168.0.1:30080"],
  ["a client outside to another port of the node", "172.16.0.1", "192.168.0.1", 30081, "refuse"],
  ["the node itself to a service", "192.168.0.1", "10.96.0.9", 80, "own out 10.96.0.9:80"],
  ["the node itself to an unknown service", "192.168.0.1", "10.96.0.10", 80, "refuse"],
];

for (const [what, remote, local, port, want] of cases)
  test(`${what}: ${want}`, () => {
    const got = dispatch(table, remote, local, port);
    const said =
      got.kind === "listener"
        ? got.listener.name
        : got.kind === "passthrough"
          ? `passthrough ${got.node.nodeId}`
          : got.kind;
    expect(said).toBe(want);
  });
