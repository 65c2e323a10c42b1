// Hot swap under load: configuration, certificates and the process itself change, and a client that never retries sees no failure.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { createSelfSigned } from "../identity/authority.ts";
import { realClock } from "../kernel/clock.ts";
import {
  assignment,
  type Configuration,
  cluster,
  freePort,
  httpChain,
  keyPair,
  listener,
  milliseconds,
  prefix,
  routes,
  serverTls,
  toCluster,
} from "./fixture.ts";
import { type ProxyProcess, startProxyProcess } from "./process_fixture.ts";
import { type Outcome, openLoop, StrictClient } from "./strict_client.ts";

const clock = realClock;
const hourMs = 3_600_000;
const bodyBytes = 3_000;
const piece = Buffer.alloc(64 * 1024, "x");
const pieces = 60;
const pieceEveryMs = 60;

/** An answer of a few kilobytes; or a download that takes a while. */
async function answer(request: Request): Promise<Response> {
  if (request.method === "POST") return new Response(`${(await request.text()).length}`.padEnd(bodyBytes));
  if (!request.url.endsWith("/download")) return new Response(Buffer.alloc(bodyBytes, "a"));
  const body = new ReadableStream({
    async start(controller) {
      for (let i = 0; i < pieces; i++) {
        controller.enqueue(piece);
        await clock.sleep(pieceEveryMs);
      }
      controller.close();
    },
  });
  return new Response(body);
}

const [port, tlsPort, extraPort] = [freePort(), freePort(), freePort()];
const backends: ReturnType<typeof Bun.serve<undefined>>[] = [];
const processes: ProxyProcess[] = [];
const client = new StrictClient();

beforeAll(() => {
  for (let i = 0; i < 3; i++)
    backends.push(Bun.serve({ hostname: "127.0.0.1", port: 0, idleTimeout: 60, fetch: answer }));
});
afterEach(() => {
  client.close();
  for (const proxy of processes.splice(0)) proxy.kill();
});
afterAll(() => Promise.all(backends.map((backend) => backend.stop(true))));

const certificate = async () =>
  keyPair(
    "site",
    await createSelfSigned({ commonName: "app.test", dnsNames: ["app.test"], lifetimeMs: hourMs, clock }),
  );

/** Version `n`: each changes something else, clusters are made and go, endpoints come and go, one listener comes and goes. */
function version(n: number, secret: Awaited<ReturnType<typeof certificate>>): Configuration {
  const name = `app-${Math.floor(n / 3)}`;
  const addresses = backends.map((backend) => `127.0.0.1:${backend.port}`).filter((_, index) => index !== n % 3);
  const manager = { streamIdleTimeout: milliseconds(60_000 + n) };
  const tls = { transportSocket: serverTls("site") };
  const isStatic = n % 4 === 1;
  return {
    listeners: [
      listener("127.0.0.1", port, [httpChain("main", n % 2 ? manager : {})]),
      listener("127.0.0.1", tlsPort, [httpChain("main", {}, tls)]),
      ...(n % 5 === 2 ? [listener("127.0.0.1", extraPort, [httpChain("main")])] : []),
    ],
    clusters: [isStatic ? cluster(name, addresses) : cluster(name), cluster("unused", ["127.0.0.1:1"])],
    endpoints: isStatic ? [] : [assignment(name, addresses)],
    routes: [
      routes("main", [
        { match: prefix(`/never-${n}`), action: toCluster("unused") },
        {
          match: prefix("/"),
          responseHeadersToAdd: [{ header: { key: "x-version", value: String(n) } }],
          action: toCluster(name),
        },
      ]),
    ],
    secrets: [secret],
  };
}

/** Every fourth request on a connection of its own, every fifth a POST, half of them over TLS. */
const mixed = (index: number) => ({
  port: index % 2 ? port : tlsPort,
  tls: index % 2 === 0,
  fresh: index % 4 < 2 && index % 8 < 4,
  ...(index % 5 === 0 && { method: "POST", body: "x".repeat(500) }),
  expectBytes: bodyBytes,
});

const download = () => client.request({ port, path: "/download", fresh: true }).then(({ bodyBytes: count }) => count);

function expectNoFailure({ sent, statuses, failures }: Outcome, atLeast: number): void {
  expect(failures).toEqual({});
  expect(statuses).toEqual({ 200: sent });
  expect(sent).toBeGreaterThan(atLeast);
}

test("30 changes of configuration and 10 of the certificate fail no request and break no download", async () => {
  let secret = await certificate();
  const proxy = await startProxyProcess(version(0, secret));
  processes.push(proxy);
  const load = openLoop(client, 400, mixed);
  const long = download();
  for (let n = 1; n <= 30; n++) {
    proxy.configure(version(n, secret));
    await clock.sleep(90);
  }
  for (let n = 0; n < 10; n++) {
    secret = await certificate();
    proxy.configure(version(30, secret));
    await clock.sleep(90);
  }
  expect(await long).toBe(piece.length * pieces);
  expectNoFailure(await load.stop(), 1_400);
  // Every certificate was met by some new connection.
  expect(client.certificates.size).toBeGreaterThanOrEqual(10);
}, 20_000);

test.skipIf(process.platform !== "linux")(
  "three restarts of the process fail no request, and a download ends in the process it began in",
  async () => {
    const secret = await certificate();
    let proxy = await startProxyProcess(version(0, secret));
    processes.push(proxy);
    const load = openLoop(client, 400, mixed);
    const downloads: Promise<number>[] = [];
    const ended: Promise<number>[] = [];
    for (let n = 1; n <= 3; n++) {
      await clock.sleep(400);
      downloads.push(download());
      await clock.sleep(200);
      // A new build may well come with a new configuration.
      const successor = await startProxyProcess(version(n, secret), { takesOver: true });
      processes.push(successor);
      proxy.drain();
      ended.push(proxy.ended);
      proxy = successor;
    }
    const { connections } = client;
    await clock.sleep(500);
    expect(client.connections).toBeGreaterThan(connections);
    expect(await Promise.all(downloads)).toEqual(downloads.map(() => piece.length * pieces));
    // Each is gone as soon as its last connection is: nothing holds it until the drain's end.
    expect(await Promise.all(ended)).toEqual([0, 0, 0]);
    expectNoFailure(await load.stop(), 1_200);
  },
  20_000,
);

test.skipIf(process.platform !== "linux")(
  "a port changes hands under a flood of new connections without losing one of them",
  async () => {
    const configuration: Configuration = {
      listeners: [listener("127.0.0.1", port, [httpChain("main")])],
      routes: [routes("main", [{ match: prefix("/"), action: { case: "directResponse", value: { status: 200 } } }])],
    };
    let proxy = await startProxyProcess(configuration);
    processes.push(proxy);
    const lost: string[] = [];
    let answered = 0;
    let flooding = true;
    const flood = async (): Promise<void> => {
      while (flooding)
        await client.request({ port, fresh: true }).then(
          () => answered++,
          (error: Error) => lost.push(error.message),
        );
    };
    const floods = Array.from({ length: 20 }, flood);
    for (let n = 0; n < 5; n++) {
      const successor = await startProxyProcess(configuration, { takesOver: true });
      processes.push(successor);
      proxy.drain();
      await proxy.ended;
      proxy = successor;
    }
    flooding = false;
    await Promise.all(floods);
    expect(lost).toEqual([]);
    expect(answered).toBeGreaterThan(1_000);
  },
  20_000,
);
