// Istio's standard metrics as series of one edge.
import { expect, test } from "bun:test";
import { Metrics } from "../kernel/metrics.ts";
import { parseWorkload, unknownWorkload } from "./cluster.ts";
import { EdgeStats } from "./telemetry.ts";

const edgeOf = (metrics: Metrics): EdgeStats =>
  new EdgeStats(metrics, {
    reporter: "source",
    source: parseWorkload("web;video;web;v1;Kubernetes"),
    destination: unknownWorkload,
    service: { host: "db.video.svc.cluster.local", name: "db", namespace: "video" },
    securityPolicy: "unknown",
  });

test("requests are counted by code and flags, with durations and sizes", () => {
  const metrics = new Metrics();
  const edge = edgeOf(metrics);
  edge.request(200, "-", 3, 100, 2000);
  edge.request(200, "-", 7, 100, 2000);
  edge.request(503, "UF", 1, 100, 0);
  const text = metrics.expose();
  expect(text).toMatch(
    /istio_requests_total\{reporter="source",source_workload="web".*response_code="200".*response_flags="-"\} 2\n/,
  );
  expect(text).toMatch(/istio_requests_total\{.*response_code="503".*response_flags="UF"\} 1\n/);
  expect(text).toMatch(/istio_request_duration_milliseconds_sum\{.*response_code="200".*\} 10\n/);
  expect(text).toMatch(/istio_request_duration_milliseconds_bucket\{.*response_code="200".*le="5"\} 1\n/);
  expect(text).toMatch(/istio_response_bytes_count\{.*response_code="200".*\} 2\n/);
});

test("a flood of different flags ends in one shared series, and nothing is lost", () => {
  const metrics = new Metrics();
  const edge = edgeOf(metrics);
  for (let i = 0; i < 500; i++) edge.request(503, `F${i}`, 1, 1, 1);
  const counts = [...metrics.expose().matchAll(/^istio_requests_total\{.*\} (\d+)$/gm)].map(([, count]) =>
    Number(count),
  );
  expect(counts.length).toBe(65);
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(500);
});

test("an edge's TCP series are created once", () => {
  const metrics = new Metrics();
  const edge = edgeOf(metrics);
  edge.tcp().opened.value++;
  edge.tcp().opened.value++;
  expect(metrics.expose()).toMatch(/istio_tcp_connections_opened_total\{.*request_protocol="tcp".*\} 2\n/);
});
