// What VirtualServices and DestinationRules say about traffic, seen from outside: hashing, mirrors, CORS, delegation.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { root, startTestbed, type Testbed, until } from "./testbed.ts";

let testbed: Testbed;
beforeAll(async () => {
  testbed = await startTestbed();
  await testbed.kubectl("apply", "-f", join(root, "testbed/canary/web-v2.yaml"));
  await testbed.kubectl("rollout", "status", "deployment/web-v2", "-n", "video", "--timeout=20s");
}, 90_000);
afterAll(() => testbed?.down());

const apply = (kind: string, name: string, spec: object) =>
  testbed.apply(
    JSON.stringify({ apiVersion: "networking.istio.io/v1", kind, metadata: { name, namespace: "video" }, spec }),
  );
/** Every answer says by which rules (`step`) and by which pod it was given. */
const routes = (step: string, http: object[]) =>
  apply("VirtualService", "video", {
    hosts: ["*"],
    gateways: ["video-gateway"],
    http: http.map((rule) => ({
      ...rule,
      headers: { response: { set: { "x-step": step, "x-served-by": "%UPSTREAM_HOST%" } } },
    })),
  });
const policy = (loadBalancer: object) =>
  apply("DestinationRule", "web", {
    host: "web",
    trafficPolicy: { loadBalancer },
    subsets: [
      { name: "v1", labels: { version: "v1" } },
      { name: "v2", labels: { version: "v2" } },
    ],
  });
const to = (subset?: string) => ({ destination: { host: "web", ...(subset && { subset }) } });

async function get(path: string, init: RequestInit = {}): Promise<Response> {
  const response = await fetch(`${testbed.url}${path}`, init);
  await response.arrayBuffer();
  return response;
}
const answersBy = (step: string, path = "/healthz") =>
  until(`rules "${step}" serve`, 5_000, async () => (await get(path)).headers.get("x-step") === step);

/** Pods that answered requests of this user. */
async function servedBy(user: string, requests: number): Promise<Set<string>> {
  const pods = new Set<string>();
  for (let i = 0; i < requests; i++) {
    const response = await get("/healthz", { headers: { "x-user": user } });
    expect(response.status).toBe(200);
    pods.add(response.headers.get("x-served-by")!);
  }
  return pods;
}

test("hashing by a header keeps each user on one pod and spreads users; round robin does not", async () => {
  await policy({ simple: "ROUND_ROBIN" });
  await routes("round robin", [{ route: [to("v1")] }]);
  await answersBy("round robin");
  await until("every pod of v1 serves", 5_000, async () => (await servedBy("alice", 12)).size === 3);

  await policy({ consistentHash: { httpHeaderName: "x-user" } });
  await until("the policy holds", 5_000, async () => (await servedBy("alice", 24)).size === 1);
  const used = new Set<string>();
  for (let user = 0; user < 30; user++) {
    const pods = await servedBy(`user-${user}`, 8);
    expect(pods.size).toBe(1);
    for (const pod of pods) used.add(pod);
  }
  console.log(`  30 users with 8 requests each, one pod per user, ${used.size} pods in all`);
  expect(used.size).toBe(3);
}, 60_000);

test("a mirror receives a copy of every request, and the client hears only from v1", async () => {
  await policy({ simple: "ROUND_ROBIN" });
  await routes("mirror", [
    { match: [{ uri: { prefix: "/mirrored/" } }], route: [to("v1")], mirror: to("v2").destination },
    { route: [to("v1")] },
  ]);
  await answersBy("mirror");
  for (let i = 0; i < 40; i++) {
    const response = await get(`/mirrored/${i}`);
    expect(response.headers.get("x-app-version")).toBe("v1");
  }
  const copies = await until("v2 logs 40 copies", 5_000, async () => {
    const log = await testbed.kubectl("logs", "-n", "video", "deployment/web-v2");
    const seen = new Set([...log.matchAll(/\/mirrored\/(\d+)/g)].map((found) => found[1]));
    return seen.size >= 40 && seen;
  });
  console.log(`  40 requests to v1, ${copies.size} different copies at v2`);
  expect(copies.size).toBe(40);
}, 30_000);

test("a preflight is answered at the gateway, and only allowed origins are told they may read", async () => {
  await routes("cors", [
    {
      corsPolicy: {
        allowOrigins: [{ exact: "https://good.example" }],
        allowMethods: ["GET", "PUT"],
        allowHeaders: ["x-user"],
        maxAge: "1h",
        allowCredentials: true,
      },
      route: [to("v1")],
    },
  ]);
  await answersBy("cors");
  const preflight = (origin: string) =>
    get("/healthz", { method: "OPTIONS", headers: { origin, "access-control-request-method": "PUT" } });
  const good = await preflight("https://good.example");
  expect(good.status).toBe(200);
  expect(good.headers.get("x-app-version")).toBeNull();
  expect(good.headers.get("access-control-allow-origin")).toBe("https://good.example");
  expect(good.headers.get("access-control-allow-methods")).toBe("GET,PUT");
  expect(good.headers.get("access-control-allow-headers")).toBe("x-user");
  expect(good.headers.get("access-control-max-age")).toBe("3600");
  expect(good.headers.get("access-control-allow-credentials")).toBe("true");
  expect((await preflight("https://bad.example")).headers.get("access-control-allow-origin")).toBeNull();

  const read = await get("/healthz", { headers: { origin: "https://good.example" } });
  expect(read.headers.get("x-app-version")).toBe("v1");
  expect(read.headers.get("access-control-allow-origin")).toBe("https://good.example");
  const other = await get("/healthz", { headers: { origin: "https://bad.example" } });
  expect(other.status).toBe(200);
  expect(other.headers.get("access-control-allow-origin")).toBeNull();
});

test("a delegate's rules hold below the root's match only", async () => {
  await apply("VirtualService", "team", {
    http: [
      { match: [{ uri: { prefix: "/elsewhere" } }], directResponse: { status: 418 } },
      { match: [{ headers: { "x-user": { exact: "tester" } } }], route: [to("v2")] },
      { match: [{ uri: { exact: "/healthz/teapot" } }], directResponse: { status: 418 } },
      { route: [to("v1")] },
    ],
  });
  await routes("delegate", [
    { match: [{ uri: { prefix: "/healthz" } }], delegate: { name: "team", namespace: "video" } },
    { match: [{ uri: { prefix: "/" } }], route: [to("v1")] },
  ]);
  await answersBy("delegate");
  const version = async (path: string, headers: Record<string, string> = {}) =>
    (await get(path, { headers })).headers.get("x-app-version");
  expect(await version("/healthz")).toBe("v1");
  expect(await version("/healthz", { "x-user": "tester" })).toBe("v2");
  expect((await get("/healthz/teapot")).status).toBe(418);
  // Outside the root's match the delegate has no say.
  expect(await version("/other", { "x-user": "tester" })).toBe("v1");
  expect((await get("/elsewhere")).status).not.toBe(418);
});
