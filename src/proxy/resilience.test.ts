// Endpoints that misbehave, seen through a running proxy: ejection, health checks, sticky requests, retry limits, host names.
import { afterEach, describe, expect, test } from "bun:test";
import {
  Cluster_DiscoveryType as Discovery,
  Cluster_LbPolicy as Lb,
} from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { TcpProxySchema } from "#gen/xds/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
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
  pack,
  prefix,
  raw,
  routes,
  startFixture,
  tcpChain,
  until,
} from "./fixture.ts";
import type { ProxyOptions } from "./types.ts";

interface Server {
  name: string;
  address: string;
  requests: number;
  checks: number;
  status: number;
  healthy: boolean;
  stop(): void;
}
const servers: Server[] = [];
let proxy: FixtureProxy | undefined;

function startServer(name: string): Server {
  const http = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      if (new URL(request.url).pathname === "/healthz") {
        server.checks++;
        return new Response("", { status: server.healthy ? 200 : 503 });
      }
      server.requests++;
      return new Response(name, { status: server.status });
    },
  });
  const server: Server = {
    name,
    address: `127.0.0.1:${http.port}`,
    requests: 0,
    checks: 0,
    status: 200,
    healthy: true,
    stop: () => void http.stop(true),
  };
  servers.push(server);
  return server;
}

const port = freePort();
const base = `http://127.0.0.1:${port}`;
type ClusterFields = Parameters<typeof cluster>[2];
type RouteFields = Record<string, unknown>;

function configuration(addresses: string[], fields: ClusterFields, route: RouteFields = {}): Configuration {
  return {
    listeners: [listener("127.0.0.1", port, [httpChain("main")])],
    clusters: [cluster("app", undefined, fields)],
    endpoints: [assignment("app", addresses)],
    routes: [
      routes("main", [
        {
          match: prefix("/"),
          action: { case: "route", value: { clusterSpecifier: { case: "cluster", value: "app" }, ...route } },
        } as never,
      ]),
    ],
  };
}
async function serve(config: Configuration, more: Partial<ProxyOptions> = {}): Promise<FixtureProxy> {
  proxy = await startFixture(config, more);
  return proxy;
}
afterEach(async () => {
  await proxy?.close();
  proxy = undefined;
  for (const server of servers.splice(0)) server.stop();
});

async function get(
  headers: Record<string, string> = {},
  path = "/",
): Promise<{ status: number; text: string; cookie: string | null }> {
  const got = await fetch(base + path, { headers });
  return { status: got.status, text: await got.text(), cookie: got.headers.get("set-cookie") };
}
const names = async (count: number, headers?: Record<string, string>, path?: string): Promise<Set<string>> => {
  const found = new Set<string>();
  for (let i = 0; i < count; i++) found.add((await get(headers, path)).text);
  return found;
};

describe("outlier detection", () => {
  const outlierDetection = {
    consecutive5xx: 3,
    interval: milliseconds(20),
    baseEjectionTime: milliseconds(200),
    maxEjectionPercent: 50,
  };
  test("an endpoint that answers 500 is ejected, and comes back when its time is up", async () => {
    const [good, bad] = [startServer("good"), startServer("bad")];
    bad.status = 500;
    await serve(configuration([good.address, bad.address], { outlierDetection } as ClusterFields));
    let failures = 0;
    for (let i = 0; i < 20; i++) failures += Number((await get()).status === 500);
    expect([failures, bad.requests]).toEqual([3, 3]);
    bad.status = 200;
    await realClock.sleep(300);
    expect(await names(6)).toEqual(new Set(["good", "bad"]));
    expect(bad.requests).toBeGreaterThan(3);
  });

  test("an endpoint that cannot be connected to is ejected too", async () => {
    const good = startServer("good");
    await serve(configuration([good.address, "127.0.0.1:1"], { outlierDetection } as ClusterFields));
    const statuses: number[] = [];
    for (let i = 0; i < 20; i++) statuses.push((await get()).status);
    expect(statuses.filter((status) => status === 503).length).toBe(3);
  });

  test("a TCP endpoint is ejected for refused connections", async () => {
    const good = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: { open: (socket) => void socket.end("hi"), data() {} },
    });
    try {
      const config = configuration([`127.0.0.1:${good.port}`, "127.0.0.1:1"], { outlierDetection } as ClusterFields);
      config.listeners = [listener("127.0.0.1", port, [tcpChain("app")])];
      const running = await serve(config);
      for (let i = 0; i < 8; i++) {
        const closed = Promise.withResolvers<void>();
        await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {}, close: () => closed.resolve() } });
        await closed.promise;
      }
      const clusters = await (await fetch(`http://127.0.0.1:${running.running.adminPort}/clusters`)).text();
      expect(clusters).toContain("failed_outlier_check");
    } finally {
      good.stop(true);
    }
  });
});

describe("active health checks", () => {
  const http = { case: "httpHealthCheck", value: { path: "/healthz" } };
  const checks = (healthChecker: unknown, more = {}): ClusterFields =>
    ({
      healthChecks: [
        {
          timeout: milliseconds(500),
          interval: milliseconds(20),
          noTrafficInterval: milliseconds(20),
          unhealthyThreshold: 2,
          healthyThreshold: 2,
          healthChecker,
          ...more,
        },
      ],
    }) as ClusterFields;

  test("a host that answers badly is taken out at once, and put back after it has passed again", async () => {
    const [one, two] = [startServer("one"), startServer("two")];
    two.healthy = false;
    await serve(configuration([one.address, two.address], checks(http)));
    // Nothing was sent before both had been asked.
    expect([one.checks > 0, two.checks > 0]).toEqual([true, true]);
    expect(await names(6)).toEqual(new Set(["one"]));
    two.healthy = true;
    const before = two.checks;
    await until("two is back", () => two.checks >= before + 3);
    expect(await names(6)).toEqual(new Set(["one", "two"]));
    one.healthy = false;
    const then = one.checks;
    await until("one is out", () => one.checks > then + 1);
    expect(await names(6)).toEqual(new Set(["two"]));
  });

  test("a TCP check takes out what refuses connections, or does not say what it should", async () => {
    const greeting = (text: string) =>
      Bun.listen({
        hostname: "127.0.0.1",
        port: 0,
        socket: {
          data(socket, chunk) {
            if (chunk.toString() === "PING") socket.write(text);
            else socket.end(`HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\nconnection: close\r\n\r\n${text}`);
          },
        },
      });
    const [good, bad] = [greeting("+PONG"), greeting("-ERR")];
    const hex = (text: string) => ({ payload: { case: "text", value: Buffer.from(text).toString("hex") } });
    const tcp = { case: "tcpHealthCheck", value: { send: hex("PING"), receive: [hex("PONG")] } };
    try {
      const addresses = [`127.0.0.1:${good.port}`, `127.0.0.1:${bad.port}`, "127.0.0.1:1"];
      const fields = {
        ...checks(tcp, { timeout: milliseconds(60) }),
        commonLbConfig: { healthyPanicThreshold: { value: 0 } },
      };
      await serve(configuration(addresses, fields as ClusterFields));
      expect(await names(8)).toEqual(new Set(["+PONG"]));
    } finally {
      good.stop(true);
      bad.stop(true);
    }
  });

  test("checks end with the cluster", async () => {
    const one = startServer("one");
    const running = await serve(configuration([one.address], checks(http)));
    await until("checks", () => one.checks > 2);
    await running.configure({ ...configuration([one.address], checks(http)), clusters: [] });
    await realClock.sleep(30);
    const { checks: count } = one;
    await realClock.sleep(80);
    expect(one.checks).toBe(count);
  });
});

describe("consistent hashing", () => {
  const all = () => Array.from({ length: 5 }, (_, index) => startServer(String(index)));
  const policy = (specifier: unknown) => ({ hashPolicy: [{ policySpecifier: specifier }] });

  test("requests with the same header reach the same server, and different ones reach all", async () => {
    const list = all();
    const header = policy({ case: "header", value: { headerName: "X-User" } });
    const addresses = list.map(({ address }) => address);
    for (const lbPolicy of [Lb.RING_HASH, Lb.MAGLEV]) {
      await proxy?.close();
      await serve(configuration(addresses, { lbPolicy }, header));
      const reached = new Set<string>();
      for (let user = 0; user < 40; user++) {
        const found = await names(3, { "x-user": `user ${user}` });
        expect([lbPolicy, user, found.size]).toEqual([lbPolicy, user, 1]);
        for (const name of found) reached.add(name);
      }
      expect(reached.size).toBe(5);
      expect((await names(40)).size).toBeGreaterThan(2);
    }
  });

  test("a cookie is made, set once, and sticks", async () => {
    const list = all();
    const cookie = policy({ case: "cookie", value: { name: "session", ttl: milliseconds(60_000), path: "/shop" } });
    await serve(
      configuration(
        list.map(({ address }) => address),
        { lbPolicy: Lb.RING_HASH },
        cookie,
      ),
    );
    for (let client = 0; client < 10; client++) {
      const first = await get();
      expect(first.cookie).toMatch(/^session="[0-9a-f]{16}"; Max-Age=60; Path=\/shop; HttpOnly$/);
      const value = first.cookie!.split(";", 1)[0]!;
      const second = await get({ cookie: `other=1; ${value}` });
      expect([second.cookie, second.text]).toEqual([null, first.text]);
    }
  });

  test("a query parameter and the source address stick as well", async () => {
    const list = all();
    const addresses = list.map(({ address }) => address);
    await serve(
      configuration(addresses, { lbPolicy: Lb.MAGLEV }, policy({ case: "queryParameter", value: { name: "id" } })),
    );
    expect((await names(5, {}, "/?id=7")).size).toBe(1);
    expect((await names(40, {}, "/?other=7")).size).toBeGreaterThan(2);
    await proxy!.close();
    const source = policy({ case: "connectionProperties", value: { sourceIp: true } });
    await serve(configuration(addresses, { lbPolicy: Lb.MAGLEV }, source));
    expect((await names(8)).size).toBe(1);
  });
});

test("weighted routes into two subsets of one cluster reach the endpoints with their metadata only", async () => {
  const list = ["v1", "v2", "v2"].map((version) => ({ ...startServer(version), version }));
  const lb = (version: string) => ({ filterMetadata: { "envoy.lb": { version } } });
  const weighted = (version: string, weight: number) => ({ name: "app", weight, metadataMatch: lb(version) });
  const subset = { keys: ["version"] };
  const config = configuration(
    list.map(({ address }) => address),
    { lbSubsetConfig: { subsetSelectors: [subset] } } as ClusterFields,
    { clusterSpecifier: { case: "weightedClusters", value: { clusters: [weighted("v1", 0), weighted("v2", 100)] } } },
  );
  for (const [index, { lbEndpoints }] of config.endpoints![0]!.endpoints.entries())
    Object.assign(lbEndpoints[0]!.metadata!.filterMetadata, lb(list[index]!.version).filterMetadata);
  await serve(config);
  expect(await names(10)).toEqual(new Set(["v2"]));
});

test("TCP connections of one address stay with one server when they are hashed by it", async () => {
  const greeters = ["a", "b", "c", "d"].map((name) =>
    Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { open: (socket) => void socket.end(name), data() {} } }),
  );
  try {
    const addresses = greeters.map((server) => `127.0.0.1:${server.port}`);
    const greetings = async (hashPolicy: object[]): Promise<Set<string>> => {
      const config = configuration(addresses, { lbPolicy: Lb.MAGLEV });
      const tcp = { statPrefix: "tcp", clusterSpecifier: { case: "cluster", value: "app" }, hashPolicy };
      const typed = { case: "typedConfig", value: pack(TcpProxySchema, tcp as never) } as const;
      config.listeners = [listener("127.0.0.1", port, [{ filters: [{ name: "tcp", configType: typed }] }])];
      await serve(config);
      const found = new Set<string>();
      for (let i = 0; i < 12; i++) found.add((await raw(port, [])).text);
      await proxy!.close();
      return found;
    };
    expect((await greetings([])).size).toBeGreaterThan(1);
    expect((await greetings([{ policySpecifier: { case: "sourceIp", value: {} } }])).size).toBe(1);
  } finally {
    for (const server of greeters) server.stop(true);
  }
});

describe("circuit breakers", () => {
  test("a route of high priority has limits of its own", async () => {
    const one = startServer("one");
    const thresholds = [{ maxRequests: 0 }, { priority: 1, maxRequests: 10 }];
    const fields = { circuitBreakers: { thresholds } } as ClusterFields;
    await serve(configuration([one.address], fields));
    expect((await get()).status).toBe(503);
    await proxy!.close();
    await serve(configuration([one.address], fields, { priority: 1 }));
    expect((await get()).status).toBe(200);
  });
  test("without room for retries the first answer is passed on, and a budget makes room", async () => {
    const one = startServer("one");
    one.status = 503;
    const retryPolicy = { retryOn: "5xx", numRetries: 2, retryBackOff: { baseInterval: milliseconds(1) } };
    const limits = (thresholds: object) => ({ circuitBreakers: { thresholds: [thresholds] } }) as ClusterFields;
    await serve(configuration([one.address], limits({ maxRetries: 0 }), { retryPolicy }));
    expect([(await get()).status, one.requests]).toEqual([503, 1]);
    await proxy!.close();
    await serve(configuration([one.address], limits({ maxRetries: 0, retryBudget: {} }), { retryPolicy }));
    expect([(await get()).status, one.requests]).toEqual([503, 4]);
  });
});

describe("host names", () => {
  test("are resolved before anything is served, again and again, and a failure keeps what was good", async () => {
    const one = startServer("one");
    let answer: () => Promise<string[]> = async () => ["127.0.0.1"];
    let asked = 0;
    const resolve = (host: string): Promise<string[]> => {
      asked++;
      expect(host).toBe("app.test");
      return answer();
    };
    const { 1: serverPort } = one.address.split(":");
    const config = configuration([], {
      clusterDiscoveryType: { case: "type", value: Discovery.STRICT_DNS },
      loadAssignment: assignment("app", [`app.test:${serverPort}`]),
      dnsRefreshRate: milliseconds(20),
    } as ClusterFields);
    await serve({ ...config, endpoints: [] }, { resolve });
    expect((await get()).text).toBe("one");
    answer = () => Promise.reject(new Error("no such name"));
    const before = asked;
    await until("a failed resolution", () => asked > before + 1);
    expect((await get()).text).toBe("one");
    answer = async () => ["127.0.0.9"];
    const then = asked;
    await until("another answer", () => asked > then + 1);
    expect((await get()).status).toBe(503);
  });
});
