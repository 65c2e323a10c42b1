// The admin pages: Envoy's shapes, what is refused, and what never leaves.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { BootstrapSchema } from "#gen/xds/envoy/config/bootstrap/v3/bootstrap_pb.js";
import { createSelfSigned } from "../../identity/authority.ts";
import { realClock } from "../../kernel/clock.ts";
import type { LogLevel } from "../../kernel/log.ts";
import {
  assignment,
  type Configuration,
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  keyPair,
  listener,
  prefix,
  routes,
  serverTls,
  startFixture,
  tcpChain,
  toCluster,
  until,
  workload,
} from "../fixture.ts";

const port = freePort();
const tlsPort = freePort();
const logLevel: LogLevel = { level: "info" };
let quits = 0;
let backend: Bun.Server<undefined>;
let alone: FixtureProxy;
let base: string;

beforeAll(async () => {
  backend = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("hello", { status: 201 }) });
  const pair = await createSelfSigned({ commonName: "a", dnsNames: ["a"], lifetimeMs: 3_600_000, clock: realClock });
  const toWeb = { match: prefix("/"), action: toCluster("web") };
  const configuration: Configuration = {
    listeners: [
      listener(
        "127.0.0.1",
        port,
        [httpChain("", { statPrefix: "in", routeSpecifier: { case: "routeConfig", value: routes("table", [toWeb]) } })],
        { name: "in" },
      ),
      listener("127.0.0.1", tlsPort, [tcpChain("eds", { transportSocket: serverTls("server") })], { name: "tls" }),
    ],
    clusters: [cluster("web", [`127.0.0.1:${backend.port}`]), cluster("eds")],
    endpoints: [assignment("eds", [`127.0.0.1:${backend.port}`], { weight: 7, priority: 1 })],
    secrets: [keyPair("server", pair)],
  };
  const standalone = {
    configPath: "f.yaml",
    cluster: "us",
    bootstrap: () => ({
      schema: BootstrapSchema,
      message: create(BootstrapSchema, { node: { id: "me" } }),
      readAtMs: 0,
    }),
    logLevel,
    quit: () => {
      quits++;
    },
  };
  alone = await startFixture(configuration, { nodeId: "me<b>", admin: { host: "127.0.0.1", port: 0, standalone } });
  base = `http://127.0.0.1:${alone.running.adminPort}`;
  for (let i = 0; i < 3; i++) expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(201);
});
afterAll(async () => {
  await alone.close();
  await backend.stop(true);
});

const text = async (path: string, init?: RequestInit) => (await fetch(base + path, init)).text();
const status = async (path: string, init?: RequestInit) => (await fetch(base + path, init)).status;
// biome-ignore lint/suspicious/noExplicitAny: pages are read as a script would
const json = async (path: string): Promise<any> => (await fetch(base + path)).json();

test("/ready says LIVE", async () => {
  expect(await text("/ready")).toBe("LIVE\n");
  expect(await status("/healthz/ready")).toBe(200);
});

test("/listeners tells names and addresses, in both forms", async () => {
  expect(await text("/listeners")).toBe(`in::127.0.0.1:${port}\ntls::127.0.0.1:${tlsPort}\n`);
  const { listener_statuses } = await json("/listeners?format=json");
  expect(listener_statuses[0]).toEqual({
    name: "in",
    local_address: { socket_address: { address: "127.0.0.1", port_value: port } },
  });
});

test("/clusters counts per host and shows what balancing goes by, in both forms", async () => {
  const lines = (await text("/clusters")).split("\n");
  const host = `web::127.0.0.1:${backend.port}`;
  for (const line of [
    `${host}::rq_total::3`,
    `${host}::rq_error::0`,
    `${host}::health_flags::healthy`,
    "web::added_via_api::false",
    `eds::127.0.0.1:${backend.port}::weight::7`,
  ])
    expect(lines).toContain(line);
  expect(lines.some((line) => /^web::default_priority::max_connections::\d+$/.test(line))).toBe(true);
  const { cluster_statuses } = await json("/clusters?format=json");
  const eds = cluster_statuses.find(({ name }: { name: string }) => name === "eds");
  expect(eds.host_statuses[0]).toMatchObject({
    weight: 7,
    priority: 1,
    health_status: { eds_health_status: "HEALTHY" },
  });
  expect(eds.eds_service_name).toBe("eds");
  expect(eds.circuit_breakers.thresholds.map(({ priority = "DEFAULT" }) => priority)).toEqual(["DEFAULT", "HIGH"]);
});

test("/stats has Envoy's names, and counts what happened", async () => {
  const before = await text("/stats");
  expect(before).toContain("cluster.web.upstream_rq_2xx: 3\n");
  expect(before).toContain("http.in.downstream_rq_total: 3\n");
  expect(before).toContain("http.in.downstream_rq_active: 0\n");
  expect(before).toContain(`listener.127.0.0.1_${port}.downstream_cx_total: `);
  expect(before).toContain("cluster.eds.membership_total: 1\n");
  const names = before.split("\n").slice(0, -1);
  expect(names).toEqual([...names].sort());
  expect(await text("/stats?filter=%5Ecluster.web.upstream_rq_2&usedonly")).toBe("cluster.web.upstream_rq_2xx: 3\n");
  expect(await text("/stats?filter=membership&type=Counters")).toBe("");
  expect(await json("/stats?filter=web.membership_healthy&format=json")).toEqual({
    stats: [{ name: "cluster.web.membership_healthy", value: 1 }],
  });
});

test("/stats/prometheus holds Istio's metrics and Envoy's, families together and labels taken out of names", async () => {
  const all = await text("/stats/prometheus");
  expect(all).toContain("istio_requests_total{");
  expect(all).toContain('envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="web"} 3\n');
  expect(all).toContain('envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="in"} 3\n');
  const types = [...all.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
  expect(new Set(types).size).toBe(types.length);
  expect(await text("/metrics")).not.toContain("envoy_");
});

test("/config_dump is Envoy's, in its order", async () => {
  const { configs } = await json("/config_dump?include_eds");
  const types = configs.map((config: { "@type": string }) =>
    config["@type"].replace("type.googleapis.com/envoy.admin.v3.", ""),
  );
  expect(types).toEqual([
    "BootstrapConfigDump",
    "ClustersConfigDump",
    "EndpointsConfigDump",
    "ListenersConfigDump",
    "RoutesConfigDump",
    "SecretsConfigDump",
  ]);
  const [bootstrap, clusters, endpoints, listeners, tables] = configs;
  expect(bootstrap.bootstrap.node.id).toBe("me");
  expect(clusters.static_clusters[0].cluster).toMatchObject({
    "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    name: "web",
    type: "STATIC",
  });
  expect(endpoints.static_endpoint_configs).toHaveLength(1);
  expect(endpoints.dynamic_endpoint_configs[0].endpoint_config.cluster_name).toBe("eds");
  expect(listeners.static_listeners[0].listener.filter_chains[0].filters[0].typed_config["@type"]).toEndWith(
    ".HttpConnectionManager",
  );
  expect(Date.parse(listeners.static_listeners[0].last_updated)).toBeGreaterThan(0);
  expect(tables.static_route_configs[0].route_config.name).toBe("table");
});

test("/config_dump never shows a private key", async () => {
  const whole = await text("/config_dump?include_eds");
  expect(whole).not.toContain("PRIVATE KEY");
  const { configs } = await json("/config_dump?resource=static_secrets");
  expect(configs[0].name).toBe("server");
  expect(configs[0].secret.tls_certificate.private_key).toEqual({ inline_string: "[redacted]" });
  expect(configs[0].secret.tls_certificate.certificate_chain.inline_string).toContain("BEGIN CERTIFICATE");
});

test("/config_dump can be narrowed by resource, mask and name", async () => {
  const { configs } = await json("/config_dump?resource=static_clusters&mask=cluster.name");
  expect(configs).toEqual(
    ["web", "eds"].map((name) => ({
      "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster",
      cluster: { name },
    })),
  );
  expect((await json("/config_dump?resource=static_clusters&name_regex=%5Ew")).configs).toHaveLength(1);
  expect(await status("/config_dump?resource=static_things")).toBe(404);
});

test("/server_info and /memory tell of the process", async () => {
  expect(await json("/server_info")).toMatchObject({
    state: "LIVE",
    node: { cluster: "us" },
    command_line_options: { config_path: "f.yaml" },
  });
  expect(Number((await json("/memory")).allocated)).toBeGreaterThan(1e6);
});

test("wrong questions get clear answers", async () => {
  for (const [path, init, code, body] of [
    ["/nothing", undefined, 404, "invalid path. admin commands are:"],
    ["/stats?filter=(", undefined, 400, "not a regular expression"],
    ["/stats?format=xml", undefined, 400, "format=xml"],
    ["/stats?type=Histograms", undefined, 400, "type=Histograms"],
    ["/clusters?workload=a/b", undefined, 404, "no workload a/b here"],
    ["/quitquitquit", undefined, 405, "use POST"],
    ["/stats", { method: "POST" }, 405, "use GET"],
    ["/logging?level=loud", { method: "POST" }, 400, "level=loud"],
    ["/quitquitquit", { method: "POST", headers: { origin: "http://elsewhere.example" } }, 403, "another origin"],
  ] as const) {
    const answer = await fetch(base + path, init);
    expect(`${path} ${answer.status}`).toBe(`${path} ${code}`);
    expect(await answer.text()).toContain(body);
  }
  expect(quits).toBe(0);
});

test("the front page links every page, and escapes what it shows", async () => {
  const page = await text("/");
  for (const path of ["/clusters", "/config_dump", "/stats", "/listeners"]) expect(page).toContain(`href="${path}"`);
  expect(page).toContain('action="/quitquitquit"');
  expect(page).toContain("me&lt;b&gt;");
  expect(page).not.toContain("<b>");
});

test("POST changes what it says", async () => {
  const post = (path: string) => text(path, { method: "POST" });
  expect(await post("/logging?level=debug")).toContain("meshbed: debug");
  expect(logLevel.level).toBe("debug");
  await post("/healthcheck/fail");
  expect(await status("/ready")).toBe(503);
  await post("/healthcheck/ok");
  expect(await status("/ready")).toBe(200);
  await post("/quitquitquit");
  await until("it has quit", () => quits === 1);
  await post("/drain_listeners");
  expect(await text("/ready")).toBe("DRAINING\n");
  let refused = false;
  const socket = { data() {}, open: (opened: Bun.Socket) => void opened.end() };
  for (let i = 0; i < 100 && !refused; i++) {
    refused = await Bun.connect({ hostname: "127.0.0.1", port, socket }).then(
      () => false,
      () => true,
    );
    await realClock.sleep(5);
  }
  expect(refused).toBe(true);
});

test("a mesh's proxy shows each workload's pages, as dynamic resources, and lets nobody change it", async () => {
  const own = freePort("127.0.0.1");
  const sidecar = "sidecar~10.0.0.1~a.test~test.svc.cluster.local";
  const node = await startFixture(
    {
      workloads: [workload("test/a", "10.0.0.1", sidecar)],
      listeners: [listener("127.0.0.1", own, [tcpChain("c")], { name: "nodeport" })],
      clusters: [cluster("c", ["127.0.0.1:9"])],
    },
    { role: "node", nodeId: "node~127.0.0.1~n~cluster.local" },
    {
      [sidecar]: {
        listeners: [listener("127.0.0.1", freePort(), [tcpChain("own")], { name: "out" })],
        clusters: [cluster("own", ["127.0.0.1:9"])],
      },
    },
  );
  const at = `http://127.0.0.1:${node.running.adminPort}`;
  try {
    expect(await (await fetch(`${at}/workloads`)).json()).toEqual([
      { name: "node~127.0.0.1~n~cluster.local", node: "node~127.0.0.1~n~cluster.local", ready: true },
      { name: "test/a", node: sidecar, ready: true },
    ]);
    const dump = await (
      await fetch(`${at}/config_dump?workload=test/a&resource=dynamic_active_clusters&mask=cluster.name`)
    ).json();
    expect(dump.configs).toEqual([
      { "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.DynamicCluster", cluster: { name: "own" } },
    ]);
    expect(await (await fetch(`${at}/listeners`)).text()).toStartWith("nodeport::");
    expect(await (await fetch(`${at}/stats?workload=test/a&filter=membership_total`)).text()).toBe(
      "cluster.own.membership_total: 1\n",
    );
    expect(await (await fetch(`${at}/stats/prometheus`)).text()).toContain(
      'envoy_cluster_membership_total{envoy_cluster_name="own",workload="test/a"} 1\n',
    );
    expect((await fetch(`${at}/quitquitquit`, { method: "POST" })).status).toBe(403);
    const page = await (await fetch(`${at}/`)).text();
    expect(page).toContain('href="/?workload=test%2Fa"');
    expect(page).not.toContain("/quitquitquit");
  } finally {
    await node.close();
  }
});
