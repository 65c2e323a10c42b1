// Tests of routes: what passes, what fails and how that is told, in both formats.
import { describe, expect, test } from "bun:test";
import { createContext } from "./context.ts";
import { junit } from "./junit.ts";
import { checkTest, type Expectation, type RouteTest, runRouteTest } from "./route_tests.ts";
import { runValidatorCase, type ValidatorCase, validatorContext } from "./validator_tests.ts";
import { worldOfFiles } from "./world.ts";

const nowMs = Date.UTC(2026, 0, 1);
const manifests = `apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: edge, namespace: shop }
spec: { selector: { istio: edge }, servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web, namespace: shop }
spec:
  hosts: [shop.test]
  gateways: [edge]
  http:
    - name: moved
      match: [{ uri: { prefix: /old } }]
      redirect: { uri: /new }
    - name: users
      match: [{ uri: { prefix: /users }, headers: { x-type: { exact: qa } } }]
      rewrite: { uri: /u }
      timeout: 2s
      route: [{ destination: { host: web, subset: v1 }, weight: 95 }, { destination: { host: web, subset: v2 }, weight: 5 }]
    - match: [{ uri: { prefix: /team } }]
      delegate: { name: team, namespace: shop }
    - route: [{ destination: { host: web, port: { number: 80 } } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: team, namespace: shop }
spec: { http: [{ route: [{ destination: { host: team } }] }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web, namespace: shop }
spec: { host: web, subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { selector: { app: web }, ports: [{ name: http, port: 80 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web-1, namespace: shop, labels: { app: web, version: v1 } }
spec: { containers: [{ name: web, image: web }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web-2, namespace: shop, labels: { app: web, version: v2 } }
spec: { containers: [{ name: web, image: web }] }
`;
const world = worldOfFiles([{ file: "shop.yaml", text: manifests }], nowMs);

async function fails(url: string, expectation: Expectation, headers: Record<string, string> = {}): Promise<string[]> {
  const context = createContext(world);
  const failures = await runRouteTest(context, { name: "case", request: { url, headers }, expect: expectation });
  context.close();
  return failures;
}

describe("our own format", () => {
  const qa = { "x-type": "qa" };
  test("shares, rewrites, timeout and redirects hold or do not", async () => {
    const destinations = [
      { host: "web", subset: "v1", percent: 95 },
      { host: "web", subset: "v2", percent: 5 },
    ];
    expect(
      await fails("http://shop.test/users/1", { route: "users", destinations, path: "/u/1", timeout: "2s" }, qa),
    ).toEqual([]);
    expect(await fails("http://shop.test/old", { status: 301, location: "http://shop.test/new" })).toEqual([]);
  });
  test("what failed says what was expected, what came instead, and because of which line", async () => {
    expect(await fails("http://shop.test/old", { destination: "web" })).toEqual([
      'expected web, got 301, location http://shop.test/new (redirect shop.yaml:14) (because route "moved" shop.yaml:14)',
    ]);
    expect(await fails("http://shop.test/users", { destination: { host: "web", percent: 50 } }, qa)).toEqual([
      'expected 50 % web, got 95 % web v1 port 80 + 5 % web v2 port 80 (because route "users" shop.yaml:17)'.replaceAll(
        "% web v",
        "% web.shop.svc.cluster.local v",
      ),
    ]);
  });
  test("a misspelt expectation is refused, not passed", () => {
    const misspelt = {
      name: "a",
      request: { url: "http://a/" },
      expect: { destnation: "web" },
    } as unknown as RouteTest;
    expect(() => checkTest(misspelt, "t.yaml")).toThrow("'expect.destnation' is not known");
    expect(() => checkTest({ ...misspelt, expect: {} }, "t.yaml")).toThrow("says nothing");
  });
});

describe("istio-config-validator's format", () => {
  async function run(one: ValidatorCase) {
    const context = validatorContext(world);
    const result = await runValidatorCase(context, one, "t.yaml");
    context.close();
    return result;
  }
  const request = {
    authority: ["shop.test"],
    method: ["GET", "POST"],
    uri: ["/users", "/users/"],
    headers: { "x-type": "qa" },
  };
  const users = [
    { destination: { host: "web", subset: "v1" }, weight: 95 },
    { destination: { host: "web", subset: "v2" }, weight: 5 },
  ];
  test("every combination is tried against the rule's route", async () => {
    expect(await run({ wantMatch: true, request, route: users, rewrite: { uri: "/u" } })).toEqual({
      failures: [],
      requests: 4,
    });
    expect((await run({ wantMatch: false, request, route: users })).failures).toHaveLength(4);
    expect((await run({ wantMatch: true, request, route: users, rewrite: { uri: "/v" } })).failures).toHaveLength(4);
  });
  test("wantMatch false asks for another route, as the default does", async () => {
    expect((await run({ request: { ...request, headers: {} }, route: users })).failures).toEqual([]);
  });
  test("a delegate's route and the delegation itself can both be asked for", async () => {
    const team = { ...request, uri: ["/team/a"] };
    expect(
      (await run({ wantMatch: true, request: team, route: [{ destination: { host: "team" } }] })).failures,
    ).toEqual([]);
    expect(
      (await run({ wantMatch: true, request: team, delegate: { name: "team", namespace: "shop" } })).failures,
    ).toEqual([]);
    expect((await run({ wantMatch: true, request: team, delegate: { name: "other" } })).failures).toHaveLength(2);
  });
  test("redirects are compared, and an empty list of methods is a mistake", async () => {
    const old = { ...request, uri: ["/old"] };
    expect((await run({ wantMatch: true, request: old, redirect: { uri: "/new" } })).failures).toEqual([]);
    await expect(run({ request: { ...old, method: [] } })).rejects.toThrow("request.method is empty");
  });
});

test("JUnit counts cases and failures, and escapes what XML cannot hold", () => {
  const xml = junit([
    { file: "a.yaml", name: "good", failures: [], requests: 1, durationMs: 1 },
    { file: "a.yaml", name: 'bad "<&>', failures: ["expected <a>"], requests: 1, durationMs: 2 },
  ]);
  expect(xml).toContain('<testsuite name="a.yaml" tests="2" failures="1">');
  expect(xml).toContain("bad &#34;&#60;&#38;&#62;");
});
