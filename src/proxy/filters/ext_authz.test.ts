// Authorization by a service, over real sockets: what it is shown, what its answers do, and what happens without one.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import http2, { type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { create, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import {
  ExtAuthzPerRouteSchema,
  ExtAuthzSchema,
} from "#gen/xds/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { CheckRequestSchema, CheckResponseSchema } from "#gen/xds/meshbed/authz/v1/ext_authz_pb.js";
import { cluster, milliseconds, pack, prefix, toCluster } from "../fixture.ts";
import { type Backend, FilterFixture, httpFilter, startBackend } from "./fixture.ts";

const fixture = new FilterFixture();
let service: Backend;
beforeAll(() => fixture.start());
beforeEach(() => {
  service = startBackend();
});
afterAll(() => fixture.stop());

type Config = MessageInitShape<typeof ExtAuthzSchema>;
const only = (...names: string[]) => ({
  patterns: names.map((name) => ({ matchPattern: { case: "exact", value: name } as const, ignoreCase: true })),
});

async function serve(http: object = {}, more: Config = {}, timeoutMs = 1_000): Promise<void> {
  const { answer } = service;
  const services = {
    case: "httpService",
    value: {
      serverUri: {
        uri: "http://authz.test",
        httpUpstreamType: { case: "cluster", value: "authz" },
        timeout: milliseconds(timeoutMs),
      },
      ...http,
    },
  } as const;
  const open = { override: { case: "disabled", value: true } } as const;
  await fixture.serve(
    { httpFilters: [httpFilter("envoy.filters.http.ext_authz", ExtAuthzSchema, { services, ...more } as Config)] },
    [
      {
        match: prefix("/open"),
        action: toCluster("a"),
        typedPerFilterConfig: { "envoy.filters.http.ext_authz": pack(ExtAuthzPerRouteSchema, open) },
      },
      { match: prefix("/"), action: toCluster("a") },
    ],
    { clusters: [cluster("authz", [service.address])] },
  );
  service.answer = answer;
}

describe("the service", () => {
  test("is shown method, path, host and authorization, what the list names, and what is added, but no body", async () => {
    let asked: { method: string; url: string; headers: Record<string, string> } | undefined;
    service.answer = ({ method, url, headers }) => {
      asked = { method, url, headers: Object.fromEntries(headers) };
      return new Response("ok");
    };
    await serve(
      { pathPrefix: "/check", authorizationRequest: { headersToAdd: [{ key: "X-Added", value: "yes" }] } },
      { allowedHeaders: only("x-shown", "x-added") },
    );
    const headers = {
      authorization: "Bearer t",
      "x-shown": "1",
      "x-hidden": "2",
      "x-added": "forged",
      host: "shop.test",
    };
    const seen = await fixture.seen("/buy?item=1", { method: "POST", headers, body: "secret" });
    expect(seen).toMatchObject({ method: "POST", path: "/buy?item=1", body: "secret" });
    expect(asked!.method).toBe("POST");
    expect(asked!.url).toBe("http://shop.test/check/buy?item=1");
    const shown = asked!.headers;
    expect(shown).toMatchObject({ authorization: "Bearer t", "x-shown": "1", "x-added": "yes", "content-length": "0" });
    expect(shown["x-hidden"]).toBeUndefined();
    expect(fixture.backend.requests.length).toBe(1);
  });

  test("allows with 200: listed fields of its answer go on to the application and to the client", async () => {
    service.answer = () =>
      new Response("ok", {
        headers: {
          "x-user": "jane",
          "x-secret": "no",
          "x-note": "b",
          "x-told": "t",
          "x-envoy-auth-headers-to-remove": "x-gone",
        },
      });
    await serve({
      authorizationResponse: {
        allowedUpstreamHeaders: only("x-user"),
        allowedUpstreamHeadersToAppend: only("x-note"),
        allowedClientHeadersOnSuccess: only("x-told"),
      },
    });
    const response = await fixture.fetch("/", { headers: { "x-user": "forged", "x-note": "a", "x-gone": "1" } });
    const { headers } = (await response.json()) as { headers: Record<string, string> };
    expect(headers).toMatchObject({ "x-user": "jane", "x-note": "a,b" });
    expect(headers["x-secret"]).toBeUndefined();
    expect(headers["x-gone"]).toBeUndefined();
    expect([response.headers.get("x-told"), response.headers.get("x-user")]).toEqual(["t", null]);
  });

  test("denies with any other answer, which is the client's", async () => {
    const refuse = () =>
      new Response("not you", {
        status: 401,
        headers: { "www-authenticate": "Basic", "x-why": "name", "x-else": "1" },
      });
    service.answer = refuse;
    await serve();
    const all = await fixture.fetch("/");
    expect([all.status, await all.text(), all.headers.get("x-else")]).toEqual([401, "not you", "1"]);
    service.answer = () => Response.json({ why: "name" }, { status: 403 });
    const json = await fixture.fetch("/");
    expect([json.headers.get("content-type"), await json.json()]).toEqual([
      "application/json;charset=utf-8",
      { why: "name" },
    ]);
    service.answer = refuse;
    await serve({ authorizationResponse: { allowedClientHeaders: only("x-why") } });
    const some = await fixture.fetch("/");
    expect(["www-authenticate", "x-why", "x-else"].map((name) => some.headers.get(name))).toEqual([
      "Basic",
      "name",
      null,
    ]);
    expect(fixture.backend.requests.length).toBe(0);
    expect((await fixture.fetch("/open")).status).toBe(200);
  });
});

const answerBy = (answer: NonNullable<Backend["answer"]>): void => {
  service.answer = answer;
};

describe("without an answer", () => {
  const ways: [string, () => void][] = [
    ["an error of the service", () => answerBy(() => new Response("no", { status: 503 }))],
    ["silence", () => answerBy(() => Bun.sleep(2_000).then(() => new Response("late")))],
    ["nobody there", () => service.stop()],
  ];
  for (const [name, arrange] of ways)
    test(`${name}: refused with the status for errors, let through if told so`, async () => {
      arrange();
      await serve({}, {}, 100);
      expect((await fixture.fetch("/")).status).toBe(403);
      await serve({}, { statusOnError: { code: 503 } }, 100);
      expect((await fixture.fetch("/")).status).toBe(503);
      await serve({}, { failureModeAllow: true }, 100);
      expect((await fixture.fetch("/")).status).toBe(200);
    });
});

describe("over gRPC", () => {
  type Answer = MessageInitShape<typeof CheckResponseSchema>;
  type Asked = MessageShape<typeof CheckRequestSchema>;
  let answer: Answer | undefined;
  let asked: Asked | undefined;
  const grpc = http2.createServer();
  const port = new Promise<number>((resolve) => {
    grpc.listen(0, "127.0.0.1", () => resolve((grpc.address() as AddressInfo).port));
  });
  grpc.on("stream", (stream: ServerHttp2Stream, headers) => {
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      expect(headers[":path"]).toBe("/envoy.service.auth.v3.Authorization/Check");
      asked = fromBinary(CheckRequestSchema, Buffer.concat(chunks).subarray(5));
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      const message = Buffer.from(toBinary(CheckResponseSchema, create(CheckResponseSchema, answer)));
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(message.length, 1);
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": answer === undefined ? "14" : "0" }));
      stream.end(Buffer.concat([prefix, message]));
    });
  });
  afterAll(() => void grpc.close());
  const option = (key: string, value: string, append?: boolean) => ({
    header: { key, value },
    ...(append !== undefined && { append }),
  });

  const serveGrpc = async (more: Config = {}) => {
    const services = {
      case: "grpcService",
      value: {
        targetSpecifier: { case: "envoyGrpc", value: { clusterName: "authz" } },
        timeout: milliseconds(1_000),
      },
    } as const;
    await fixture.serve(
      { httpFilters: [httpFilter("envoy.filters.http.ext_authz", ExtAuthzSchema, { services, ...more } as Config)] },
      [{ match: prefix("/"), action: toCluster("a") }],
      { clusters: [cluster("authz", [`127.0.0.1:${await port}`])] },
    );
  };

  test("the service learns who asks for what, and its answer changes the request or refuses it", async () => {
    await serveGrpc();
    answer = {
      status: { code: 0 },
      httpResponse: {
        case: "okResponse",
        value: {
          headers: [option("x-user", "jane"), option("x-note", "b", true), option("x-bad", "a\r\nx: y")],
          headersToRemove: ["x-gone"],
          responseHeadersToAdd: [option("x-told", "t")],
        },
      },
    };
    const headers = { "x-user": "forged", "x-note": "a", "x-gone": "1", host: "shop.test" };
    const response = await fixture.fetch("/buy?item=1", { method: "POST", headers, body: "b" });
    const seen = ((await response.json()) as { headers: Record<string, string> }).headers;
    expect(seen).toMatchObject({ "x-user": "jane", "x-note": "a,b" });
    expect([seen["x-gone"], seen["x-bad"], response.headers.get("x-told")]).toEqual([undefined, undefined, "t"]);
    expect(asked!.attributes!.request!.http).toMatchObject({ method: "POST", path: "/buy?item=1", host: "shop.test" });
    expect(asked!.attributes!.request!.http!.headers).toMatchObject({ "x-user": "forged", ":path": "/buy?item=1" });
    answer = {
      status: { code: 7 },
      httpResponse: {
        case: "deniedResponse",
        value: { status: { code: 402 }, headers: [option("x-why", "1")], body: "pay" },
      },
    };
    const denied = await fixture.fetch("/");
    expect([denied.status, denied.headers.get("x-why"), await denied.text()]).toEqual([402, "1", "pay"]);
    answer = { status: { code: 16 } };
    expect((await fixture.fetch("/")).status).toBe(403);
  });
  test("an error of the service is none of the client's making", async () => {
    await serveGrpc({ statusOnError: { code: 503 } });
    answer = undefined;
    expect((await fixture.fetch("/")).status).toBe(503);
    await serveGrpc({ failureModeAllow: true });
    expect((await fixture.fetch("/")).status).toBe(200);
  });
});

test("checks share connections; one that was closed meanwhile costs nothing but another", async () => {
  service.answer = () => new Response("ok");
  await serve();
  for (let i = 0; i < 20; i++) expect((await fixture.fetch("/")).status).toBe(200);
  expect(service.requests.length).toBe(20);
  const { address } = service;
  service.stop();
  const [host, port] = address.split(":");
  const again = Bun.serve({ hostname: host!, port: Number(port), fetch: () => new Response("ok") });
  expect((await fixture.fetch("/")).status).toBe(200);
  again.stop(true);
});
