// Tracing over two proxies with collectors that decode what arrives: OTLP over HTTP and gRPC, and Zipkin.
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import http2, { type ServerHttp2Stream } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { OpenTelemetryConfigSchema } from "#gen/xds/envoy/config/trace/v3/opentelemetry_pb.js";
import {
  ZipkinConfig_CollectorEndpointVersion as Version,
  ZipkinConfigSchema,
} from "#gen/xds/envoy/config/trace/v3/zipkin_pb.js";
import { FileAccessLogSchema } from "#gen/xds/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { createAuthority } from "../../identity/authority.ts";
import { realClock, VirtualClock } from "../../kernel/clock.ts";
import { Metrics } from "../../kernel/metrics.ts";
import {
  assignment,
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  keyPair,
  listener,
  pack,
  prefix,
  routes,
  startFixture,
  toCluster,
  trusted,
  until,
  workload,
} from "../fixture.ts";
import { SpanExporter } from "./span_exporter.ts";
import type { FinishedSpan } from "./tracing.ts";

/** Any protobuf message as field number → values; nested messages stay bytes. */
function fieldsOf(bytes: Uint8Array): Map<number, (Uint8Array | number | bigint)[]> {
  const reader = new BinaryReader(bytes);
  const fields = new Map<number, (Uint8Array | number | bigint)[]>();
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    const value =
      type === WireType.LengthDelimited
        ? reader.bytes()
        : type === WireType.Bit64
          ? BigInt(reader.fixed64())
          : type === WireType.Varint
            ? reader.int32()
            : reader.fixed32();
    fields.set(number, [...(fields.get(number) ?? []), value]);
  }
  return fields;
}
type Fields = ReturnType<typeof fieldsOf>;
const nested = (fields: Fields, number: number): Fields[] =>
  (fields.get(number) ?? []).map((bytes) => fieldsOf(bytes as Uint8Array));
const textAt = (fields: Fields | undefined, number: number): string =>
  Buffer.from((fields?.get(number)?.[0] as Uint8Array | undefined) ?? []).toString();
const hexAt = (fields: Fields, number: number): string =>
  Buffer.from((fields.get(number)?.[0] as Uint8Array | undefined) ?? []).toString("hex");
const pairs = (list: Fields[]): Record<string, string> =>
  Object.fromEntries(list.map((pair) => [textAt(pair, 1), textAt(nested(pair, 2)[0], 1)]));

interface ReceivedSpan {
  trace: string;
  id: string;
  parent: string;
  name: string;
  kind: number;
  tags: Record<string, string>;
  service: string;
  lastsMs: number;
  status: number;
}
/** opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest */
function decode(request: Uint8Array): ReceivedSpan[] {
  return nested(fieldsOf(request), 1).flatMap((resourceSpans) => {
    const resource = pairs(nested(nested(resourceSpans, 1)[0]!, 1));
    return nested(resourceSpans, 2).flatMap((scope) =>
      nested(scope, 2).map((span) => ({
        trace: hexAt(span, 1),
        id: hexAt(span, 2),
        parent: hexAt(span, 4),
        name: textAt(span, 5),
        kind: span.get(6)![0] as number,
        tags: pairs(nested(span, 9)),
        service: resource["service.name"]!,
        lastsMs: Number((span.get(8)![0] as bigint) - (span.get(7)![0] as bigint)) / 1e6,
        status: (nested(span, 15)[0]?.get(3)?.[0] as number) ?? 0,
      })),
    );
  });
}

const received: ReceivedSpan[] = [];
const zipkinSpans: Record<string, unknown>[] = [];
const collector = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  async fetch(request) {
    if (new URL(request.url).pathname === "/v1/traces") {
      if (request.headers.get("content-type") !== "application/x-protobuf" || request.headers.get("x-key") !== "secret")
        return new Response("", { status: 400 });
      received.push(...decode(await request.bytes()));
    } else zipkinSpans.push(...((await request.json()) as Record<string, unknown>[]));
    return new Response("", { status: 202 });
  },
});
const grpcSpans: ReceivedSpan[] = [];
const grpcCollector = http2.createServer();
grpcCollector.on("stream", (stream: ServerHttp2Stream, headers) => {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  stream.on("end", () => {
    if (headers[":path"] === "/opentelemetry.proto.collector.trace.v1.TraceService/Export")
      grpcSpans.push(...decode(Buffer.concat(chunks).subarray(5)));
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(Buffer.alloc(5));
  });
});
await new Promise<void>((resolve) => grpcCollector.listen(0, "127.0.0.1", () => resolve()));
const grpcPort = (grpcCollector.address() as { port: number }).port;

let lastFields: Record<string, string> = {};
const backend = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request) {
    lastFields = request.headers.toJSON();
    return new Response("ok", { status: request.url.endsWith("/bad") ? 500 : 200, headers: { "x-kind": "test" } });
  },
});
const folder = mkdtempSync(join(tmpdir(), "meshbed-tracing-"));
const proxies: FixtureProxy[] = [];
afterAll(async () => {
  for (const proxy of proxies) await proxy.close();
  await backend.stop(true);
  await collector.stop(true);
  grpcCollector.close();
  rmSync(folder, { recursive: true });
});

const overHttp = {
  name: "otel",
  configType: {
    case: "typedConfig",
    value: pack(OpenTelemetryConfigSchema, {
      serviceName: "shop",
      httpService: {
        httpUri: { uri: "http://otel.test:4318/v1/traces", httpUpstreamType: { case: "cluster", value: "collector" } },
        requestHeadersToAdd: [{ header: { key: "x-key", value: "secret" } }],
      },
    }),
  },
} as const;
const overGrpc = {
  name: "otel",
  configType: {
    case: "typedConfig",
    value: pack(OpenTelemetryConfigSchema, {
      grpcService: { targetSpecifier: { case: "envoyGrpc", value: { clusterName: "grpc" } } },
    }),
  },
} as const;
const zipkin = {
  name: "zipkin",
  configType: {
    case: "typedConfig",
    value: pack(ZipkinConfigSchema, {
      collectorCluster: "collector",
      collectorEndpoint: "/api/v2/spans",
      collectorEndpointVersion: Version.HTTP_JSON,
    }),
  },
} as const;

type TracingInit = NonNullable<NonNullable<Parameters<typeof httpChain>[1]>["tracing"]>;

/** client → outbound (CLIENT span) → inbound (SERVER span) → backend. */
async function startPair(tracing: TracingInit): Promise<number> {
  const [outer, inner] = [freePort(), freePort()];
  const collectors = [
    cluster("collector", [`127.0.0.1:${collector.port}`]),
    cluster("grpc", [`127.0.0.1:${grpcPort}`]),
  ];
  proxies.push(
    await startFixture({
      listeners: [
        listener("127.0.0.1", inner, [httpChain("main", { tracing })], {
          inbound: true,
          name: "in",
          workload: "app;shop;app;v1;Kubernetes",
        }),
      ],
      clusters: [cluster("app", [`127.0.0.1:${backend.port}`]), ...collectors],
      routes: [routes("main", [{ match: prefix("/"), action: toCluster("app") }])],
    }),
    await startFixture({
      listeners: [
        listener("127.0.0.1", outer, [httpChain("main", { tracing })], { workload: "web;shop;web;v1;Kubernetes" }),
      ],
      clusters: [cluster("next", [`127.0.0.1:${inner}`]), ...collectors],
      routes: [
        routes("main", [
          { name: "app", match: prefix("/"), action: toCluster("next"), decorator: { operation: "app.shop:80/*" } },
        ]),
      ],
    }),
  );
  return outer;
}
const get = (port: number, headers: Record<string, string> = {}, path = "/list?page=2") =>
  fetch(`http://127.0.0.1:${port}${path}`, { headers });

describe("OTLP over HTTP", () => {
  test("two proxies make a parent and its child, the application gets the child's context", async () => {
    const port = await startPair({
      provider: overHttp,
      customTags: [
        { tag: "team", type: { case: "literal", value: { value: "blue" } } },
        { tag: "tenant", type: { case: "requestHeader", value: { name: "X-Tenant", defaultValue: "none" } } },
      ],
      maxPathTagLength: 5,
    });
    await get(port, { "user-agent": "test/1" }, "/bad");
    const fields = lastFields;
    await until("two spans", () => received.length >= 2);
    const client = received.find(({ kind }) => kind === 3)!;
    const server = received.find(({ kind }) => kind === 2)!;
    expect(client).toMatchObject({ parent: "", name: "app.shop:80/*", service: "shop", status: 2 });
    expect(server).toMatchObject({ trace: client.trace, parent: client.id, name: "app.shop:80/*" });
    expect(fields["traceparent"]).toBe(`00-${server.trace}-${server.id}-01`);
    expect(fields).not.toHaveProperty("x-envoy-decorator-operation");
    expect(fields).not.toHaveProperty("x-b3-traceid");
    expect(server.tags).toMatchObject({
      component: "proxy",
      "http.method": "GET",
      "http.status_code": "500",
      "http.url": `http://127.0.0.1:${port}/bad`,
      "guid:x-request-id": fields["x-request-id"]!,
      upstream_cluster: "app",
      user_agent: "test/1",
      response_flags: "-",
      error: "true",
      team: "blue",
      tenant: "none",
      "istio.canonical_service": "app",
      "istio.namespace": "shop",
    });
    expect(client.lastsMs).toBeGreaterThanOrEqual(server.lastsMs);
  });

  test("a caller's trace is continued, and its decision not to sample is followed and passed on", async () => {
    const port = await startPair({ provider: overHttp });
    const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    received.length = 0;
    await get(port, { traceparent: `00-${trace}-00f067aa0ba902b7-00`, tracestate: "a=1" });
    expect(lastFields["traceparent"]).toMatch(new RegExp(`^00-${trace}-[0-9a-f]{16}-00$`));
    expect(lastFields["traceparent"]).not.toContain("00f067aa0ba902b7");
    expect(lastFields["tracestate"]).toBe("a=1");
    await get(port, { traceparent: `00-${trace}-00f067aa0ba902b7-01`, b3: "80f198ee56343ba8-05e3ac9a4f6e3b90-0" });
    expect(lastFields["b3"]).toMatch(new RegExp(`^${trace}-[0-9a-f]{16}-1`));
    await until("spans", () => received.length >= 2);
    expect(received.every((span) => span.trace === trace)).toBe(true);
    expect(received).toHaveLength(2);
    expect(received.find(({ kind }) => kind === 3)!.parent).toBe("00f067aa0ba902b7");
  });

  test("the share that is sampled is drawn once, at the first proxy", async () => {
    const port = await startPair({ provider: overHttp, randomSampling: { value: 40 } });
    received.length = 0;
    const flags: string[] = [];
    for (let i = 0; i < 100; i++) {
      await get(port);
      flags.push(lastFields["traceparent"]!.slice(-2));
    }
    const sampled = flags.filter((flag) => flag === "01").length;
    expect(sampled).toBeGreaterThan(20);
    expect(sampled).toBeLessThan(60);
    await until("both spans of each", () => received.length >= sampled * 2);
    expect(received).toHaveLength(sampled * 2);
  });
});

test("OTLP over gRPC arrives through the cluster", async () => {
  const port = await startPair({ provider: overGrpc });
  await get(port);
  await until("two spans", () => grpcSpans.length >= 2);
  const [one, two] = grpcSpans;
  expect(one!.trace).toBe(two!.trace);
  expect(grpcSpans.map(({ service }) => service).sort()).toEqual(["app.shop", "web.shop"]);
});

test("Zipkin: B3 fields, and client and server share a span", async () => {
  const port = await startPair({ provider: zipkin });
  await get(port, { "x-b3-traceid": "80f198ee56343ba8", "x-b3-spanid": "05e3ac9a4f6e3b90", "x-b3-sampled": "1" });
  const fields = lastFields;
  await until("two spans", () => zipkinSpans.length >= 2);
  const client = zipkinSpans.find(({ kind }) => kind === "CLIENT")!;
  const server = zipkinSpans.find(({ kind }) => kind === "SERVER")!;
  expect(client).toMatchObject({
    traceId: "80f198ee56343ba8",
    parentId: "05e3ac9a4f6e3b90",
    localEndpoint: { serviceName: "web.shop" },
  });
  expect(server).toMatchObject({
    traceId: "80f198ee56343ba8",
    id: client["id"],
    parentId: "05e3ac9a4f6e3b90",
    shared: true,
  });
  expect(fields).toMatchObject({
    "x-b3-traceid": "80f198ee56343ba8",
    "x-b3-spanid": client["id"],
    "x-b3-sampled": "1",
  });
  expect(fields).not.toHaveProperty("traceparent");
  expect((server["tags"] as Record<string, string>)["http.status_code"]).toBe("200");
});

test("two workloads in one proxy make a parent and its child as well", async () => {
  const port = freePort();
  const address = `127.0.0.1:${backend.port}`;
  const [web, app] = ["web", "app"].map((name) => `sidecar~127.0.0.1~${name}.shop~shop.svc.cluster.local`) as [
    string,
    string,
  ];
  const authority = await createAuthority({ commonName: "mesh", clock: realClock });
  const identity = (name: string): string => `spiffe://cluster.local/ns/shop/sa/${name}`;
  const secretsOf = async (name: string) => [
    keyPair(
      "default",
      await authority.issue({ uris: [identity(name)], lifetimeMs: 60_000, usages: ["server", "client"] }),
    ),
    trusted("ROOTCA", authority.certPem),
  ];
  const tunnel = { address: "127.0.0.2:1", identity: identity("app") };
  const tracing = { provider: overHttp };
  const path = join(folder, "log");
  const logs = ["client", "server"].map((side) => ({
    name: side,
    configType: {
      case: "typedConfig" as const,
      value: pack(FileAccessLogSchema, {
        path,
        accessLogFormat: {
          case: "format",
          value: `${side} %UPSTREAM_CLUSTER% %DOWNSTREAM_LOCAL_PORT% %RESP(X-KIND)% %TRACE_ID%\n`,
        },
      }),
    },
  }));
  const collectors = [cluster("collector", [`127.0.0.1:${collector.port}`])];
  const inbound = { name: "virtualInbound", inbound: true, bindToPort: false, workload: "app;shop;app;v1;Kubernetes" };
  proxies.push(
    await startFixture(
      { workloads: [workload("shop/web", "127.0.0.1", web), workload("shop/app", "127.0.0.2", app)] },
      { role: "node", nodeId: "node~127.0.0.1~n~cluster.local" },
      {
        [web]: {
          listeners: [
            listener("127.0.0.1", port, [httpChain("main", { tracing, accessLog: [logs[0]!] })], {
              workload: "web;shop;web;v1;Kubernetes",
            }),
          ],
          clusters: [cluster("next", [], { loadAssignment: assignment("next", [address], { tunnel }) }), ...collectors],
          secrets: await secretsOf("web"),
          routes: [routes("main", [{ match: prefix("/"), action: toCluster("next") }])],
        },
        [app]: {
          listeners: [
            listener(
              "127.0.0.2",
              15006,
              [
                httpChain(
                  "in",
                  { tracing, accessLog: [logs[1]!] },
                  { filterChainMatch: { destinationPort: backend.port! } },
                ),
              ],
              inbound,
            ),
          ],
          clusters: [cluster("inbound", [address]), ...collectors],
          routes: [routes("in", [{ match: prefix("/"), action: toCluster("inbound") }])],
          secrets: await secretsOf("app"),
        },
      },
    ),
  );
  received.length = 0;
  await get(port);
  await until("two spans", () => received.length >= 2);
  const client = received.find(({ kind }) => kind === 3)!;
  const server = received.find(({ kind }) => kind === 2)!;
  expect(server).toMatchObject({ trace: client.trace, parent: client.id });
  expect(lastFields["traceparent"]).toBe(`00-${server.trace}-${server.id}-01`);
  expect([client, server].map(({ tags }) => tags["istio.canonical_service"])).toEqual(["web", "app"]);
  await until("two lines", () => existsSync(path) && readFileSync(path, "utf8").split("\n").length > 2);
  expect(readFileSync(path, "utf8").split("\n").slice(0, 2)).toEqual([
    `client next ${port} test ${client.trace}`,
    `server inbound ${backend.port} test ${client.trace}`,
  ]);
});

describe("the exporter", () => {
  const span = { name: "s" } as unknown as FinishedSpan;
  const drain = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await Promise.resolve();
  };
  const start = (send: (spans: readonly FinishedSpan[]) => Promise<void>) => {
    const clock = new VirtualClock();
    const metrics = new Metrics();
    const log = { debug() {}, info() {}, warn() {}, error() {}, with: () => log };
    const runtime = { clock, metrics, log } as unknown as ConstructorParameters<typeof SpanExporter>[2];
    return { clock, metrics, exporter: new SpanExporter(send, "otel", runtime) };
  };
  const counted = (metrics: Metrics, what: string): number =>
    Number(new RegExp(`meshbed_spans_${what}_total\\{collector="otel"\\} (\\d+)`).exec(metrics.expose())![1]);

  test("a batch that is not taken is tried once more, then counted as dropped", async () => {
    let calls = 0;
    const { clock, metrics, exporter } = start(async () => {
      calls++;
      throw new Error("no");
    });
    exporter.add(span);
    clock.advance(1_000);
    await drain();
    expect(calls).toBe(1);
    clock.advance(1_000);
    await drain();
    expect([calls, counted(metrics, "dropped"), counted(metrics, "exported")]).toEqual([2, 1, 0]);
  });

  test("a stalled collector costs a bounded queue", async () => {
    const batches: number[] = [];
    const { metrics, exporter } = start((spans) => {
      batches.push(spans.length);
      return new Promise(() => {});
    });
    for (let i = 0; i < 5_000; i++) exporter.add(span);
    expect(batches).toEqual([256]);
    expect(counted(metrics, "dropped")).toBe(5_000 - 256 - 2_048);
  });
});
