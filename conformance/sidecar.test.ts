// Sidecars with real traffic: what a namespace may know and reach, and what a workload listens on.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Color, type EchoBed, startEcho } from "./echo.ts";
import { until } from "./testbed.ts";

const effectMs = 10_000;
let bed: EchoBed;
beforeAll(async () => {
  bed = await startEcho();
}, 90_000);
afterAll(() => bed?.down());

async function status(from: Color, url: string): Promise<number> {
  const [answer] = await bed.from(from, { url, timeoutMs: 3_000 });
  return answer!.status;
}
const sidecar = (namespace: string, name: string, spec: object) => {
  const metadata = { name, namespace };
  return bed.apply(JSON.stringify({ apiVersion: "networking.istio.io/v1", kind: "Sidecar", metadata, spec }));
};

test("a namespace that imports only itself reaches nothing else where only the registry counts", async () => {
  expect(await status("blue", "http://server.echo/")).toBe(200);
  const policy = { outboundTrafficPolicy: { mode: "REGISTRY_ONLY" } };
  await sidecar("elsewhere", "default", { ...policy, egress: [{ hosts: ["./*"] }] });
  await until(
    "the other namespace is unknown",
    effectMs,
    async () => (await status("blue", "http://server.echo/")) === 502,
  );
  expect(await status("blue", "http://client/healthz")).toBe(200);
  expect(await status("red", "http://server.echo/")).toBe(200);
  await sidecar("elsewhere", "default", {
    ...policy,
    egress: [{ hosts: ["./*", "echo/server.echo.svc.cluster.local"] }],
  });
  await until("one host is imported", effectMs, async () => (await status("blue", "http://server.echo/")) === 200);
  await bed.kubectl("delete", "sidecar", "default", "-n", "elsewhere");
}, 60_000);

const registryOnly = { outboundTrafficPolicy: { mode: "REGISTRY_ONLY" } };
const becomes = (from: Color, url: string, wanted: number) =>
  until(`${from} gets ${wanted} for ${url}`, effectMs, async () => (await status(from, url)) === wanted);

test("a workloadSelector's Sidecar holds for those workloads alone, and comes before their namespace's", async () => {
  await sidecar("echo", "default", { ...registryOnly, egress: [{ hosts: ["*/*"] }] });
  const host = "client.echo.svc.cluster.local";
  const selected = { workloadSelector: { labels: { team: "red" } }, egress: [{ hosts: [`echo/${host}`] }] };
  await sidecar("echo", "red", { ...registryOnly, ...selected });
  await becomes("red", "http://server/", 502);
  expect(await status("red", "http://client/healthz")).toBe(200);
  expect(await status("blue", "http://server.echo/")).toBe(200);
  await bed.kubectl("delete", "sidecar", "red", "-n", "echo");
  await becomes("red", "http://server/", 200);
  await bed.kubectl("delete", "sidecar", "default", "-n", "echo");
}, 40_000);

test("the root namespace's Sidecar holds for every namespace without one of its own", async () => {
  await sidecar("istio-system", "default", { ...registryOnly, egress: [{ hosts: ["./*"] }] });
  await becomes("blue", "http://server.echo/", 502);
  await becomes("red", "http://client.elsewhere/healthz", 502);
  expect(await status("red", "http://server/")).toBe(200);
  await sidecar("elsewhere", "default", { ...registryOnly, egress: [{ hosts: ["*/*"] }] });
  await becomes("blue", "http://server.echo/", 200);
  expect(await status("red", "http://client.elsewhere/healthz")).toBe(502);
  await bed.kubectl("delete", "sidecar", "default", "-n", "istio-system");
  await bed.kubectl("delete", "sidecar", "default", "-n", "elsewhere");
  await becomes("red", "http://client.elsewhere/healthz", 200);
}, 40_000);

test("an egress listener with a port has imports of its own, the one without serves the other ports", async () => {
  const port = { number: 8080, name: "http", protocol: "HTTP" };
  const egress = [{ port, hosts: ["echo/*"] }, { hosts: ["./*"] }];
  await sidecar("elsewhere", "default", { ...registryOnly, egress });
  await becomes("blue", "http://server.echo/", 502);
  expect(await status("blue", "http://server.echo:8080/")).toBe(200);
  expect(await status("blue", "http://client/healthz")).toBe(200);
  await bed.kubectl("delete", "sidecar", "default", "-n", "elsewhere");
  await becomes("blue", "http://server.echo/", 200);
}, 30_000);

test("an ingress listener leads to another port of the workload; the port it replaces is passed through", async () => {
  const spec = { selector: { app: "server" }, ports: [{ name: "http", port: 80, targetPort: 9080 }] };
  const metadata = { name: "by-ingress", namespace: "echo" };
  await bed.apply(JSON.stringify({ apiVersion: "v1", kind: "Service", metadata, spec }));
  const ingress = [{ port: { number: 9080, name: "http", protocol: "HTTP" }, defaultEndpoint: "127.0.0.1:8080" }];
  await sidecar("echo", "server", { workloadSelector: { labels: { app: "server" } }, ingress });
  await until(
    "it is reached by the listener",
    effectMs,
    async () => (await status("red", "http://by-ingress/")) === 200,
  );
  for (let i = 0; i < 12; i++) expect(await status(i % 2 ? "red" : "blue", "http://by-ingress.echo/")).toBe(200);
  expect(await status("red", "http://server/")).toBe(200);
}, 40_000);
