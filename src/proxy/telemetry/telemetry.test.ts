// Istio's standard metrics as series of one edge: counting, bounds, expiry, and what the Telemetry API changes.
import { afterAll, describe, expect, test } from "bun:test";
import { create, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { TypedStructSchema } from "#gen/xds/udpa/type/v1/typed_struct_pb.js";
import { Metrics } from "../../kernel/metrics.ts";
import { parseWorkload, unknownWorkload } from "../clusters/cluster.ts";
import {
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  listener,
  prefix,
  routes,
  startFixture,
  toCluster,
} from "../fixture.ts";
import { compileTelemetry, standardTelemetry } from "./options.ts";
import { labelSetsMax, SeriesRegistry, seriesIdleMaxMs } from "./series.ts";
import { EdgeStats } from "./telemetry.ts";

const pluginConfig = (value: JsonObject): Any => {
  const struct = create(TypedStructSchema, { typeUrl: "type.googleapis.com/stats.PluginConfig", value });
  return create(AnySchema, {
    typeUrl: "type.googleapis.com/udpa.type.v1.TypedStruct",
    value: toBinary(TypedStructSchema, struct),
  });
};

function setUp(config?: JsonObject) {
  const metrics = new Metrics();
  const registry = new SeriesRegistry(metrics);
  const options = config ? compileTelemetry(pluginConfig(config), "listener l") : standardTelemetry;
  let unused = 0;
  const edgeOf = (workload = "web"): EdgeStats =>
    new EdgeStats(
      registry,
      {
        reporter: "source",
        source: parseWorkload(`${workload};video;web;v1;Kubernetes`),
        destination: unknownWorkload,
        service: { host: "db.video.svc.cluster.local", name: "db", namespace: "video" },
        securityPolicy: "unknown",
      },
      options,
      () => unused++,
    );
  const requests = (): number[] =>
    [...metrics.expose().matchAll(/^istio_requests_total\{.*\} (\d+)$/gm)].map(([, count]) => Number(count));
  return { metrics, registry, edgeOf, requests, unused: () => unused };
}

describe("an edge", () => {
  test("counts requests by code and flags, with durations and sizes, under Istio's labels", () => {
    const { metrics, edgeOf } = setUp();
    const edge = edgeOf();
    edge.request(200, "-", 3, 100, 2000, "");
    edge.request(200, "-", 7, 100, 2000, "");
    edge.request(503, "UF", 1, 100, 0, "");
    const text = metrics.expose();
    const labels = /istio_requests_total\{(.*response_code="200".*)\} 2\n/.exec(text)![1]!;
    expect([...labels.matchAll(/(\w+)="/g)].map(([, name]) => name!).sort()).toEqual(
      [
        ...["reporter", "request_protocol", "response_code", "grpc_response_status", "response_flags"],
        "connection_security_policy",
        ...["workload", "canonical_service", "canonical_revision", "workload_namespace", "principal", "app"].flatMap(
          (name) => [`source_${name}`, `destination_${name}`],
        ),
        ...["version", "cluster"].flatMap((name) => [`source_${name}`, `destination_${name}`]),
        ...["destination_service", "destination_service_name", "destination_service_namespace"],
      ].sort(),
    );
    expect(text).toMatch(/istio_requests_total\{.*response_code="503".*response_flags="UF"\} 1\n/);
    expect(text).toMatch(/istio_request_duration_milliseconds_sum\{.*response_code="200".*\} 10\n/);
    expect(text).toMatch(/istio_request_duration_milliseconds_bucket\{.*response_code="200".*le="5"\} 1\n/);
    expect(text).toMatch(/istio_response_bytes_count\{.*response_code="200".*\} 2\n/);
  });

  test("puts a flood of different flags into one shared series, and loses nothing", () => {
    const { edgeOf, requests } = setUp();
    const edge = edgeOf();
    for (let i = 0; i < 500; i++) edge.request(503, `F${i}`, 1, 1, 1, "");
    expect(requests().length).toBe(65);
    expect(requests().reduce((sum, count) => sum + count, 0)).toBe(500);
  });

  test("creates its TCP series once", () => {
    const { metrics, edgeOf } = setUp();
    const edge = edgeOf();
    edge.tcp().opened.value++;
    edge.tcp().opened.value++;
    expect(metrics.expose()).toMatch(/istio_tcp_connections_opened_total\{.*request_protocol="tcp".*\} 2\n/);
  });
});

describe("bounds", () => {
  test("past the greatest number of label sets everything counts under overflow", () => {
    const { edgeOf, requests, metrics } = setUp();
    const more = 10;
    for (let i = 0; i < labelSetsMax + more; i++) edgeOf(`w${i}`).request(200, "-", 1, 1, 1, "");
    expect(requests().length).toBe(labelSetsMax + 1);
    expect(metrics.expose()).toContain(`istio_requests_total{overflow="true"} ${more}\n`);
  });

  test("series nobody counts in are dropped, those of a living peer are not, even when two edges share them", () => {
    const { edgeOf, requests, registry, unused } = setUp();
    const [gone, here, same] = [edgeOf("gone"), edgeOf("here"), edgeOf("here")];
    gone.request(200, "-", 1, 1, 1, "");
    here.request(200, "-", 1, 1, 1, "");
    let nowMs = 100_000;
    registry.onTick(nowMs);
    for (; nowMs <= 100_000 + seriesIdleMaxMs; nowMs += 60_000) {
      same.request(200, "-", 1, 1, 1, "");
      registry.onTick(nowMs);
    }
    expect(requests()).toHaveLength(1);
    expect(unused()).toBe(1);
    const before = requests()[0]!;
    here.request(200, "-", 1, 1, 1, "");
    expect(requests()).toEqual([before + 1]);
    gone.request(200, "-", 1, 1, 1, "");
    expect(requests()).toEqual([before + 1, 1]);
  });

  test("an open connection keeps its series, however quiet", () => {
    const { edgeOf, metrics, registry } = setUp();
    const series = edgeOf().tcp();
    series.opened.value++;
    for (let nowMs = 100_000; nowMs < 100_000 + 3 * seriesIdleMaxMs; nowMs += 600_000) registry.onTick(nowMs);
    expect(metrics.expose()).toContain("istio_tcp_connections_opened_total");
    series.closed.value++;
    for (let nowMs = 1e9; nowMs < 1e9 + 3 * seriesIdleMaxMs; nowMs += 600_000) registry.onTick(nowMs);
    expect(metrics.expose()).not.toContain("istio_tcp");
  });

  test("hosts told apart for an unnamed destination are bounded", () => {
    const { edgeOf, requests } = setUp({});
    const edge = edgeOf();
    for (let i = 0; i < 150; i++) edge.ofHost(`h${i}.test`).request(200, "-", 1, 1, 1, "");
    expect(requests()).toHaveLength(101);
    expect(Math.max(...requests())).toBe(50);
  });
});

describe("the istio.stats filter", () => {
  test("drops metrics, removes labels and sets them to a text", () => {
    const { edgeOf, metrics } = setUp({
      metrics: [
        { name: "request_bytes", drop: true },
        { name: "requests_total", tags_to_remove: ["source_principal"], dimensions: { team: "'blue'" } },
        { dimensions: { mesh: '"one"' } },
      ],
    });
    edgeOf().request(200, "-", 1, 1, 1, "");
    const text = metrics.expose();
    expect(text).not.toContain("istio_request_bytes");
    expect(text).toMatch(/istio_requests_total\{.*team="blue".*mesh="one"/);
    expect(text).not.toMatch(/istio_requests_total\{.*source_principal/);
    expect(text).toMatch(/istio_response_bytes_count\{.*source_principal.*mesh="one"/);
  });

  test("keeps exemplars of traced requests only when asked, and shows them in OpenMetrics only", () => {
    const { edgeOf, metrics } = setUp({ exemplars: true });
    edgeOf().request(200, "-", 3, 100, 2000, "4bf92f3577b34da6a3ce929d0e0e4736");
    expect(metrics.expose()).not.toContain("trace_id");
    const open = metrics.expose("openmetrics");
    expect(open).toMatch(/le="5"\} 1 # \{trace_id="4bf92f3577b34da6a3ce929d0e0e4736"\} 3\n/);
    expect(open).toMatch(/# TYPE istio_requests counter\n/);
    expect(open.endsWith("# EOF\n")).toBe(true);
    const standard = setUp();
    standard.edgeOf().request(200, "-", 3, 100, 2000, "4bf92f3577b34da6a3ce929d0e0e4736");
    expect(standard.metrics.expose("openmetrics")).not.toContain("trace_id");
  });

  test("is refused with its reason when it asks for what is not supported", () => {
    const bad = (config: JsonObject) => () => compileTelemetry(pluginConfig(config), "listener l");
    expect(bad({ metrics: [{ name: "nope" }] })).toThrow(/listener l, filter istio\.stats: there is no metric nope/);
    expect(bad({ metrics: [{ dimensions: { a: "request.host" } }] })).toThrow(/dimension a: only a quoted text/);
  });

  test("equal configurations are one, so that series need not be looked up again", () => {
    const config = { metrics: [{ name: "request_bytes", drop: true }] };
    expect(compileTelemetry(pluginConfig(config), "a")).toBe(compileTelemetry(pluginConfig(config), "b"));
  });
});

describe("through a proxy", () => {
  const backend = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("ok") });
  const proxies: FixtureProxy[] = [];
  afterAll(async () => {
    for (const proxy of proxies) await proxy.close();
    await backend.stop(true);
  });
  async function run(config: JsonObject): Promise<string> {
    const port = freePort();
    const stats = { name: "istio.stats", configType: { case: "typedConfig", value: pluginConfig(config) } } as const;
    const proxy = await startFixture({
      listeners: [listener("127.0.0.1", port, [httpChain("main", { httpFilters: [stats] })])],
      clusters: [
        cluster("app", [`127.0.0.1:${backend.port}`]),
        cluster("bare", [`127.0.0.1:${backend.port}`], { metadata: undefined as never }),
      ],
      routes: [
        routes("main", [
          { match: prefix("/bare"), action: toCluster("bare") },
          { match: prefix("/"), action: toCluster("app") },
        ]),
      ],
    });
    proxies.push(proxy);
    await fetch(`http://127.0.0.1:${port}/`);
    await fetch(`http://127.0.0.1:${port}/bare`, { headers: { host: "shop.test" } });
    return proxy.metrics();
  }

  test("the metrics page speaks OpenMetrics to those who accept it", async () => {
    await run({});
    const url = `http://127.0.0.1:${proxies.at(-1)!.running.adminPort}/metrics`;
    const open = await fetch(url, {
      headers: { accept: "application/openmetrics-text;version=1.0.0,text/plain;q=0.5" },
    });
    expect(open.headers.get("content-type")).toContain("application/openmetrics-text");
    expect(await open.text()).toMatch(/# TYPE istio_requests counter\n[\s\S]*# EOF\n$/);
    expect((await fetch(url)).headers.get("content-type")).toContain("text/plain");
  });

  test("with every metric dropped nothing is measured", async () => {
    expect(await run({ metrics: [{ drop: true }] })).not.toContain("istio_");
  });

  test("an unnamed destination is called by the Host field, unless that is disabled", async () => {
    expect(await run({})).toMatch(
      /istio_requests_total\{.*destination_service="shop.test".*destination_service_name="shop.test"/,
    );
    const without = await run({ disable_host_header_fallback: true });
    expect(without).not.toContain("shop.test");
    expect(without).toMatch(/destination_service="unknown"/);
  });
});
