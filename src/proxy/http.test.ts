// A request end to end: reuse of connections, routing, answers of the proxy's own, header rules.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { HTTPFaultSchema } from "#gen/xds/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import {
  cluster,
  exact,
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
  toCluster,
} from "./fixture.ts";

interface Backend {
  address: string;
  requests: number;
  connections: Set<string>;
  stop(): void;
}

/** Says its name, what it was asked and with which fields. */
function startBackend(name: string): Backend {
  const connections = new Set<string>();
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request, self) {
      backend.requests++;
      const peer = self.requestIP(request);
      connections.add(`${peer?.address}:${peer?.port}`);
      const { pathname, search } = new URL(request.url, "http://none");
      const headers = Object.fromEntries(request.headers);
      const body = await request.text();
      return Response.json(
        { name, method: request.method, path: pathname + search, headers, body },
        { headers: { "x-backend": name, server: "app" } },
      );
    },
  });
  const backend = { address: `127.0.0.1:${server.port}`, requests: 0, connections, stop: () => void server.stop(true) };
  return backend;
}

let a: Backend;
let b: Backend;
let proxy: FixtureProxy;
const port = freePort();
const base = `http://127.0.0.1:${port}`;

beforeAll(async () => {
  a = startBackend("a");
  b = startBackend("b");
  proxy = await startFixture({});
});
afterAll(async () => {
  await proxy.close();
  a.stop();
  b.stop();
});
afterEach(() => {
  a.connections.clear();
  b.connections.clear();
});

type RouteList = Parameters<typeof routes>[1];

async function serve(
  list: RouteList,
  manager: Parameters<typeof httpChain>[1] = {},
  domains?: string[],
): Promise<void> {
  await proxy.configure({
    listeners: [listener("127.0.0.1", port, [httpChain("main", manager)])],
    clusters: [
      cluster("a", [a.address]),
      cluster("b", [b.address]),
      cluster("empty", []),
      cluster("dead", ["127.0.0.1:1"]),
    ],
    routes: [routes("main", list, domains)],
  });
}

interface Seen {
  name: string;
  method: string;
  path: string;
  headers: Record<string, string>;
  body: string;
}
const ask = async (path: string, init: RequestInit = {}): Promise<Seen> =>
  (await (await fetch(base + path, init)).json()) as Seen;

describe("connections", () => {
  test("many requests over one client connection use one connection to the server", async () => {
    await serve([{ match: prefix("/"), action: toCluster("a") }]);
    const one = "GET /x HTTP/1.1\r\nhost: a\r\n\r\n";
    const last = "GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    const { text, closed } = await raw(port, [one, one, one, last]);
    expect(text.match(/HTTP\/1\.1 200 OK/g)?.length).toBe(4);
    expect(closed).toBe(true);
    expect(a.connections.size).toBe(1);
  });

  test("pipelined requests are answered in order", async () => {
    await serve([{ match: prefix("/"), action: toCluster("a") }]);
    const pipeline = Array.from({ length: 20 }, (_, i) => `GET /p${i} HTTP/1.1\r\nhost: a\r\n\r\n`).join("");
    const { text } = await raw(port, pipeline, (got) => got.includes('"/p19"'));
    expect([...text.matchAll(/"path":"\/p(\d+)"/g)].map(([, index]) => Number(index))).toEqual(
      Array.from({ length: 20 }, (_, i) => i),
    );
  });

  test("HTTP/1.0 without keep-alive is closed after the answer, with keep-alive it stays", async () => {
    await serve([{ match: prefix("/"), action: toCluster("a") }]);
    const once = await raw(port, "GET / HTTP/1.0\r\n\r\n");
    expect(once.closed).toBe(true);
    expect(once.text).toStartWith("HTTP/1.1 200");
    const kept = await raw(port, "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", (text) => text.includes('"body"'));
    expect(kept.text.toLowerCase()).toContain("connection: keep-alive");
  });
});

describe("routing", () => {
  const equals = (value: string) => ({ case: "stringMatch", value: exact(value) }) as const;

  test("the first route whose prefix, header, method, query or expression matches wins", async () => {
    await serve([
      {
        match: { ...prefix("/"), headers: [{ name: "x-user", headerMatchSpecifier: equals("tester") }] },
        action: toCluster("b"),
      },
      {
        match: { ...prefix("/"), headers: [{ name: ":method", headerMatchSpecifier: equals("DELETE") }] },
        action: toCluster("b"),
      },
      {
        match: {
          ...prefix("/"),
          queryParameters: [
            {
              name: "v",
              queryParameterMatchSpecifier: {
                case: "stringMatch",
                value: { matchPattern: { case: "exact", value: "2" } },
              },
            },
          ],
        },
        action: toCluster("b"),
      },
      { match: { pathSpecifier: { case: "safeRegex", value: { regex: "/item/[0-9]+" } } }, action: toCluster("b") },
      { match: { pathSpecifier: { case: "path", value: "/only" } }, action: toCluster("b") },
      { match: { pathSpecifier: { case: "pathSeparatedPrefix", value: "/api" } }, action: toCluster("b") },
      { match: prefix("/"), action: toCluster("a") },
    ]);
    const answers: [string, RequestInit, string][] = [
      ["/", {}, "a"],
      ["/", { headers: { "X-User": "tester" } }, "b"],
      ["/", { headers: { "x-user": "tester2" } }, "a"],
      ["/", { method: "DELETE" }, "b"],
      ["/?v=2", {}, "b"],
      ["/?v=22", {}, "a"],
      ["/item/12", {}, "b"],
      ["/item/12?x=1", {}, "b"],
      ["/item/12x", {}, "a"],
      ["/only", {}, "b"],
      ["/only/", {}, "a"],
      ["/api", {}, "b"],
      ["/api/1", {}, "b"],
      ["/apix", {}, "a"],
    ];
    for (const [path, init, name] of answers) expect([path, (await ask(path, init)).name]).toEqual([path, name]);
  });

  test("a weighted split comes out as asked over 10,000 requests", async () => {
    const clusters = [
      { name: "a", weight: 95 },
      { name: "b", weight: 5 },
    ];
    await serve([
      {
        match: prefix("/"),
        action: { case: "route", value: { clusterSpecifier: { case: "weightedClusters", value: { clusters } } } },
      },
    ]);
    const before = { a: a.requests, b: b.requests };
    const client = async (): Promise<void> => {
      const batch = "GET /w HTTP/1.1\r\nhost: a\r\n\r\n".repeat(500);
      const { text } = await raw(port, batch, (got) => (got.match(/"body":""}/g)?.length ?? 0) >= 500, 20_000);
      expect(text.match(/HTTP\/1\.1 200/g)?.length).toBe(500);
    };
    for (let i = 0; i < 5; i++) await Promise.all([client(), client(), client(), client()]);
    const toB = b.requests - before.b;
    expect(a.requests - before.a + toB).toBe(10_000);
    // Four standard deviations of a binomial with n = 10,000 and p = 0.05 are 87.
    expect(Math.abs(toB - 500)).toBeLessThan(88);
  }, 30_000);

  test("no route is 404, an unknown cluster 503, no endpoint 503, a dead endpoint 503; the metrics say why", async () => {
    await serve(
      [
        { match: prefix("/unknown"), action: toCluster("nowhere") },
        { match: prefix("/empty"), action: toCluster("empty") },
        { match: prefix("/dead"), action: toCluster("dead") },
      ],
      {},
      ["known.test"],
    );
    const status = async (path: string, host = "known.test"): Promise<string> => {
      const answer = await fetch(base + path, { headers: { host } });
      return `${answer.status} ${await answer.text()}`;
    };
    expect(await status("/other")).toBe("404 ");
    expect(await status("/empty", "other.test")).toBe("404 ");
    expect(await status("/unknown")).toBe("503 ");
    expect(await status("/empty")).toBe("503 no healthy upstream");
    expect(await status("/dead")).toBe(
      "503 upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
    );
    const text = await proxy.metrics();
    for (const [code, flag] of [
      ["404", "NR"],
      ["503", "NC"],
      ["503", "UH"],
      ["503", "UF"],
    ])
      expect(text).toMatch(new RegExp(`istio_requests_total\\{.*response_code="${code}".*response_flags="${flag}"`));
  });
});

describe("header rules, rewrites and answers of the proxy's own", () => {
  const header = (key: string, value: string, append?: boolean) => ({
    header: { key, value },
    ...(append !== undefined && { append }),
  });

  test("request and response headers are set, added and removed, most specific first", async () => {
    await serve([
      {
        match: prefix("/"),
        requestHeadersToAdd: [header("x-added", "1", true), header("x-set", "route", false)],
        requestHeadersToRemove: ["X-Secret"],
        responseHeadersToAdd: [header("x-answer", "yes"), header("x-backend", "hidden", false)],
        responseHeadersToRemove: ["server"],
        action: {
          case: "route",
          value: {
            clusterSpecifier: {
              case: "weightedClusters",
              value: {
                clusters: [
                  {
                    name: "a",
                    weight: 1,
                    requestHeadersToAdd: [header("x-set", "cluster", false), header("x-target", "a")],
                  },
                ],
              },
            },
          },
        },
      },
    ]);
    const answer = await fetch(base, { headers: { "x-secret": "s", "x-added": "0", "x-set": "client" } });
    const { headers } = (await answer.json()) as Seen;
    expect(headers["x-added"]).toBe("0, 1");
    // As in Envoy, the weighted cluster's rules come first and the route's after them.
    expect(headers["x-set"]).toBe("route");
    expect(headers["x-target"]).toBe("a");
    expect(headers["x-secret"]).toBeUndefined();
    expect(headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
    expect(answer.headers.get("x-answer")).toBe("yes");
    expect(answer.headers.get("x-backend")).toBe("hidden");
    expect(answer.headers.get("server")).toBeNull();
  });

  test("a gateway writes forwarding fields itself and keeps the client's chain", async () => {
    await serve([{ match: prefix("/"), action: toCluster("a") }], { useRemoteAddress: true });
    const { headers } = await ask("/", {
      headers: {
        "x-forwarded-for": "10.1.1.1",
        "x-forwarded-proto": "https",
        "x-request-id": "mine",
        "x-forwarded-client-cert": "forged",
      },
    });
    expect(headers["x-forwarded-for"]).toBe("10.1.1.1, 127.0.0.1");
    expect(headers["x-forwarded-proto"]).toBe("http");
    expect(headers["x-request-id"]).not.toBe("mine");
    expect(headers["x-forwarded-client-cert"]).toBeUndefined();
  });

  test("paths and hosts are rewritten", async () => {
    await serve([
      {
        match: prefix("/old/"),
        action: {
          case: "route",
          value: {
            ...toCluster("a").value,
            prefixRewrite: "/new/",
            hostRewriteSpecifier: { case: "hostRewriteLiteral", value: "inner.test" },
          },
        },
      },
      {
        match: prefix("/rx"),
        action: {
          case: "route",
          value: {
            ...toCluster("a").value,
            regexRewrite: { pattern: { regex: "^/rx/([^/]+)/(.*)$" }, substitution: "/\\2/\\1" },
          },
        },
      },
    ]);
    const old = await ask("/old/page?q=%20");
    expect(old.path).toBe("/new/page?q=%20");
    expect(old.headers["host"]).toBe("inner.test");
    expect((await ask("/rx/one/two?z")).path).toBe("/two/one?z");
  });

  test("redirects and direct responses, with the route's response headers", async () => {
    await serve([
      {
        match: prefix("/move"),
        action: {
          case: "redirect",
          value: {
            schemeRewriteSpecifier: { case: "httpsRedirect", value: true },
            hostRedirect: "new.test",
            pathRewriteSpecifier: { case: "pathRedirect", value: "/here" },
          },
        },
      },
      {
        match: prefix("/say"),
        responseHeadersToAdd: [header("x-said", "by proxy")],
        action: {
          case: "directResponse",
          value: { status: 418, body: { specifier: { case: "inlineString", value: "tea" } } },
        },
      },
      {
        match: prefix("/nothing"),
        action: {
          case: "directResponse",
          value: { status: 204, body: { specifier: { case: "inlineString", value: "hidden" } } },
        },
      },
    ]);
    const move = await fetch(`${base}/move?a=b`, { redirect: "manual" });
    expect([move.status, move.headers.get("location")]).toEqual([301, "https://new.test/here?a=b"]);
    const say = await fetch(`${base}/say`);
    expect([say.status, await say.text(), say.headers.get("x-said")]).toEqual([418, "tea", "by proxy"]);
    const twice = await raw(port, [
      "GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n",
      "GET /say HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    ]);
    expect(twice.text).toContain("HTTP/1.1 204");
    expect(twice.text).not.toContain("hidden");
    expect(twice.text).toEndWith("\r\n\r\ntea");
  });

  test("faults delay and abort the share they are told to", async () => {
    const fault = (init: Parameters<typeof pack<typeof HTTPFaultSchema>>[1]) => ({
      fault: pack(HTTPFaultSchema, init),
    });
    const all = { numerator: 100 };
    const half = { numerator: 50 };
    await serve(
      [
        {
          match: prefix("/abort"),
          action: toCluster("a"),
          typedPerFilterConfig: fault({ abort: { errorType: { case: "httpStatus", value: 555 }, percentage: all } }),
        },
        {
          match: prefix("/half"),
          action: toCluster("a"),
          typedPerFilterConfig: fault({ abort: { errorType: { case: "httpStatus", value: 500 }, percentage: half } }),
        },
        {
          match: prefix("/slow"),
          action: toCluster("a"),
          typedPerFilterConfig: fault({
            delay: { faultDelaySecifier: { case: "fixedDelay", value: milliseconds(120) }, percentage: all },
          }),
        },
        { match: prefix("/"), action: toCluster("a") },
      ],
      { httpFilters: [{ name: "fault", configType: { case: "typedConfig", value: pack(HTTPFaultSchema, {}) } }] },
    );
    const aborted = await fetch(`${base}/abort`);
    expect([aborted.status, await aborted.text()]).toEqual([555, "fault filter abort"]);
    let failed = 0;
    for (let i = 0; i < 400; i++) failed += Number((await fetch(`${base}/half`)).status === 500);
    expect(Math.abs(failed - 200)).toBeLessThan(45);
    const startMs = performance.now();
    expect((await ask("/slow")).name).toBe("a");
    expect(performance.now() - startMs).toBeGreaterThan(115);
    expect((await ask("/")).name).toBe("a");
  });
});
