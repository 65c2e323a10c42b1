// What examples/istio/telemetry.yaml asks for: metrics of both sides with Istio's labels, traces with sampling, logs by format and filter.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { came, type EchoBed, startEcho, tally } from "./echo.ts";
import { until } from "./testbed.ts";

let bed: EchoBed;
beforeAll(async () => {
  bed = await startEcho();
  await bed.example("telemetry.yaml");
  await bed.kubectl("rollout", "status", "deployment/collector", "-n", "echo", "--timeout=20s");
}, 90_000);
afterAll(() => bed?.down());

interface Span {
  traceId: string;
  id: string;
  parentId?: string;
  kind: string;
  name: string;
  localEndpoint: { serviceName: string };
  tags: Record<string, string>;
}

const collected = async (traceId: string): Promise<Span[]> =>
  JSON.parse((await bed.get("collector.test", `/api/v2/trace/${traceId}`)).body) as Span[];

let traces = 0;
const newTraceId = (): string => `463ac35c9f6413ad48485a39${(0x53bb6124 + traces++).toString(16)}`;
const parent = "a2fb4a1d1a96d312";
const b3 = (traceId: string, sampled: "0" | "1") => ({
  "x-b3-traceid": traceId,
  "x-b3-spanid": parent,
  "x-b3-sampled": sampled,
});

test("a trace holds a span of every proxy it went through, each the child of the one before", async () => {
  const traceId = newTraceId();
  const answer = await bed.get("v1.test", "/", { headers: { ...b3(traceId, "1"), "x-user": "jane" } });
  expect(answer.status).toBe(200);
  const spans = await until("both spans were sent", 5_000, async () => {
    const found = await collected(traceId);
    return found.length >= 2 && found;
  });
  expect(spans).toHaveLength(2);
  const gateway = spans.find(({ kind }) => kind === "CLIENT")!;
  const server = spans.find(({ kind }) => kind === "SERVER")!;
  expect(gateway.localEndpoint.serviceName).toBe("istio-ingressgateway.istio-system");
  expect(server.localEndpoint.serviceName).toBe("server.echo");
  expect([gateway.parentId, server.parentId]).toEqual([parent, gateway.id]);
  expect(gateway.tags).toMatchObject({ stage: "test", user: "jane", "http.status_code": "200" });
  // The application is told the context it has to pass on.
  const { headers } = came(answer);
  expect([headers["x-b3-traceid"], headers["x-b3-sampled"]]).toEqual([traceId, "1"]);
  expect(headers["x-b3-spanid"]).toBe(server.id);
});

test("who decided not to sample is followed", async () => {
  const traceId = newTraceId();
  const answer = await bed.get("v1.test", "/", { headers: b3(traceId, "0") });
  expect(came(answer).headers["x-b3-sampled"]).toBe("0");
  const sampled = newTraceId();
  await bed.get("v1.test", "/", { headers: b3(sampled, "1") });
  await until("a later trace has come", 5_000, async () => (await collected(sampled)).length === 2);
  expect(await collected(traceId)).toEqual([]);
});

test("disableSpanReporting: the workload sends no spans, its caller does", async () => {
  const traceId = newTraceId();
  await bed.get("v2.test", "/", { headers: b3(traceId, "1") });
  const later = newTraceId();
  await bed.get("v1.test", "/", { headers: b3(later, "1") });
  await until("a later trace has come", 5_000, async () => (await collected(later)).length === 2);
  expect((await collected(traceId)).map(({ kind }) => kind)).toEqual(["CLIENT"]);
});

test("sampling: one request in five is traced, by W3C context, and exported to OpenTelemetry", async () => {
  const requests = 400;
  const answers = await bed.from("blue", { url: "http://server.echo:8080/", count: requests, workers: 8 });
  const flags = tally(answers, (answer) => came(answer).headers["traceparent"]?.slice(-2) ?? "none");
  console.log(`  20 % of ${requests} requests: ${JSON.stringify(flags)}`);
  expect(Object.keys(flags).sort()).toEqual(["00", "01"]);
  expect(Math.abs(flags["01"]! - requests / 5)).toBeLessThanOrEqual(4 * Math.sqrt(requests * 0.16));
  await until("spans were exported", 5_000, async () => Number((await bed.get("collector.test", "/exports")).body) > 0);
});

/** What the proxies have written to their standard output: the gateway is a pod, those of the nodes are processes. */
async function logged(): Promise<string[]> {
  const folder = join(bed.state, "logs");
  const ofNodes = readdirSync(folder, { recursive: true })
    .map(String)
    .filter((name) => name.endsWith(".log"))
    .map((name) => readFileSync(join(folder, name), "utf8"));
  const ofGateway = await bed.kubectl("logs", "-n", "istio-system", "deployment/istio-ingressgateway");
  return [...ofNodes, ofGateway].flatMap((text) => text.split("\n"));
}

test("access logs: the provider's format, and only what the filter lets through", async () => {
  await bed.get("v1.test", "/fine", { headers: { "x-user": "jane" } });
  await bed.get("v1.test", "/broken?status=500", { headers: { "x-user": "jane" } });
  await bed.get("nobody.test", "/lost", { headers: { "x-user": "jane" } });
  await bed.get("nobody.test", "/healthz");
  await bed.get("v2.test", "/structured");
  const wanted = [
    "short GET v1.test /broken?status=500 500 - jane",
    "short GET nobody.test /lost 404 NR jane",
    '{"what":"structured","code":200,"path":"/structured","side":"inbound"}',
  ];
  const lines = await until("all of it is logged", 5_000, async () => {
    const all = await logged();
    return wanted.every((line) => all.some((entry) => entry.includes(line))) && all;
  });
  const found = (text: string) => lines.filter((entry) => entry.includes(text)).length;
  expect(wanted.map(found)).toEqual([1, 1, 1]);
  expect(found("short GET v1.test /fine")).toBe(0);
  expect(found("short GET nobody.test /healthz")).toBe(0);
}, 10_000);

test("metrics: both sides count the same requests, each with Istio's labels", async () => {
  const requests = 9;
  const url = "http://server/?status=503";
  await bed.from("red", { url: "http://server/", count: requests });
  await bed.from("red", { url, count: 3 });
  const both = {
    ...{ source_workload: "client", source_workload_namespace: "echo", source_app: "client", source_version: "v1" },
    ...{ source_principal: "spiffe://cluster.local/ns/echo/sa/default", source_canonical_service: "client" },
    ...{ destination_service: "server.echo.svc.cluster.local", destination_service_name: "server" },
    ...{ destination_service_namespace: "echo", destination_app: "server", destination_workload_namespace: "echo" },
    ...{ destination_principal: "spiffe://cluster.local/ns/echo/sa/default", request_protocol: "http" },
  };
  const ofSource = { ...both, reporter: "source", connection_security_policy: "unknown", response_flags: "-" };
  expect(await bed.metric("red", "istio_requests_total", { ...ofSource, response_code: "200" })).toBe(requests);
  expect(await bed.metric("red", "istio_requests_total", { ...ofSource, response_code: "503" })).toBe(3);
  expect(await bed.metric("red", "istio_request_duration_milliseconds_count", ofSource)).toBe(requests + 3);
  expect(await bed.metric("red", "istio_request_bytes_count", ofSource)).toBe(requests + 3);
  expect(await bed.metric("red", "istio_response_bytes_sum", ofSource)).toBeGreaterThan(1_000);
  const ofDestination = { ...both, reporter: "destination", connection_security_policy: "mutual_tls" };
  let seen = 0;
  for (const node of ["worker1", "worker2", "worker3"])
    seen += await bed.metric(node, "istio_requests_total", { ...ofDestination, response_code: "200" });
  expect(seen).toBe(requests);
});

test("overrides: a metric is dropped, a label removed, another set, for one workload's inbound side only", async () => {
  const ofV2 = { reporter: "destination", destination_workload: "server-v2", source_workload: "istio-ingressgateway" };
  await bed.get("v2.test", "/");
  const sum = async (name: string, labels: Record<string, string>) => {
    let total = 0;
    for (const node of ["worker1", "worker2", "worker3"]) total += await bed.metric(node, name, labels);
    return total;
  };
  expect(await sum("istio_requests_total", { ...ofV2, team: "echo" })).toBeGreaterThan(0);
  expect(await sum("istio_requests_total", { ...ofV2, response_flags: "-" })).toBe(0);
  expect(await sum("istio_request_bytes_count", ofV2)).toBe(0);
  expect(await sum("istio_response_bytes_count", ofV2)).toBeGreaterThan(0);
  await bed.get("v1.test", "/");
  expect(await sum("istio_request_bytes_count", { ...ofV2, destination_workload: "server-v1" })).toBeGreaterThan(0);
});

test("connections are counted as such, with their bytes both ways", async () => {
  const [answer] = await bed.from("red", { url: "tcp://server:9000" });
  expect(answer!.body).toMatch(/^v[12] server-v[12]-\S+ heard hello/);
  const labels = { reporter: "source", source_workload: "client", destination_service_name: "server" };
  const opened = () => bed.metric("red", "istio_tcp_connections_opened_total", labels);
  await until("the connection is counted", 3_000, async () => (await opened()) === 1);
  const closed = () => bed.metric("red", "istio_tcp_connections_closed_total", labels);
  await until("its end is counted", 3_000, async () => (await closed()) === 1);
  expect(await bed.metric("red", "istio_tcp_received_bytes_total", labels)).toBe("hello\n".length);
  expect(await bed.metric("red", "istio_tcp_sent_bytes_total", labels)).toBe(answer!.body.length);
});
