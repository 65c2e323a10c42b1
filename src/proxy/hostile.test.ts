// Requests that two parsers could read differently, and clients that mean no good: refused, closed, nothing passed on.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  cluster,
  type FixtureProxy,
  freePort,
  getRequest,
  httpChain,
  listener,
  prefix,
  raw,
  routes,
  startFixture,
  toCluster,
} from "./fixture.ts";

let proxy: FixtureProxy;
let app: ReturnType<typeof Bun.serve>;
let requests = 0;
const port = freePort();

beforeAll(async () => {
  app = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      requests++;
      await request.text();
      return new Response("reached");
    },
  });
  proxy = await startFixture({
    listeners: [listener("127.0.0.1", port, [httpChain("main")])],
    clusters: [cluster("app", [`127.0.0.1:${app.port}`])],
    routes: [routes("main", [{ match: prefix("/"), action: toCluster("app") }])],
  });
});
afterAll(async () => {
  await proxy.close();
  await app.stop(true);
});

const refused: [string, string, number][] = [
  ["both length and chunked", getRequest("content-length: 5", "transfer-encoding: chunked").concat("0\r\n\r\n"), 400],
  ["two lengths", getRequest("content-length: 1", "content-length: 2"), 400],
  ["two equal lengths", getRequest("content-length: 1", "content-length: 1"), 400],
  ["a list as length", getRequest("content-length: 1, 1"), 400],
  ["a signed length", getRequest("content-length: +1"), 400],
  ["a hexadecimal length", getRequest("content-length: 0x10"), 400],
  ["a tab behind a length", getRequest("content-length: 1\t"), 400],
  ["a tab before a length", getRequest("content-length:\t1"), 400],
  ["a tab behind chunked", getRequest("transfer-encoding: chunked\t"), 400],
  ["an overflowing length", getRequest("content-length: 99999999999999999999"), 400],
  ["chunked twice", getRequest("transfer-encoding: chunked", "transfer-encoding: chunked"), 400],
  ["an unknown coding", getRequest("transfer-encoding: gzip, chunked"), 501],
  ["a coding in disguise", getRequest("transfer-encoding: xchunked"), 501],
  ["chunked in HTTP/1.0", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400],
  ["a space before the colon", getRequest("content-length : 5"), 400],
  ["a folded line", getRequest("x: a", " folded"), 400],
  ["a NUL in a value", getRequest("x: a\0b"), 400],
  ["a NUL in the target", "GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n", 400],
  ["a bare CR in a value", getRequest("x: a\rb"), 400],
  ["bare LF line ends", "GET / HTTP/1.1\nhost: a\n\n", 400],
  ["no host", "GET / HTTP/1.1\r\n\r\n", 400],
  ["two hosts", getRequest("host: b"), 400],
  ["a host with a path", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400],
  ["a host with user information", "GET / HTTP/1.1\r\nhost: a@b\r\n\r\n", 400],
  ["a fragment in the target", "GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", 400],
  ["an escaped NUL in the path", "GET /a%00b HTTP/1.1\r\nhost: a\r\n\r\n", 400],
  ["a broken escape in the path", "GET /a%zz HTTP/1.1\r\nhost: a\r\n\r\n", 400],
  ["a path above the root", "GET /../../etc/passwd HTTP/1.1\r\nhost: a\r\n\r\n", 400],
  ["two spaces in the request line", "GET  / HTTP/1.1\r\nhost: a\r\n\r\n", 400],
  ["CONNECT where it is not enabled", "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", 403],
  ["HTTP/2 in another version's form", "GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505],
  ["a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400],
  ["more than a hundred fields", getRequest(...Array.from({ length: 101 }, (_, i) => `x-${i}: 1`)), 431],
  ["a head of more than 60 KiB", getRequest(`x: ${"y".repeat(70_000)}`), 431],
];

describe("a request is refused and the connection closed for", () => {
  for (const [what, bytes, status] of refused)
    test(what, async () => {
      const before = requests;
      const answer = await raw(port, [Buffer.from(bytes, "latin1"), getRequest()]);
      expect(answer.text).toStartWith(`HTTP/1.1 ${status} `);
      expect(answer.text.toLowerCase()).toContain("connection: close");
      expect(answer.text.match(/HTTP\/1\.1 /g)?.length).toBe(1);
      expect(requests).toBe(before);
    });
});

describe("a chunked body is refused for", () => {
  const bodies: [string, string][] = [
    ["a size that is no number", "x\r\n"],
    ["a negative size", "-1\r\n"],
    ["a size with a prefix", "0x5\r\nhello\r\n"],
    ["an endless size", "fffffffffffffffffffff\r\n"],
    ["no CR after the size", "5\nhello\r\n0\r\n\r\n"],
    ["no line end after the data", "5\r\nhelloXX0\r\n\r\n"],
    ["data longer than its size", "5\r\nhello!\r\n0\r\n\r\n"],
    ["a NUL in an extension", "5;a\0b\r\nhello\r\n0\r\n\r\n"],
    ["a bare LF at the end", "5\r\nhello\r\n0\r\n\n"],
    ["endless trailers", `0\r\n${"x: y\r\n".repeat(3_000)}\r\n`],
  ];
  for (const [what, body] of bodies)
    test(what, async () => {
      const start = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
      const { text } = await raw(port, [start, body, getRequest()]);
      expect(text).toStartWith("HTTP/1.1 400 ");
      expect(text.match(/HTTP\/1\.1 /g)?.length).toBe(1);
    });
});

test("equivalent spellings of a path become one before they are matched and forwarded", async () => {
  for (const path of ["/a/../b", "//b", "/./b", "/%62", "/a/%2e%2e/b", "/b"]) {
    const { text } = await raw(port, `GET ${path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`);
    expect([path, text.includes("reached")]).toEqual([path, true]);
  }
});

test("a field named in Connection is not passed on, but Host cannot be hidden so", async () => {
  const { text } = await raw(port, getRequest("x-hop: 1", "connection: close, x-hop, host"));
  expect(text).toContain("reached");
});
