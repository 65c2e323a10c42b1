// Tunnels: CONNECT ended here or passed on, upgrades, and what ends them. Everything over real sockets.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Socket as BunSocket, TCPSocketListener } from "bun";
import { realClock } from "../kernel/clock.ts";
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

type Socket = BunSocket<unknown>;
type Manager = NonNullable<Parameters<typeof httpChain>[1]>;
type RouteList = Parameters<typeof routes>[1];

/** A server of raw bytes; `speak` is told what arrives on each connection. */
interface RawServer {
  listener: TCPSocketListener<unknown>;
  address: string;
  got: string;
  ended: number;
  closed: number;
  speak: (socket: Socket, text: string) => void;
}

function rawServer(): RawServer {
  const listening = Bun.listen<unknown>({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen: true,
    socket: {
      data(socket, chunk) {
        const text = chunk.latin1Slice(0, chunk.length);
        server.got += text;
        server.speak(socket, text);
      },
      end(socket) {
        server.ended++;
        server.speak(socket, "(end)");
      },
      close() {
        server.closed++;
      },
    },
  });
  const address = `127.0.0.1:${listening.port}`;
  const server: RawServer = { listener: listening, address, got: "", ended: 0, closed: 0, speak: () => {} };
  return server;
}

let proxy: FixtureProxy;
let server: RawServer;
const port = freePort();

beforeAll(async () => {
  server = rawServer();
  proxy = await startFixture({});
});
afterAll(async () => {
  await proxy.close();
  server.listener.stop(true);
});

async function serve(
  list: RouteList,
  manager: Manager = {},
  more: { at?: FixtureProxy; port?: number } = {},
): Promise<void> {
  Object.assign(server, { got: "", ended: 0, closed: 0, speak: () => {} });
  await (more.at ?? proxy).configure({
    listeners: [listener("127.0.0.1", more.port ?? port, [httpChain("main", manager)])],
    clusters: [cluster("server", [server.address]), cluster("dead", ["127.0.0.1:1"])],
    routes: [routes("main", list)],
  });
}

/** A client that stays: what it got, and whether it was closed. */
async function client(
  to = port,
): Promise<{ socket: Socket; text: () => string; closed: () => boolean; ended: () => boolean }> {
  let got = "";
  let closed = false;
  let ended = false;
  const socket = await Bun.connect<unknown>({
    hostname: "127.0.0.1",
    port: to,
    allowHalfOpen: true,
    socket: {
      data(_socket, chunk) {
        got += chunk.latin1Slice(0, chunk.length);
      },
      end() {
        ended = true;
      },
      close() {
        closed = true;
      },
    },
  });
  return { socket, text: () => got, closed: () => closed, ended: () => ended };
}

const upgrades = (...types: string[]): Manager => ({
  upgradeConfigs: types.map((upgradeType) => ({ upgradeType })) as never,
});
const connectMatch = { pathSpecifier: { case: "connectMatcher", value: {} } } as const;
const ends = (name: string): RouteList[number]["action"] => ({
  case: "route",
  value: { ...toCluster(name).value, upgradeConfigs: [{ upgradeType: "CONNECT", connectConfig: {} }] },
});
const connectHead = "CONNECT inner.test:443 HTTP/1.1\r\nhost: other.test\r\n\r\n";
const upgradeHead = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
const switching = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const upper = (socket: Socket, text: string): void => void socket.write(text === "(end)" ? "" : text.toUpperCase());

describe("CONNECT", () => {
  test("ends at the proxy where the route says so: its payload goes to the cluster as plain TCP", async () => {
    await serve([{ match: connectMatch, action: ends("server") }], upgrades("CONNECT"));
    server.speak = upper;
    const { text } = await raw(port, [connectHead, "hello"], (got) => got.endsWith("HELLO"));
    expect(text).toStartWith("HTTP/1.1 200 OK\r\n");
    expect(text).toEndWith("\r\n\r\nHELLO");
    expect(text.toLowerCase()).not.toContain("content-length");
    expect(server.got).toBe("hello");
  });

  test("what the client sends with it waits for the tunnel", async () => {
    await serve([{ match: connectMatch, action: ends("server") }], upgrades("CONNECT"));
    server.speak = upper;
    const { text } = await raw(port, `${connectHead}GET /early`, (got) => got.endsWith("GET /EARLY"));
    expect(text).toEndWith("\r\n\r\nGET /EARLY");
  });

  test("is passed on elsewhere, with the target as its host, and a 2xx opens the tunnel", async () => {
    await serve([{ match: connectMatch, action: toCluster("server") }], upgrades("CONNECT"));
    server.speak = (socket, text) => {
      if (text.startsWith("CONNECT")) socket.write("HTTP/1.1 201 Yes\r\ncontent-length: 5\r\n\r\n");
      else socket.write(text.toUpperCase());
    };
    const { text } = await raw(port, [connectHead, "hello"], (got) => got.endsWith("HELLO"));
    expect(server.got).toStartWith("CONNECT inner.test:443 HTTP/1.1\r\nhost: inner.test:443\r\n");
    expect(server.got).not.toContain("other.test");
    expect(text).toStartWith("HTTP/1.1 201 Yes\r\n");
    // A 2xx to CONNECT has no body, whatever its fields say.
    expect(text.toLowerCase()).not.toContain("content-length");
    expect(text).toEndWith("\r\n\r\nHELLO");
  });

  test("refused by the server is an answer like any other, after which nothing more is read as a request", async () => {
    await serve([{ match: connectMatch, action: toCluster("server") }], upgrades("CONNECT"));
    server.speak = (socket) => void socket.write("HTTP/1.1 407 No\r\ncontent-length: 2\r\n\r\nno");
    const { text, closed } = await raw(port, `${connectHead}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n`);
    expect(text).toStartWith("HTTP/1.1 407 No\r\n");
    expect(text).toEndWith("\r\n\r\nno");
    expect(closed).toBe(true);
    expect(server.got).not.toContain("smuggled");
  });

  const refusals: [string, RouteList, Manager, string, number][] = [
    ["the listener does not allow it", [{ match: connectMatch, action: toCluster("server") }], {}, connectHead, 403],
    [
      "no route is for CONNECT",
      [{ match: prefix("/"), action: toCluster("server") }],
      upgrades("CONNECT"),
      connectHead,
      404,
    ],
    [
      "the cluster cannot be reached",
      [{ match: connectMatch, action: ends("dead") }],
      upgrades("CONNECT"),
      connectHead,
      503,
    ],
    [
      "it has a body",
      [{ match: connectMatch, action: ends("server") }],
      upgrades("CONNECT"),
      connectHead.replace("\r\n\r\n", "\r\ncontent-length: 3\r\n\r\nabc"),
      400,
    ],
    [
      "its target has no port",
      [{ match: connectMatch, action: ends("server") }],
      upgrades("CONNECT"),
      "CONNECT inner.test HTTP/1.1\r\nhost: a\r\n\r\n",
      400,
    ],
    [
      "its target is a path",
      [{ match: connectMatch, action: ends("server") }],
      upgrades("CONNECT"),
      "CONNECT /a:80 HTTP/1.1\r\nhost: a\r\n\r\n",
      400,
    ],
  ];
  for (const [why, list, manager, head, status] of refusals)
    test(`is answered with ${status} when ${why}`, async () => {
      await serve(list, manager);
      const { text, closed } = await raw(port, head);
      expect(text).toStartWith(`HTTP/1.1 ${status} `);
      expect(closed).toBe(true);
      expect(server.got).toBe("");
    });

  test("a route for CONNECT is for nothing else", async () => {
    await serve([{ match: connectMatch, action: ends("server") }], upgrades("CONNECT"));
    const { text } = await raw(port, "GET / HTTP/1.1\r\nhost: inner.test:443\r\nconnection: close\r\n\r\n");
    expect(text).toStartWith("HTTP/1.1 404 ");
  });
});

describe("upgrades", () => {
  const route = (upgradeConfigs: { upgradeType: string; enabled?: boolean }[] = [], value: object = {}): RouteList => [
    {
      match: prefix("/"),
      action: { case: "route", value: { ...toCluster("server").value, upgradeConfigs, ...value } },
    },
  ];
  const answer101 = (socket: Socket, text: string): void => {
    if (text.startsWith("GET")) socket.write(switching);
    else upper(socket, text);
  };

  test("a route may forbid what the listener allows, and allow what it does not", async () => {
    await serve(route([{ upgradeType: "WebSocket", enabled: false }]), upgrades("websocket"));
    expect((await raw(port, upgradeHead)).text).toStartWith("HTTP/1.1 403 ");
    await serve(route([{ upgradeType: "websocket" }]));
    server.speak = answer101;
    expect((await raw(port, upgradeHead, (text) => text.includes("\r\n\r\n"))).text).toStartWith("HTTP/1.1 101 ");
  });

  test("a server that answers something else has refused: its answer is passed on, and the connection ends", async () => {
    await serve(route(), upgrades("websocket"));
    server.speak = (socket) => void socket.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhtml");
    const { text, closed } = await raw(port, [`${upgradeHead}`, "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"]);
    expect(text).toStartWith("HTTP/1.1 200 OK\r\n");
    expect(text.toLowerCase()).toContain("connection: close\r\n");
    expect(text).toEndWith("\r\n\r\nhtml");
    expect(closed).toBe(true);
    expect(server.got).not.toContain("smuggled");
  });

  test("in HTTP/1.0, and with a body, an upgrade is no upgrade", async () => {
    await serve(route(), upgrades("websocket"));
    server.speak = (socket) => void socket.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    for (const head of [
      upgradeHead.replace("HTTP/1.1", "HTTP/1.0"),
      upgradeHead.replace("\r\n\r\n", "\r\ncontent-length: 1\r\n\r\nx"),
    ]) {
      server.got = "";
      expect((await raw(port, head, (text) => text.includes("\r\n\r\n"))).text).toStartWith("HTTP/1.1 200 ");
      expect(server.got.toLowerCase()).not.toContain("upgrade");
    }
  });

  test("an answer of 101 that nobody asked for is 502", async () => {
    await serve(route(), upgrades("websocket"));
    server.speak = (socket) => void socket.write(switching);
    expect((await raw(port, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).text).toStartWith(
      "HTTP/1.1 502 ",
    );
  });

  test("bytes sent before the 101 wait for it", async () => {
    await serve(route(), upgrades("websocket"));
    const held: Socket[] = [];
    server.speak = (socket, text) => (text.startsWith("GET") ? void held.push(socket) : upper(socket, text));
    const one = await client();
    one.socket.write(`${upgradeHead}first`);
    await until("the request", () => held.length === 1);
    one.socket.write(" second");
    await realClock.sleep(30);
    expect(server.got).not.toContain("first");
    held[0]!.write(switching);
    await until("the echo", () => one.text().endsWith("FIRST SECOND"));
    one.socket.terminate();
  });

  test("either side may end its half; the other half goes on", async () => {
    await serve(route(), upgrades("websocket"));
    server.speak = (socket, text) => {
      if (text.startsWith("GET")) socket.write(switching);
      else if (text === "(end)") {
        socket.write("after your end");
        socket.end();
      }
    };
    const one = await client();
    one.socket.write(upgradeHead);
    await until("the tunnel", () => one.text().includes("\r\n\r\n"));
    one.socket.shutdown();
    await until("the server's last words", () => one.text().endsWith("after your end"));
    await until("the end", () => one.ended() || one.closed());
    one.socket.terminate();
  });

  test("a server's half that ends first leaves the client's open", async () => {
    await serve(route(), upgrades("websocket"));
    server.speak = (socket, text) => {
      if (!text.startsWith("GET")) return;
      socket.write(switching);
      socket.shutdown();
    };
    const one = await client();
    one.socket.write(upgradeHead);
    await until("the server's end", () => one.ended());
    one.socket.write("still here");
    await until("the client's bytes", () => server.got.endsWith("still here"));
    one.socket.end();
    await until("the server closed", () => server.closed === 1);
  });

  test("silence longer than the route's idle timeout ends a tunnel; the metrics have its bytes and its time", async () => {
    await serve(route([], { idleTimeout: milliseconds(300) }), upgrades("websocket"));
    server.speak = answer101;
    const one = await client();
    const startedMs = realClock.monotonicMs();
    one.socket.write(upgradeHead);
    await until("the tunnel", () => one.text().includes("101"));
    const counted = async (): Promise<string[]> =>
      (await proxy.metrics())
        .split("\n")
        .filter((line) => line.includes('response_code="101"') && line.includes('response_flags="SI"'));
    expect(await counted()).toEqual([]);
    one.socket.write("x".repeat(5_000));
    await until("the end", () => one.closed() || one.ended(), 4_000);
    expect(realClock.monotonicMs() - startedMs).toBeGreaterThan(300);
    const lines = await counted();
    const bytes = (name: string): number =>
      Number(
        lines
          .find((line) => line.startsWith(`${name}_sum`))
          ?.split(" ")
          .at(-1),
      );
    expect(bytes("istio_request_bytes")).toBe(upgradeHead.length + 5_000);
    expect(bytes("istio_response_bytes")).toBeGreaterThan(5_000);
    one.socket.terminate();
  });

  test("the greatest duration of a stream ends a tunnel that is in use; the route's timeout does not", async () => {
    await serve(
      route([], { timeout: milliseconds(100), maxStreamDuration: { maxStreamDuration: milliseconds(600) } }),
      upgrades("websocket"),
    );
    server.speak = answer101;
    const one = await client();
    const startedMs = realClock.monotonicMs();
    one.socket.write(upgradeHead);
    while (!one.closed() && realClock.monotonicMs() - startedMs < 3_000) {
      one.socket.write("x");
      await realClock.sleep(20);
    }
    const lastedMs = realClock.monotonicMs() - startedMs;
    expect(one.closed()).toBe(true);
    expect(lastedMs).toBeGreaterThan(590);
    expect(lastedMs).toBeLessThan(1_500);
  });

  test("a tunnel counts as its endpoint's connection and request until it ends", async () => {
    const limits = { circuitBreakers: { thresholds: [{ maxRequests: 1 }] } };
    await serve(route(), upgrades("websocket"));
    await proxy.configure({
      listeners: [listener("127.0.0.1", port, [httpChain("main", upgrades("websocket"))])],
      clusters: [cluster("server", [server.address], limits)],
      routes: [routes("main", route())],
    });
    server.speak = answer101;
    const one = await client();
    one.socket.write(upgradeHead);
    await until("the tunnel", () => one.text().includes("101"));
    expect((await raw(port, upgradeHead, (text) => text.includes("\r\n\r\n"))).text).toStartWith("HTTP/1.1 503 ");
    one.socket.terminate();
    await until("the server's close", () => server.closed === 1 || server.ended === 1);
    await realClock.sleep(20);
    expect((await raw(port, upgradeHead, (text) => text.includes("\r\n\r\n"))).text).toStartWith("HTTP/1.1 101 ");
  });

  test("a drain does not wait for a tunnel that is silent, and leaves alone one that is in use", async () => {
    const own = freePort();
    // Five seconds of silence pass in one.
    const clock = { ...realClock, monotonicMs: () => realClock.monotonicMs() * 5 };
    const other = await startFixture({}, { clock });
    await serve(route(), upgrades("websocket"), { at: other, port: own });
    server.speak = answer101;
    const silent = await client(own);
    silent.socket.write(upgradeHead);
    const busy = await client(own);
    busy.socket.write(upgradeHead);
    await until("two tunnels", () => silent.text().includes("101") && busy.text().includes("101"));
    let drained = false;
    const draining = other.running.drain({ drainMs: 45_000 }).then(() => {
      drained = true;
    });
    const deadlineMs = realClock.monotonicMs() + 4_000;
    while (!silent.closed() && realClock.monotonicMs() < deadlineMs) {
      busy.socket.write("x");
      await realClock.sleep(20);
    }
    expect([silent.closed(), busy.closed(), busy.ended(), drained]).toEqual([true, false, false, false]);
    busy.socket.terminate();
    await draining;
    await other.close();
  }, 8_000);
});
