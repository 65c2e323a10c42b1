// AuthorizationPolicy by traffic, from pods of the server's own node and of another, in and outside the mesh: who, what, when, and who is asked.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { came, type Order } from "./echo.ts";
import {
  type Client,
  clients,
  effectMs,
  outsiders,
  principal,
  type SecurityBed,
  server,
  startSecurityBed,
} from "./security-bed.ts";
import { until } from "./testbed.ts";

let bed: SecurityBed;
beforeAll(async () => {
  bed = await startSecurityBed();
}, 90_000);
afterAll(() => bed?.down());
afterEach(() => bed.kubectl("delete", "authorizationpolicy", "--all", "-n", "sec"));

type Rule = Record<string, unknown>;
const policy = (name: string, action: string, rules: Rule[], more: object = {}) =>
  bed.object("AuthorizationPolicy", name, { ...server, action, rules, ...more });
const drop = (...names: string[]) => Promise.all(names.map((name) => bed.remove("AuthorizationPolicy", name)));

const all = (code: number): Partial<Record<Client, number>> =>
  Object.fromEntries(clients.map((client) => [client, code]));
const only = (allowed: readonly Client[]) => ({ ...all(403), ...Object.fromEntries(allowed.map((one) => [one, 200])) });
const but = (denied: readonly Client[]) => ({ ...all(200), ...Object.fromEntries(denied.map((one) => [one, 403])) });

/** Waits until a marked path is denied: what was applied before holds then, too. */
let marks = 0;
async function applied(): Promise<void> {
  const path = `/mark-${++marks}`;
  await policy("mark", "DENY", [{ to: [{ operation: { paths: [path] } }] }]);
  await bed.settle(all(403), { url: `http://server.sec${path}` });
}

const sources: [what: string, from: Rule, allowed: readonly Client[]][] = [
  ["principals", { principals: [principal("sec/near"), principal("other/far")] }, ["sec/near", "other/far"]],
  ["principals by prefix", { principals: ["cluster.local/ns/other/*"] }, ["other/near", "other/far"]],
  ["principals by suffix", { principals: ["*/sa/near"] }, ["sec/near", "other/near"]],
  ["anybody with a name", { principals: ["*"] }, ["sec/near", "sec/far", "other/near", "other/far"]],
  ["notPrincipals", { notPrincipals: ["*"] }, outsiders],
  ["namespaces", { namespaces: ["ot*"] }, ["other/near", "other/far"]],
  ["notNamespaces", { namespaces: ["*"], notNamespaces: ["other"] }, ["sec/near", "sec/far"]],
  ["serviceAccounts", { serviceAccounts: ["near", "other/far"] }, ["sec/near", "other/far"]],
  ["notServiceAccounts", { notServiceAccounts: ["near", "other/near"] }, ["sec/far", "other/far", ...outsiders]],
];

test("source: principals, namespaces, service accounts, and each not", async () => {
  for (const [what, from, allowed] of sources) {
    await policy("who", "ALLOW", [{ from: [{ source: from }] }]);
    await bed.settle(only(allowed)).catch((error) => {
      throw new Error(`${what}: ${error}`);
    });
  }
}, 60_000);

test("source.ip is the caller's pod, on its own node and by the tunnel from another", async () => {
  const ipOf = async (client: Client) => {
    const [namespace, name] = client.split("/");
    return (await bed.kubectl("get", "pod", name!, "-n", namespace!, "-o", "jsonpath={.status.podIP}")).trim();
  };
  const ipBlocks = [await ipOf("sec/near"), `${await ipOf("other/far")}/32`];
  await policy("who", "ALLOW", [{ from: [{ source: { ipBlocks } }] }]);
  // Whoever is outside the mesh comes from his node's address.
  await bed.settle(only(["sec/near", "other/far"]));
  await policy("who", "DENY", [{ from: [{ source: { ipBlocks: ["0.0.0.0/0"], notIpBlocks: ipBlocks } }] }]);
  await bed.settle(only(["sec/near", "other/far"]));
  const when = [{ key: "source.ip", values: ["10.244.0.0/16"], notValues: ipBlocks }];
  await policy("who", "DENY", [{ when }]);
  await bed.settle(but(["sec/far", "other/near"]));
}, 40_000);

const operations: [what: string, to: Rule, asked: Partial<Order> & { url: string }, denied: boolean][] = [
  ["path", { paths: ["/a"] }, { url: "/a?x=1" }, true],
  ["path", { paths: ["/a"] }, { url: "/a/b" }, false],
  ["path by prefix", { paths: ["/a/*"] }, { url: "/a/b" }, true],
  ["path by suffix", { paths: ["*.html"] }, { url: "/x/y.html" }, true],
  ["path by template", { paths: ["/a/{*}/c"] }, { url: "/a/b/c" }, true],
  ["path by template", { paths: ["/a/{*}/c"] }, { url: "/a/b/b/c" }, false],
  ["path by template", { paths: ["/a/{**}"] }, { url: "/a/b/b/c" }, true],
  ["notPaths", { notPaths: ["/a", "/healthz"] }, { url: "/b" }, true],
  ["notPaths", { notPaths: ["/a", "/healthz"] }, { url: "/a" }, false],
  ["method", { methods: ["DELETE"] }, { url: "/", method: "DELETE" }, true],
  ["method", { methods: ["DELETE"] }, { url: "/" }, false],
  ["notMethods", { notMethods: ["GET"] }, { url: "/", method: "PUT" }, true],
  ["host", { hosts: ["*.SEC"] }, { url: "/" }, true],
  ["host", { hosts: ["server"] }, { url: "/" }, false],
  ["notHosts", { notHosts: ["server.sec"] }, { url: "/" }, false],
  ["ports", { ports: ["8080"] }, { url: "/" }, true],
  ["ports are the container's", { ports: ["80"] }, { url: "/" }, false],
  ["notPorts", { notPorts: ["8080"] }, { url: "/" }, false],
];

test("operation: paths with * and templates, methods, hosts, ports, and each not", async () => {
  const caller: Client = "sec/far";
  for (const [what, operation, { url, ...order }, denied] of operations) {
    await policy("what", "DENY", [{ to: [{ operation }], from: [{ source: { principals: [principal(caller)] } }] }]);
    await applied();
    const status = await bed.status(caller, { ...order, url: `http://server.sec${url}` });
    expect(`${what} ${url} ${status}`).toBe(`${what} ${url} ${denied ? 403 : 200}`);
  }
}, 60_000);

test("hosts are asked of the request at the gateway, whatever their case", async () => {
  const selector = { matchLabels: { istio: "ingressgateway" } };
  const rules = [{ to: [{ operation: { hosts: ["*.sErver.test"] } }] }];
  const metadata = { namespace: "istio-system" };
  await bed.object("AuthorizationPolicy", "hosts", { selector, action: "DENY", rules }, metadata);
  await until(
    "the host is denied",
    effectMs,
    async () => (await bed.get("/", { host: "A.Server.Test" })).status === 403,
  );
  expect(await (await bed.get("/", { host: "a.server.test" })).text()).toBe("RBAC: access denied");
  expect((await bed.get("/")).status).toBe(200);
  await bed.remove("AuthorizationPolicy", "hosts", "istio-system");
}, 30_000);

const conditions: [key: string, values: Rule, allowed: readonly Client[], order?: Partial<Order>][] = [
  ["request.headers[x-tenant]", { values: ["a*"], notValues: ["ab"] }, clients, { headers: { "x-tenant": "aa" } }],
  ["request.headers[x-tenant]", { values: ["a*"], notValues: ["ab"] }, [], { headers: { "x-tenant": "ab" } }],
  ["source.namespace", { values: ["other"] }, ["other/near", "other/far"]],
  ["source.principal", { notValues: ["*/sa/near"] }, ["sec/far", "other/far", "outside/near", "outside/far"]],
  ["source.serviceAccount", { values: ["sec/near"] }, ["sec/near"]],
  ["destination.port", { values: ["8080"] }, clients],
  ["destination.port", { notValues: ["8080"] }, []],
  ["connection.sni", { values: ["outbound*"] }, []],
];

test("when: every key that a request has here", async () => {
  await policy("when", "ALLOW", [{ when: [{ key: "destination.ip", values: [bed.serverIp] }] }]);
  await bed.settle(all(200));
  await policy("when", "ALLOW", [{ when: [{ key: "destination.ip", notValues: ["10.244.0.0/16"] }] }]);
  await bed.settle(all(403));
  for (const [key, values, allowed, order] of conditions) {
    await policy("when", "ALLOW", [{ when: [{ key, ...values }] }]);
    await bed.settle(only(allowed), order).catch((error) => {
      throw new Error(`${key} ${JSON.stringify(values)}: ${error}`);
    });
  }
}, 60_000);

test("DENY before ALLOW; AUDIT and a dry run decide nothing; the refusal says who refused", async () => {
  await policy("allow", "ALLOW", [{}]);
  await policy("deny", "DENY", [{ from: [{ source: { namespaces: ["other"] } }] }]);
  await policy("audit", "AUDIT", [{}]);
  await bed.settle(but(["other/near", "other/far"]));
  const { body } = await bed.from("other/far", { url: "http://server.sec/" });
  expect(body).toBe("RBAC: access denied");
  await drop("deny", "audit");
  await bed.object(
    "AuthorizationPolicy",
    "deny",
    { ...server, action: "DENY", rules: [{}] },
    {
      annotations: { "istio.io/dry-run": "true" },
    },
  );
  await bed.settle(all(200));
  await applied();
  await bed.settle(all(200));
  // What it would have done is counted, with Istio's labels.
  const { stdout } = await bed.meshbed("exec", "worker1", "--", "curl", "-s", "http://172.20.0.11:15020/metrics");
  const line = stdout
    .split("\n")
    .find((each) => each.startsWith("envoy_http_rbac{") && each.includes('authz_dry_run_result="denied"'));
  expect(line).toContain('authz_dry_run_action="deny"');
  expect(line).toContain('workload="server"');
  expect(Number(line?.split(" ").at(-1))).toBeGreaterThan(0);
}, 40_000);

test("on a TCP port what is asked of requests denies always and allows never", async () => {
  const hear = (client: Client, expected: boolean) =>
    until(`${client} is ${expected ? "" : "not "}heard`, effectMs, async () => (await bed.heard(client)) === expected);
  await policy("tcp", "ALLOW", [
    { from: [{ source: { namespaces: ["sec"] } }], to: [{ operation: { ports: ["9000"] } }] },
  ]);
  for (const client of clients) await hear(client, client.startsWith("sec/"));
  await policy("tcp", "ALLOW", [{ to: [{ operation: { methods: ["GET"], ports: ["9000"] } }] }]);
  for (const client of clients) await hear(client, false);
  await policy("tcp", "DENY", [{ to: [{ operation: { methods: ["GET"], ports: ["9000"] } }] }]);
  await policy("allow", "ALLOW", [{}]);
  await bed.settle(all(200));
  for (const client of clients) await hear(client, false);
  await drop("tcp", "allow");
  for (const client of clients) await hear(client, true);
}, 40_000);

test("CUSTOM asks a provider of MeshConfig about what its rules name; a provider that is not there denies", async () => {
  const echo = (service: string, more: object = {}) => ({
    service,
    port: 80,
    includeRequestHeadersInCheck: ["x-shown"],
    headersToUpstreamOnAllow: ["x-pod"],
    headersToDownstreamOnAllow: ["x-version"],
    headersToDownstreamOnDeny: ["x-pod"],
    ...more,
  });
  await bed.settings({
    extensionProviders: [
      { name: "inside", envoyExtAuthzHttp: echo("far.other.svc.cluster.local") },
      { name: "outside", envoyExtAuthzHttp: echo("far.outside.svc.cluster.local", { pathPrefix: "/check" }) },
      {
        name: "gone",
        envoyExtAuthzHttp: echo("near.outside.svc.cluster.local", {
          statusOnError: "503",
          pathPrefix: "/delay?delayMs=2000&",
          timeout: "0.1s",
        }),
      },
      {
        name: "open",
        envoyExtAuthzHttp: echo("near.outside.svc.cluster.local", {
          failOpen: true,
          pathPrefix: "/delay?delayMs=2000&",
          timeout: "0.1s",
        }),
      },
    ],
  });
  const ask = (name: string) =>
    policy("custom", "CUSTOM", [{ to: [{ operation: { paths: ["/asked*"] } }] }], { provider: { name } });
  const asked = (query: string): Order => ({ url: `http://server.sec/asked${query}` });
  for (const provider of ["inside", "outside"]) {
    await ask(provider);
    // Echo servers answer with the status that the path asks for: here the provider is the first to see it.
    await until("the provider is asked", effectMs, async () => {
      const answers = await Promise.all(clients.map((client) => bed.from(client, asked("?status=401"))));
      return answers.every(({ status, headers }) => status === 401 && headers["x-pod"] === "far");
    });
    for (const client of ["sec/near", "sec/far", "outside/near"] as const) {
      const denied = await bed.from(client, asked("?status=401"));
      expect([denied.headers["x-pod"], JSON.parse(denied.body).pod]).toEqual(["far", "far"]);
      const allowed = await bed.from(client, { ...asked(""), headers: { "x-pod": "forged", "x-shown": "1" } });
      expect([allowed.status, came(allowed).pod, came(allowed).headers["x-pod"]]).toEqual([200, "server", "far"]);
    }
    // Not named by its rules: nobody is asked.
    expect(came(await bed.from("sec/near", { url: "http://server.sec/else" })).headers["x-pod"]).toBeUndefined();
  }
  await ask("gone");
  await bed.settle(all(503), asked(""));
  await ask("open");
  await bed.settle(all(200), asked(""));
  await ask("unknown");
  await bed.settle(all(403), asked(""));
  await until("the event says so", effectMs, async () =>
    (await bed.kubectl("get", "events", "-n", "sec")).includes('no extensionProvider "unknown"'),
  );
  await bed.settings({});
}, 60_000);

/** Denies what has "deny" in it; a message without fields allows. */
const grpcAuthorizer = `require("node:http2").createServer().on("stream", (s) => {
  const got = [];
  s.on("data", (chunk) => got.push(chunk)).on("end", () => {
    const message = Buffer.concat(got).includes("deny") ? Buffer.from([10, 2, 8, 7]) : Buffer.alloc(0);
    s.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    s.on("wantTrailers", () => s.sendTrailers({ "grpc-status": "0" }));
    s.end(Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]));
  });
}).listen(8080);`;

test("CUSTOM asks a provider by gRPC, in the mesh and outside", async () => {
  const items = ["other", "outside"].flatMap((namespace) => {
    const metadata = { name: "authorizer", namespace, labels: { app: "authorizer" } };
    const command = [process.execPath, "-e", grpcAuthorizer];
    const readinessProbe = { tcpSocket: { port: 8080 }, periodSeconds: 1 };
    const container = { name: "main", image: "debian", command, ports: [{ containerPort: 8080 }], readinessProbe };
    const spec = { selector: { app: "authorizer" }, ports: [{ name: "grpc", port: 9001, targetPort: 8080 }] };
    return [
      { apiVersion: "v1", kind: "Pod", metadata, spec: { nodeName: "worker3", containers: [container] } },
      { apiVersion: "v1", kind: "Service", metadata: { name: "authorizer", namespace }, spec },
    ];
  });
  await bed.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items }));
  const extensionProviders = ["other", "outside"].map((namespace) => ({
    name: namespace,
    envoyExtAuthzGrpc: { service: `authorizer.${namespace}.svc.cluster.local`, port: 9001, timeout: "1s" },
  }));
  await bed.settings({ extensionProviders });
  for (const name of ["other", "outside"]) {
    await policy("custom", "CUSTOM", [{ to: [{ operation: { notPaths: ["/free*"] } }] }], { provider: { name } });
    await bed.settle(all(200), { url: "http://server.sec/asked" });
    await bed.settle(all(403), { url: "http://server.sec/deny" });
    await bed.settle(all(200), { url: "http://server.sec/free/deny" });
  }
  await bed.settings({});
}, 40_000);

test("targetRefs: a policy and a token rule for one Gateway of the Gateway API hold at its pods only", async () => {
  const made = (kind: string, name: string, spec: object) => ({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind,
    metadata: { name, namespace: "sec" },
    spec,
  });
  const listeners = [{ name: "http", port: 80, protocol: "HTTP" }];
  const items = [
    ...["one", "two"].map((name) => made("Gateway", name, { gatewayClassName: "istio", listeners })),
    made("HTTPRoute", "both", {
      parentRefs: [{ name: "one" }, { name: "two" }],
      rules: [{ backendRefs: [{ name: "server", port: 80 }] }],
    }),
  ];
  await bed.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items }));
  // By their Services: other testbeds of this machine may have the same addresses outside.
  const statuses = async (headers: Record<string, string> = {}): Promise<string> => {
    const codes = ["one", "two"].map((name) =>
      bed.status("outside/near", { url: `http://${name}-istio.sec/`, headers }),
    );
    return (await Promise.all(codes)).join();
  };
  const become = (expected: string, headers?: Record<string, string>, timeoutMs = effectMs) =>
    until(`both answer ${expected}`, timeoutMs, async () => {
      const got = await statuses(headers);
      if (got !== expected) throw new Error(got);
      return true;
    });
  // Their pods have to start first.
  await become("200,200", {}, 20_000);
  const targetRefs = [{ group: "gateway.networking.k8s.io", kind: "Gateway", name: "one" }];
  await bed.object("AuthorizationPolicy", "target", { targetRefs, action: "DENY", rules: [{}] });
  await become("403,200");
  await bed.object("AuthorizationPolicy", "target", { targetRefs, action: "ALLOW", rules: [{}] });
  await become("200,200");
  await bed.object("RequestAuthentication", "target", { targetRefs, jwtRules: [{ issuer: "a", jwks: '{"keys":[]}' }] });
  await become("401,200", { authorization: "Bearer a.b.c" });
  await bed.remove("RequestAuthentication", "target");
  await bed.kubectl("delete", "httproute,gateways.gateway.networking.k8s.io", "--all", "-n", "sec");
}, 60_000);
