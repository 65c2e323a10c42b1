// HTTP/2 of the proxy on both sides with foreign peers, beside HTTP/1.1, and how connections end. What is refused: http2_rules.test.ts.

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
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
import { realClock } from "../kernel/clock.ts";
import { data, frame, getFields, headers, hello, number32 } from "../wire/http2_fixture.ts";
import { flag, frameType, h2Error } from "../wire/http2_frames.ts";
import {
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  listener,
  milliseconds,
  prefix,
  raw,
  routes,
  startFixture,
  toCluster,
  until,
} from "./fixture.ts";
import { http2Options, protocolOptions } from "./grpc_fixture.ts";
import { handServer, peer } from "./http2_peer.ts";

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
let sessions = 0;

beforeAll(async () => {
  server = createServer();
  server.on("stream", (stream, head) => {
    stream.on("error", () => {});
    onStream(stream as ServerHttp2Stream, head);
  });
  server.on("session", () => {
    sessions++;
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

/** A whole answer by node:http2. */
function ask(
  session: ClientHttp2Session,
  head: Record<string, string>,
  body?: Buffer,
): Promise<{ status: number; head: IncomingHttpHeaders; body: Buffer; trailers: IncomingHttpHeaders }> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":path": "/", ...head }, { endStream: body === undefined });
    const chunks: Buffer[] = [];
    let answer: IncomingHttpHeaders = {};
    let trailers: IncomingHttpHeaders = {};
    stream.on("response", (fields) => {
      answer = fields;
    });
    stream.on("trailers", (fields) => {
      trailers = fields;
    });
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", reject);
    stream.on("end", () =>
      resolve({ status: Number(answer[":status"]), head: answer, body: Buffer.concat(chunks), trailers }),
    );
    if (body) stream.end(body);
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
    const client = session();
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
    const client = session();
    const { status } = await ask(client, {});
    // What is wrong with the connection as a whole breaks it.
    expect([502, 503]).toContain(status);
    client.close();
    lying.stop();
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
    const before = sessions;
    onStream = (stream) => {
      stream.respond({ ":status": 200 });
      stream.end("new connection");
    };
    await realClock.sleep(20);
    expect(String((await ask(client, {})).body)).toBe("new connection");
    expect(sessions - before).toBe(1);
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
