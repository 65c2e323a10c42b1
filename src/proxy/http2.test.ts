// HTTP/2 of the proxy on both sides with foreign peers, beside HTTP/1.1, and how connections end. What is refused: http2_rules.test.ts.

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync } from "node:fs";
import {
  type ClientHttp2Session,
  connect,
  constants,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileAccessLogSchema } from "#gen/xds/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { GzipSchema } from "#gen/xds/envoy/extensions/compression/gzip/compressor/v3/gzip_pb.js";
import { CompressorSchema } from "#gen/xds/envoy/extensions/filters/http/compressor/v3/compressor_pb.js";
import { realClock } from "../kernel/clock.ts";
import { data, getFields, headers, hello } from "../wire/http2_fixture.ts";
import { flag, frameType } from "../wire/http2_frames.ts";
import {
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  inline,
  listener,
  milliseconds,
  pack,
  prefix,
  raw,
  routes,
  startFixture,
  toCluster,
  until,
} from "./fixture.ts";
import { http2Options, protocolOptions } from "./grpc_fixture.ts";
import { ask, peer } from "./http2_peer.ts";

type Manager = NonNullable<Parameters<typeof httpChain>[1]>;
type RouteList = Parameters<typeof routes>[1];

let proxy: FixtureProxy;
const port = freePort();
/** HTTP/1.1: echoes the body; "/slow" waits. */
const plain = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/slow") await realClock.sleep(200);
    if (pathname === "/big") return new Response(Buffer.alloc(4 * 1024 * 1024, 120));
    const body = await request.bytes();
    const seen = Object.fromEntries(request.headers);
    return new Response(
      pathname === "/echo" ? body : JSON.stringify({ method: request.method, seen, size: body.length }),
      {
        headers: { "x-answer": "1" },
      },
    );
  },
});
let server: Http2Server;
let onStream: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

beforeAll(async () => {
  server = createServer();
  server.on("stream", (stream, head) => {
    stream.on("error", () => {});
    onStream(stream as ServerHttp2Stream, head);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  proxy = await startFixture({});
});
afterAll(async () => {
  await proxy.close();
  server.close();
  await plain.stop(true);
});
beforeEach(() => {
  onStream = (stream, head) => {
    stream.respond({ ":status": 200, "x-saw": String(head[":path"]) });
    stream.pipe(stream);
  };
});

const toPlain: RouteList = [{ match: prefix("/"), action: toCluster("plain") }];
const toServer: RouteList = [{ match: prefix("/"), action: toCluster("server") }];
async function serve(list: RouteList, manager: Manager = {}, more: object = http2Options()): Promise<void> {
  await proxy.configure({
    listeners: [listener("127.0.0.1", port, [httpChain("main", manager)])],
    clusters: [
      cluster("plain", [`127.0.0.1:${plain.port}`]),
      cluster("server", [`127.0.0.1:${(server.address() as AddressInfo).port}`], more),
    ],
    routes: [routes("main", list)],
  });
}

const session = (): ClientHttp2Session => {
  const made = connect(`http://127.0.0.1:${port}`);
  made.on("error", () => {});
  return made;
};

const unfinished = flag.endHeaders;

describe("between HTTP/2 and HTTP/1.1", () => {
  test("an HTTP/2 client's request reaches an HTTP/1.1 server whole, cookies in one field", async () => {
    await serve(toPlain);
    const client = session();
    const { status, head, body } = await ask(
      client,
      { ":method": "POST", cookie: "a=1", "x-b": "2" },
      Buffer.alloc(100_000),
    );
    expect(status).toBe(200);
    expect(head["x-answer"]).toBe("1");
    const { seen, size } = JSON.parse(String(body));
    expect(size).toBe(100_000);
    expect(seen).toMatchObject({ cookie: "a=1", "x-b": "2", "x-forwarded-proto": "http" });
    client.close();
  });
  test("a client that reads slowly does not make the proxy keep its answer", async () => {
    const client = session();
    const stream = client.request({ ":path": "/big" });
    let bytes = 0;
    stream.on("data", (chunk) => {
      bytes += chunk.length;
      stream.pause();
      realClock.after(1, () => stream.resume());
    });
    await new Promise((resolve) => stream.on("end", resolve));
    expect(bytes).toBe(4 * 1024 * 1024);
    client.close();
  }, 10_000);
  test("an HTTP/1.1 client's chunked body arrives at an HTTP/2 server, with its trailers, and the answer goes back in chunks", async () => {
    await serve(toServer, { httpProtocolOptions: { enableTrailers: true } });
    let trailers: IncomingHttpHeaders = {};
    onStream = (stream, head) => {
      stream.on("trailers", (fields) => {
        trailers = fields;
      });
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        stream.respond({ ":status": 201, "x-te": String(head["transfer-encoding"]) }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "x-end": "yes" }));
        stream.end(`${head[":method"]} ${Buffer.concat(chunks)}`);
      });
    };
    const { text } = await raw(
      port,
      "POST /up HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nx-sum: 11\r\n\r\n",
      (all) => all.endsWith("\r\n\r\n") && all.includes("0\r\n"),
    );
    expect(text).toStartWith("HTTP/1.1 201 ");
    expect(text).toContain("transfer-encoding: chunked\r\n");
    expect(text).toContain("x-te: undefined\r\n");
    expect(text).toContain("POST hello world\r\n");
    expect(text).toEndWith("0\r\nx-end: yes\r\n\r\n");
    expect(trailers["x-sum"]).toBe("11");
  });
  test("use_downstream_protocol_config speaks to the server as the client did", async () => {
    const as = protocolOptions({
      case: "useDownstreamProtocolConfig",
      value: { httpProtocolOptions: {}, http2ProtocolOptions: {} },
    });
    await serve(toServer, {}, as);
    const client = session();
    expect((await ask(client, { ":path": "/two" })).head["x-saw"]).toBe("/two");
    client.close();
    const { text } = await raw(port, "GET / HTTP/1.1\r\nhost: a\r\n\r\n", (all) => all.includes("\r\n\r\n"));
    // The server speaks HTTP/2 only: HTTP/1.1 to it fails.
    expect(text).toMatch(/^HTTP\/1\.1 50[23] /);
  });
});

describe("HTTP/2 to servers", () => {
  test("requests share a connection up to what the server allows, and open another beyond", async () => {
    await serve(toServer, {}, http2Options({ maxConcurrentStreams: 10 }));
    const client = session();
    const waiting: ServerHttp2Stream[] = [];
    onStream = (stream) => void waiting.push(stream);
    const answers = Array.from({ length: 25 }, () => ask(client, {}));
    await until("all requests have arrived", () => waiting.length === 25);
    expect(new Set(waiting.map((stream) => stream.session)).size).toBe(3);
    for (const stream of waiting) {
      stream.respond({ ":status": 200 });
      stream.end("done");
    }
    for (const answer of await Promise.all(answers)) expect(String(answer.body)).toBe("done");
    client.close();
  });
  test("a server that says GOAWAY finishes what it has, and gets no more on that connection", async () => {
    await serve(toServer);
    const client = session();
    let held: ServerHttp2Stream | undefined;
    onStream = (stream) => {
      held = stream;
    };
    const first = ask(client, { ":path": "/held" });
    await until("the first request", () => held !== undefined);
    const old = held!;
    old.session!.goaway(0);
    let other: unknown;
    onStream = (stream) => {
      other = stream.session;
      stream.respond({ ":status": 200 });
      stream.end("another connection");
    };
    await realClock.sleep(20);
    expect(String((await ask(client, {})).body)).toBe("another connection");
    expect(other).not.toBe(old.session);
    old.respond({ ":status": 200 });
    old.end("old connection");
    expect(String((await first).body)).toBe("old connection");
    client.close();
  });
  test("an answer that breaks off is a reset to the client, not an end", async () => {
    await serve(toServer);
    onStream = (stream) => {
      stream.respond({ ":status": 200, "content-length": "1000" });
      stream.write("only so much", () => stream.close(constants.NGHTTP2_INTERNAL_ERROR));
    };
    const client = session();
    const outcome = await ask(client, {}).then(
      () => "ended",
      () => "reset",
    );
    expect(outcome).toBe("reset");
    client.close();
  });
  test("a slow server holds its client back: what waits in the proxy is bounded", async () => {
    await serve(toServer);
    let got: ServerHttp2Stream | undefined;
    onStream = (stream) => {
      stream.pause();
      got = stream;
    };
    const client = await peer(port, hello, headers(1, getFields, unfinished));
    await until("the request", () => got !== undefined);
    const part = data(1, Buffer.alloc(16_000));
    let granted = 256 * 1024;
    let sent = 0;
    // Sends whatever the proxy allows, until it allows nothing for a while.
    for (let quiet = 0; quiet < 20; ) {
      const updates = client
        .of(frameType.windowUpdate, 1)
        .reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
      granted = 256 * 1024 + updates;
      if (sent + 16_000 > granted) {
        quiet++;
        await realClock.sleep(10);
        continue;
      }
      client.write(part);
      sent += 16_000;
      quiet = 0;
    }
    expect(client.goAway).toBeUndefined();
    console.log(`  ${Math.round(sent / 1024)} KiB on their way to a server that does not read`);
    expect(sent).toBeLessThan(4 * 1024 * 1024);
    client.end();
  });
});

describe("what is done to requests holds for HTTP/2", () => {
  test("a mirror in HTTP/2 gets the whole body, whether the client framed it or not", async () => {
    const seen: string[] = [];
    onStream = (stream, head) => {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        seen.push(`${head[":method"]} ${head[":authority"]} ${Buffer.concat(chunks)}`);
        stream.respond({ ":status": 200 });
        stream.end();
      });
    };
    const specifier = { clusterSpecifier: { case: "cluster", value: "plain" } } as const;
    const value = { ...specifier, requestMirrorPolicies: [{ cluster: "server" }] };
    await serve([{ match: prefix("/"), action: { case: "route", value } }]);
    const client = session();
    const { body } = await ask(client, { ":method": "POST", ":path": "/echo" }, Buffer.from("bare"));
    expect(String(body)).toBe("bare");
    client.close();
    const text = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n6\r\nframed\r\n0\r\n\r\n";
    await raw(port, text, (all) => all.includes("framed"));
    await until("both copies", () => seen.length === 2);
    expect(seen).toEqual([`POST 127.0.0.1-shadow:${port} bare`, "POST a-shadow framed"]);
  });
  test("a body is sent again with a retry", async () => {
    const seen: string[] = [];
    onStream = (stream) => {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        seen.push(String(Buffer.concat(chunks)));
        stream.respond({ ":status": seen.length < 3 ? 503 : 200 });
        stream.end();
      });
    };
    const retryPolicy = { retryOn: "retriable-status-codes", retriableStatusCodes: [503], numRetries: 3 };
    const value = { clusterSpecifier: { case: "cluster", value: "server" }, retryPolicy } as const;
    await serve([{ match: prefix("/"), action: { case: "route", value } }]);
    const client = session();
    expect((await ask(client, { ":method": "POST" }, Buffer.from("again"))).status).toBe(200);
    expect(seen).toEqual(["again", "again", "again"]);
    client.close();
  });
  test("an answer is compressed for a client that takes it", async () => {
    const library = { name: "gzip", typedConfig: pack(GzipSchema, {}) };
    const value = pack(CompressorSchema, { compressorLibrary: library });
    const httpFilters = [
      { name: "envoy.filters.http.compressor", configType: { case: "typedConfig", value } } as const,
    ];
    onStream = (stream) => {
      stream.respond(
        { ":status": 200, "content-type": "text/plain", "content-length": "100000" },
        { waitForTrailers: true },
      );
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-end": "yes" }));
      stream.end("z".repeat(100_000));
    };
    await serve(toServer, { httpFilters });
    const client = session();
    const { head, body, trailers } = await ask(client, { "accept-encoding": "gzip" });
    expect(head["content-encoding"]).toBe("gzip");
    expect(head["content-length"]).toBeUndefined();
    expect(Bun.gunzipSync(body as Uint8Array<ArrayBuffer>).length).toBe(100_000);
    expect(trailers["x-end"]).toBe("yes");
    client.close();
  });
  test("logs name the protocol, resets and the status of gRPC", async () => {
    const path = join(tmpdir(), `meshbed-http2-${process.pid}.log`);
    const logFormat = {
      format: {
        case: "textFormatSource",
        value: inline("%REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %GRPC_STATUS%\n"),
      },
    } as const;
    const config = pack(FileAccessLogSchema, { path, accessLogFormat: { case: "logFormat", value: logFormat } });
    await serve(toServer, { accessLog: [{ name: "file", configType: { case: "typedConfig", value: config } }] });
    onStream = (stream, head) => {
      if (head[":path"] === "/never") return;
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "5" }));
      stream.end("message");
    };
    const client = session();
    await ask(client, { ":path": "/grpc", ":method": "POST", "content-type": "application/grpc" }, Buffer.from("x"));
    const stream = client.request({ ":path": "/never" });
    stream.on("error", () => {});
    await realClock.sleep(30);
    stream.close(constants.NGHTTP2_CANCEL);
    await until("the log", () => existsSync(path) && readFileSync(path, "utf8").split("\n").length > 2);
    expect(readFileSync(path, "utf8")).toBe("/grpc HTTP/2 200 - NotFound\n/never HTTP/2 0 DR -\n");
    rmSync(path);
    client.close();
  });
});

describe("how connections end", () => {
  test("a request timeout and an idle stream end the stream, not the connection", async () => {
    const value = { clusterSpecifier: { case: "cluster", value: "server" }, timeout: milliseconds(100) } as const;
    await serve([{ match: prefix("/"), action: { case: "route", value } }]);
    onStream = () => {};
    const client = session();
    expect((await ask(client, {})).status).toBe(504);
    expect(client.closed).toBe(false);
    client.close();
  });
  test("a client told to reconnect is told by GOAWAY, and its requests are all answered", async () => {
    await serve(toPlain, { commonHttpProtocolOptions: { maxRequestsPerConnection: 5 } });
    const client = session();
    let goAway = false;
    client.on("goaway", () => {
      goAway = true;
    });
    const answers = await Promise.all(Array.from({ length: 5 }, () => ask(client, {})));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    await until("GOAWAY", () => goAway);
  });
  test("a proxy that drains lets requests end, refuses no request on its way, and closes at once afterwards", async () => {
    const ownPort = freePort();
    const own = await startFixture({
      listeners: [listener("127.0.0.1", ownPort, [httpChain("main")])],
      clusters: [cluster("plain", [`127.0.0.1:${plain.port}`])],
      routes: [routes("main", toPlain)],
    });
    const client = connect(`http://127.0.0.1:${ownPort}`);
    client.on("error", () => {});
    await ask(client, {});
    const slow = ask(client, { ":path": "/slow" });
    await realClock.sleep(20);
    const closed = new Promise((resolve) => client.on("close", resolve));
    const startedMs = realClock.monotonicMs();
    const drained = own.running.drain({ acceptMs: 0, drainMs: 10_000 });
    expect((await slow).status).toBe(200);
    await closed;
    await drained;
    const tookMs = realClock.monotonicMs() - startedMs;
    console.log(`  drained in ${Math.round(tookMs)} ms`);
    expect(tookMs).toBeLessThan(5_000);
    await own.close();
  }, 15_000);
  test("codec_type HTTP1 takes no HTTP/2", async () => {
    await serve(toPlain, { codecType: 1 });
    const { text } = await raw(port, [hello, headers(1)], (all) => all.length > 0);
    expect(text).toStartWith("HTTP/1.1 505 ");
  });
});
