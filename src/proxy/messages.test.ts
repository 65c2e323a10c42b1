// What a message means on its way through: answers of strange servers, trailers, interim answers, targets and hosts, time limits.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { Socket as BunSocket, TCPSocketListener } from "bun";
import { HttpConnectionManager_PathWithEscapedSlashesAction as Slashes } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { realClock } from "../kernel/clock.ts";
import {
  cluster,
  type FixtureProxy,
  freePort,
  getRequest,
  httpChain,
  listener,
  milliseconds,
  prefix,
  raw,
  routes,
  startFixture,
  statusesOf,
  toCluster,
} from "./fixture.ts";

type Socket = BunSocket<unknown>;
type Manager = NonNullable<Parameters<typeof httpChain>[1]>;

let proxy: FixtureProxy;
let server: TCPSocketListener<unknown>;
let got = "";
/** Connections that something arrived on. */
const used = new Set<Socket>();
/** What the server does with each read. */
let speak: (socket: Socket, text: string) => void;
const port = freePort();

beforeAll(async () => {
  server = Bun.listen<unknown>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, chunk) {
        const text = chunk.latin1Slice(0, chunk.length);
        got += text;
        used.add(socket);
        speak(socket, text);
      },
    },
  });
  proxy = await startFixture({});
  await serve();
});
afterAll(async () => {
  await proxy.close();
  server.stop(true);
});
afterEach(() => serve());

const say = (answer: string) => (socket: Socket) => void socket.write(Buffer.from(answer, "latin1"));
const ok = say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
const plainRoute = [{ match: prefix("/"), action: toCluster("server") }];

async function serve(manager: Manager = {}, list: Parameters<typeof routes>[1] = plainRoute): Promise<void> {
  await proxy.configure({
    listeners: [listener("127.0.0.1", port, [httpChain("main", manager)])],
    clusters: [cluster("server", [`127.0.0.1:${server.port}`])],
    routes: [routes("main", list)],
  });
  got = "";
  used.clear();
  speak = ok;
}
const last = getRequest("connection: close");

describe("an answer is 502, and its connection not used again, for", () => {
  const malformed: [string, string][] = [
    ["both length and chunked", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd"],
    ["two equal lengths", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc"],
    ["a list as length", "HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\n\r\nabc"],
    ["a signed length", "HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc"],
    ["an unknown coding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"],
    ["chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["a status of two digits", "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n"],
    ["a status below 100", "HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n"],
    ["no status", "HTTP/1.1 OK\r\ncontent-length: 0\r\n\r\n"],
    ["another protocol", "ICY 200 OK\r\ncontent-length: 0\r\n\r\n"],
    ["another version", "HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n"],
    ["a bare LF", "HTTP/1.1 200 OK\ncontent-length: 0\n\n"],
    ["a folded field", "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n"],
    ["a NUL in a field", "HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 0\r\n\r\n"],
    ["a space before the colon", "HTTP/1.1 200 OK\r\ncontent-length : 0\r\n\r\n"],
    ["bytes before it", "\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"],
    ["a head of more than 80 KiB", `HTTP/1.1 200 OK\r\nx: ${"y".repeat(90_000)}\r\n\r\n`],
    ["endless interim answers", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100)],
    ["an upgrade nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"],
  ];
  for (const [what, answer] of malformed)
    test(what, async () => {
      speak = say(answer);
      const { text } = await raw(port, last);
      expect(statusesOf(text)).toEqual([502]);
      speak = ok;
      expect(statusesOf((await raw(port, last)).text)).toEqual([200]);
      expect(used.size).toBe(2);
    });
});

describe("an answer's end", () => {
  test("a 204, 304 or HEAD's answer has no body and no framing that says otherwise, and what follows it is nobody's", async () => {
    const bodiless: [string, string][] = [
      ["GET", "HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc"],
      ["GET", "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"],
      ["GET", "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n"],
      ["HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"],
      ["HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"],
    ];
    for (const [method, answer] of bodiless) {
      speak = say(answer);
      const first = getRequest().replace("GET", method);
      const { text, closed } = await raw(port, [first, first, last.replace("GET", method)]);
      expect({ answer, closed, count: statusesOf(text).length }).toEqual({ answer, closed: true, count: 3 });
      expect({ answer, body: text.includes("abc"), chunked: /transfer-encoding/i.test(text) }).toEqual({
        answer,
        body: false,
        chunked: false,
      });
      expect({ answer, length: / 204 (?:.|\r\n)*content-length/i.test(text) }).toEqual({ answer, length: false });
    }
  });

  test("HEAD keeps the length GET would have", async () => {
    speak = say("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
    expect((await raw(port, last.replace("GET", "HEAD"))).text.toLowerCase()).toContain("content-length: 3\r\n");
  });

  test("more than was announced ends the connection, and is passed to nobody", async () => {
    speak = say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison");
    const { text } = await raw(port, [getRequest(), last]);
    expect(statusesOf(text)).toEqual([200, 200]);
    expect(text).not.toContain("poison");
    expect(used.size).toBe(2);
  });

  test("an answer nobody asked for ends an idle connection", async () => {
    speak = (socket) => {
      ok(socket);
      realClock.after(20, () => void socket.write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"));
    };
    await raw(port, last);
    await realClock.sleep(50);
    speak = ok;
    const { text } = await raw(port, last);
    expect(text).toEndWith("\r\n\r\nok");
    expect(used.size).toBe(2);
  });

  test("an early answer ends the upload; the next request has a connection of its own", async () => {
    speak = say("HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\nno");
    const head = getRequest("content-length: 100000").replace("GET", "POST");
    const early = await raw(port, [head, "x".repeat(5_000)]);
    expect(statusesOf(early.text)).toEqual([401]);
    expect(early.text.toLowerCase()).toContain("connection: close");
    expect(early.closed).toBe(true);
    speak = ok;
    expect(statusesOf((await raw(port, last)).text)).toEqual([200]);
    expect(used.size).toBe(2);
  });
});

describe("HTTP/1.0", () => {
  const old = (...lines: string[]): string => `${["GET / HTTP/1.0", ...lines].join("\r\n")}\r\n\r\n`;

  test("keeps its connection only when it asks for it and the answer's length is known", async () => {
    const kept = await raw(port, [old("connection: keep-alive"), old()]);
    expect(statusesOf(kept.text)).toEqual([200, 200]);
    expect(kept.text.toLowerCase()).toContain("connection: keep-alive\r\n");
    expect(statusesOf((await raw(port, [old(), old()])).text)).toEqual([200]);
    speak = say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    const chunked = await raw(port, [old("connection: keep-alive"), old()]);
    expect(statusesOf(chunked.text)).toEqual([200]);
    expect(chunked.closed).toBe(true);
    expect(chunked.text).toEndWith("\r\n\r\nok");
    expect(chunked.text.toLowerCase()).not.toContain("chunked");
  });

  test("is told so by answers of the proxy's own as well", async () => {
    await serve({}, []);
    const { text } = await raw(port, [old("connection: keep-alive"), old()]);
    expect(statusesOf(text)).toEqual([404, 404]);
    expect(text.toLowerCase()).toContain("connection: keep-alive\r\n");
  });

  test("goes on as HTTP/1.1 with a Host field, and gets no interim answer", async () => {
    const { text } = await raw(port, `POST / HTTP/1.0\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\nhi`);
    expect(got).toStartWith("POST / HTTP/1.1\r\nhost: \r\n");
    expect(got.toLowerCase()).not.toContain("expect");
    expect(statusesOf(text)).toEqual([200]);
  });
});

describe("trailers", () => {
  const upload = `${getRequest("transfer-encoding: chunked", "trailer: x-sum", "te: trailers, gzip", "connection: close, te").replace("GET", "POST")}2\r\nhi\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\nHost: evil\r\n\r\n`;
  const answer =
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 8\r\nSet-Cookie: a=b\r\n\r\n";

  test("are dropped in both directions, and their announcement with them", async () => {
    speak = say(answer);
    const { text } = await raw(port, upload);
    expect(got).toEndWith("\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    expect(text).toEndWith("\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    expect((got + text).toLowerCase()).not.toMatch(/trailer|\bte:/);
  });

  test("go through where the listener says so, without those that would change the message", async () => {
    await serve({ httpProtocolOptions: { enableTrailers: true } });
    speak = (socket) => {
      if (got.endsWith("X-Sum: 7\r\n\r\n")) say(answer)(socket);
    };
    for (const pieces of [[upload], [...upload]]) {
      got = "";
      const { text } = await raw(port, pieces, undefined, 4_000);
      expect(got).toEndWith("\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n");
      expect(got.toLowerCase()).toContain("trailer: x-sum\r\n");
      expect(got.toLowerCase()).toContain("te: trailers\r\nconnection: te\r\n");
      expect(text).toEndWith("\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 8\r\n\r\n");
      expect(text.toLowerCase()).toContain("trailer: x-sum\r\n");
    }
  });

  test("do not reach HTTP/1.0", async () => {
    await serve({ httpProtocolOptions: { enableTrailers: true } });
    speak = say(answer);
    const { text } = await raw(port, "GET / HTTP/1.0\r\n\r\n");
    expect(text).toEndWith("\r\n\r\nok");
    expect(text.toLowerCase()).not.toContain("trailer");
  });

  test("longer than 8 KiB are refused", async () => {
    await serve({ httpProtocolOptions: { enableTrailers: true } });
    const { text } = await raw(port, upload.replace("X-Sum: 7", `X-Sum: ${"7".repeat(9_000)}`));
    expect(statusesOf(text)).toEqual([400]);
  });
});

describe("interim answers", () => {
  const hints = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\ncontent-length: 7\r\n\r\n";
  const final = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

  test("stay here, unless the listener proxies them: then the first one goes through, without framing", async () => {
    speak = say(hints + hints + final);
    expect(statusesOf((await raw(port, last)).text)).toEqual([200]);
    await serve({ proxy100Continue: true });
    speak = say(hints + hints + final);
    const { text } = await raw(port, last);
    expect(text).toStartWith("HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\nHTTP/1.1 200 OK\r\n");
    expect(statusesOf((await raw(port, last.replace("HTTP/1.1", "HTTP/1.0"))).text)).toEqual([200]);
  });

  const upload = getRequest("content-length: 2", "expect: 100-continue", "connection: close").replace("GET", "POST");

  test("100-continue is the proxy's to say, and the server does not see the expectation", async () => {
    const { text } = await raw(port, [upload, "hi"]);
    expect(text).toStartWith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n");
    expect(got.toLowerCase()).not.toContain("expect");
  });

  test("100-continue is the server's to say where the listener proxies it", async () => {
    await serve({ proxy100Continue: true });
    speak = (socket, text) => {
      if (text.startsWith("POST")) socket.write("HTTP/1.1 100 Continue\r\n\r\n");
      else ok(socket);
    };
    const waiting = await raw(port, [upload], (text) => text.includes("\r\n\r\n"));
    expect(waiting.text).toBe("HTTP/1.1 100 Continue\r\n\r\n");
    expect(got.toLowerCase()).toContain("expect: 100-continue\r\n");
    const { text } = await raw(port, [upload, "hi"]);
    expect(statusesOf(text)).toEqual([100, 200]);
    speak = say("HTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n");
    const refused = await raw(port, upload);
    expect([statusesOf(refused.text), refused.closed]).toEqual([[417], true]);
  });

  test("another expectation is the server's to refuse", async () => {
    await raw(port, getRequest("expect: miracles", "connection: close"));
    expect(got.toLowerCase()).toContain("expect: miracles\r\n");
  });
});

describe("targets and hosts", () => {
  test("absolute-form becomes origin-form, and its authority wins over the Host field", async () => {
    const forms: [string, string][] = [
      ["GET http://b.test/x?y HTTP/1.1", "GET /x?y HTTP/1.1\r\nhost: b.test\r\n"],
      ["GET HTTP://b.test:81?y HTTP/1.1", "GET /?y HTTP/1.1\r\nhost: b.test:81\r\n"],
      ["OPTIONS http://b.test HTTP/1.1", "OPTIONS * HTTP/1.1\r\nhost: b.test\r\n"],
      ["OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1\r\n"],
    ];
    for (const [line, want] of forms) {
      got = "";
      const { text } = await raw(port, last.replace("GET / HTTP/1.1", line));
      expect({ line, statuses: statusesOf(text), got: got.slice(0, want.length) }).toEqual({
        line,
        statuses: [200],
        got: want,
      });
      expect(got.match(/^host:/gim)?.length).toBe(1);
    }
    for (const line of [
      "GET * HTTP/1.1",
      "GET http://u@b.test/ HTTP/1.1",
      "GET ftp://b.test/ HTTP/1.1",
      "GET b.test HTTP/1.1",
    ])
      expect({ line, statuses: statusesOf((await raw(port, last.replace("GET / HTTP/1.1", line))).text) }).toEqual({
        line,
        statuses: [400],
      });
  });

  const slashed: [string, Slashes, number, string][] = [
    ["kept by default", Slashes.IMPLEMENTATION_SPECIFIC_DEFAULT, 200, "GET /a%2Fb%5C..?c=%2f HTTP/1.1"],
    ["kept", Slashes.KEEP_UNCHANGED, 200, "GET /a%2Fb%5C..?c=%2f HTTP/1.1"],
    ["refused", Slashes.REJECT_REQUEST, 400, ""],
    ["unescaped and forwarded", Slashes.UNESCAPE_AND_FORWARD, 200, "GET /a/?c=%2f HTTP/1.1"],
    ["unescaped and redirected", Slashes.UNESCAPE_AND_REDIRECT, 307, ""],
  ];
  for (const [what, pathWithEscapedSlashesAction, status, line] of slashed)
    test(`escaped slashes are ${what}`, async () => {
      await serve({ pathWithEscapedSlashesAction });
      const { text } = await raw(port, last.replace("GET / ", "GET /a%2Fb%5C..?c=%2f "));
      expect(statusesOf(text)).toEqual([status]);
      expect(got.split("\r\n", 1)[0]).toBe(line);
      if (status === 307) expect(text).toContain("\r\nlocation: /a/?c=%2f\r\n");
      // Nothing to do: nothing changes.
      expect(statusesOf((await raw(port, last.replace("GET / ", "GET /plain?x=%2f "))).text)).toEqual([200]);
    });

  const hosts: [string, Manager, string, string][] = [
    ["as it is", {}, "a.test.:8080", "a.test.:8080"],
    ["without any port", { stripPortMode: { case: "stripAnyHostPort", value: true } }, "a.test:8080", "a.test"],
    ["with another port", { stripMatchingHostPort: true }, "a.test:8080", "a.test:8080"],
    ["without the listener's port", { stripMatchingHostPort: true }, `a.test:${port}`, "a.test"],
    ["without its last dot", { stripTrailingHostDot: true }, "a.test.:80", "a.test:80"],
  ];
  for (const [what, manager, host, want] of hosts)
    test(`the host goes on ${what}`, async () => {
      await serve(manager);
      await raw(port, last.replace("host: a", `host: ${host}`));
      expect(/^host: (.*)\r$/im.exec(got)?.[1]).toBe(want);
    });
});

describe("time limits", () => {
  const never = (): void => {};
  const timed = async (send: string): Promise<{ statuses: number[]; ms: number; text: string }> => {
    const startMs = realClock.monotonicMs();
    const { text } = await raw(port, [send], undefined, 3_000);
    return { statuses: statusesOf(text), ms: realClock.monotonicMs() - startMs, text };
  };
  const route = (value: object): Parameters<typeof routes>[1] => [
    { match: prefix("/"), action: { case: "route", value: { ...toCluster("server").value, ...value } } },
  ];
  const unfinished = getRequest("content-length: 10").replace("GET", "POST");

  test("the listener's and the route's idle timeout: 504 with the request complete, 408 before", async () => {
    await serve({ streamIdleTimeout: milliseconds(200) });
    speak = never;
    const [complete, incomplete] = await Promise.all([timed(last), timed(unfinished)]);
    expect(complete.statuses).toEqual([504]);
    expect(complete.ms).toBeGreaterThan(200);
    expect(complete.text).toEndWith("stream timeout");
    expect(incomplete.statuses).toEqual([408]);
    await serve({ streamIdleTimeout: milliseconds(60_000) }, route({ idleTimeout: milliseconds(200) }));
    speak = never;
    expect((await timed(last)).statuses).toEqual([504]);
    await serve({ streamIdleTimeout: milliseconds(200) }, route({ idleTimeout: milliseconds(0) }));
    speak = (socket) => void realClock.after(1_500, () => ok(socket));
    expect((await timed(last)).statuses).toEqual([200]);
  }, 10_000);

  test("the greatest duration of a stream, the route's before the listener's", async () => {
    await serve({ commonHttpProtocolOptions: { maxStreamDuration: milliseconds(150) } });
    speak = never;
    const got504 = await timed(last);
    expect([got504.statuses, got504.text.endsWith("downstream duration timeout")]).toEqual([[504], true]);
    expect(got504.ms).toBeGreaterThan(145);
    expect(got504.ms).toBeLessThan(900);
    expect((await timed(unfinished)).statuses).toEqual([408]);
    await serve(
      { commonHttpProtocolOptions: { maxStreamDuration: milliseconds(100) } },
      route({ maxStreamDuration: { maxStreamDuration: milliseconds(0) } }),
    );
    speak = (socket) => void realClock.after(250, () => ok(socket));
    expect((await timed(last)).statuses).toEqual([200]);
  });

  test("the time a whole request may take", async () => {
    await serve({ requestTimeout: milliseconds(100) });
    speak = (socket, text) => {
      if (text.startsWith("GET")) realClock.after(1_300, () => ok(socket));
    };
    const sent = [unfinished, "GET / HTTP/1.1\r\nhost:", last];
    // The answer may take longer.
    expect((await Promise.all(sent.map(timed))).map((one) => one.statuses)).toEqual([[408], [408], [200]]);
  }, 10_000);
});
