// The control plane's clients on a running testbed: what proxy-status shows of our proxies, and gRPC clients that need none.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StreamStatus } from "../src/xds/server.ts";
import { root, startTestbed, type Testbed, until } from "./testbed.ts";

const folder = mkdtempSync(join(tmpdir(), "meshbed-ads-"));
const effectMs = 5_000;
let testbed: Testbed;
let grpc: GrpcClient;

const object = (apiVersion: string, kind: string, name: string, rest: object) => ({
  apiVersion,
  kind,
  metadata: { name, ...(kind !== "Namespace" && { namespace: "calls" }) },
  ...rest,
});

const greeter = (version: string) =>
  object("apps/v1", "Deployment", `greeter-${version}`, {
    spec: {
      replicas: 2,
      selector: { matchLabels: { app: "greeter", version } },
      template: {
        metadata: { labels: { app: "greeter", version } },
        spec: {
          containers: [
            {
              name: "greeter",
              image: "test/greeter",
              env: [{ name: "VERSION", value: version }],
              ports: [{ containerPort: 50051 }],
              readinessProbe: { tcpSocket: { port: 50051 }, periodSeconds: 1 },
            },
          ],
        },
      },
    },
  });

const istio = (kind: string, spec: object) => object("networking.istio.io/v1", kind, "greeter", { spec });
const to = (subset: string, weight: number) => ({ destination: { host: "greeter", subset }, weight });
/** The rest by weight; callers that say they test, v2. */
const rules = (v1: number, v2: number) =>
  istio("VirtualService", {
    hosts: ["greeter"],
    http: [
      { match: [{ headers: { "x-user": { exact: "tester" } } }], route: [to("v2", 100)] },
      { route: [to("v1", v1), to("v2", v2)] },
    ],
  });

beforeAll(async () => {
  const server = join(root, "conformance/grpc/server.ts");
  writeFileSync(
    join(folder, "meshbed.yaml"),
    JSON.stringify({ images: { "test/greeter": { command: [process.execPath, server], env: { PORT: "50051" } } } }),
  );
  const items = [
    object("v1", "Namespace", "calls", {}),
    greeter("v1"),
    greeter("v2"),
    object("v1", "Service", "greeter", {
      spec: { selector: { app: "greeter" }, ports: [{ name: "grpc", port: 7000, targetPort: 50051 }] },
    }),
    istio("DestinationRule", {
      host: "greeter",
      subsets: ["v1", "v2"].map((version) => ({ name: version, labels: { version } })),
    }),
    rules(80, 20),
  ];
  const manifest = join(folder, "greeter.json");
  writeFileSync(manifest, JSON.stringify({ apiVersion: "v1", kind: "List", items }));
  testbed = await startTestbed({ cwd: folder, args: ["--nodes", "1", "-f", manifest] });
  for (const version of ["v1", "v2"])
    await testbed.kubectl("rollout", "status", `deployment/greeter-${version}`, "-n", "calls", "--timeout=20s");
  grpc = startClient();
}, 60_000);
afterAll(async () => {
  grpc?.stop();
  await testbed?.down();
  rmSync(folder, { recursive: true, force: true });
});

interface GrpcClient {
  calls(count: number, headers?: Record<string, string>): Promise<Record<string, number>>;
  stop(): void;
}

/** In a process of its own on worker1, told nothing but where the control plane is. */
function startClient(): GrpcClient {
  const bootstrap = {
    xds_servers: [
      { server_uri: "172.20.0.10:15010", channel_creds: [{ type: "insecure" }], server_features: ["xds_v3"] },
    ],
    node: {
      id: "sidecar~172.20.0.11~client.calls~calls.svc.cluster.local",
      metadata: { GENERATOR: "grpc" },
      locality: {},
    },
  };
  const child = Bun.spawn(
    [
      process.execPath,
      join(root, "src/main.ts"),
      "exec",
      "--state",
      testbed.state,
      "worker1",
      "--",
      "env",
      `GRPC_XDS_BOOTSTRAP_CONFIG=${JSON.stringify(bootstrap)}`,
      process.execPath,
      join(root, "conformance/grpc/client.ts"),
    ],
    { stdin: "pipe", stdout: "pipe", stderr: "inherit" },
  );
  const reader = child.stdout.getReader();
  const decoder = new TextDecoder();
  let held = "";
  return {
    async calls(count, headers = {}) {
      child.stdin.write(
        `${JSON.stringify({ target: "xds:///greeter.calls.svc.cluster.local:7000", count, headers })}\n`,
      );
      child.stdin.flush();
      while (!held.includes("\n")) {
        const { value, done } = await reader.read();
        if (done) throw new Error("the gRPC client has ended");
        held += decoder.decode(value);
      }
      const end = held.indexOf("\n");
      const line = held.slice(0, end);
      held = held.slice(end + 1);
      return JSON.parse(line);
    },
    stop: () => child.stdin.end(),
  };
}

test("a gRPC client without a proxy is split by weight, routed by header, and follows a change of weights", async () => {
  const split = await grpc.calls(1_000);
  console.log(`  80/20 over 1,000 calls: ${JSON.stringify(split)}`);
  expect(Object.keys(split).sort()).toEqual(["v1", "v2"]);
  // Within four standard deviations of a fair draw.
  expect(Math.abs(split["v2"]! - 200)).toBeLessThan(51);
  expect(await grpc.calls(100, { "x-user": "tester" })).toEqual({ v2: 100 });
  await testbed.apply(JSON.stringify(rules(0, 100)));
  const startedMs = performance.now();
  await until("the new weights hold", effectMs, async () => (await grpc.calls(20))["v2"] === 20);
  console.log(`  new weights held ${Math.round(performance.now() - startedMs)} ms after they were applied`);
  expect(await grpc.calls(200)).toEqual({ v2: 200 });
}, 30_000);

const statusOf = async (...args: string[]): Promise<StreamStatus[]> => {
  const { code, stdout, stderr } = await testbed.meshbed("proxy-status", ...args, "-o", "json");
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
};

test("proxy-status shows every proxy in step, one in detail, and the gRPC client", async () => {
  const all = await until("all are in step", effectMs, async () => {
    const streams = await statusOf();
    return (
      streams.every(({ types }) => types.every(({ state, current }) => state.kind === "acked" && current)) && streams
    );
  });
  const ids = all.map(({ nodeId }) => nodeId.split("~")[2]).sort();
  expect(ids).toEqual(expect.arrayContaining(["client.calls", "master", "worker1"]));
  const grpcClient = all.find(({ nodeId }) => nodeId.includes("client.calls"));
  expect(grpcClient?.variant).toBe("sotw");
  expect(all.find(({ nodeId }) => nodeId.startsWith("node~"))?.variant).toBe("delta");
  const { stdout } = await testbed.meshbed("proxy-status");
  expect(stdout.split("\n")[0]!.trim().split(/ {2,}/)).toEqual([
    "NAME",
    "CLUSTER",
    "CDS",
    "LDS",
    "EDS",
    "RDS",
    "SDS",
    "LAST CHANGE",
  ]);
  expect(stdout).toMatch(/worker1 \(node\) +Kubernetes +SYNCED +SYNCED +SYNCED +NOT SENT +NOT SENT/);
  const detail = await testbed.meshbed("proxy-status", "worker1");
  expect(detail.stdout).toContain("there is nothing else to send");
  const unknown = await testbed.meshbed("proxy-status", "nobody");
  expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining("no proxy 'nobody'")]);
});
