// The Gateway API by real traffic, after the behaviours of its upstream conformance tests: a deployed gateway, listeners, matches, filters, weights, backends that lead nowhere.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Answer, type Came, type EchoBed, startEcho, tally } from "./echo.ts";
import { balancerPort, root, run, until } from "./testbed.ts";

let bed: EchoBed;
/** The gateway's address on this machine, as its status says it. */
let address = "";
let port = 80;

const apiVersion = "gateway.networking.k8s.io/v1";
const object = (kind: string, name: string, spec: object, namespace = "echo") => ({
  apiVersion,
  kind,
  metadata: { name, namespace },
  spec,
});
const apply = (...objects: object[]) => bed.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));

type Parents = {
  parents?: { conditions: { type: string; status: string; reason: string; observedGeneration: number }[] }[];
};
interface Read {
  metadata: { generation: number };
  status?: Parents & {
    addresses?: { value: string }[];
    conditions?: { type: string; status: string; reason: string; observedGeneration: number }[];
    listeners?: { name: string; attachedRoutes: number }[];
  };
}
const read = async (kind: string, name: string, namespace = "echo"): Promise<Read> =>
  JSON.parse(await bed.kubectl("get", kind, name, "-n", namespace, "-o", "json")) as Read;
/** "Accepted=True/Accepted" … of the route's first parent. */
const conditions = ({ status }: Read, parent = 0): string[] =>
  (status?.parents?.[parent]?.conditions ?? []).map(({ type, status: s, reason }) => `${type}=${s}/${reason}`).sort();

const gateway = (listeners: object[]) => object("Gateway", "shop", { gatewayClassName: "istio", listeners });
const http = { name: "http", port: 80, protocol: "HTTP", allowedRoutes: { namespaces: { from: "All" } } };

let step = 0;
/** Applies routes and returns once everything applied so far holds at the gateway. */
async function routes(...objects: object[]): Promise<void> {
  const host = `step-${++step}.test`;
  const redirect = { type: "RequestRedirect", requestRedirect: { hostname: host } };
  const probe = object("HTTPRoute", "step", {
    parentRefs: [{ name: "shop", sectionName: "http" }],
    hostnames: [host],
    rules: [{ filters: [redirect] }],
  });
  await apply(...objects, probe);
  await until("the routes hold", 5_000, async () => (await get(host, "/")).status === 302);
}

async function get(host: string, path: string, init: RequestInit = {}): Promise<Answer> {
  const headers = { ...(init.headers as Record<string, string>), host };
  const response = await fetch(`http://${address}:${port}${path}`, { redirect: "manual", ...init, headers });
  const body = await response.text();
  return { status: response.status, headers: Object.fromEntries(response.headers), body, tookMs: 0 };
}
const came = ({ body }: Answer): Came => JSON.parse(body) as Came;
const route = (name: string, host: string, rules: object[], more: object = {}) =>
  object("HTTPRoute", name, { parentRefs: [{ name: "shop" }], hostnames: [host], rules, ...more });
const to = (name = "v1", more: object = {}) => ({ name, port: 80, ...more });
const says = (rule: string) => ({
  type: "ResponseHeaderModifier",
  responseHeaderModifier: { set: [{ name: "x-rule", value: rule }] },
});
const ruleOf = ({ status, headers }: Answer): string => `${status} ${headers["x-rule"] ?? "-"}`;

beforeAll(async () => {
  bed = await startEcho();
  const versions = ["v1", "v2"].map((version) => ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: version, namespace: "echo" },
    spec: { selector: { app: "server", version }, ports: [{ name: "http", port: 80, targetPort: 8080 }] },
  }));
  await apply(...versions, gateway([http]));
  await bed.kubectl(
    "wait",
    "--for=condition=Programmed",
    "gateways.gateway.networking.k8s.io/shop",
    "-n",
    "echo",
    "--timeout=20s",
  );
  address = (await read("gtw", "shop")).status!.addresses![0]!.value;
  port = balancerPort(bed, address, 80);
}, 90_000);
afterAll(() => bed?.down());

test("a deployed gateway has an address of this machine, and answers 404 where no route is", async () => {
  expect(address).toMatch(/^127\./);
  await until("it answers", 5_000, async () => (await get("nobody.test", "/")).status === 404);
}, 20_000);

test("precedence: exact path, longest prefix by segment, method, headers, query; across routes the older one's equals", async () => {
  const rule = (name: string, ...matches: object[]) => ({ matches, filters: [says(name)], backendRefs: [to()] });
  const path = (value: string, type = "PathPrefix") => ({ path: { type, value } });
  await routes(
    route("older", "matching.test", [
      rule("all", path("/")),
      rule("prefix", path("/a")),
      rule("header", { headers: [{ name: "Version", value: "two" }] }),
      rule("exact", path("/a/b", "Exact")),
    ]),
  );
  await routes(
    route("younger", "matching.test", [
      rule("same-prefix", path("/a")),
      rule("longer", path("/a/b/")),
      rule("method", { ...path("/a"), method: "POST" }),
      rule("headers", {
        ...path("/a"),
        headers: [
          { name: "x", value: "1" },
          { name: "y", type: "RegularExpression", value: "[0-9]+" },
        ],
      }),
      rule("query", { ...path("/a"), queryParams: [{ name: "q", value: "1" }] }),
    ]),
  );
  const wanted: [rule: string, path: string, method?: string, headers?: Record<string, string>][] = [
    ["all", "/"],
    ["all", "/ab"],
    ["header", "/ab", "GET", { version: "two" }],
    ["prefix", "/a"],
    ["prefix", "/a/x"],
    ["exact", "/a/b"],
    ["longer", "/a/b/c"],
    ["prefix", "/a/bc"],
    ["method", "/a/x", "POST"],
    ["method", "/a/x?q=1", "POST", { x: "1", y: "2" }],
    ["headers", "/a/x?q=1", "GET", { x: "1", y: "22" }],
    ["query", "/a/x?q=1", "GET", { x: "1", y: "b" }],
    ["prefix", "/a/x?q=2"],
  ];
  const seen: string[] = [];
  for (const [, at, method = "GET", headers = {}] of wanted)
    seen.push(`${ruleOf(await get("matching.test", at, { method, headers }))} ${method} ${at}`);
  expect(seen).toEqual(wanted.map(([name, at, method = "GET"]) => `200 ${name} ${method} ${at}`));
}, 30_000);

test("rewrites: host, whole path, and the prefix that matched, with one slash between", async () => {
  const rewrite = (value: string, urlRewrite: object) => ({
    matches: [{ path: { value } }],
    filters: [{ type: "URLRewrite", urlRewrite }],
    backendRefs: [to()],
  });
  const prefix = (replacePrefixMatch: string) => ({ path: { type: "ReplacePrefixMatch", replacePrefixMatch } });
  await routes(
    route("rewrites", "rewrite.test", [
      rewrite("/full", { path: { type: "ReplaceFullPath", replaceFullPath: "/one" } }),
      rewrite("/foo", prefix("/xyz")),
      rewrite("/slash", prefix("/xyz/")),
      rewrite("/strip", prefix("/")),
      rewrite("/host", { hostname: "inner.test" }),
      rewrite("/", prefix("/below")),
    ]),
  );
  const wanted = [
    ["/full/two?q=1", "/one?q=1"],
    ["/foo/bar", "/xyz/bar"],
    ["/foo", "/xyz"],
    ["/foo/", "/xyz/"],
    ["/slash/bar", "/xyz/bar"],
    ["/strip/bar?q=1", "/bar?q=1"],
    ["/strip", "/"],
    ["/fool", "/below/fool"],
  ];
  const seen: string[][] = [];
  for (const [path] of wanted) seen.push([path!, came(await get("rewrite.test", path!)).path]);
  expect(seen).toEqual(wanted);
  expect(came(await get("rewrite.test", "/host/x"))).toMatchObject({ host: "inner.test", path: "/host/x" });
}, 20_000);

test("redirects: scheme, host, port, path and status; what is not said stays", async () => {
  const redirect = (value: string, requestRedirect: object) => ({
    matches: [{ path: { value } }],
    filters: [{ type: "RequestRedirect", requestRedirect }],
  });
  await routes(
    route("redirects", "redirect.test", [
      redirect("/host", { hostname: "other.test" }),
      redirect("/scheme", { scheme: "https", statusCode: 301 }),
      redirect("/port", { port: 8083 }),
      redirect("/well-known", { scheme: "https", port: 443, hostname: "other.test" }),
      redirect("/prefix", { path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/new" }, statusCode: 307 }),
      redirect("/strip", { path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/" } }),
      redirect("/full", { path: { type: "ReplaceFullPath", replaceFullPath: "/one" }, statusCode: 308 }),
    ]),
  );
  const wanted = [
    ["/host/a", "302 http://other.test/host/a"],
    ["/scheme", "301 https://redirect.test/scheme"],
    ["/port", "302 http://redirect.test:8083/port"],
    ["/well-known", "302 https://other.test/well-known"],
    ["/prefix/a?b=1", "307 http://redirect.test/new/a?b=1"],
    ["/strip/a", "302 http://redirect.test/a"],
    ["/full/a", "308 http://redirect.test/one"],
  ];
  const seen: string[][] = [];
  for (const [path] of wanted) {
    const { status, headers } = await get("redirect.test", path!);
    seen.push([path!, `${status} ${headers["location"]}`]);
  }
  expect(seen).toEqual(wanted);
}, 20_000);

test("header filters of a rule and of one backend, and a mirror that the client does not hear", async () => {
  const modify = (type: string, field: string, value: string) => ({
    type,
    [field]: { set: [{ name: "x-set", value }], add: [{ name: "x-add", value }], remove: ["x-gone"] },
  });
  await routes(
    route("filters", "filters.test", [
      { matches: [{ path: { value: "/seen" } }], backendRefs: [to("v2")] },
      {
        filters: [
          modify("RequestHeaderModifier", "requestHeaderModifier", "rule"),
          { type: "RequestMirror", requestMirror: { backendRef: to("v2") } },
        ],
        backendRefs: [to("v1", { filters: [modify("ResponseHeaderModifier", "responseHeaderModifier", "backend")] })],
      },
    ]),
  );
  const answer = await get("filters.test", "/mirrored", { headers: { "x-gone": "1", "x-set": "0", "x-add": "0" } });
  const { version, headers } = came(answer);
  expect([version, headers["x-set"], headers["x-gone"]]).toEqual(["v1", "rule", undefined]);
  expect(headers["x-add"]!.split(/, ?/)).toEqual(["0", "rule"]);
  expect(answer.headers["x-set"]).toBe("backend");
  const copies = async () => Number(JSON.parse((await get("filters.test", "/seen?key=copy")).body).times);
  for (let i = 0; i < 10; i++) expect(came(await get("filters.test", "/?key=copy")).version).toBe("v1");
  await until("v2 got the copies", 5_000, async () => (await copies()) === 10);
}, 20_000);

test("weights hold, and a backend that leads nowhere answers its share with 500", async () => {
  await routes(
    route("weights", "weights.test", [
      {
        matches: [{ path: { value: "/split" } }],
        backendRefs: [to("v1", { weight: 3 }), to("v2", { weight: 1 }), to("v2", { weight: 0 })],
      },
      { matches: [{ path: { value: "/half" } }], backendRefs: [to("v1"), to("missing")] },
      { matches: [{ path: { value: "/zero" } }], backendRefs: [to("v1", { weight: 0 })] },
      { matches: [{ path: { value: "/kind" } }], backendRefs: [to("v1", { group: "example.com", kind: "Thing" })] },
      { matches: [{ path: { value: "/nothing" } }] },
    ]),
  );
  const send = (path: string) => bed.many(400, 8, () => get("weights.test", path));
  const split = tally(await send("/split"), (answer) => came(answer).version);
  const half = tally(await send("/half"), ({ status }) => String(status));
  console.log(`  3:1 of 400: ${JSON.stringify(split)}; one of two backends missing: ${JSON.stringify(half)}`);
  expect(split["v1"]).toBeGreaterThan(250);
  expect(split["v2"]).toBeGreaterThan(60);
  expect(half["500"]).toBeGreaterThan(140);
  expect(half["200"]).toBeGreaterThan(140);
  for (const path of ["/zero", "/kind", "/nothing"]) expect((await get("weights.test", path)).status).toBe(500);
  const status = await until("its status says so", 5_000, async () => {
    const seen = conditions(await read("httproute", "weights"));
    return seen.length === 2 && seen;
  });
  expect(status).toEqual(["Accepted=True/Accepted", "ResolvedRefs=False/BackendNotFound"]);
}, 30_000);

test("another namespace's Service is out of reach without its ReferenceGrant", async () => {
  const client = { name: "client", namespace: "elsewhere", port: 80 };
  await routes(route("foreign", "foreign.test", [{ backendRefs: [client] }]));
  expect((await get("foreign.test", "/")).status).toBe(500);
  const grant = object(
    "ReferenceGrant",
    "echo",
    {
      from: [{ group: "gateway.networking.k8s.io", kind: "HTTPRoute", namespace: "echo" }],
      to: [{ group: "", kind: "Service", name: "client" }],
    },
    "elsewhere",
  );
  await apply(grant);
  await until("it is reached", 5_000, async () => (await get("foreign.test", "/")).status === 200);
  expect(conditions(await read("httproute", "foreign"))).toContain("ResolvedRefs=True/ResolvedRefs");
  await bed.kubectl("delete", "referencegrant", "echo", "-n", "elsewhere");
  await until("it is out of reach again", 5_000, async () => (await get("foreign.test", "/")).status === 500);
}, 30_000);

test("a route says why its parent does not take it, and a change of the route is seen in its status", async () => {
  await apply(
    gateway([
      { ...http, hostname: "*.test" },
      { name: "same", port: 80, protocol: "HTTP", hostname: "same.test" },
      {
        name: "grpc",
        port: 80,
        protocol: "HTTP",
        hostname: "grpc.test",
        allowedRoutes: { kinds: [{ kind: "GRPCRoute" }] },
      },
    ]),
  );
  const at = (name: string, sectionName: string, hostname: string, namespace = "echo") =>
    object(
      "HTTPRoute",
      name,
      { parentRefs: [{ name: "shop", namespace: "echo", sectionName }], hostnames: [hostname], rules: [{}] },
      namespace,
    );
  await apply(
    at("other-host", "same", "www.example.com"),
    at("other-namespace", "same", "same.test", "elsewhere"),
    at("other-kind", "grpc", "grpc.test"),
    at("no-listener", "none", "same.test"),
    object("HTTPRoute", "no-gateway", { parentRefs: [{ name: "none" }], rules: [{}] }),
  );
  const accepted = async (name: string, namespace?: string) =>
    until(`${name} has a status`, 5_000, async () =>
      conditions(await read("httproute", name, namespace)).find((text) => text.startsWith("Accepted")),
    );
  expect(await accepted("other-host")).toBe("Accepted=False/NoMatchingListenerHostname");
  expect(await accepted("other-namespace", "elsewhere")).toBe("Accepted=False/NotAllowedByListeners");
  expect(await accepted("other-kind")).toBe("Accepted=False/NotAllowedByListeners");
  expect(await accepted("no-listener")).toBe("Accepted=False/NoMatchingParent");
  expect(await accepted("no-gateway")).toBe("Accepted=False/NoMatchingParent");

  await apply(at("other-host", "same", "same.test"));
  await until("the new generation is observed", 5_000, async () => {
    const { status, metadata } = await read("httproute", "other-host");
    const [condition] = status!.parents![0]!.conditions;
    return condition!.observedGeneration === metadata.generation && condition!.status === "True";
  });
  const { status } = await read("gtw", "shop");
  expect(status!.listeners!.find(({ name }) => name === "same")!.attachedRoutes).toBe(1);
}, 30_000);

test("listeners of one port are isolated: the most specific one has a host alone", async () => {
  await apply(
    gateway([
      { ...http, hostname: "*.test" },
      { name: "own", port: 80, protocol: "HTTP", hostname: "own.isolated.test" },
      { name: "wide", port: 80, protocol: "HTTP", hostname: "*.isolated.test" },
    ]),
  );
  const at = (sectionName: string, ...hostnames: string[]) =>
    object("HTTPRoute", `isolated-${sectionName}`, {
      parentRefs: [{ name: "shop", sectionName }],
      hostnames,
      rules: [{ matches: [{ path: { value: `/${sectionName}` } }], filters: [says(sectionName)], backendRefs: [to()] }],
    });
  await routes(
    at("http", "own.isolated.test", "free.test"),
    at("own", "own.isolated.test"),
    at("wide", "*.isolated.test"),
  );
  const seen = async (host: string) => {
    const rules: string[] = [];
    for (const name of ["http", "own", "wide"]) rules.push((await get(host, `/${name}`)).headers["x-rule"] ?? "404");
    return rules;
  };
  expect(await seen("own.isolated.test")).toEqual(["404", "own", "404"]);
  expect(await seen("any.isolated.test")).toEqual(["404", "404", "wide"]);
  expect(await seen("free.test")).toEqual(["http", "404", "404"]);
}, 30_000);

test("routes for a Service hold within the mesh: the producer's for all, a consumer's for its own namespace", async () => {
  const mesh = (name: string, namespace: string, rule: string, backend: string) =>
    object(
      "HTTPRoute",
      name,
      {
        parentRefs: [{ group: "", kind: "Service", name: "server", namespace: "echo", port: 80 }],
        rules: [{ filters: [says(rule)], backendRefs: [{ name: backend, namespace: "echo", port: 80 }] }],
      },
      namespace,
    );
  await apply(mesh("producer", "echo", "producer", "v2"));
  const rule = async (client: "red" | "blue", url = "http://server.echo/") => {
    const [answer] = await bed.from(client, { url });
    return `${answer?.status} ${answer?.headers["x-rule"]}`;
  };
  await until("the producer's rule holds", 5_000, async () => (await rule("blue")) === "200 producer");
  expect(await rule("red")).toBe("200 producer");
  // The other port of the Service goes on as without the route.
  expect(await rule("red", "http://server.echo:8080/")).toBe("200 undefined");
  await apply(
    {
      ...mesh("consumer", "elsewhere", "consumer", "v1"),
    },
    object("ReferenceGrant", "mesh", {
      from: [{ group: "gateway.networking.k8s.io", kind: "HTTPRoute", namespace: "elsewhere" }],
      to: [{ group: "", kind: "Service" }],
    }),
  );
  await until("the consumer's rule holds", 5_000, async () => (await rule("blue")) === "200 consumer");
  expect(await rule("red")).toBe("200 producer");
  await bed.kubectl("delete", "httproute", "producer", "-n", "echo");
  await bed.kubectl("delete", "httproute", "consumer", "-n", "elsewhere");
}, 30_000);

test("a second gateway listens on the same port beside the first; with the Gateway goes what was deployed", async () => {
  await apply(object("Gateway", "second", { gatewayClassName: "istio", listeners: [http] }));
  await bed.kubectl("wait", "--for=condition=Programmed", "gtw/second", "-n", "echo", "--timeout=20s");
  const other = (await read("gtw", "second")).status!.addresses![0]!.value;
  expect(other).not.toBe(address);
  expect(
    (await fetch(`http://${other}:${balancerPort(bed, other, 80)}/`, { headers: { host: "simple.test" } })).status,
  ).toBe(404);
  await bed.kubectl("delete", "gtw", "second", "-n", "echo");
  await until(
    "nothing is left",
    10_000,
    async () =>
      (await bed.kubectl("get", "deployment,service,serviceaccount", "-n", "echo", "-o", "name")).includes(
        "second-istio",
      ) === false,
  );
}, 40_000);

test("the example's README works as pasted", async () => {
  const text = readFileSync(join(root, "examples/gateway-api/README.md"), "utf8");
  const script = /```sh\n([\s\S]*?)```/.exec(text)![1]!;
  const env = { KUBECONFIG: join(bed.state, "kubeconfig") };
  const { stdout, stderr, code } = await run(["bash", "-e", "-c", script], { cwd: root, env });
  expect(`${code} ${stderr}`).toBe("0 ");
  const seen = [
    '"version":"v2"',
    "HTTP/1.1 301",
    "/new/page",
    '"path":"/items"',
    "HTTP/1.1 404",
    "httproute",
    "deleted",
  ];
  expect(seen.filter((part) => !stdout.includes(part))).toEqual([]);
}, 60_000);
