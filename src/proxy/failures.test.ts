// Servers that are killed or frozen under load: no GET fails, no POST is executed twice. Directly, and through mutual TLS tunnels.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Authority, createAuthority } from "../identity/authority.ts";
import { realClock } from "../kernel/clock.ts";
import {
  assignment,
  type Configuration,
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  keyPair,
  listener,
  milliseconds,
  prefix,
  routes,
  serverTls,
  startFixture,
  toCluster,
  trusted,
  workload,
} from "./fixture.ts";
import { type Outcome, openLoop, StrictClient } from "./strict_client.ts";

const clock = realClock;
const hourMs = 3_600_000;
const getsPerSecond = 400;
const postsPerSecond = 50;

/** As Istio sets it when nothing is said, and what a person writes who wants more. */
const istioDefault = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes,reset-before-request";
const thorough = "5xx,reset,connect-failure";

let authority: Authority;
let folder: string;
let client: StrictClient;
const proxies: FixtureProxy[] = [];
const servers: { pid: number; port: number; kill(signal: NodeJS.Signals): void }[] = [];

beforeAll(async () => {
  authority = await createAuthority({ commonName: "mesh", clock });
  folder = mkdtempSync(join(tmpdir(), "failures-"));
});
afterEach(async () => {
  client.close();
  for (const server of servers.splice(0)) server.kill("SIGKILL");
  await Promise.all(proxies.splice(0).map((proxy) => proxy.close()));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const executedFile = (): string => join(folder, "executed");

/** A process that takes 20 ms for each request and writes down each POST before it answers. */
async function startServer(): Promise<void> {
  const code = `
    import { appendFileSync } from "node:fs";
    process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
    const server = Bun.serve({
      hostname: "127.0.0.1", port: 0, idleTimeout: 60,
      async fetch(request) {
        if (request.method === "POST") appendFileSync(${JSON.stringify(executedFile())}, (await request.text()) + "\\n");
        await Bun.sleep(20);
        return new Response("ok");
      },
    });
    process.send(server.port);`;
  const { promise, resolve } = Promise.withResolvers<number>();
  const child = Bun.spawn([process.execPath, "-e", code], { stdio: ["ignore", "inherit", "inherit"], ipc: resolve });
  servers.push({ pid: child.pid, port: await promise, kill: (signal) => child.kill(signal) });
}

async function start(...args: Parameters<typeof startFixture>): Promise<void> {
  proxies.push(await startFixture(...args));
}

const routeTo = (retryOn: string, perTryMs: number) => {
  const retryPolicy = {
    retryOn,
    numRetries: 2,
    retryHostPredicate: [{ name: "envoy.retry_host_predicates.previous_hosts" }],
    ...(perTryMs > 0 && { perTryTimeout: milliseconds(perTryMs) }),
  };
  const value = { clusterSpecifier: { case: "cluster", value: "app" }, retryPolicy } as const;
  return routes("outbound", [{ match: prefix("/"), action: { case: "route", value } }]);
};

/** One proxy in front of the servers. */
async function direct(port: number, retryOn: string, perTryMs: number): Promise<void> {
  await start({
    listeners: [listener("127.0.0.1", port, [httpChain("outbound")])],
    clusters: [
      cluster(
        "app",
        servers.map((server) => `127.0.0.1:${server.port}`),
      ),
    ],
    routes: [routeTo(retryOn, perTryMs)],
  });
}

const spiffe = (account: string): string => `spiffe://cluster.local/ns/test/sa/${account}`;
const secretsOf = async (account: string) => [
  keyPair(
    "default",
    await authority.issue({ uris: [spiffe(account)], lifetimeMs: hourMs, usages: ["server", "client"] }),
  ),
  trusted("ROOTCA", authority.certPem),
];

/** A proxy of the clients' node, and one for each server's: what dies is the pod, its tunnel lives. */
async function tunnelled(port: number, retryOn: string, perTryMs: number): Promise<void> {
  const tunnels = new Map<string, string>();
  for (const [index, server] of servers.entries()) {
    const ip = `127.0.0.${3 + index}`;
    const node = `sidecar~${ip}~server.test~test.svc.cluster.local`;
    const tunnelPort = freePort(ip);
    tunnels.set(`${ip}:${server.port}`, `${ip}:${tunnelPort}`);
    const chain = httpChain("inbound", {}, { name: "app", filterChainMatch: { destinationPort: server.port } });
    const its: Configuration = {
      listeners: [
        listener(ip, tunnelPort, [{ filters: [], transportSocket: serverTls("default", "ROOTCA") }], {
          name: "connect_terminate",
          inbound: true,
        }),
        listener(ip, 15006, [chain], { name: "virtualInbound", inbound: true, bindToPort: false }),
      ],
      clusters: [cluster("inbound-app", [`127.0.0.1:${server.port}`])],
      routes: [routes("inbound", [{ match: prefix("/"), action: toCluster("inbound-app") }])],
      secrets: await secretsOf("server"),
    };
    await start(
      { workloads: [workload("test/server", ip, node)] },
      { role: "node", nodeId: `node~${ip}~n~cluster.local`, bindMode: { nodeIp: ip, mode: "ports" } },
      { [node]: its },
    );
  }
  const node = "sidecar~127.0.0.1~client.test~test.svc.cluster.local";
  const tunnel = (address: string) => ({
    tunnel: { address: tunnels.get(address)!, identity: spiffe("server") },
  });
  await start(
    { workloads: [workload("test/client", "127.0.0.1", node)] },
    { role: "node", nodeId: "node~127.0.0.1~n1~cluster.local" },
    {
      [node]: {
        listeners: [listener("127.0.0.1", port, [httpChain("outbound")])],
        clusters: [cluster("app")],
        endpoints: [assignment("app", [...tunnels.keys()], tunnel)],
        routes: [routeTo(retryOn, perTryMs)],
        secrets: await secretsOf("client"),
      },
    },
  );
}

interface Result {
  gets: Outcome;
  posts: Outcome;
  /** Times each POST was executed, by its id. */
  executed: Map<string, number>;
}

/** Load on three servers, `event` half a second after its start. */
async function under(
  topology: typeof direct,
  retryOn: string,
  perTryMs: number,
  event: () => Promise<void>,
): Promise<Result> {
  writeFileSync(executedFile(), "");
  client = new StrictClient();
  for (let i = 0; i < 3; i++) await startServer();
  const port = freePort();
  await topology(port, retryOn, perTryMs);
  const gets = openLoop(client, getsPerSecond, (index) => ({ port, fresh: index % 10 === 0, expectBytes: 2 }));
  const posts = openLoop(client, postsPerSecond, (index) => ({ port, method: "POST", body: `post-${index}` }));
  await clock.sleep(500);
  await event();
  const result = { gets: await gets.stop(), posts: await posts.stop() };
  // What was frozen may still have something to execute.
  await clock.sleep(200);
  const executed = new Map<string, number>();
  for (const id of readFileSync(executedFile(), "utf8").trim().split("\n"))
    executed.set(id, (executed.get(id) ?? 0) + 1);
  return { ...result, executed };
}

function expectHeld({ gets, posts, executed }: Result, sentAtLeast: number): void {
  expect(gets.failures).toEqual({});
  expect(gets.statuses).toEqual({ 200: gets.sent });
  expect(gets.sent).toBeGreaterThan(sentAtLeast);
  expect([...executed].filter(([, times]) => times > 1)).toEqual([]);
  // A POST may fail, and then it may or may not have been executed; one that succeeded was.
  expect(executed.size).toBeGreaterThanOrEqual(posts.statuses[200] ?? 0);
  expect(posts.statuses[200] ?? 0).toBeGreaterThan(posts.sent * 0.6);
}

const topologies = [
  ["one proxy", direct],
  ["tunnels between two proxies", tunnelled],
] as const;

describe("a server is killed under 400 GETs and 50 POSTs a second", () => {
  const kill = async (): Promise<void> => {
    servers[0]!.kill("SIGKILL");
    await clock.sleep(1_500);
  };
  for (const [name, topology] of topologies)
    for (const retryOn of [istioDefault, thorough])
      test(`behind ${name}, retrying on ${retryOn}: no GET fails, no POST is executed twice`, async () => {
        expectHeld(await under(topology, retryOn, 0, kill), 600);
      }, 20_000);
});

describe("a server is frozen for 3 s under 400 GETs and 50 POSTs a second", () => {
  // Enough for a healthy server of a busy machine, as these tests run beside others.
  const tryMs = 400;
  const freeze = async (): Promise<void> => {
    servers[0]!.kill("SIGSTOP");
    await clock.sleep(3_000);
    servers[0]!.kill("SIGCONT");
    await clock.sleep(500);
  };
  for (const [name, topology] of topologies)
    test(`behind ${name}, with ${tryMs} ms a try: no GET fails, no POST is executed twice`, async () => {
      const result = await under(topology, thorough, tryMs, freeze);
      expectHeld(result, 1_200);
      // It was noticed: some tries ran into the timeout, GETs were then sent elsewhere, POSTs were not.
      expect(Math.max(...result.gets.latenciesMs)).toBeGreaterThan(tryMs);
      expect(result.posts.statuses[504]).toBeGreaterThan(0);
    }, 20_000);
});
