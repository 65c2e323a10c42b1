// Mirroring through a running proxy: copies with and without body, several policies, and mirrors that are slow, broken or absent.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { RouteActionSchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { FilterFixture, type Seen, startBackend } from "../filters/fixture.ts";
import { cluster, freePort, prefix, raw, toCluster, until } from "../fixture.ts";
import { shadowHost } from "./mirror.ts";

const fixture = new FilterFixture();
const shadow = startBackend();
const copies: { path: string; host: string | null; body: string }[] = [];
beforeAll(() => fixture.start());
afterAll(async () => {
  await fixture.stop();
  shadow.stop();
});

type Action = MessageInitShape<typeof RouteActionSchema>;
type Policies = Action["requestMirrorPolicies"];

async function serve(
  requestMirrorPolicies: Policies,
  more: Action = {},
  shadowAddress = shadow.address,
): Promise<void> {
  copies.length = 0;
  shadow.answer = async (request) => {
    copies.push({
      path: new URL(request.url).pathname,
      host: request.headers.get("host"),
      body: await request.text(),
    });
    return new Response("ignored", { status: 500 });
  };
  await fixture.serve(
    {},
    [
      {
        match: prefix("/"),
        action: { case: "route", value: { ...toCluster("a").value, requestMirrorPolicies, ...more } as Action },
      },
    ],
    { clusters: [cluster("shadow", [shadowAddress]), cluster("empty", [])] },
  );
}

test("the mirror gets the request as it is sent, with its host marked; its answer is dropped", async () => {
  await serve([{ cluster: "shadow" }], { prefixRewrite: "/v2/" });
  const seen = await fixture.seen("/x?y=1", { headers: { host: "shop.test:80" } });
  expect(seen.path).toBe("/v2/x?y=1");
  await until("a copy", () => copies.length === 1);
  expect(copies).toEqual([{ path: "/v2/x", host: "shop.test-shadow:80", body: "" }]);
  expect(["a", "a:80", "[::1]:80", "[::1]"].map(shadowHost)).toEqual([
    "a-shadow",
    "a-shadow:80",
    "[::1]-shadow:80",
    "[::1]-shadow",
  ]);
});

test("bodies are copied whole, by length and in chunks, also when they come in many pieces", async () => {
  await serve([{ cluster: "shadow", disableShadowHostSuffixAppend: true }]);
  const body = "0123456789".repeat(30_000);
  expect((await fixture.seen("/", { method: "POST", body })).body).toBe(body);
  const chunked = [
    "POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
    "5\r\nhello\r\n",
    "6\r\n world\r\n",
    "0\r\n\r\n",
  ];
  await raw(fixture.port, chunked, (text) => text.includes('"body"'));
  await until("two copies", () => copies.length === 2);
  expect(copies.map((copy) => [copy.host === "a" ? "a" : "", copy.body === body ? "whole" : copy.body])).toEqual([
    ["", "whole"],
    ["a", "hello world"],
  ]);
});

test("several policies, a share of the requests, a cluster named by a field; nobody there hurts nobody", async () => {
  await serve([
    { cluster: "shadow" },
    { clusterHeader: "x-shadow" },
    { cluster: "shadow", runtimeFraction: { defaultValue: { numerator: 0 } } },
    { cluster: "empty" },
    { cluster: "nowhere" },
  ]);
  expect((await fixture.fetch("/plain")).status).toBe(200);
  expect((await fixture.fetch("/named", { headers: { "x-shadow": "shadow" } })).status).toBe(200);
  await until("three copies", () => copies.length === 3);
  expect(copies.map(({ path }) => path).sort()).toEqual(["/named", "/named", "/plain"]);
});

test("half the requests are mirrored when the policy says so", async () => {
  await serve([{ cluster: "shadow", runtimeFraction: { defaultValue: { numerator: 50 } } }]);
  for (let i = 0; i < 200; i++) await fixture.fetch("/");
  await Bun.sleep(30);
  expect(Math.abs(copies.length - 100)).toBeLessThan(32);
});

test("a mirror that reads nothing does not hold the request up", async () => {
  const stuck = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { open: (socket) => void socket.pause(), data() {} },
  });
  await serve([{ cluster: "shadow" }], {}, `127.0.0.1:${stuck.port}`);
  const body = "x".repeat(16 * 1024 * 1024);
  const { body: received } = (await fixture.seen("/", { method: "POST", body })) as Seen;
  expect(received.length).toBe(body.length);
  stuck.stop(true);
  await serve([{ cluster: "shadow" }], {}, `127.0.0.1:${freePort()}`);
  expect((await fixture.fetch("/", { method: "POST", body: "y" })).status).toBe(200);
});
