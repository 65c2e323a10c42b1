// What happens when servers fail: retries, stale connections, limits, and configuration that changes under load.
import { afterEach, describe, expect, test } from "bun:test";
import type { Socket } from "bun";
import { realClock } from "../kernel/clock.ts";
import {
  assignment,
  type Configuration,
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  listener,
  milliseconds,
  prefix,
  raw,
  routes,
  startFixture,
  until,
} from "./fixture.ts";

const istioRetries = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

type Behaviour = (socket: Socket<{ text: string }>, request: string) => void;
interface Server {
  address: string;
  requests: string[];
  connections: number;
  /** Open sockets, to be broken by the test. */
  sockets: Set<Socket<{ text: string }>>;
  behave: Behaviour;
  kill(): void;
}

const answer = (text: string, status = "200 OK"): string =>
  `HTTP/1.1 ${status}\r\ncontent-length: ${text.length}\r\n\r\n${text}`;

const servers: Server[] = [];
let proxy: FixtureProxy | undefined;

/** A server of raw bytes, so that a test says exactly what happens on the wire. Requests have no body or a short one. */
function startServer(behave: Behaviour, host = "127.0.0.1", port = 0): Server {
  const listening = Bun.listen<{ text: string }>({
    hostname: host,
    port,
    socket: {
      open(socket) {
        socket.data = { text: "" };
        server.connections++;
        server.sockets.add(socket);
      },
      data(socket, chunk) {
        socket.data.text += chunk.toString("latin1");
        for (;;) {
          const end = socket.data.text.indexOf("\r\n\r\n");
          if (end < 0) return;
          const length = Number(/content-length: (\d+)/i.exec(socket.data.text)?.[1] ?? 0);
          if (socket.data.text.length < end + 4 + length) return;
          const request = socket.data.text.slice(0, end + 4 + length);
          socket.data.text = socket.data.text.slice(end + 4 + length);
          server.requests.push(request);
          server.behave(socket, request);
        }
      },
      close: (socket) => void server.sockets.delete(socket),
    },
  });
  const server: Server = {
    address: `${host}:${listening.port}`,
    requests: [],
    connections: 0,
    sockets: new Set(),
    behave,
    kill: () => listening.stop(true),
  };
  servers.push(server);
  return server;
}

const port = freePort();
const base = `http://127.0.0.1:${port}`;

interface Policy {
  retryOn?: string;
  numRetries?: number;
  perTryMs?: number;
  timeoutMs?: number;
  avoid?: boolean;
  statusCodes?: number[];
}

function configuration(addresses: string[], policy?: Policy, more: Parameters<typeof cluster>[2] = {}): Configuration {
  const retryPolicy = policy?.retryOn && {
    retryOn: policy.retryOn,
    numRetries: policy.numRetries ?? 2,
    retryBackOff: { baseInterval: milliseconds(2) },
    retriableStatusCodes: policy.statusCodes ?? [],
    ...(policy.perTryMs && { perTryTimeout: milliseconds(policy.perTryMs) }),
    ...(policy.avoid && { retryHostPredicate: [{ name: "envoy.retry_host_predicates.previous_hosts" }] }),
  };
  return {
    listeners: [listener("127.0.0.1", port, [httpChain("main")])],
    clusters: [cluster("app", undefined, more)],
    endpoints: [assignment("app", addresses)],
    routes: [
      routes("main", [
        {
          match: prefix("/"),
          action: {
            case: "route",
            value: {
              clusterSpecifier: { case: "cluster", value: "app" },
              ...(retryPolicy && { retryPolicy }),
              ...(policy?.timeoutMs && { timeout: milliseconds(policy.timeoutMs) }),
            },
          },
        },
      ]),
    ],
  };
}

async function serve(...args: Parameters<typeof configuration>): Promise<FixtureProxy> {
  proxy = await startFixture(configuration(...args));
  return proxy;
}

afterEach(async () => {
  await proxy?.close();
  proxy = undefined;
  for (const server of servers.splice(0)) server.kill();
});

const ok: Behaviour = (socket) => void socket.write(answer("ok"));

/** Keeps `clients` busy with GETs until told to stop; collects every status. */
function load(clients: number): { stop(): Promise<Map<number, number>>; count(): number } {
  const statuses = new Map<number, number>();
  let stopping = false;
  let count = 0;
  const client = async (): Promise<void> => {
    while (!stopping) {
      const status = await fetch(base).then(
        async (got) => {
          await got.arrayBuffer();
          return got.status;
        },
        () => 0,
      );
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      count++;
    }
  };
  const running = Array.from({ length: clients }, client);
  return {
    count: () => count,
    async stop() {
      stopping = true;
      await Promise.all(running);
      return statuses;
    },
  };
}

describe("retries", () => {
  test("one of two servers killed under load fails no GET", async () => {
    const one = startServer(ok);
    const two = startServer(ok);
    await serve([one.address, two.address], { retryOn: istioRetries, avoid: true });
    const clients = load(8);
    await until("some load", () => one.requests.length > 100 && two.requests.length > 100);
    one.kill();
    const atKill = clients.count();
    await until("load after the kill", () => clients.count() > atKill + 500);
    const statuses = await clients.stop();
    expect([...statuses.keys()]).toEqual([200]);
  });

  test("a kept connection that the server has given up costs a GET nothing, without any retry policy", async () => {
    const server = startServer(ok);
    await serve([server.address]);
    expect((await fetch(base)).status).toBe(200);
    // The server reads the second request and closes without a word: what a restarted keep-alive timer looks like.
    server.behave = (socket) => {
      server.behave = ok;
      socket.end();
    };
    expect((await fetch(base)).status).toBe(200);
    expect(server.requests.length).toBe(3);
    expect(server.connections).toBe(2);
  });

  test("a POST is executed once: not sent again on a stale connection, nor after a reset with Istio's policy", async () => {
    const server = startServer(ok);
    await serve([server.address], { retryOn: istioRetries });
    const post = () => fetch(base, { method: "POST", body: "pay" });
    expect((await post()).status).toBe(200);
    server.behave = (socket) => void socket.end();
    const second = await post();
    expect([second.status, await second.text()]).toEqual([
      503,
      "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
    ]);
    expect(server.requests.length).toBe(2);
    expect((await post()).status).toBe(503);
    expect(server.requests.length).toBe(3);
  });

  test("a POST whose connection could not be made is tried elsewhere, body included", async () => {
    const server = startServer(ok);
    await serve(["127.0.0.1:1", server.address], { retryOn: istioRetries, avoid: true, numRetries: 5 });
    for (let i = 0; i < 10; i++) expect((await fetch(base, { method: "POST", body: `number ${i}` })).status).toBe(200);
    expect(server.requests.map((request) => /number \d/.exec(request)?.[0])).toEqual(
      Array.from({ length: 10 }, (_, i) => `number ${i}`),
    );
  });

  test("a retried status avoids the server that gave it", async () => {
    const bad = startServer((socket) => void socket.write(answer("no", "503 Service Unavailable")));
    const good = startServer(ok);
    await serve([bad.address, good.address], { retryOn: "5xx", avoid: true, numRetries: 1 });
    for (let i = 0; i < 40; i++) expect((await fetch(base)).status).toBe(200);
    expect(bad.requests.length).toBeGreaterThan(5);
    expect(good.requests.length).toBe(40);
  });

  test("the last answer is passed on when the tries are used up", async () => {
    const bad = startServer((socket) => void socket.write(answer("busy", "503 Service Unavailable")));
    await serve([bad.address], { retryOn: "retriable-status-codes", statusCodes: [503], numRetries: 2 });
    const got = await fetch(base);
    expect([got.status, await got.text(), bad.requests.length]).toEqual([503, "busy", 3]);
    bad.behave = (socket) => void socket.write(answer("sick", "500 Internal Server Error"));
    expect(await (await fetch(base)).text()).toBe("sick");
    expect(bad.requests.length).toBe(4);
  });

  test("a try, and the whole request, end after their timeouts", async () => {
    const slow = startServer(() => {});
    const server = startServer(ok);
    const running = await serve([slow.address, server.address], { retryOn: "5xx", perTryMs: 60, avoid: true });
    for (let i = 0; i < 6; i++) expect((await fetch(base)).status).toBe(200);
    expect(slow.requests.length).toBeGreaterThan(0);
    await running.configure(configuration([slow.address], { timeoutMs: 80 }));
    const startMs = performance.now();
    const late = await fetch(base);
    expect([late.status, await late.text()]).toEqual([504, "upstream request timeout"]);
    expect(performance.now() - startMs).toBeLessThan(1000);
    expect(await running.metrics()).toMatch(/response_code="504".*response_flags="UT"/);
  });

  test("an answer that breaks off midway reaches the client as broken, not as complete", async () => {
    const server = startServer((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
      socket.flush();
      socket.end();
    });
    await serve([server.address], { retryOn: "5xx,reset" });
    const got = await raw(port, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    expect(got.closed).toBe(true);
    expect(server.requests.length).toBe(1);
  });

  test("nonsense from the server is 502", async () => {
    const server = startServer((socket) => void socket.write("HTTP/1.1 two hundred\r\n\r\n"));
    await serve([server.address]);
    expect((await fetch(base)).status).toBe(502);
  });
});

describe("limits", () => {
  test("with connectionsMax reached requests wait, and beyond pendingRequestsMax are refused", async () => {
    const held: Socket<{ text: string }>[] = [];
    const server = startServer((socket) => void held.push(socket));
    const thresholds = [{ maxConnections: 1, maxPendingRequests: 2 }];
    await serve([server.address], undefined, { circuitBreakers: { thresholds } } as never);
    const requests = Array.from({ length: 5 }, () => fetch(base).then(({ status, headers }) => ({ status, headers })));
    await until("the first request", () => held.length === 1);
    await realClock.sleep(50);
    server.behave = ok;
    held[0]!.write(answer("ok"));
    const statuses = (await Promise.all(requests)).map(({ status }) => status).sort();
    expect(statuses).toEqual([200, 200, 200, 503, 503]);
    expect(server.connections).toBe(1);
    expect(await proxy!.metrics()).toMatch(/response_code="503".*response_flags="UO".*\} 2\n/);
    // The queue is empty again.
    expect((await fetch(base)).status).toBe(200);
  });

  test("a request that gives up waiting leaves its place to the next", async () => {
    const held: Socket<{ text: string }>[] = [];
    const server = startServer((socket) => void held.push(socket));
    const thresholds = [{ maxConnections: 1, maxPendingRequests: 1 }];
    await serve([server.address], undefined, { circuitBreakers: { thresholds } } as never);
    const first = fetch(base);
    await until("the first request", () => held.length === 1);
    const impatient = new AbortController();
    const second = fetch(base, { signal: impatient.signal }).catch(() => "aborted");
    await realClock.sleep(30);
    impatient.abort();
    expect(await second).toBe("aborted");
    await realClock.sleep(30);
    const third = fetch(base);
    await realClock.sleep(30);
    server.behave = ok;
    held[0]!.write(answer("ok"));
    expect((await first).status).toBe(200);
    expect((await third).status).toBe(200);
  });
});

describe("changes under load", () => {
  test("routes and endpoints change many times without a failed request", async () => {
    const all = [startServer(ok), startServer(ok), startServer(ok)];
    const addresses = all.map(({ address }) => address);
    const running = await serve(addresses);
    const clients = load(6);
    for (let round = 0; round < 12; round++) {
      const some = addresses.filter((_, index) => index !== round % 3);
      await running.configure(configuration(some, round % 2 ? { retryOn: istioRetries } : undefined));
      await realClock.sleep(15);
    }
    const statuses = await clients.stop();
    expect([...statuses.keys()]).toEqual([200]);
    for (const server of all) expect(server.requests.length).toBeGreaterThan(50);
  });

  test("a server that is no longer an endpoint loses its idle connections at once", async () => {
    const [one, two] = [startServer(ok), startServer(ok)];
    const running = await serve([one.address]);
    await (await fetch(base)).text();
    expect(one.sockets.size).toBe(1);
    await running.configure(configuration([two.address]));
    await until("the idle connection closed", () => one.sockets.size === 0);
    expect((await fetch(base)).status).toBe(200);
    expect(two.requests.length).toBe(1);
  });
});
