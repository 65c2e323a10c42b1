// What the proxy refuses of HTTP/2 clients, frame by frame (RFC 9113), and what floods come to.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { HTTPFaultSchema } from "#gen/xds/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { realClock } from "../kernel/clock.ts";
import { data, frame, getFields, headers, hello, number32, plainBlock, settings } from "../wire/http2_fixture.ts";
import { flag, frameType, h2Error, preface, setting } from "../wire/http2_frames.ts";
import {
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  listener,
  milliseconds,
  pack,
  prefix,
  routes,
  startFixture,
  toCluster,
  until,
} from "./fixture.ts";
import { peer } from "./http2_peer.ts";

type Manager = NonNullable<Parameters<typeof httpChain>[1]>;

let proxy: FixtureProxy;
const port = freePort();
/** Waits at "/slow". */
const plain = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  async fetch(request) {
    if (new URL(request.url).pathname === "/slow") await realClock.sleep(200);
    return new Response(String((await request.bytes()).length));
  },
});
beforeAll(async () => {
  proxy = await startFixture({});
});
afterAll(async () => {
  await proxy.close();
  await plain.stop(true);
});

async function serve(manager: Manager = {}): Promise<void> {
  await proxy.configure({
    listeners: [listener("127.0.0.1", port, [httpChain("main", manager)])],
    clusters: [cluster("plain", [`127.0.0.1:${plain.port}`])],
    routes: [routes("main", [{ match: prefix("/"), action: toCluster("plain") }])],
  });
}

const without = (name: string) => getFields.filter(([field]) => field !== name);
const unfinished = flag.endHeaders;

describe("a connection that breaks the rules is ended with the right code", () => {
  beforeAll(() => serve());
  test.each<[string, Uint8Array[], number]>([
    ["anything before SETTINGS", [preface, headers(1)], h2Error.protocol],
    ["a frame larger than 16 KiB", [hello, frame(frameType.data, 0, 1, Buffer.alloc(16_385))], h2Error.frameSize],
    ["DATA of stream 0", [hello, data(0, "x")], h2Error.protocol],
    ["DATA of an idle stream", [hello, data(5, "x")], h2Error.protocol],
    ["HEADERS of stream 0", [hello, headers(0)], h2Error.protocol],
    ["HEADERS of an even stream", [hello, headers(2)], h2Error.protocol],
    ["a stream id that goes back", [hello, headers(5), headers(3)], h2Error.streamClosed],
    [
      "padding longer than the frame",
      [hello, frame(frameType.data, flag.padded, 1, Buffer.from([9, 1]))],
      h2Error.protocol,
    ],
    ["CONTINUATION of nothing", [hello, frame(frameType.continuation, 4, 1)], h2Error.protocol],
    ["a field block that is interrupted", [hello, headers(1, getFields, 0), data(1, "x")], h2Error.protocol],
    [
      "a malformed field block",
      [hello, frame(frameType.headers, 5, 1, Buffer.from([0xff, 0xff]))],
      h2Error.compression,
    ],
    ["PUSH_PROMISE from a client", [hello, frame(frameType.pushPromise, 4, 1, number32(2))], h2Error.protocol],
    [
      "SETTINGS of a length that cannot be",
      [preface, frame(frameType.settings, 0, 0, Buffer.alloc(5))],
      h2Error.frameSize,
    ],
    ["SETTINGS of a stream", [preface, frame(frameType.settings, 0, 1)], h2Error.protocol],
    ["an initial window too large", [preface, settings([setting.initialWindowSize, 2 ** 31])], h2Error.flowControl],
    ["a frame size too small", [preface, settings([setting.maxFrameSize, 100])], h2Error.protocol],
    ["PING of a wrong size", [hello, frame(frameType.ping, 0, 0, Buffer.alloc(7))], h2Error.frameSize],
    ["PING of a stream", [hello, frame(frameType.ping, 0, 1, Buffer.alloc(8))], h2Error.protocol],
    ["RST_STREAM of an idle stream", [hello, frame(frameType.rstStream, 0, 7, number32(8))], h2Error.protocol],
    ["RST_STREAM of a wrong size", [hello, frame(frameType.rstStream, 0, 1, Buffer.alloc(3))], h2Error.frameSize],
    [
      "WINDOW_UPDATE of 0 for the connection",
      [hello, frame(frameType.windowUpdate, 0, 0, number32(0))],
      h2Error.protocol,
    ],
    [
      "a connection's window that overflows",
      [hello, frame(frameType.windowUpdate, 0, 0, number32(2 ** 31 - 1))],
      h2Error.flowControl,
    ],
    ["PRIORITY of stream 0", [hello, frame(frameType.priority, 0, 0, Buffer.alloc(5))], h2Error.protocol],
    ["GOAWAY of a stream", [hello, frame(frameType.goAway, 0, 1, Buffer.alloc(8))], h2Error.protocol],
  ])("%s", async (_name, bytes, code) => {
    const client = await peer(port, ...bytes);
    await until("GOAWAY", () => client.goAway !== undefined);
    expect(client.goAway).toBe(code);
    await until("the end", () => client.closed);
    client.end();
  });
});

describe("a request that breaks the rules is reset, and the connection goes on", () => {
  beforeAll(() => serve());
  const post = [...getFields.filter(([name]) => name !== ":method"), [":method", "POST"]] as [string, string][];
  const sized = (length: number): [string, string][] => [...post, ["content-length", String(length)]];
  test.each<[string, Uint8Array[], number]>([
    ["no :method", [headers(1, without(":method"))], h2Error.protocol],
    ["no :scheme", [headers(1, without(":scheme"))], h2Error.protocol],
    ["no :path", [headers(1, without(":path"))], h2Error.protocol],
    ["an empty :path", [headers(1, [...without(":path"), [":path", ""]])], h2Error.protocol],
    ["a :path without its slash", [headers(1, [...without(":path"), [":path", "http://a/"]])], h2Error.protocol],
    [
      "a :path that ends its line",
      [headers(1, [...without(":path"), [":path", "/ HTTP/1.1\r\nx: y"]])],
      h2Error.protocol,
    ],
    ["a :path with a space", [headers(1, [...without(":path"), [":path", "/a b"]])], h2Error.protocol],
    ["a :method that is none", [headers(1, [...without(":method"), [":method", "G T"]])], h2Error.protocol],
    ["two :method", [headers(1, [[":method", "GET"], ...getFields])], h2Error.protocol],
    ["an unknown pseudo field", [headers(1, [...getFields, [":what", "x"]])], h2Error.protocol],
    [":status in a request", [headers(1, [...getFields, [":status", "200"]])], h2Error.protocol],
    ["a pseudo field after another", [headers(1, [["x-a", "1"], ...getFields])], h2Error.protocol],
    ["a name in upper case", [headers(1, [...getFields, ["X-a", "1"]])], h2Error.protocol],
    ["a name with a colon", [headers(1, [...getFields, ["x:a", "1"]])], h2Error.protocol],
    ["a value with a line end", [headers(1, [...getFields, ["x-a", "1\r\nx-b: 2"]])], h2Error.protocol],
    ["a value with NUL", [headers(1, [...getFields, ["x-a", "1\0"]])], h2Error.protocol],
    ["a value that ends in space", [headers(1, [...getFields, ["x-a", "1 "]])], h2Error.protocol],
    ["connection", [headers(1, [...getFields, ["connection", "close"]])], h2Error.protocol],
    ["transfer-encoding", [headers(1, [...getFields, ["transfer-encoding", "chunked"]])], h2Error.protocol],
    ["upgrade", [headers(1, [...getFields, ["upgrade", "websocket"]])], h2Error.protocol],
    ["te other than trailers", [headers(1, [...getFields, ["te", "gzip"]])], h2Error.protocol],
    ["host unlike :authority", [headers(1, [...getFields, ["host", "b"]])], h2Error.protocol],
    ["two lengths", [headers(1, [...sized(1), ["content-length", "2"]])], h2Error.protocol],
    ["a length without a body", [headers(1, sized(5))], h2Error.protocol],
    ["less than the length", [headers(1, sized(5), unfinished), data(1, "abc", flag.endStream)], h2Error.protocol],
    ["more than the length", [headers(1, sized(2), unfinished), data(1, "abc", flag.endStream)], h2Error.protocol],
    [
      "trailers that do not end",
      [headers(1, post, unfinished), headers(1, [["x", "y"]], unfinished)],
      h2Error.protocol,
    ],
    ["pseudo fields in trailers", [headers(1, post, unfinished), headers(1, [[":path", "/"]])], h2Error.protocol],
    ["DATA after the end", [headers(1, [...without(":path"), [":path", "/slow"]]), data(1, "x")], h2Error.streamClosed],
    [
      "a window update of 0",
      [headers(1, post, unfinished), frame(frameType.windowUpdate, 0, 1, number32(0))],
      h2Error.protocol,
    ],
    [
      "a stream's window that overflows",
      [headers(1, post, unfinished), frame(frameType.windowUpdate, 0, 1, number32(2 ** 31 - 1))],
      h2Error.flowControl,
    ],
  ])("%s", async (_name, bytes, code) => {
    const client = await peer(port, hello, ...bytes, headers(3));
    await until("an answer to the next", () => client.of(frameType.headers, 3).length > 0);
    expect(client.reset(1)).toBe(code);
    expect(client.goAway).toBeUndefined();
    client.end();
  });
  test("more than the window is refused", async () => {
    const delay = {
      faultDelaySecifier: { case: "fixedDelay", value: milliseconds(3_000) },
      percentage: { numerator: 100 },
    } as const;
    const value = pack(HTTPFaultSchema, { delay });
    // While the filter waits nothing is taken from the client beyond its window.
    await serve({ httpFilters: [{ name: "fault", configType: { case: "typedConfig", value } }] });
    const bytes = [headers(1, getFields, unfinished)];
    for (let i = 0; i < 20; i++) bytes.push(data(1, Buffer.alloc(16_384)));
    const client = await peer(port, hello, ...bytes);
    await until("an end", () => client.reset(1) !== undefined);
    expect(client.reset(1)).toBe(h2Error.flowControl);
    client.end();
    await serve();
  });
  test("a head too large is answered with 431, and the table stays in step", async () => {
    const client = await peer(port, hello);
    const huge: [string, string] = ["x-huge", "v".repeat(15_000)];
    const all = plainBlock([...getFields, ...Array.from({ length: 5 }, () => huge)]);
    const parts: Buffer[] = [];
    for (let at = 0; at < all.length; at += 16_000) {
      const last = at + 16_000 >= all.length ? flag.endHeaders : 0;
      const type = at === 0 ? frameType.headers : frameType.continuation;
      parts.push(frame(type, (at === 0 ? flag.endStream : 0) | last, 1, all.subarray(at, at + 16_000)));
    }
    client.write(...parts, headers(3));
    await until("both answers", () => client.of(frameType.headers).length === 2);
    expect(client.heads().map(([first]) => first)).toEqual([":status: 431", ":status: 200"]);
    client.end();
  });
  test("more than 100 fields are answered with 431", async () => {
    const many = Array.from({ length: 120 }, (_, i): [string, string] => [`x-${i}`, "1"]);
    const client = await peer(port, hello, headers(1, [...getFields, ...many]));
    await until("the answer", () => client.of(frameType.headers).length === 1);
    expect(client.heads()[0]![0]).toBe(":status: 431");
    client.end();
  });
});

describe("floods end the connection", () => {
  beforeAll(() => serve());
  test.each<[string, () => Uint8Array[]]>([
    [
      "CONTINUATION without end",
      () => [
        headers(1, getFields, 0),
        ...Array.from({ length: 100 }, () => frame(frameType.continuation, 0, 1, plainBlock([["x", "y"]]))),
      ],
    ],
    [
      "requests reset at once",
      () =>
        Array.from({ length: 400 }, (_, i) =>
          Buffer.concat([
            headers(2 * i + 1, [...without(":path"), [":path", "/slow"]]),
            frame(frameType.rstStream, 0, 2 * i + 1, number32(8)),
          ]),
        ),
    ],
    ["empty DATA", () => [headers(1, getFields, unfinished), ...Array.from({ length: 11_000 }, () => data(1, ""))]],
    ["PRIORITY", () => Array.from({ length: 11_000 }, () => frame(frameType.priority, 0, 1, Buffer.alloc(5)))],
    ["SETTINGS", () => Array.from({ length: 11_000 }, () => settings())],
  ])("%s", async (_name, flood) => {
    const client = await peer(port, hello, ...flood());
    await until("the end", () => client.goAway !== undefined || client.closed);
    if (client.goAway !== undefined) expect(client.goAway).toBe(h2Error.enhanceYourCalm);
    client.end();
  });
  test("a client that pings without reading is cut off", async () => {
    let closed = false;
    const ping = frame(frameType.ping, 0, 0, Buffer.alloc(8));
    const pings = Buffer.concat(Array.from({ length: 5_000 }, () => ping));
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        data() {},
        close() {
          closed = true;
        },
      },
    });
    socket.write(hello);
    socket.pause();
    // Whole pings only, however little the kernel takes.
    let sent = 0;
    for (let i = 0; i < 3_000 && !closed; i++) {
      const count = socket.write(pings, sent % ping.length, pings.length - (sent % ping.length));
      if (count < 0) break;
      sent += count;
      if (count === 0) await realClock.sleep(1);
    }
    socket.resume();
    await until("the end", () => closed);
    expect(sent).toBeGreaterThan(1_000 * ping.length);
    socket.terminate();
  }, 10_000);
  test("more streams than allowed are refused, and may be sent again", async () => {
    await serve({ http2ProtocolOptions: { maxConcurrentStreams: 3 } });
    const slow = (id: number) => headers(id, [...without(":path"), [":path", "/slow"]]);
    const client = await peer(port, hello, slow(1), slow(3), slow(5), slow(7));
    await until("the refusal", () => client.reset(7) !== undefined);
    expect(client.reset(7)).toBe(h2Error.refusedStream);
    await until("the others", () => client.of(frameType.headers).length === 3);
    client.end();
  });
});
