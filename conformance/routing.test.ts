// The rules of examples/istio/routing.yaml, each seen by its traffic: matching, several VirtualServices for a host, weights.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Answer, came, type EchoBed, startEcho, tally } from "./echo.ts";

let bed: EchoBed;
beforeAll(async () => {
  bed = await startEcho();
  await bed.example("routing.yaml");
}, 90_000);
afterAll(() => bed?.down());

const rule = ({ headers }: Answer): string => headers["x-rule"] ?? "none";

const matched: [rule: string, path: string, method?: string, headers?: Record<string, string>][] = [
  ["exact", "/exact"],
  ["exact", "/exact?and=parameters"],
  ["rest", "/exact/not"],
  ["rest", "/EXACT"],
  ["prefix", "/prefix"],
  ["prefix", "/prefixes/too"],
  ["regex", "/items/12"],
  ["rest", "/items/12/not"],
  ["any-case", "/case"],
  ["any-case", "/CASE"],
  ["method", "/", "DELETE"],
  ["rest", "/", "POST"],
  ["header-exact", "/", "GET", { "x-user": "jane" }],
  ["header-prefix", "/", "GET", { "x-user": "team-7" }],
  ["header-regex", "/", "GET", { "x-user": "id-7" }],
  ["rest", "/", "GET", { "x-user": "id-7-not" }],
  ["header-present", "/", "GET", { "x-present": "whatever" }],
  ["query-exact", "/?a=1&v=2"],
  ["rest", "/?v=3"],
  ["query-regex", "/?id=77"],
  ["rest", "/?id=seven"],
  ["query-prefix", "/?q=meshbed"],
  ["both", "/and/all", "GET", { "x-a": "1" }],
  ["rest", "/and/all", "GET", { "x-a": "2" }],
  ["rest", "/and/all", "POST", { "x-a": "1" }],
  ["either.first", "/one"],
  ["either.second", "/two"],
  ["without", "/without"],
  ["without", "/without", "GET", { "x-value": "2" }],
  ["rest", "/without", "GET", { "x-not": "there" }],
  ["rest", "/without", "GET", { "x-value": "1" }],
  // First match wins.
  ["exact", "/exact", "DELETE", { "x-user": "jane" }],
  // A catch-all ends the list.
  ["rest", "/never"],
];

test("every kind of condition decides at the gateway, in the order written", async () => {
  const seen: string[] = [];
  for (const [, path, method = "GET", headers = {}] of matched) {
    const answer = await bed.get("matches.test", path, { method, headers });
    seen.push(`${rule(answer)} ${answer.status} ${method} ${path} ${JSON.stringify(headers)}`);
  }
  expect(seen).toEqual(
    matched.map(
      ([wanted, path, method = "GET", headers = {}]) => `${wanted} 200 ${method} ${path} ${JSON.stringify(headers)}`,
    ),
  );
});

test("the authority decides, with or without port and in any case", async () => {
  const hosts = [
    "own.authority.test",
    "a.authority.test",
    "b.authority.test",
    "OWN.Authority.Test",
    "b.authority.test:80",
  ];
  const seen = [];
  for (const host of hosts) seen.push(rule(await bed.get(host, "/")));
  // The match is about the text, the virtual host about the name.
  expect(seen).toEqual(["own", "a", "any", "any", "any"]);
});

test("in the mesh labels, namespace and port of the client decide", async () => {
  const ruleFor = async (client: "red" | "blue", url: string) => rule((await bed.from(client, { url }))[0]!);
  expect(await ruleFor("red", "http://server/")).toBe("labels");
  expect(await ruleFor("red", "http://server.echo.svc.cluster.local/")).toBe("labels");
  expect(await ruleFor("blue", "http://server.echo/")).toBe("namespace");
  expect(await ruleFor("red", "http://server:8080/")).toBe("port");
  expect(await ruleFor("blue", "http://server.echo:8080/")).toBe("port");
});

test("two VirtualServices for one host: appended at the gateway, catch-alls last; in the mesh the older holds alone", async () => {
  const atGateway = async (path: string) => rule(await bed.get("shared.test", path));
  expect([await atGateway("/one"), await atGateway("/two"), await atGateway("/")]).toEqual(["one", "two", "one-rest"]);
  const inMesh = async (path: string) =>
    rule((await bed.from("red", { url: `http://server${path}`, headers: { host: "shared.test" } }))[0]!);
  expect([await inMesh("/one"), await inMesh("/two"), await inMesh("/")]).toEqual(["one", "one-rest", "one-rest"]);
});

test("naming a gateway leaves sidecars out unless mesh is named too; a match may name either", async () => {
  const inside = async (host: string) => (await bed.from("red", { url: "http://server/", headers: { host } }))[0]!;
  expect(rule(await bed.get("edge-only.test", "/"))).toBe("edge-only");
  const passed = await inside("edge-only.test");
  // No rule of the mesh knows the host: it goes where it was sent (ALLOW_ANY).
  expect([passed.status, rule(passed)]).toEqual([200, "none"]);
  expect(rule(await bed.get("both-ways.test", "/"))).toBe("from-outside");
  expect(rule(await inside("both-ways.test"))).toBe("from-inside");
});

test("weights are shares of their sum, 0 is nothing, and a single destination takes all", async () => {
  const requests = 1_000;
  const answers = await bed.many(requests, 16, () => bed.get("weights.test", "/"));
  const seen = tally(answers, ({ status, headers }) => `${status} ${headers["x-version"]}`);
  console.log(`  1:3:0 over ${requests} requests: ${JSON.stringify(seen)}`);
  expect(Object.keys(seen).sort()).toEqual(["200 v1", "200 v2"]);
  // Four standard deviations of a binomial distribution with p = 1/4.
  expect(Math.abs(seen["200 v1"]! - 250)).toBeLessThanOrEqual(4 * Math.sqrt(requests * 0.25 * 0.75));
  const single = await bed.many(20, 4, () => bed.get("weights.test", "/single"));
  expect(tally(single, (answer) => came(answer).version)).toEqual({ v2: 20 });
});

test("several destinations without any weight are refused at the door", async () => {
  const route = [{ destination: { host: "server", subset: "v1" } }, { destination: { host: "server", subset: "v2" } }];
  const spec = { hosts: ["zero.test"], gateways: ["echo"], http: [{ route }] };
  await expect(bed.rules({ kind: "VirtualService", name: "zero", spec })).rejects.toThrow(/weight/);
});

test("an unknown subset is answered with 503 and flag NC until a DestinationRule has it", async () => {
  const before = await bed.get("missing.test", "/");
  expect(before.status).toBe(503);
  expect(await bed.metric("gateway", "istio_requests_total", { response_flags: "NC", response_code: "503" })).toBe(1);
  const subsets = [{ name: "v3", labels: { version: "v2" } }];
  await bed.rules({ kind: "DestinationRule", name: "server-v3", spec: { host: "server", subsets } });
  expect(came(await bed.get("missing.test", "/")).version).toBe("v2");
});

test("a gateway without a rule for the host answers 404 with flag NR", async () => {
  const lost = () => bed.metric("gateway", "istio_requests_total", { response_flags: "NR", response_code: "404" });
  const before = await lost();
  expect((await bed.get("nobody.test", "/")).status).toBe(404);
  expect((await lost()) - before).toBe(1);
});
