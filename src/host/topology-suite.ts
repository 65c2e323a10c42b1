// Runs inside a sandbox (see topology.test.ts): real listeners and connections over the routes of two nodes.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { realClock as clock } from "../kernel/clock.ts";
import { prepareSandbox } from "./sandbox.ts";
import { createTopology, inNetworkNamespace, type Topology } from "./topology.ts";

const nodes = [
  { name: "master", ip: "172.20.0.10" },
  { name: "worker1", ip: "172.20.0.11" },
];
const clients = [
  { name: "client1", ip: "172.20.0.100" },
  { name: "client2", ip: "172.20.0.101" },
];
const pods = { web: "10.244.1.2", store: "10.244.1.3", far: "10.244.0.2" };

/** A node's agent: gives its pods their networks, then answers like a proxy with the addresses it sees. */
const agent = `
const { addPodNetwork } = await import("./pod-network.ts");
const { realClock } = await import("../kernel/clock.ts");
const [node, ip, ...pods] = process.argv.slice(-Number(process.env.ARGC));
await Promise.all(pods.map((pod) => addPodNetwork(node + "_" + pod.split("=")[0], pod.split("=")[1], ip, realClock)));
const open = (s) => { s.end(node + " " + s.data + " local=" + s.localAddress + " remote=" + s.remoteAddress); };
const listen = (hostname, port, data, more = {}) =>
  Bun.listen({ hostname, port, data, ...more, socket: { open(s) { s.data = data; open(s); }, data() {}, error() {} } });
listen("0.0.0.0", 8080, "proxy");
Bun.listen({ hostname: "0.0.0.0", port: 80, reusePort: true, socket: { open(s) { s.data = "proxy"; open(s); }, data() {} } });
if (node === "worker1") Bun.listen({ hostname: ip, port: 80, reusePort: true, socket: { open(s) { s.data = "gateway"; open(s); }, data() {} } });
for (const pod of pods) listen(pod.split("=")[1], 15008, "tunnel");
await Bun.udpSocket({ hostname: "10.96.0.10", port: 53, socket: { data(s, b, port, from) { s.send("answer to " + from, port, from); } } });
console.log("READY");
`;

const podServer = `
const [name] = process.argv.slice(-1);
Bun.listen({ hostname: "0.0.0.0", port: 8080, socket: { open(s) { s.end("pod " + name + " local=" + s.localAddress + " remote=" + s.remoteAddress); }, data() {} } });
console.log("READY");
`;

const dial = `
const [from, host, port] = process.argv.slice(-3);
let text = "";
Bun.connect({ hostname: host, port: Number(port), ...(from && { localAddress: from }), socket: {
  data(s, b) { text += b; }, open() {}, close() { console.log(text); process.exit(0); },
  connectError(s, e) { console.log(e.code); process.exit(0); } } }).catch((e) => { console.log(e.code); process.exit(0); });
await Bun.sleep(3000);
console.log("TIMEOUT");
process.exit(0);
`;

const lookUp = `
const s = await Bun.udpSocket({ connect: { hostname: "10.96.0.10", port: 53 }, socket: { data(s, b) { console.log(String(b)); process.exit(0); } } });
s.send("?");
await Bun.sleep(3000);
console.log("TIMEOUT");
process.exit(0);
`;

let topology: Topology;
const children: Bun.Subprocess[] = [];

function script(network: string, source: string, args: string[]) {
  const argv = inNetworkNamespace(network, [process.execPath, "-e", source, "--", ...args]);
  return Bun.spawn(argv, {
    cwd: import.meta.dir,
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, ARGC: String(args.length) },
  });
}

async function start(network: string, source: string, args: string[]): Promise<void> {
  const child = script(network, source, args);
  children.push(child);
  const { value } = await child.stdout.getReader().read();
  expect(Buffer.from(value!).toString()).toContain("READY");
}

const text = async (child: ReturnType<typeof script>) => (await new Response(child.stdout).text()).trim();

/** What a connection from `network` to that address is answered. */
async function ask(network: string, host: string, port: number, from = ""): Promise<string> {
  const child = script(network, dial, [from, host, String(port)]);
  return text(child);
}

beforeAll(async () => {
  await prepareSandbox(clock);
  topology = await createTopology({ nodes, clients, linkBitsPerSecond: 1e9 }, clock);
  await Promise.all([
    start("worker1", agent, ["worker1", "172.20.0.11", `web=${pods.web}`, `store=${pods.store}`]),
    start("master", agent, ["master", "172.20.0.10", `far=${pods.far}`]),
  ]);
  await Promise.all([
    start("worker1_store", podServer, ["store"]),
    start("worker1_web", podServer, ["web"]),
    start("master_far", podServer, ["far"]),
  ]);
});

afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await Promise.all(children.map((child) => child.exited));
  await topology.remove();
  expect((await Bun.$`ip -o link`.text()).split("\n").filter((line) => !line.includes(" lo: "))).toEqual([""]);
});

test("a pod's connection to a service IP reaches its node's proxy with both addresses intact", async () => {
  expect(await ask("worker1_web", "10.96.7.7", 8080)).toBe(`worker1 proxy local=10.96.7.7 remote=${pods.web}`);
  expect(await ask("worker1_web", "10.111.7.7", 80)).toBe(`worker1 proxy local=10.111.7.7 remote=${pods.web}`);
});

test("a pod's connection to another pod is intercepted by its own node, wherever that pod runs", async () => {
  expect(await ask("worker1_web", pods.store, 8080)).toBe(`worker1 proxy local=${pods.store} remote=${pods.web}`);
  expect(await ask("worker1_web", pods.far, 8080)).toBe(`worker1 proxy local=${pods.far} remote=${pods.web}`);
});

test("a pod's connection to a machine or to the outside is intercepted too", async () => {
  expect(await ask("worker1_web", "172.20.0.10", 8080)).toBe(`worker1 proxy local=172.20.0.10 remote=${pods.web}`);
  expect(await ask("worker1_web", "203.0.113.9", 8080)).toBe(`worker1 proxy local=203.0.113.9 remote=${pods.web}`);
});

test("what runs on a node is handed to its proxy as if it came from elsewhere, but for what dials from the pods' gateway", async () => {
  expect(await ask("worker1", pods.web, 8080)).toBe(`worker1 proxy local=${pods.web} remote=172.20.0.11`);
  expect(await ask("worker1", pods.web, 8080, "10.244.1.1")).toBe(`pod web local=${pods.web} remote=10.244.1.1`);
  // A pod cannot pretend to.
  expect(await ask("worker1_store", pods.web, 8080, "10.244.1.1")).not.toContain("pod web");
});

test("the node's connection to a service IP comes back to its own proxy", async () => {
  expect(await ask("worker1", "10.96.7.7", 8080)).toBe("worker1 proxy local=10.96.7.7 remote=172.20.0.11");
});

test("a node reaches the tunnel of another node's pod, and of its own", async () => {
  expect(await ask("worker1", pods.far, 15008)).toBe(`master tunnel local=${pods.far} remote=172.20.0.11`);
  expect(await ask("worker1", pods.web, 15008)).toBe(`worker1 tunnel local=${pods.web} remote=172.20.0.11`);
});

test("a node's plain connection to another node's pod ends at that node's proxy", async () => {
  expect(await ask("worker1", pods.far, 8080)).toBe(`master proxy local=${pods.far} remote=172.20.0.11`);
});

test("an address no pod has is unreachable for the node instead of a loop to itself", async () => {
  expect(await ask("worker1", "10.244.1.99", 8080)).not.toContain("proxy");
});

test("a client machine reaches the gateway on the node's IP beside the proxy's wildcard listener", async () => {
  expect(await ask("client1", "172.20.0.11", 80)).toBe("worker1 gateway local=172.20.0.11 remote=172.20.0.100");
  expect(await ask("client1", "172.20.0.10", 80)).toBe("master proxy local=172.20.0.10 remote=172.20.0.100");
});

test("the cluster's DNS address answers pods and the node itself", async () => {
  expect(await text(script("worker1_web", lookUp, []))).toBe(`answer to ${pods.web}`);
  expect(await text(script("worker1", lookUp, []))).toBe("answer to 172.20.0.11");
});

const source = `
const chunk = Buffer.alloc(1 << 18);
const feed = (s) => { while (s.write(chunk) === chunk.length); };
Bun.listen({ hostname: "0.0.0.0", port: 9000, socket: { open: feed, drain: feed, data() {}, error() {}, close() {} } });
console.log("READY");
`;
const sink = `
let bytes = 0;
const began = performance.now();
Bun.connect({ hostname: "172.20.0.10", port: 9000, socket: { data(s, b) { bytes += b.length; }, open() {} } });
await Bun.sleep(1500);
console.log(bytes / (performance.now() - began) * 8e3);
process.exit(0);
`;

test("two clients against one node share its link, and a lower limit takes hold at once", async () => {
  await start("master", source, []);
  const together = async () => {
    const rates = await Promise.all(clients.map(({ name }) => text(script(name, sink, []))));
    return rates.reduce((sum, rate) => sum + Number(rate), 0);
  };
  const gigabit = await together();
  expect(gigabit).toBeGreaterThan(0.85e9);
  expect(gigabit).toBeLessThan(1.05e9);
  await topology.limitLinks(100e6);
  const hundred = await together();
  expect(hundred).toBeGreaterThan(80e6);
  expect(hundred).toBeLessThan(115e6);
}, 15_000);
