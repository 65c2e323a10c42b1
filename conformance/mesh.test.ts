// Routing through the mesh as a user sees it: weights, headers, live changes, telemetry, HTTPS.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { Load, root, startTestbed, type Testbed, until } from "./testbed.ts";

let testbed: Testbed;
beforeAll(async () => {
  testbed = await startTestbed();
  await testbed.kubectl("apply", "-f", join(root, "testbed/canary/web-v2.yaml"));
  await testbed.kubectl("rollout", "status", "deployment/web-v2", "-n", "video", "--timeout=20s");
}, 90_000);
afterAll(() => testbed?.down());

const routes = (http: unknown[]) =>
  testbed.apply(
    JSON.stringify({
      apiVersion: "networking.istio.io/v1",
      kind: "VirtualService",
      metadata: { name: "video", namespace: "video" },
      spec: { hosts: ["*"], gateways: ["video-gateway"], http },
    }),
  );
const to = (subset: string, weight?: number) => ({
  destination: { host: "web", subset },
  ...(weight !== undefined && { weight }),
});
const version = async (headers?: Record<string, string>): Promise<string | null> => {
  const response = await fetch(`${testbed.url}/healthz`, headers ? { headers } : {});
  await response.arrayBuffer();
  return response.status === 200 ? response.headers.get("x-app-version") : `status ${response.status}`;
};

async function distribution(requests: number): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  let sent = 0;
  const worker = async () => {
    while (sent < requests) {
      sent++;
      const seen = String(await version());
      counts[seen] = (counts[seen] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: 16 }, worker));
  return counts;
}

test("a 95/5 split of 5,000 requests is 5 % ± 1 point, and nothing fails", async () => {
  await routes([{ route: [to("v1", 95), to("v2", 5)] }]);
  await until("v2 is routed", 5_000, async () => (await distribution(200))["v2"]);
  const counts = await distribution(5_000);
  console.log(`  95/5 over 5,000 requests: ${JSON.stringify(counts)}`);
  expect(Object.keys(counts).sort()).toEqual(["v1", "v2"]);
  const share = counts["v2"]! / 5_000;
  expect(share).toBeGreaterThanOrEqual(0.04);
  expect(share).toBeLessThanOrEqual(0.06);
}, 60_000);

test("a header decides the version", async () => {
  await routes([{ match: [{ headers: { "x-user": { exact: "tester" } } }], route: [to("v2")] }, { route: [to("v1")] }]);
  await until("the header is matched", 2_000, async () => (await version({ "x-user": "tester" })) === "v2");
  for (let i = 0; i < 50; i++) {
    expect(await version({ "x-user": "tester" })).toBe("v2");
    expect(await version({ "x-user": "somebody" })).toBe("v1");
    expect(await version()).toBe("v1");
  }
});

test("changing weights under load takes effect in under 100 ms without a failed request", async () => {
  await routes([{ route: [to("v1", 100), to("v2", 0)] }]);
  await until("v1 only", 2_000, async () => (await distribution(50))["v1"] === 50);
  const load = new Load(`${testbed.url}/healthz`, { workers: 8, pauseMs: 2, requestsMax: 50_000 });
  const delays: number[] = [];
  // kubectl takes its own time: a watch says when the API server had the change.
  const watch = Bun.spawn(
    [
      "kubectl",
      "--kubeconfig",
      join(testbed.state, "kubeconfig"),
      "-n",
      "video",
      "get",
      "vs",
      "video",
      "--watch-only",
      "-o",
      "jsonpath={.spec.http[0].route[0].weight}\n",
    ],
    { stdout: "pipe", stderr: "ignore" },
  );
  // When the API server's watch last told the weight of v1.
  let told = { weight: "", atMs: 0 };
  const listening = (async () => {
    let text = "";
    for await (const chunk of watch.stdout) {
      text += Buffer.from(chunk).toString();
      const weight = /(\d+)\n$/.exec(text)?.[1];
      if (weight !== undefined) told = { weight, atMs: performance.now() };
    }
  })();
  await Bun.sleep(500);
  for (let round = 0; round < 10; round++) {
    const wanted = round % 2 === 0 ? "v2" : "v1";
    const applied = routes([{ route: [to("v1", wanted === "v1" ? 100 : 0), to("v2", wanted === "v2" ? 100 : 0)] }]);
    let seenMs = 0;
    while (seenMs === 0) if ((await version()) === wanted) seenMs = performance.now();
    await applied;
    await until("the watch tells the change", 2_000, async () => told.weight === (wanted === "v1" ? "100" : "0"));
    delays.push(Math.max(0, seenMs - told.atMs));
    const after = await distribution(64);
    expect(after).toEqual({ [wanted]: 64 });
  }
  watch.kill();
  await Promise.all([watch.exited, listening]);
  const { sent, failures } = await load.stop();
  delays.sort((a, b) => a - b);
  console.log(
    `  weight change → effect: median ${delays[5]!.toFixed(0)} ms, worst ${delays[9]!.toFixed(0)} ms; ${sent} requests, ${failures.length} failed`,
  );
  expect(failures).toEqual([]);
  // The median: on a busy machine a single push may wait for the processor.
  expect(delays[5]!).toBeLessThan(100);
}, 60_000);

test("the mesh's own counters say what the client saw, with Istio's names", async () => {
  const pods = JSON.parse(await testbed.kubectl("get", "pods", "-n", "istio-system", "-o", "json"));
  const node = pods.items[0].spec.nodeName;
  const metrics = await testbed.meshbed(
    "exec",
    node,
    "--",
    "curl",
    "-s",
    `http://${pods.items[0].status.podIP}:15021/metrics`,
  );
  expect(metrics.stdout).toMatch(/istio_requests_total\{[^}]*reporter="source"[^}]*\} \d+/);
  const total = [
    ...metrics.stdout.matchAll(
      /^istio_requests_total\{[^}]*destination_service_name="web"[^}]*response_code="200"[^}]*\} (\d+)/gm,
    ),
  ];
  expect(total.reduce((sum, match) => sum + Number(match[1]), 0)).toBeGreaterThan(5_000);
  expect(metrics.stdout).toContain("istio_request_duration_milliseconds_bucket");
  const inbound = await testbed.meshbed("exec", "worker1", "--", "curl", "-s", "http://172.20.0.11:15020/metrics");
  expect(inbound.stdout).toMatch(/istio_requests_total\{[^}]*connection_security_policy="mutual_tls"/);
});

test("HTTPS on the second port serves the same site", async () => {
  const response = await fetch(`${testbed.tlsUrl}/healthz`, { tls: { rejectUnauthorized: false } });
  expect(response.status).toBe(200);
});
