// What leaves the mesh, with real traffic: ServiceEntries of every kind, what nobody has registered, and an egress gateway.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Answer, type Color, came, type EchoBed, type Order, startEcho, tally } from "./echo.ts";
import { type Outside, outsideIps, startOutside } from "./outside.ts";
import { root, until } from "./testbed.ts";

const effectMs = 10_000;
let bed: EchoBed;
let outside: Outside;
beforeAll(async () => {
  bed = await startEcho({ args: ["--clients", "2"] });
  outside = await startOutside(bed);
  const names = ["api", "secure", "www", "edition", "free", "a.wild", "b.wild"].map((name) => `${name}.example.com`);
  await outside.names(
    `${outsideIps[0]} ${names.join(" ")} rr.example.com\n${outsideIps[1]} api.example.com rr.example.com\n`,
  );
  await until(
    "the outside's names are known",
    effectMs,
    async () => (await ask("http://free.example.com/")).status === 200,
  );
}, 90_000);
afterAll(async () => {
  outside?.stop();
  await bed?.down();
});

async function ask(url: string, order: Partial<Order> = {}, from: Color = "red"): Promise<Answer> {
  const [answer] = await bed.from(from, { url, timeoutMs: 3_000, insecure: true, ...order });
  return answer!;
}
const version = (answer: Answer): string => (answer.status === 200 ? came(answer).version : `${answer.status}`);
const entry = (name: string, spec: object, namespace = "echo") =>
  bed.rules({ kind: "ServiceEntry", name, namespace, spec });
const remove = (kind: string, ...names: string[]) => bed.kubectl("delete", kind, "-n", "echo", ...names);
const mesh = (settings: object) =>
  bed.apply(
    JSON.stringify({
      ...{ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "istio", namespace: "istio-system" } },
      data: { mesh: JSON.stringify(settings) },
    }),
  );

test("a host without addresses gets one, pods in the mesh find it there, and DNS leads to all that it has outside", async () => {
  const ports = [
    { number: 80, name: "http", protocol: "HTTP" },
    { number: 9000, name: "tcp", protocol: "TCP" },
  ];
  await entry("api", { hosts: ["api.example.com"], resolution: "DNS", ports });
  const value = await until("an address is allocated", effectMs, async () => {
    const { status } = JSON.parse(await bed.kubectl("get", "serviceentry", "api", "-n", "echo", "-o", "json"));
    return status?.addresses?.[0]?.value as string | undefined;
  });
  expect(value).toMatch(/^240\.240\.\d+\.\d+$/);
  await until("the address leads there", effectMs, async () =>
    (await ask("tcp://api.example.com:9000")).body.includes("heard"),
  );
  expect((await ask(`tcp://${value}:9000`)).body).toMatch(/^outside[12] outside[12] heard hello/);
  const answers = await bed.from("red", { url: "http://api.example.com/x", count: 60, workers: 6 });
  const versions = tally(answers, version);
  expect(Object.keys(versions).toSorted()).toEqual(["outside1", "outside2"]);
  const count = await bed.metric("red", "istio_requests_total", { destination_service: "api.example.com" });
  expect(count).toBeGreaterThanOrEqual(60);
}, 40_000);

test("DNS_ROUND_ROBIN goes to one address at a time, where DNS goes to all", async () => {
  const ports = [{ number: 80, name: "http", protocol: "HTTP" }];
  await entry("rr", { hosts: ["rr.example.com"], resolution: "DNS_ROUND_ROBIN", ports });
  // A look-up between two requests may change the address once: another run has it the same throughout.
  await until("twenty requests in a row have one server", effectMs, async () => {
    const versions = Object.entries(
      tally(await bed.from("red", { url: "http://rr.example.com/", count: 20 }), version),
    );
    return versions.length === 1 && /^outside[12]$/.test(versions[0]![0]);
  });
  const service = { destination_service: "rr.example.com" };
  expect(await bed.metric("red", "istio_requests_total", service)).toBeGreaterThanOrEqual(20);
}, 20_000);

test("a workloadSelector finds pods and WorkloadEntries beside each other", async () => {
  const ports = [{ number: 80, name: "http", protocol: "HTTP", targetPort: 8080 }];
  const labels = { team: "red" };
  const spec = { hosts: ["mixed.example.com"], location: "MESH_INTERNAL", resolution: "STATIC", ports };
  await bed.rules(
    { kind: "WorkloadEntry", name: "mixed", spec: { address: outsideIps[0], labels } },
    { kind: "ServiceEntry", name: "mixed", spec: { ...spec, workloadSelector: { labels } } },
  );
  const url = "http://mixed.example.com/";
  await until("its name is known", effectMs, async () => (await ask(url, {}, "blue")).status === 200);
  const versions = tally(await bed.from("blue", { url, count: 40, workers: 4 }), version);
  expect(Object.keys(versions).toSorted()).toEqual(["client", "outside1"]);
  await remove("workloadentry", "mixed");
  await until("the pod is left alone", effectMs, async () => {
    const left = Object.keys(tally(await bed.from("blue", { url, count: 10 }), version));
    return left.length === 1 && left[0] === "client";
  });
}, 30_000);

test("rules hold for it as for a service: subsets by endpoints' labels, headers, faults", async () => {
  const endpoints = outsideIps.map((address, i) => ({ address, labels: { version: `v${i + 1}` } }));
  const host = "db.example.com";
  const route = [{ destination: { host, subset: "v2" } }];
  const http = [
    {
      match: [{ uri: { prefix: "/fault" } }],
      fault: { abort: { httpStatus: 418, percentage: { value: 100 } } },
      route,
    },
    { route, headers: { request: { set: { "x-by": "rule" } } } },
  ];
  const ports = [{ number: 80, name: "http", protocol: "HTTP", targetPort: 8080 }];
  await bed.rules(
    { kind: "ServiceEntry", name: "db", spec: { hosts: [host], resolution: "STATIC", endpoints, ports } },
    { kind: "DestinationRule", name: "db", spec: { host, subsets: [{ name: "v2", labels: { version: "v2" } }] } },
    { kind: "VirtualService", name: "db", spec: { hosts: [host], http } },
  );
  await until("its name is known", effectMs, async () => version(await ask(`http://${host}/`)) === "outside2");
  const answers = await bed.from("red", { url: `http://${host}/`, count: 20 });
  expect(tally(answers, version)).toEqual({ outside2: 20 });
  expect(came(answers[0]!).headers["x-by"]).toBe("rule");
  expect((await ask(`http://${host}/fault`)).status).toBe(418);
}, 40_000);

test("TLS is told apart by server name: a wildcard goes where the caller went", async () => {
  const spec = { hosts: ["*.wild.example.com"], ports: [{ number: 443, name: "tls", protocol: "TLS" }] };
  await entry("wild", spec);
  expect(version(await ask("https://a.wild.example.com/"))).toBe("outside1");
  const labels = { destination_service: "*.wild.example.com" };
  expect(await bed.metric("red", "istio_tcp_connections_opened_total", labels)).toBeGreaterThanOrEqual(1);
}, 20_000);

test("a rule originates TLS, and whose certificate it must be is checked", async () => {
  const host = "api.example.com";
  const ports = [{ number: 8000, name: "http", protocol: "HTTP", targetPort: 8443 }];
  const tls = { mode: "SIMPLE", caCertificates: outside.caFile };
  const rule = (names: string[]) => ({
    kind: "DestinationRule",
    name: "origination",
    spec: {
      host,
      trafficPolicy: { portLevelSettings: [{ port: { number: 8000 }, tls: { ...tls, subjectAltNames: names } }] },
    },
  });
  await bed.rules(
    { kind: "ServiceEntry", name: "origination", spec: { hosts: [host], resolution: "DNS", ports } },
    rule(["*.example.com"]),
  );
  const url = `http://${host}:8000/`;
  await until("plain HTTP becomes TLS", effectMs, async () => version(await ask(url)).startsWith("outside"));
  await bed.rules(rule(["other.example.org"]));
  expect((await ask(url)).status).toBe(503);
  await remove("destinationrule", "origination");
  await remove("serviceentry", "origination");
}, 40_000);

test("ALLOW_ANY: what nobody registered passes, and is counted as such", async () => {
  expect(version(await ask("http://free.example.com/"))).toBe("outside1");
  expect((await ask("tcp://free.example.com:5432")).body).toContain("heard hello");
  const labels = { destination_service_name: "PassthroughCluster" };
  const asked = { ...labels, destination_service: "free.example.com" };
  expect(await bed.metric("red", "istio_requests_total", asked)).toBeGreaterThanOrEqual(1);
  const unnamed = { ...labels, destination_service: "unknown" };
  expect(await bed.metric("red", "istio_tcp_connections_opened_total", unnamed)).toBeGreaterThanOrEqual(1);
}, 20_000);

test("REGISTRY_ONLY: headless services are reached, by TCP at any pod, by HTTP under the service's name and under a pod's", async () => {
  const ports = [
    { name: "http", port: 8080 },
    { name: "tcp", port: 9000 },
  ];
  const spec = { clusterIP: "None", selector: { app: "server" }, ports };
  const metadata = { name: "servers", namespace: "echo" };
  await mesh({ outboundTrafficPolicy: { mode: "REGISTRY_ONLY" } });
  await until("HTTP is refused", effectMs, async () => (await ask("http://free.example.com/")).status === 502);
  const pods = JSON.parse(await bed.kubectl("get", "pods", "-n", "echo", "-l", "app=server", "-o", "json"));
  const ips: string[] = pods.items.map(({ status }: { status: { podIP: string } }) => status.podIP);
  expect((await ask(`tcp://${ips[0]}:9000`)).body).toBe("");
  await bed.apply(JSON.stringify({ apiVersion: "v1", kind: "Service", metadata, spec }));
  for (const ip of ips)
    await until(`${ip} is reached`, effectMs, async () => (await ask(`tcp://${ip}:9000`)).body.includes("heard hello"));
  expect((await ask("tcp://servers.echo:9000", {}, "blue")).body).toContain("heard hello");
  expect((await ask("http://servers.echo:8080/")).status).toBe(200);
  const byName = { headers: { host: "server-0.servers.echo:8080" } };
  expect((await ask(`http://${ips[0]}:8080/`, byName)).status).toBe(200);
  expect((await ask(`http://${ips[0]}:8080/`)).status).toBe(502);
  await bed.kubectl("delete", "service", "servers", "-n", "echo");
  await until("it is closed again", effectMs, async () => (await ask(`tcp://${ips[0]}:9000`)).body === "");
}, 40_000);

test("REGISTRY_ONLY: 502 by HTTP, closed otherwise; entries go on; a Sidecar may say otherwise for its namespace", async () => {
  await mesh({ outboundTrafficPolicy: { mode: "REGISTRY_ONLY" } });
  await until("HTTP is refused", effectMs, async () => (await ask("http://free.example.com/")).status === 502);
  expect((await ask("tcp://free.example.com:5432")).body).toBe("");
  expect((await ask("https://free.example.com/")).status).toBe(0);
  expect(version(await ask("http://api.example.com/"))).toMatch(/^outside/);
  expect(version(await ask("https://a.wild.example.com/"))).toBe("outside1");
  expect((await ask("http://server.echo/")).status).toBe(200);
  const refused = { destination_service_name: "BlackHoleCluster" };
  const asked = { ...refused, destination_service: "free.example.com", response_code: "502" };
  expect(await bed.metric("red", "istio_requests_total", asked)).toBeGreaterThanOrEqual(1);
  expect(await bed.metric("red", "istio_tcp_connections_opened_total", refused)).toBeGreaterThanOrEqual(2);
  expect(await bed.metric("red", "istio_tcp_connections_closed_total", refused)).toBeGreaterThanOrEqual(2);
  const sidecar = { kind: "Sidecar", name: "default", spec: { outboundTrafficPolicy: { mode: "ALLOW_ANY" } } };
  await bed.rules({ ...sidecar, namespace: "elsewhere" });
  await until(
    "one namespace is let out",
    effectMs,
    async () => (await ask("http://free.example.com/", {}, "blue")).status === 200,
  );
  expect((await ask("http://free.example.com/")).status).toBe(502);
  await bed.kubectl("delete", "sidecar", "default", "-n", "elsewhere");
  await mesh({});
  await until("all are let out again", effectMs, async () => (await ask("http://free.example.com/")).status === 200);
}, 60_000);

test("an egress gateway: HTTP, TLS passed through, and TLS begun there", async () => {
  for (const file of ["gateway", "rules"])
    await bed.apply(readFileSync(join(root, `examples/egress/${file}.yaml`), "utf8"));
  await bed.kubectl("rollout", "status", "deployment/istio-egressgateway", "-n", "istio-system", "--timeout=20s");
  await until(
    "requests take the gateway",
    effectMs,
    async () => came(await ask("http://www.example.com/")).headers["x-egress"] === "gateway",
  );
  await until("the gateway begins TLS", effectMs, async () => {
    const answer = await ask("http://edition.example.com/");
    return answer.status === 200 && came(answer).headers["x-egress"] === "gateway";
  });
  await until(
    "TLS is passed through",
    effectMs,
    async () => version(await ask("https://secure.example.com/")) === "outside1",
  );
  const by = { destination_service_name: "istio-egressgateway" };
  expect(await bed.metric("red", "istio_requests_total", by)).toBeGreaterThanOrEqual(2);
  expect(await bed.metric("red", "istio_tcp_connections_opened_total", by)).toBeGreaterThanOrEqual(1);
}, 60_000);
