// gRPC through the proxy and through a pair of proxies with a tunnel between them: grpc-js on both sides, every kind of call.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { status } from "@grpc/grpc-js";
import { HTTPFaultSchema } from "#gen/xds/envoy/extensions/filters/http/fault/v3/fault_pb.js";
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
  pack,
  prefix,
  routes,
  serverTls,
  startFixture,
  toCluster,
  trusted,
  until,
  workload,
} from "./fixture.ts";
import { EchoClient, type EchoServer, http2Options, startEcho } from "./grpc_fixture.ts";

const proxies: FixtureProxy[] = [];
const start = async (...args: Parameters<typeof startFixture>): Promise<FixtureProxy> => {
  const proxy = await startFixture(...args);
  proxies.push(proxy);
  return proxy;
};
let echo: EchoServer;
let authority: Authority;
const directPort = freePort();
const tunnelPort = freePort();
let direct: FixtureProxy;

const hourMs = 3_600_000;
const spiffe = (account: string): string => `spiffe://cluster.local/ns/test/sa/${account}`;
const secretsOf = async (account: string) => [
  keyPair(
    "default",
    await authority.issue({ uris: [spiffe(account)], lifetimeMs: hourMs, usages: ["server", "client"] }),
  ),
  trusted("ROOTCA", authority.certPem),
];

/** One proxy of the client's node, one of the server's, mutual TLS between them. */
async function startTunnel(): Promise<void> {
  const ip = "127.0.0.3";
  const node = `sidecar~${ip}~server.test~test.svc.cluster.local`;
  const at = freePort(ip);
  const chain = httpChain("inbound", {}, { name: "app", filterChainMatch: { destinationPort: echo.port } });
  const its: Configuration = {
    listeners: [
      listener(ip, at, [{ filters: [], transportSocket: serverTls("default", "ROOTCA") }], {
        name: "connect_terminate",
        inbound: true,
      }),
      listener(ip, 15006, [chain], { name: "virtualInbound", inbound: true, bindToPort: false }),
    ],
    clusters: [cluster("inbound-app", [`127.0.0.1:${echo.port}`], http2Options())],
    routes: [routes("inbound", [{ match: prefix("/"), action: toCluster("inbound-app") }])],
    secrets: await secretsOf("server"),
  };
  await start(
    { workloads: [workload("test/server", ip, node)] },
    { role: "node", nodeId: `node~${ip}~n~cluster.local`, bindMode: { nodeIp: ip, mode: "ports" } },
    { [node]: its },
  );
  const client = "sidecar~127.0.0.1~client.test~test.svc.cluster.local";
  const tunnel = { address: `${ip}:${at}`, identity: spiffe("server") };
  await start(
    { workloads: [workload("test/client", "127.0.0.1", client)] },
    { role: "node", nodeId: "node~127.0.0.1~n1~cluster.local" },
    {
      [client]: {
        listeners: [listener("127.0.0.1", tunnelPort, [httpChain("outbound")])],
        clusters: [cluster("app", undefined, http2Options())],
        endpoints: [assignment("app", [`${ip}:${echo.port}`], () => ({ tunnel }))],
        routes: [routes("outbound", [{ match: prefix("/"), action: toCluster("app") }])],
        secrets: await secretsOf("client"),
      },
    },
  );
}

type Manager = NonNullable<Parameters<typeof httpChain>[1]>;
type RouteList = Parameters<typeof routes>[1];
const toApp: RouteList = [{ match: prefix("/"), action: toCluster("app") }];
const configurationOf = (list: RouteList, manager: Manager = {}): Configuration => ({
  listeners: [listener("127.0.0.1", directPort, [httpChain("main", { statPrefix: "grpc", ...manager })])],
  clusters: [
    cluster("app", [`127.0.0.1:${echo.port}`], http2Options()),
    cluster("dead", ["127.0.0.1:1"], http2Options()),
  ],
  routes: [routes("main", list)],
});

beforeAll(async () => {
  echo = await startEcho();
  authority = await createAuthority({ commonName: "mesh", clock: realClock });
  direct = await start(configurationOf(toApp));
  await startTunnel();
});
afterAll(async () => {
  echo.stop();
  for (const proxy of proxies) await proxy.close();
});

describe.each([
  ["one proxy", directPort],
  ["a tunnel between two proxies", tunnelPort],
])("through %s", (_name, port) => {
  let client: EchoClient;
  beforeAll(() => {
    client = new EchoClient(port);
  });
  afterAll(() => client.close());

  test("a unary call comes back, with its trailers", async () => {
    const { value, trailers } = await client.unary("unary", Buffer.from("hello"));
    expect(String(value)).toBe("hello");
    expect(trailers.get("echo-size")).toEqual(["5"]);
  });
  test("many calls share one connection", async () => {
    const calls = Array.from({ length: 300 }, (_, i) => client.unary("unary", Buffer.from(`call ${i}`)));
    const answers = await Promise.all(calls);
    expect(answers.map(({ value }) => String(value))).toEqual(answers.map((_, i) => `call ${i}`));
  });
  test("a message of 10 MB goes both ways", async () => {
    const message = Buffer.alloc(10 * 1024 * 1024);
    for (let i = 0; i < message.length; i += 997) message[i] = i % 251;
    const { value } = await client.unary("unary", message);
    expect(value.equals(message)).toBe(true);
  }, 20_000);
  test("a client's stream is collected", async () => {
    const messages = Array.from({ length: 200 }, (_, i) => Buffer.alloc(i * 10));
    expect(await client.collect(messages)).toBe(String(199 * 200 * 5));
  });
  test("a server's stream arrives whole and in order", async () => {
    let next = 0;
    for await (const message of client.repeat(200, 20_000)) {
      expect(message.length).toBe(20_000);
      expect(message[0]).toBe(next++ % 256);
    }
    expect(next).toBe(200);
  });
  test("both sides talk at once: every message is answered before the next is said", async () => {
    const call = client.chat();
    for (let i = 0; i < 50; i++) {
      const answer = new Promise<Buffer>((resolve) => call.once("data", resolve));
      call.write(Buffer.from(`turn ${i}`));
      expect(String(await answer)).toBe(`turn ${i}`);
    }
    const ended = new Promise((resolve) => call.once("end", resolve));
    call.end();
    await ended;
  });
  test("an error of the server keeps its status and message", async () => {
    const error = await client.unary("fail", Buffer.from("x")).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: status.FAILED_PRECONDITION, details: "50% of ünusual text" });
  });
  test("a deadline ends a call that hangs, and the server hears of it", async () => {
    const before = echo.cancelled;
    const error = await client.unary("hang", Buffer.from("x"), 150).catch((thrown) => thrown);
    expect(error.code).toBe(status.DEADLINE_EXCEEDED);
    await until("the server knows", () => echo.cancelled > before);
  });
  test("a cancelled call is cancelled at the server", async () => {
    const before = echo.cancelled;
    expect((await client.hang(100)).code).toBe(status.CANCELLED);
    await until("the server knows", () => echo.cancelled > before);
  });
});

describe("what the proxy says itself", () => {
  let client: EchoClient;
  beforeAll(() => {
    client = new EchoClient(directPort);
  });
  afterAll(() => client.close());
  const failure = (): Promise<{ code: number; details: string }> =>
    client.unary("unary", Buffer.from("x")).then(
      () => ({ code: 0, details: "" }),
      (error) => error,
    );

  test("an endpoint that refuses connections is UNAVAILABLE", async () => {
    await direct.configure(configurationOf([{ match: prefix("/"), action: toCluster("dead") }]));
    const error = await failure();
    expect(error.code).toBe(status.UNAVAILABLE);
    expect(error.details).toContain("remote connection failure");
  });
  test("no route is UNIMPLEMENTED", async () => {
    await direct.configure(configurationOf([{ match: prefix("/other"), action: toCluster("app") }]));
    expect((await failure()).code).toBe(status.UNIMPLEMENTED);
  });
  test("a route's timeout is UNAVAILABLE, as in Envoy", async () => {
    const value = { clusterSpecifier: { case: "cluster", value: "app" }, timeout: milliseconds(100) } as const;
    await direct.configure(configurationOf([{ match: prefix("/"), action: { case: "route", value } }]));
    const error = await client.unary("hang", Buffer.from("x")).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: status.UNAVAILABLE, details: "upstream request timeout" });
  });
  test("an injected gRPC status is what the client gets", async () => {
    const fault = pack(HTTPFaultSchema, {
      abort: { errorType: { case: "grpcStatus", value: 8 }, percentage: { numerator: 100 } },
    });
    const httpFilters = [
      { name: "envoy.filters.http.fault", configType: { case: "typedConfig", value: fault } },
    ] as const;
    await direct.configure(configurationOf(toApp, { httpFilters: [...httpFilters] }));
    expect(await failure()).toMatchObject({ code: status.RESOURCE_EXHAUSTED, details: "fault filter abort" });
  });
  test("an unavailable server is asked again where the route says so", async () => {
    const retryPolicy = { retryOn: "unavailable", numRetries: 3 };
    const value = { clusterSpecifier: { case: "cluster", value: "app" }, retryPolicy } as const;
    await direct.configure(configurationOf([{ match: prefix("/"), action: { case: "route", value } }]));
    echo.failures = { code: status.UNAVAILABLE, count: 2 };
    const before = echo.calls;
    expect((await failure()).code).toBe(status.OK);
    expect(echo.calls - before).toBe(3);
    echo.failures = { code: status.UNKNOWN, count: 1 };
    expect((await failure()).code).toBe(status.UNKNOWN);
  });
  /** Of requests and answers with status 0. */
  const messages = async (): Promise<number[]> => {
    const lines = (await direct.metrics()).split("\n").filter((line) => line.includes('grpc_response_status="0"'));
    return ["request", "response"].map((side) =>
      Number(
        lines
          .find((line) => line.startsWith(`istio_${side}_messages_total`))
          ?.split(" ")
          .at(-1),
      ),
    );
  };
  test("metrics name gRPC, its status and its messages", async () => {
    await direct.configure(configurationOf(toApp));
    await client.unary("unary", Buffer.from("x"));
    await client.unary("fail", Buffer.from("x")).catch(() => {});
    const lines = (await direct.metrics()).split("\n").filter((line) => line.startsWith("istio_requests_total"));
    const with_ = (...labels: string[]) => lines.filter((line) => labels.every((label) => line.includes(label)));
    expect(with_('request_protocol="grpc"', 'grpc_response_status="0"', 'response_code="200"')).toHaveLength(1);
    expect(with_('request_protocol="grpc"', 'grpc_response_status="9"', 'response_code="200"')).toHaveLength(1);
    expect(with_('request_protocol="grpc"', 'grpc_response_status="14"', 'response_flags="UT"')).toHaveLength(1);
    expect(with_('request_protocol="http"')).toHaveLength(0);
    const before = await messages();
    for await (const _message of client.repeat(40, 100));
    await client.collect([Buffer.from("a"), Buffer.from("b"), Buffer.from("")]);
    expect(await messages()).toEqual([before[0]! + 1 + 3, before[1]! + 40 + 1]);
  });
});
