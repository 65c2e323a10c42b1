// What one client may take: time for heads and bodies, progress of bodies, reading of answers, requests and life of a connection.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { realClock } from "../../kernel/clock.ts";
import {
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  keyPair,
  listener,
  milliseconds,
  prefix,
  raw,
  routes,
  serverTls,
  startFixture,
  statusesOf,
  toCluster,
} from "../fixture.ts";
import { testAuthority } from "../tls/fixture.ts";
import { BodyPace, bodyProgressBytesMin } from "./slow_client.ts";

describe("a body's pace", () => {
  const windowMs = 1_000;
  const steps = (list: readonly [atMs: number, grown: number, held?: boolean][]): boolean[] => {
    const pace = new BodyPace();
    pace.begin(0);
    return list.map(([atMs, grown, held = false]) => {
      pace.grown += grown;
      return pace.isTooSlow(atMs, windowMs, held);
    });
  };
  const least = bodyProgressBytesMin;
  test("is judged at the end of each window, not before", () => {
    expect(
      steps([
        [500, 0],
        [1_000, 0],
        [1_001, 0],
      ]),
    ).toEqual([false, false, true]);
  });
  test("is good enough with the least progress, window after window", () => {
    expect(
      steps([
        [1_001, least],
        [2_002, least],
        [3_003, least - 1],
      ]),
    ).toEqual([false, false, true]);
  });
  test("is not the client's fault while nobody reads", () => {
    expect(
      steps([
        [900, 0, true],
        [1_800, 0],
        [1_901, 0],
      ]),
    ).toEqual([false, false, true]);
  });
});

const port = freePort();
let proxy: FixtureProxy | undefined;
let app: ReturnType<typeof Bun.serve<undefined>>;
beforeAll(() => {
  app = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: async (request) => new Response(await request.text()) });
});
afterEach(async () => {
  await proxy?.close();
  proxy = undefined;
});
afterAll(() => app.stop(true));

async function start(manager: object): Promise<void> {
  proxy = await startFixture({
    listeners: [listener("127.0.0.1", port, [httpChain("main", { useRemoteAddress: true, ...manager })])],
    clusters: [cluster("app", [`127.0.0.1:${app.port}`])],
    routes: [routes("main", [{ match: prefix("/"), action: toCluster("app") }])],
  });
}
const get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const post = (length: number) => `POST / HTTP/1.1\r\nhost: a\r\ncontent-length: ${length}\r\n\r\n`;

/** Sends `pieces` one by one, `pauseMs` apart, until the server closes; how long that took. */
async function drip(
  pieces: readonly string[],
  pauseMs: number,
  limitMs = 6_000,
): Promise<{ text: string; tookMs: number }> {
  const closed = Promise.withResolvers<void>();
  let text = "";
  let open = true;
  const startMs = realClock.monotonicMs();
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data(_socket, chunk) {
        text += chunk.toString();
      },
      close() {
        open = false;
        closed.resolve();
      },
    },
  });
  const cancel = realClock.after(limitMs, () => closed.resolve());
  for (const piece of pieces) {
    if (!open) break;
    socket.write(piece);
    await realClock.sleep(pauseMs);
  }
  await closed.promise;
  cancel();
  const tookMs = open ? Number.POSITIVE_INFINITY : realClock.monotonicMs() - startMs;
  socket.terminate();
  return { text, tookMs };
}

describe("a client that is too slow is closed", () => {
  const many = (piece: string) => Array<string>(100).fill(piece);

  test("with its head, whatever it sends meanwhile: 408", async () => {
    await start({ requestHeadersTimeout: milliseconds(500) });
    const { text, tookMs } = await drip(["GET / HTTP/1.1\r\n", ...many("x-a: b\r\n")], 50);
    expect(statusesOf(text)).toEqual([408]);
    expect(tookMs).toBeGreaterThan(400);
    expect(tookMs).toBeLessThan(2_000);
  });

  test("with its body at the edge: 408, while one that is only slow is served", async () => {
    await start({ requestHeadersTimeout: milliseconds(600) });
    const [hostile, slow] = await Promise.all([
      drip([post(10_000), ...many("x")], 50),
      drip(
        [
          `${post(8_000).replace("host: a", "host: a\r\nconnection: close")}`,
          ...Array<string>(16).fill("y".repeat(500)),
        ],
        100,
      ),
    ]);
    expect(statusesOf(hostile.text)).toEqual([408]);
    expect(hostile.tookMs).toBeLessThan(2_500);
    expect(statusesOf(slow.text)).toEqual([200]);
    expect(slow.text).toEndWith("y".repeat(500));
  });

  test("with the whole request, when that is bounded: 408", async () => {
    await start({ requestTimeout: milliseconds(700), useRemoteAddress: false });
    const { text, tookMs } = await drip([post(10_000), ...many("x".repeat(50))], 50);
    expect(statusesOf(text)).toEqual([408]);
    expect(tookMs).toBeLessThan(2_500);
  });

  test("between requests, after the idle timeout; a timeout of 0 is none", async () => {
    await start({
      requestHeadersTimeout: milliseconds(0),
      commonHttpProtocolOptions: { idleTimeout: milliseconds(500) },
    });
    const { text, tookMs } = await drip([get], 10);
    expect(statusesOf(text)).toEqual([200]);
    expect(tookMs).toBeLessThan(2_000);
    const patient = await drip(["GET / HTTP/1.1\r\nhost: a\r\n", "\r\n"], 700);
    expect(statusesOf(patient.text)).toEqual([200]);
  });
});

test("an idle connection over TLS is closed although its client says nothing", async () => {
  const authority = await testAuthority("test");
  const chain = { name: "tls", transportSocket: serverTls("tls") } as never;
  const manager = { commonHttpProtocolOptions: { idleTimeout: milliseconds(500) } };
  proxy = await startFixture({
    listeners: [listener("127.0.0.1", port, [httpChain("main", manager, chain)])],
    clusters: [cluster("app", [`127.0.0.1:${app.port}`])],
    routes: [routes("main", [{ match: prefix("/"), action: toCluster("app") }])],
    secrets: [keyPair("tls", await authority.rsa("a"))],
  });
  const answered = Promise.withResolvers<void>();
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    tls: { rejectUnauthorized: false },
    socket: {
      handshake: (client) => {
        client.write(get);
      },
      // Not reading, it never sees that the proxy says good-bye.
      data: (client) => {
        client.pause();
        answered.resolve();
      },
    },
  });
  await answered.promise;
  const open = async (): Promise<string | undefined> => {
    const stats = await fetch(`http://127.0.0.1:${proxy!.running.adminPort}/stats?filter=downstream_cx_active`);
    return /^listener.*downstream_cx_active: (\d+)$/m.exec(await stats.text())?.[1];
  };
  expect(await open()).toBe("1");
  for (let i = 0; i < 50 && (await open()) !== "0"; i++) await realClock.sleep(100);
  expect(await open()).toBe("0");
  socket.terminate();
}, 10_000);

describe("a connection has carried all it may", () => {
  test("after its longest life: idle it is closed, busy its next answer says so", async () => {
    await start({ commonHttpProtocolOptions: { maxConnectionDuration: milliseconds(600) } });
    const idle = await drip([get], 10);
    expect(statusesOf(idle.text)).toEqual([200]);
    expect(idle.tookMs).toBeLessThan(2_000);
    const busy = await drip(Array<string>(40).fill(get), 100);
    expect(busy.text).toContain("connection: close");
    expect(statusesOf(busy.text).every((status) => status === 200)).toBe(true);
    expect(busy.tookMs).toBeLessThan(2_500);
  });

  test("after its last request", async () => {
    await start({ commonHttpProtocolOptions: { maxRequestsPerConnection: 2 } });
    const { text, closed } = await raw(port, get + get + get);
    expect([statusesOf(text), closed]).toEqual([[200, 200], true]);
    expect(text.split("connection: close").length - 1).toBe(1);
  });
});

describe("a head is refused with 431", () => {
  const withFields = (count: number, length = 1) =>
    `GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n${`x-y: ${"z".repeat(length)}\r\n`.repeat(count - 2)}\r\n`;

  test("with more fields than configured", async () => {
    await start({ commonHttpProtocolOptions: { maxHeadersCount: 10 } });
    expect(statusesOf((await raw(port, withFields(10))).text)).toEqual([200]);
    expect(statusesOf((await raw(port, withFields(11))).text)).toEqual([431]);
  });
  test("when it is longer than configured", async () => {
    await start({ maxRequestHeadersKb: 2 });
    expect(statusesOf((await raw(port, withFields(10, 100))).text)).toEqual([200]);
    expect(statusesOf((await raw(port, withFields(10, 300))).text)).toEqual([431]);
  });
});
