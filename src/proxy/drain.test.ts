// The end of a process and the beginning of its successor; what is served while configuration is still arriving.
import { afterEach, expect, test } from "bun:test";
import { realClock } from "../kernel/clock.ts";
import {
  assignment,
  type Configuration,
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  listener,
  prefix,
  routes,
  snapshotOf,
  startFixture,
  toCluster,
  until,
} from "./fixture.ts";
import { StrictClient } from "./strict_client.ts";

const clock = realClock;
const nodeId = "router~127.0.0.1~gateway.test~test.svc.cluster.local";
const port = freePort();
const base = `http://127.0.0.1:${port}`;
const client = new StrictClient();
const open: { close?(): unknown; stop?(force: boolean): unknown }[] = [];

afterEach(async () => {
  client.close();
  for (const thing of open.splice(0).reverse()) await (thing.close?.() ?? thing.stop?.(true));
});

/** Says its name; `/slow` after 300 ms; echoes over WebSockets. */
function startServer(name: string): string {
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request, self) {
      if (self.upgrade(request)) return undefined;
      if (request.url.endsWith("/slow")) await clock.sleep(300);
      return new Response(name);
    },
    websocket: { message: (socket, message) => void socket.send(message) },
  });
  open.push({ stop: (force) => server.stop(force) });
  return `127.0.0.1:${server.port}`;
}

const to = (name: string, endpoints: string[] | undefined): Configuration => ({
  listeners: [listener("127.0.0.1", port, [httpChain("main", { upgradeConfigs: [{ upgradeType: "websocket" }] })])],
  clusters: [cluster(name)],
  endpoints: endpoints ? [assignment(name, endpoints)] : [],
  routes: [routes("main", [{ match: prefix("/"), action: toCluster(name) }])],
});

async function start(...args: Parameters<typeof startFixture>): Promise<FixtureProxy> {
  const proxy = await startFixture(...args);
  open.push(proxy);
  return proxy;
}

const refused = (request: Promise<unknown>): Promise<boolean> =>
  request.then(
    () => false,
    () => true,
  );

test("a draining proxy answers on kept connections, asks them to close, takes no new ones, and is done with the last", async () => {
  const proxy = await start(to("app", [startServer("app")]));
  await client.request({ port });
  expect(client.connections).toBe(1);
  const drained = proxy.running.drain({ acceptMs: 50, drainMs: 5_000 });
  const ready = () => fetch(`http://127.0.0.1:${proxy.running.adminPort}/ready`).then(({ status }) => status);
  expect(await ready()).toBe(503);
  // Connections are still accepted for a moment: their handshake may have begun before.
  expect((await client.request({ port, fresh: true })).text).toBe("app");
  await clock.sleep(800);
  expect(await refused(client.request({ port, fresh: true }))).toBe(true);
  // For its successor, the admin port is free as well.
  expect(await refused(ready())).toBe(true);
  const { connections } = client;
  expect((await client.request({ port })).text).toBe("app");
  expect(client.connections).toBe(connections);
  await drained;
  expect(await refused(client.request({ port }))).toBe(true);
});

test("a WebSocket outlives the drain's beginning, and is closed at its end", async () => {
  const proxy = await start(to("app", [startServer("app")]));
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
  const messages: string[] = [];
  let closed = false;
  socket.onmessage = ({ data }) => void messages.push(String(data));
  socket.onclose = () => {
    closed = true;
  };
  await until("the upgrade", () => socket.readyState === WebSocket.OPEN);
  const startMs = clock.monotonicMs();
  const drained = proxy.running.drain({ acceptMs: 0, drainMs: 700 });
  await clock.sleep(100);
  socket.send("still here");
  await until("the echo", () => messages.length === 1);
  await drained;
  expect(clock.monotonicMs() - startMs).toBeWithin(650, 2_000);
  expect(closed).toBe(false);
  await proxy.running.close();
  await until("the end of the WebSocket", () => closed);
});

test("close ends a drain that is under way", async () => {
  const proxy = await start(to("app", [startServer("app")]));
  await client.request({ port });
  const startMs = clock.monotonicMs();
  const drained = proxy.running.drain({ drainMs: 60_000 });
  await proxy.running.close();
  await drained;
  expect(clock.monotonicMs() - startMs).toBeLessThan(2_500);
});

test("a successor binds its ports only when everything is known", async () => {
  const address = startServer("app");
  const proxy = await start(to("app", undefined), { nodeId, takesOver: true });
  let serving = false;
  void proxy.running.serving.then(() => {
    serving = true;
  });
  await clock.sleep(50);
  expect([serving, await refused(client.request({ port }))]).toEqual([false, true]);
  proxy.snapshots.set(nodeId, snapshotOf(to("app", [address])));
  await until("it serves", () => serving);
  expect((await client.request({ port })).text).toBe("app");
});

test("a route to a new cluster serves only when its endpoints are known; until then the old route does", async () => {
  const [one, two] = [startServer("one"), startServer("two")];
  const proxy = await start(to("one", [one]));
  await proxy.configure(to("two", undefined));
  for (let i = 0; i < 10; i++) expect(await (await fetch(base)).text()).toBe("one");
  await proxy.configure(to("two", [two]));
  for (let i = 0; i < 10; i++) expect(await (await fetch(base)).text()).toBe("two");
});

test("a request under way when its cluster is removed gets its answer", async () => {
  const [one, two] = [startServer("one"), startServer("two")];
  const proxy = await start(to("one", [one]));
  const slow = fetch(`${base}/slow`);
  await clock.sleep(50);
  await proxy.configure(to("two", [two]));
  expect(await (await fetch(base)).text()).toBe("two");
  const late = await slow;
  expect([late.status, await late.text()]).toEqual([200, "one"]);
});
