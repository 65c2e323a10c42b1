// HTTP/2 and gRPC in a running mesh: requests of one connection balanced, routed and counted one by one; ALPN at the gateway.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { greet } from "./grpc/greeter.ts";
import { root, run, startTestbed, type Testbed, until } from "./testbed.ts";

const folder = mkdtempSync(join(tmpdir(), "meshbed-http2-"));
const effectMs = 5_000;
let testbed: Testbed;

const object = (apiVersion: string, kind: string, name: string, rest: object) => ({
  apiVersion,
  kind,
  metadata: {
    name,
    ...(kind === "Namespace" ? { labels: { "istio-injection": "enabled" } } : { namespace: "calls" }),
  },
  ...rest,
});
const deployment = (app: string, version: string, port: number, env: Record<string, string>) =>
  object("apps/v1", "Deployment", `${app}-${version}`, {
    spec: {
      replicas: app === "greeter" ? 2 : 1,
      selector: { matchLabels: { app, version } },
      template: {
        metadata: { labels: { app, version } },
        spec: {
          containers: [
            {
              name: app,
              image: `test/${app}`,
              env: Object.entries({ ...env, PORT: String(port) }).map(([name, value]) => ({ name, value })),
              ports: [{ containerPort: port }],
              readinessProbe: { tcpSocket: { port }, periodSeconds: 1 },
            },
          ],
        },
      },
    },
  });
const service = (name: string, port: { name: string; port: number; targetPort: number }) =>
  object("v1", "Service", name, { spec: { selector: { app: name }, ports: [port] } });
const istio = (kind: string, name: string, spec: object) => object("networking.istio.io/v1", kind, name, { spec });
const to = (subset: string, weight: number) => ({ destination: { host: "greeter", subset }, weight });
const rules = (v1: number, v2: number, more: object = {}) =>
  istio("VirtualService", "greeter", {
    hosts: ["greeter", "greeter.test"],
    gateways: ["mesh", "video/video-gateway"],
    http: [
      { match: [{ headers: { "x-user": { exact: "tester" } } }], route: [to("v2", 100)] },
      { route: [to("v1", v1), to("v2", v2)], ...more },
    ],
  });
const apply = (...items: object[]) => testbed.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items }));

beforeAll(async () => {
  const image = (file: string) => ({ command: [process.execPath, join(root, "conformance/grpc", file)] });
  const images = { "test/greeter": image("server.ts"), "test/caller": image("caller.ts") };
  writeFileSync(join(folder, "meshbed.yaml"), JSON.stringify({ images }));
  testbed = await startTestbed({ cwd: folder });
  await apply(
    object("v1", "Namespace", "calls", {}),
    deployment("greeter", "v1", 50051, { VERSION: "v1" }),
    deployment("greeter", "v2", 50051, { VERSION: "v2" }),
    deployment("caller", "v1", 8080, { TARGET: "greeter.calls.svc.cluster.local:7000" }),
    service("greeter", { name: "grpc", port: 7000, targetPort: 50051 }),
    service("caller", { name: "http", port: 80, targetPort: 8080 }),
    istio("DestinationRule", "greeter", {
      host: "greeter",
      subsets: ["v1", "v2"].map((version) => ({ name: version, labels: { version } })),
    }),
    istio("VirtualService", "caller", {
      hosts: ["caller.test"],
      gateways: ["video/video-gateway"],
      http: [{ route: [{ destination: { host: "caller" } }] }],
    }),
    rules(50, 50),
  );
  for (const name of ["greeter-v1", "greeter-v2", "caller-v1"])
    await testbed.kubectl("rollout", "status", `deployment/${name}`, "-n", "calls", "--timeout=20s");
}, 60_000);
afterAll(async () => {
  await testbed?.down();
  rmSync(folder, { recursive: true, force: true });
});

/** What a pod of the mesh is answered, by answer. */
async function fromPod(count: number, user = "nobody"): Promise<Record<string, number>> {
  const response = await fetch(`${testbed.url}/?count=${count}&user=${user}`, { headers: { host: "caller.test" } });
  expect(response.status).toBe(200);
  return response.json() as Promise<Record<string, number>>;
}

test("a pod's calls over one connection are spread over versions and follow their fields", async () => {
  await until("calls reach both versions", effectMs, async () => {
    const counts = await fromPod(20);
    return (counts["v1"] ?? 0) > 0 && (counts["v2"] ?? 0) > 0;
  });
  const counts = await fromPod(200);
  console.log(`  50:50 → ${JSON.stringify(counts)}`);
  expect(Object.keys(counts).sort()).toEqual(["v1", "v2"]);
  expect(counts["v1"]!).toBeGreaterThan(60);
  expect(counts["v2"]!).toBeGreaterThan(60);
  expect(await fromPod(20, "tester")).toEqual({ v2: 20 });
}, 30_000);

test("a gRPC client outside calls through the gateway, over one connection in HTTP/2 without TLS", async () => {
  const { host } = new URL(testbed.url);
  const client = new grpc.Client(host, grpc.credentials.createInsecure(), { "grpc.default_authority": "greeter.test" });
  const call = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = greet;
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, "who", (error, answer) => {
        if (error) reject(error);
        else resolve(answer!);
      });
    });
  const answers = new Set(await Promise.all(Array.from({ length: 60 }, call)));
  client.close();
  expect([...answers].sort()).toEqual(["v1", "v2"]);
}, 30_000);

test("a fault is a gRPC status to the caller, and the metrics name gRPC", async () => {
  await apply(rules(50, 50, { fault: { abort: { grpcStatus: "RESOURCE_EXHAUSTED", percentage: { value: 100 } } } }));
  await until("the fault is injected", effectMs, async () => {
    const counts = await fromPod(5);
    return counts["error 8 fault filter abort"] === 5;
  });
  await apply(rules(100, 0));
  await until("v1 alone answers", effectMs, async () => (await fromPod(5))["v1"] === 5);
  const lines = await Promise.all(
    ["master", "worker1", "worker2", "worker3"].map(async (node) => {
      const address = node === "master" ? "172.20.0.10" : `172.20.0.1${node.slice(-1)}`;
      const { stdout } = await testbed.meshbed("exec", node, "--", "curl", "-s", `http://${address}:15020/metrics`);
      return stdout.split("\n").filter((line) => line.startsWith("istio_requests_total"));
    }),
  );
  const grpcLines = lines.flat().filter((line) => line.includes('request_protocol="grpc"'));
  const has = (...labels: string[]) => grpcLines.some((line) => labels.every((label) => line.includes(label)));
  expect(has('reporter="source"', 'grpc_response_status="0"', 'destination_service_name="greeter"')).toBe(true);
  expect(has('reporter="destination"', 'grpc_response_status="0"', 'connection_security_policy="mutual_tls"')).toBe(
    true,
  );
  expect(has('reporter="source"', 'grpc_response_status="8"', 'response_flags="FI"')).toBe(true);
}, 30_000);

/** What the proxies of the nodes have logged of requests with this in their path. */
function protocolsLogged(query: string): string[] {
  const folder = join(testbed.state, "logs");
  return readdirSync(folder, { recursive: true })
    .map(String)
    .filter((name) => name.endsWith(".log"))
    .flatMap(
      (name) => readFileSync(join(folder, name), "utf8").match(new RegExp(`spoken \\S+ \\S*${query}`, "g")) ?? [],
    )
    .map((line) => line.split(" ")[1]!);
}

test("h2UpgradePolicy: HTTP/1.1 of a client becomes HTTP/2 between proxies, and HTTP/1.1 at the server again", async () => {
  const text = "spoken %PROTOCOL% %REQ(:PATH)%";
  const provider = { name: "spoken", envoyFileAccessLog: { path: "/dev/stdout", logFormat: { text } } };
  await apply(
    {
      ...object("v1", "ConfigMap", "istio", { data: { mesh: JSON.stringify({ extensionProviders: [provider] }) } }),
      metadata: { name: "istio", namespace: "istio-system" },
    },
    object("telemetry.istio.io/v1", "Telemetry", "spoken", {
      spec: { accessLogging: [{ match: { mode: "SERVER" }, providers: [{ name: "spoken" }] }] },
    }),
  );
  await until("HTTP/1.1 is logged", effectMs, async () => {
    expect(await fromPod(1, "plain")).toEqual({ v1: 1 });
    return protocolsLogged("plain").includes("HTTP/1.1");
  });
  expect(protocolsLogged("plain")).not.toContain("HTTP/2");
  await apply(
    istio("DestinationRule", "caller", {
      host: "caller",
      trafficPolicy: { connectionPool: { http: { h2UpgradePolicy: "UPGRADE" } } },
    }),
  );
  await until("HTTP/2 is logged", effectMs, async () => {
    expect(await fromPod(1, "upgraded")).toEqual({ v1: 1 });
    return protocolsLogged("upgraded").includes("HTTP/2");
  });
}, 30_000);

test.each([
  ["--http2", "2"],
  ["--http1.1", "1.1"],
])("the gateway speaks what curl %s asks for by ALPN", async (option, version) => {
  const { stdout } = await run([
    "curl",
    "-sk",
    option,
    "-o",
    "/dev/null",
    "-w",
    "%{http_version} %{http_code}",
    `${testbed.tlsUrl}/healthz`,
  ]);
  expect(stdout).toBe(`${version} 200`);
});
