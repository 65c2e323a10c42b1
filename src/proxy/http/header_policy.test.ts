// What the next hop is told of a request, and the client of its answer, by how the connection manager is configured.
import { afterAll, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { RouterSchema } from "#gen/xds/envoy/extensions/filters/http/router/v3/router_pb.js";
import {
  type HttpConnectionManager,
  HttpConnectionManagerSchema,
  HttpConnectionManager_ServerHeaderTransformation as ServerHeader,
} from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import {
  cluster,
  type FixtureProxy,
  freePort,
  listener,
  pack,
  prefix,
  routes,
  startFixture,
  toCluster,
} from "../fixture.ts";

const backend = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch: (request) =>
    Response.json(
      { path: new URL(request.url).pathname, ...request.headers.toJSON() },
      { headers: { server: "app", via: "1.1 inner" } },
    ),
});
const proxies: FixtureProxy[] = [];
afterAll(async () => {
  for (const proxy of proxies) await proxy.close();
  await backend.stop(true);
});

type ManagerInit = Partial<Omit<HttpConnectionManager, "$typeName" | "$unknown">>;
async function start(manager: ManagerInit = {}, suppressEnvoyHeaders = false): Promise<number> {
  const port = freePort();
  const value = create(HttpConnectionManagerSchema, {
    statPrefix: "test",
    routeSpecifier: {
      case: "routeConfig",
      value: routes("main", [
        {
          match: prefix("/old"),
          action: {
            case: "route",
            value: { clusterSpecifier: { case: "cluster", value: "app" }, prefixRewrite: "/new" },
          },
        },
        { match: prefix("/direct"), action: { case: "directResponse", value: { status: 200 } } },
        { match: prefix("/"), action: toCluster("app") },
      ]),
    },
    ...manager,
    httpFilters: [
      { name: "router", configType: { case: "typedConfig", value: pack(RouterSchema, { suppressEnvoyHeaders }) } },
    ],
  });
  const config = pack(HttpConnectionManagerSchema, value);
  const filters = [{ name: "http", configType: { case: "typedConfig", value: config } } as const];
  const proxy = await startFixture({
    listeners: [listener("127.0.0.1", port, [{ filters }])],
    clusters: [cluster("app", [`127.0.0.1:${backend.port}`])],
  });
  proxies.push(proxy);
  return port;
}

async function get(
  port: number,
  headers: Record<string, string> = {},
  path = "/",
): Promise<{ got: Record<string, string>; answer: Response }> {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers });
  const text = await answer.text();
  return { got: text === "" ? {} : JSON.parse(text), answer };
}
const claimed = {
  "x-forwarded-for": "1.1.1.1, 2.2.2.2",
  "x-forwarded-proto": "https",
  "x-request-id": "mine",
  "x-envoy-internal": "true",
  "x-envoy-retry-on": "5xx",
  "X-Envoy-Decorator-Operation": "forged",
  "x-envoy-external-address": "9.9.9.9",
  "x-envoyish": "kept",
};
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test("at the edge nothing a client claims about itself goes on", async () => {
  const { got } = await get(await start({ useRemoteAddress: true }), claimed);
  expect(got).toMatchObject({
    "x-forwarded-for": "1.1.1.1, 2.2.2.2, 127.0.0.1",
    "x-forwarded-proto": "http",
    "x-request-id": expect.stringMatching(uuid),
    "x-envoy-external-address": "127.0.0.1",
    "x-envoyish": "kept",
  });
  for (const name of ["x-envoy-internal", "x-envoy-retry-on", "x-envoy-decorator-operation"])
    expect(got).not.toHaveProperty(name);
});

test("inside, ids and forwarding fields stay; what only internal clients may ask is removed", async () => {
  const { got } = await get(await start(), claimed);
  expect(got).toMatchObject({
    "x-forwarded-for": "1.1.1.1, 2.2.2.2",
    "x-forwarded-proto": "https",
    "x-request-id": "mine",
    "x-envoy-decorator-operation": "forged",
  });
  expect(got).not.toHaveProperty("x-envoy-retry-on");
  const { got: bare } = await get(await start());
  expect(bare["x-request-id"]).toMatch(uuid);
  expect(bare["x-forwarded-proto"]).toBe("http");
  expect(bare).not.toHaveProperty("x-forwarded-for");
});

test("a configured internal address is believed and marked", async () => {
  const internalAddressConfig = { cidrRanges: [{ addressPrefix: "127.0.0.0", prefixLen: 8 }] };
  const manager = { useRemoteAddress: true, internalAddressConfig } as unknown as ManagerInit;
  const { got } = await get(await start(manager), claimed);
  expect(got).toMatchObject({ "x-envoy-internal": "true", "x-request-id": "mine" });
  // Carried out here, not passed on.
  expect(got).not.toHaveProperty("x-envoy-retry-on");
});

test("a trusted proxy's word on scheme and client stands", async () => {
  const manager = { useRemoteAddress: true, xffNumTrustedHops: 1, appendXForwardedPort: true };
  const port = await start(manager);
  const { got } = await get(port, { ...claimed, "x-forwarded-port": "8443" });
  expect(got).toMatchObject({
    "x-forwarded-for": "1.1.1.1, 2.2.2.2, 127.0.0.1",
    "x-forwarded-proto": "https",
    "x-forwarded-port": "8443",
    "x-envoy-external-address": "2.2.2.2",
  });
  expect((await get(port)).got["x-forwarded-port"]).toBe(String(port));
});

test("request ids: preserved, not generated, told to the client", async () => {
  const kept = await start({
    useRemoteAddress: true,
    preserveExternalRequestId: true,
    alwaysSetRequestIdInResponse: true,
  });
  const { got, answer } = await get(kept, claimed);
  expect([got["x-request-id"], answer.headers.get("x-request-id")]).toEqual(["mine", "mine"]);
  const local = await get(kept, { "x-request-id": "mine" }, "/direct");
  expect(local.answer.headers.get("x-request-id")).toBe("mine");
  const none = await get(await start({ generateRequestId: false }));
  expect(none.got).not.toHaveProperty("x-request-id");
});

test("x-forwarded-for can be left as it is, and Via names the proxy both ways", async () => {
  const port = await start({ useRemoteAddress: true, skipXffAppend: true, via: "1.1 mesh" });
  const { got, answer } = await get(port, { via: "1.0 outer", "x-forwarded-for": "1.1.1.1" });
  expect(got).toMatchObject({ "x-forwarded-for": "1.1.1.1", via: "1.0 outer, 1.1 mesh" });
  expect(answer.headers.get("via")).toBe("1.1 inner, 1.1 mesh");
});

test("the Server field is overwritten, filled in or passed through", async () => {
  const server = async (serverHeaderTransformation: ServerHeader, path = "/"): Promise<string | null> =>
    (await get(await start({ serverHeaderTransformation, serverName: "edge" }), {}, path)).answer.headers.get("server");
  expect(await server(ServerHeader.OVERWRITE)).toBe("edge");
  expect(await server(ServerHeader.APPEND_IF_ABSENT)).toBe("app");
  expect(await server(ServerHeader.APPEND_IF_ABSENT, "/direct")).toBe("edge");
  expect(await server(ServerHeader.PASS_THROUGH)).toBe("app");
});

test("a rewritten path is told to the next hop, unless Envoy's fields are suppressed", async () => {
  const open = await get(await start(), {}, "/old/x?y=1");
  expect(open.got).toMatchObject({ path: "/new/x", "x-envoy-original-path": "/old/x?y=1" });
  expect(open.answer.headers.get("x-envoy-upstream-service-time")).toMatch(/^\d+$/);
  const shut = await get(await start({}, true), {}, "/old/x");
  expect(shut.got).not.toHaveProperty("x-envoy-original-path");
  expect(shut.answer.headers.get("x-envoy-upstream-service-time")).toBeNull();
});
