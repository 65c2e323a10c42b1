// HTTP/2 servers behind the proxy that refuse, break the rules, or want TLS.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect, createSecureServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { data, frame, headers, number32 } from "../wire/http2_fixture.ts";
import { flag, frameType, h2Error } from "../wire/http2_frames.ts";
import {
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  listener,
  prefix,
  routes,
  startFixture,
  toCluster,
} from "./fixture.ts";
import { http2Options } from "./grpc_fixture.ts";
import { ask, handServer } from "./http2_peer.ts";
import { clientTlsOf, hourMs, testAuthority } from "./tls/fixture.ts";

let proxy: FixtureProxy;
const port = freePort();
beforeAll(async () => {
  proxy = await startFixture({});
});
afterAll(() => proxy.close());

test("a server that speaks HTTP/2 over TLS is asked for it by ALPN", async () => {
  const authority = await testAuthority("mesh");
  const pair = await authority.issue({ dnsNames: ["server.test"], lifetimeMs: hourMs, usages: ["server"] });
  const secure = createSecureServer({ cert: pair.certPem, key: pair.keyPem });
  const protocols: unknown[] = [];
  secure.on("secureConnection", (socket: TLSSocket) => protocols.push(socket.alpnProtocol));
  secure.on("stream", (stream: ServerHttp2Stream) => {
    stream.respond({ ":status": 200 });
    stream.end("over TLS");
  });
  await new Promise<void>((resolve) => secure.listen(0, "127.0.0.1", resolve));
  const { port: at } = secure.address() as AddressInfo;
  await proxy.configure({
    listeners: [listener("127.0.0.1", port, [httpChain("main")])],
    clusters: [cluster("secure", [`127.0.0.1:${at}`], { ...http2Options(), transportSocket: clientTlsOf({}) })],
    routes: [routes("main", [{ match: prefix("/"), action: toCluster("secure") }])],
  });
  const client = connect(`http://127.0.0.1:${port}`);
  expect(String((await ask(client, {})).body)).toBe("over TLS");
  expect(protocols).toEqual(["h2"]);
  client.close();
  secure.close();
});

test("a refused stream is tried again, a POST as well; any other reset is an error", async () => {
  let tries = 0;
  let code: number = h2Error.refusedStream;
  const resetting = await handServer((streamId, write) => {
    if (++tries < 3) write(frame(frameType.rstStream, 0, streamId, number32(code)));
    else write(headers(streamId, [[":status", "200"]], flag.endHeaders), data(streamId, "third", flag.endStream));
  });
  const retryPolicy = { retryOn: "refused-stream", numRetries: 2 };
  const value = { clusterSpecifier: { case: "cluster", value: "hand" }, retryPolicy } as const;
  await proxy.configure({
    listeners: [listener("127.0.0.1", port, [httpChain("main")])],
    clusters: [cluster("hand", [`127.0.0.1:${resetting.port}`], http2Options())],
    routes: [routes("main", [{ match: prefix("/"), action: { case: "route", value } }])],
  });
  const client = connect(`http://127.0.0.1:${port}`);
  const answer = await ask(client, { ":method": "POST" }, Buffer.from("body"));
  expect([answer.status, String(answer.body), tries]).toEqual([200, "third", 3]);
  tries = 0;
  code = h2Error.internal;
  const failed = await ask(client, { ":method": "POST" }, Buffer.from("body"));
  expect([failed.status, tries]).toEqual([503, 1]);
  expect(String(failed.body)).toContain("reset reason: remote reset");
  client.close();
  resetting.stop();
});
test.each<[string, Uint8Array[]]>([
  ["no :status", [headers(1, [["x", "y"]])]],
  [":status 101", [headers(1, [[":status", "101"]])]],
  [
    "connection in an answer",
    [
      headers(1, [
        [":status", "200"],
        ["connection", "close"],
      ]),
    ],
  ],
  ["an interim answer that ends", [headers(1, [[":status", "103"]])]],
  ["DATA before the head", [data(1, "x")]],
  [
    "less than the length",
    [
      headers(1, [
        [":status", "200"],
        ["content-length", "5"],
      ]),
    ],
  ],
  ["a frame too large", [frame(frameType.data, 0, 1, Buffer.alloc(20_000))]],
  ["PUSH_PROMISE", [frame(frameType.pushPromise, 4, 1, number32(2))]],
])("a server that breaks the rules gives 502: %s", async (_name, bytes) => {
  const lying = await handServer((_streamId, write) => write(...bytes));
  await proxy.configure({
    listeners: [listener("127.0.0.1", port, [httpChain("main")])],
    clusters: [cluster("lying", [`127.0.0.1:${lying.port}`], http2Options())],
    routes: [routes("main", [{ match: prefix("/"), action: toCluster("lying") }])],
  });
  const client = connect(`http://127.0.0.1:${port}`);
  const { status } = await ask(client, {});
  // What is wrong with the connection as a whole breaks it.
  expect([502, 503]).toContain(status);
  client.close();
  lying.stop();
});
