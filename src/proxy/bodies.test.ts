// Bodies through the proxy: framings, large ones with bounded memory, slow clients, upgrades.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import type { Socket as BunSocket, Server, TCPSocketListener } from "bun";
import { realClock } from "../kernel/clock.ts";
import {
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  listener,
  prefix,
  raw,
  routes,
  startFixture,
  statusesOf,
  toCluster,
  until,
} from "./fixture.ts";

type Socket = BunSocket<unknown>;

const mebibyte = 1024 * 1024;
const largeBytes = 64 * mebibyte;
const piece = Buffer.alloc(mebibyte, "0123456789abcdef");

let proxy: FixtureProxy;
let app: Server<undefined>;
let bytesApp: TCPSocketListener<unknown>;
/** What the server of raw bytes does with a request head. */
let speak: (socket: Socket, request: string) => void = () => {};
const port = freePort();
const base = `http://127.0.0.1:${port}`;

/** `count` MiB, made as they are asked for. */
const stream = (count: number): ReadableStream<Uint8Array> => {
  let left = count;
  return new ReadableStream({
    pull(controller) {
      if (left-- > 0) controller.enqueue(new Uint8Array(piece));
      else controller.close();
    },
  });
};

beforeAll(async () => {
  app = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    maxRequestBodySize: 1024 * mebibyte,
    async fetch(request) {
      const { pathname } = new URL(request.url, "http://none");
      if (pathname === "/large")
        return new Response(stream(largeBytes / mebibyte), { headers: { "content-length": String(largeBytes) } });
      if (pathname === "/chunked") return new Response(stream(2));
      if (pathname === "/204") return new Response(null, { status: 204 });
      if (pathname === "/304") return new Response(null, { status: 304, headers: { etag: '"x"' } });
      const hash = createHash("sha256");
      let bytes = 0;
      if (request.body)
        for await (const chunk of request.body) {
          bytes += chunk.length;
          hash.update(chunk);
        }
      return Response.json({
        bytes,
        hash: hash.digest("hex"),
        framing: request.headers.get("transfer-encoding") ?? "length",
      });
    },
  });
  bytesApp = Bun.listen<unknown>({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: (socket, chunk) => speak(socket, chunk.toString("latin1")) },
  });
  proxy = await startFixture({
    listeners: [
      listener("127.0.0.1", port, [httpChain("main", { upgradeConfigs: [{ upgradeType: "websocket" }] as never })]),
    ],
    clusters: [cluster("app", [`127.0.0.1:${app.port}`]), cluster("bytes", [`127.0.0.1:${bytesApp.port}`])],
    routes: [
      routes("main", [
        { match: prefix("/bytes"), action: toCluster("bytes") },
        { match: prefix("/"), action: toCluster("app") },
      ]),
    ],
  });
});
afterAll(async () => {
  await proxy.close();
  await app.stop(true);
  bytesApp.stop(true);
});

const hashOf = (count: number): string => {
  const hash = createHash("sha256");
  for (let i = 0; i < count; i++) hash.update(piece);
  return hash.digest("hex");
};

describe("large bodies", () => {
  test("64 MiB come down unchanged", async () => {
    const hash = createHash("sha256");
    let bytes = 0;
    for await (const chunk of (await fetch(`${base}/large`)).body!) {
      hash.update(chunk);
      bytes += chunk.length;
    }
    expect(bytes).toBe(largeBytes);
    expect(hash.digest("hex")).toBe(hashOf(64));
  }, 30_000);

  test("64 MiB go up unchanged", async () => {
    const got = await fetch(`${base}/up`, { method: "POST", body: stream(64) });
    expect(await got.json()).toMatchObject({ bytes: largeBytes, hash: hashOf(64) });
  }, 30_000);

  test("a client that does not read holds up the server, not the proxy's memory", async () => {
    let sentBytes = 0;
    let blocked = false;
    const body = Buffer.alloc(mebibyte);
    const push = (socket: Socket): void => {
      while (sentBytes < largeBytes) {
        const written = socket.write(body);
        sentBytes += Math.max(0, written);
        if (written < body.length) {
          blocked = true;
          return;
        }
      }
    };
    speak = (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${largeBytes}\r\n\r\n`);
      push(socket);
    };
    bytesApp.reload({ socket: { data: (socket, chunk) => speak(socket, chunk.toString("latin1")), drain: push } });
    let gotBytes = 0;
    const client = await Bun.connect<unknown>({
      hostname: "127.0.0.1",
      port,
      socket: {
        data(_socket, chunk) {
          gotBytes += chunk.length;
        },
      },
    });
    client.pause();
    client.write("GET /bytes HTTP/1.1\r\nhost: a\r\n\r\n");
    await until("the server is held up", () => blocked);
    await realClock.sleep(300);
    // Kernel buffers of two connections, at most 6 MiB each on Linux.
    expect(sentBytes).toBeLessThan(24 * mebibyte);
    client.resume();
    await until("the whole answer", () => gotBytes > largeBytes, 20_000);
    client.end();
  }, 30_000);

  test("a server that does not read holds up the client, not the proxy's memory", async () => {
    let gotBytes = 0;
    let server: Socket | undefined;
    speak = () => {};
    bytesApp.reload({
      socket: {
        data(socket, chunk) {
          gotBytes += chunk.length;
          if (server === undefined) {
            server = socket;
            socket.pause();
          }
          if (gotBytes >= largeBytes) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        },
      },
    });
    let sentBytes = 0;
    let answered = "";
    const push = (socket: Socket): void => {
      while (sentBytes < largeBytes) {
        const written = socket.write(piece.subarray(0, Math.min(piece.length, largeBytes - sentBytes)));
        sentBytes += Math.max(0, written);
        if (written < piece.length) return;
      }
    };
    const client = await Bun.connect<unknown>({
      hostname: "127.0.0.1",
      port,
      socket: {
        data(_socket, chunk) {
          answered += chunk.toString();
        },
        drain: push,
      },
    });
    client.write(`PUT /bytes HTTP/1.1\r\nhost: a\r\ncontent-length: ${largeBytes}\r\n\r\n`);
    push(client);
    await until("the server to have something", () => server !== undefined);
    await realClock.sleep(300);
    expect(sentBytes).toBeLessThan(24 * mebibyte);
    server!.resume();
    await until("the answer", () => answered.includes("200 OK"), 20_000);
    client.end();
  }, 30_000);

  test("a flood of pipelined requests from a client that does not read is held up", async () => {
    const requests = Buffer.from("GET /204 HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2_000));
    let sentBytes = 0;
    const push = (socket: Socket): void => {
      while (sentBytes < largeBytes) {
        const written = socket.write(requests);
        sentBytes += Math.max(0, written);
        if (written < requests.length) return;
      }
    };
    const client = await Bun.connect<unknown>({ hostname: "127.0.0.1", port, socket: { data() {}, drain: push } });
    client.pause();
    push(client);
    await realClock.sleep(1_000);
    expect(sentBytes).toBeLessThan(24 * mebibyte);
    client.terminate();
    expect((await fetch(`${base}/204`)).status).toBe(204);
  }, 30_000);

  test("a slow client gets all of an answer after which the connection closes", async () => {
    const size = 8 * mebibyte;
    speak = (socket) => {
      let at = 0;
      const body = Buffer.concat([
        Buffer.from("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"),
        Buffer.alloc(size, 120),
      ]);
      const more = (): void => {
        while (at < body.length) {
          const written = socket.write(body.subarray(at));
          if (written <= 0) return;
          at += written;
        }
        socket.end();
      };
      bytesApp.reload({ socket: { data: (from, chunk) => speak(from, chunk.toString("latin1")), drain: more } });
      more();
    };
    bytesApp.reload({ socket: { data: (socket, chunk) => speak(socket, chunk.toString("latin1")) } });
    let gotBytes = 0;
    let closed = false;
    const client = await Bun.connect<unknown>({
      hostname: "127.0.0.1",
      port,
      socket: {
        data(_socket, chunk) {
          gotBytes += chunk.length;
        },
        close() {
          closed = true;
        },
      },
    });
    client.pause();
    client.write("GET /bytes HTTP/1.0\r\nhost: a\r\n\r\n");
    // Longer than the linger time: the answer is in buffers, the client has read nothing.
    await realClock.sleep(3_500);
    client.resume();
    await until("the end", () => closed, 10_000);
    expect(gotBytes).toBeGreaterThan(size);
  }, 30_000);
});

describe("framings", () => {
  test("a chunked request arrives complete, whatever its chunks", async () => {
    const { text } = await raw(port, [
      "POST /up HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;name=value\r\nhel",
      "lo\r\n",
      "1",
      "\r\n!\r\n0\r\nx-trailer: t\r\n\r\nGET /up HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    ]);
    const hash = createHash("sha256").update("hello!").digest("hex");
    expect(text).toContain(`{"bytes":6,"hash":"${hash}"`);
    expect(text.match(/HTTP\/1\.1 200/g)?.length).toBe(2);
  });

  test("a chunked answer stays chunked for HTTP/1.1 and ends with the connection for HTTP/1.0", async () => {
    expect((await (await fetch(`${base}/chunked`)).arrayBuffer()).byteLength).toBe(2 * mebibyte);
    const old = await raw(port, "GET /chunked HTTP/1.0\r\nhost: a\r\n\r\n", undefined, 5_000);
    expect(old.closed).toBe(true);
    expect(old.text.toLowerCase()).not.toContain("transfer-encoding");
    expect(old.text.length - old.text.indexOf("\r\n\r\n") - 4).toBe(2 * mebibyte);
  });

  test("an answer that ends with its connection becomes chunked for a keep-alive client", async () => {
    speak = (socket) => {
      socket.write("HTTP/1.1 200 OK\r\n\r\nuntil the end");
      socket.flush();
      socket.end();
    };
    bytesApp.reload({ socket: { data: (socket, chunk) => speak(socket, chunk.toString("latin1")) } });
    const { text } = await raw(port, [
      "GET /bytes HTTP/1.1\r\nhost: a\r\n\r\n",
      "GET /204 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    ]);
    expect(text).toContain("transfer-encoding: chunked\r\n");
    expect(text).toContain("\r\n\r\nd\r\nuntil the end\r\n0\r\n\r\nHTTP/1.1 204");
  });

  test("HEAD, 204 and 304 have no body and leave the connection usable", async () => {
    const { text, closed } = await raw(port, [
      "HEAD /large HTTP/1.1\r\nhost: a\r\n\r\n",
      "GET /204 HTTP/1.1\r\nhost: a\r\n\r\n",
      "GET /304 HTTP/1.1\r\nhost: a\r\n\r\n",
      "HEAD /none HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    ]);
    expect(closed).toBe(true);
    expect(statusesOf(text)).toEqual([200, 204, 304, 200]);
    expect(text).toEndWith("\r\n\r\n");
  });

  test("100-continue is answered at once, and only when the body is still to come", async () => {
    const head =
      "POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
    const waiting = await raw(port, [head], (text) => text.includes("\r\n\r\n"));
    expect(waiting.text).toBe("HTTP/1.1 100 Continue\r\n\r\n");
    const whole = await raw(port, `${head}hello`);
    expect(whole.text).toStartWith("HTTP/1.1 200");
    expect(whole.text).toContain('{"bytes":5');
  });

  test("an interim answer of the server is not taken for the answer", async () => {
    speak = (socket) =>
      void socket.write("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    const got = await fetch(`${base}/bytes`);
    expect([got.status, await got.text()]).toEqual([200, "ok"]);
  });

  test("an early answer to an unfinished upload reaches the client, and the connection ends", async () => {
    speak = (socket) => void socket.write("HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\n\r\nbig");
    const { text, closed } = await raw(port, [
      "POST /bytes HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nstart",
    ]);
    expect(text).toContain("413 Payload Too Large");
    expect(text).toEndWith("big");
    expect(closed).toBe(true);
  });
});

describe("upgrades", () => {
  test("a WebSocket goes through, both ways", async () => {
    speak = (socket, text) => {
      if (text.startsWith("GET")) {
        expect(text.toLowerCase()).toContain("upgrade: websocket");
        expect(text.toLowerCase()).toContain("connection: upgrade");
        socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfirst");
      } else socket.write(text.toUpperCase());
    };
    const head = "GET /bytes HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    const { text } = await raw(port, [head, "hello"], (got) => got.includes("HELLO"));
    expect(text).toStartWith("HTTP/1.1 101 Switching Protocols\r\n");
    expect(text).toEndWith("\r\n\r\nfirstHELLO");
  });

  test("a protocol the listener does not know is refused with 403", async () => {
    const head = "GET /bytes HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: spdy\r\n\r\n";
    expect((await raw(port, head, (text) => text.includes("\r\n\r\n"))).text).toStartWith("HTTP/1.1 403");
  });
});
