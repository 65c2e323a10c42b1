// The proxy against clients that others wrote: curl, wrk, WebSocket, openssl s_client, sslscan, slowhttptest.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { ListenerFilterSchema } from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import { realClock } from "../kernel/clock.ts";
import {
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  inline,
  listener,
  milliseconds,
  prefix,
  raw,
  routes,
  startFixture,
  toCluster,
} from "./fixture.ts";
import { hourMs, serverTlsOf, type TestAuthority, testAuthority, tlsCertificate } from "./tls/fixture.ts";

const ports = { plain: freePort(), tls: freePort(), mutual: freePort(), balanced: freePort() };
const upload = Buffer.alloc(1_500_000, "0123456789abcdef");
const big = new Uint8Array(4 * 1024 * 1024);
const testMs = 15_000;

let folder = "";
let authority: TestAuthority;
let app: ReturnType<typeof Bun.serve<undefined>>;
let proxy: FixtureProxy;

const file = (name: string): string => join(folder, name);

/** True, after saying so, when a tool is not there. */
function missing(tool: string): boolean {
  if (Bun.which(tool)) return false;
  console.warn(`${tool} is not installed: its tests are skipped`);
  return true;
}

interface Ran {
  code: number;
  out: string;
  err: string;
}
/** Both outputs to the end; `input` is sent and then, unless `holdMs` says otherwise, closed. */
async function run(command: string[], input: string | Buffer = "", holdMs = 0): Promise<Ran> {
  const child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "pipe", timeout: testMs });
  child.stdin.write(input);
  child.stdin.flush();
  const close = realClock.sleep(holdMs).then(() => child.stdin.end());
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), close]);
  return { code: await child.exited, out, err };
}

/** "one.test" and "localhost" on the TLS ports, with certificates of both key types. */
async function start(): Promise<void> {
  authority = await testAuthority("clients");
  const pair = await authority.issue({
    commonName: "one.test",
    dnsNames: ["one.test"],
    lifetimeMs: hourMs,
    usages: ["server"],
  });
  const rsa = await authority.rsa("one.test");
  const client = await authority.issue({ commonName: "caller", lifetimeMs: hourMs, usages: ["client"] });
  const foreign = await (await testAuthority("strangers")).issue({
    commonName: "x",
    lifetimeMs: hourMs,
    usages: ["client"],
  });
  writeFileSync(file("ca.pem"), authority.certPem);
  writeFileSync(file("client.pem"), `${client.certPem}\n${client.keyPem}`);
  writeFileSync(file("foreign.pem"), `${foreign.certPem}\n${foreign.keyPem}`);
  writeFileSync(file("upload"), upload);
  const chain = (mutual: boolean) =>
    httpChain("main", slow, {
      filterChainMatch: { serverNames: ["one.test", "localhost"] },
      transportSocket: serverTlsOf({
        commonTlsContext: {
          tlsCertificates: [tlsCertificate(pair), tlsCertificate(rsa)],
          alpnProtocols: ["http/1.1"],
          ...(mutual && {
            validationContextType: {
              case: "validationContext",
              value: { trustedCa: inline(authority.certPem) },
            } as const,
          }),
        },
        requireClientCertificate: mutual,
      }),
    } as never);
  const behindBalancer = listener("127.0.0.1", ports.balanced, [
    chain(false),
    httpChain("main", slow, { filterChainMatch: { transportProtocol: "raw_buffer" } } as never),
  ]);
  behindBalancer.listenerFilters = [create(ListenerFilterSchema, { name: "envoy.filters.listener.proxy_protocol" })];
  proxy = await startFixture({
    listeners: [
      listener("127.0.0.1", ports.plain, [httpChain("main", slow)]),
      listener("127.0.0.1", ports.tls, [chain(false)]),
      listener("127.0.0.1", ports.mutual, [chain(true)]),
      behindBalancer,
    ],
    clusters: [cluster("app", [`127.0.0.1:${app.port}`])],
    routes: [routes("main", [{ match: prefix("/"), action: toCluster("app") }])],
  });
}

/** An edge that loses patience soon. */
const slow = {
  useRemoteAddress: true,
  requestHeadersTimeout: milliseconds(1_000),
  streamIdleTimeout: milliseconds(2_000),
  upgradeConfigs: [{ upgradeType: "websocket" }],
};

async function answer(request: Request, server: Bun.Server<undefined>): Promise<Response | undefined> {
  const { pathname } = new URL(request.url);
  if (pathname === "/socket") return server.upgrade(request) ? undefined : new Response("no upgrade", { status: 400 });
  if (pathname === "/who") return new Response(request.headers.get("x-forwarded-for"));
  if (pathname === "/big") return new Response(big);
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range") ?? "");
  if (range) {
    const [from, to] = [Number(range[1]), Number(range[2])];
    const headers = { "content-range": `bytes ${from}-${to}/${upload.length}` };
    return new Response(upload.subarray(from, to + 1), { status: 206, headers });
  }
  if (request.method === "GET" || request.method === "HEAD")
    return new Response("hello", { headers: { "x-app": "1" } });
  const body = Buffer.from(await request.arrayBuffer());
  return new Response(`${request.method} ${body.length} ${body.equals(upload) ? "intact" : "changed"}`);
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "meshbed-clients-"));
  app = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: answer,
    websocket: {
      maxPayloadLength: 8 * 1024 * 1024,
      message: (socket, message) => void socket.send(message),
    },
  });
  await start();
});
afterAll(async () => {
  await proxy.close();
  await app.stop(true);
  rmSync(folder, { recursive: true });
});

describe.skipIf(missing("curl"))("curl", () => {
  const plain = () => `http://127.0.0.1:${ports.plain}/`;
  const named = (port: number) => ["--resolve", `one.test:${port}:127.0.0.1`, "--cacert", file("ca.pem")];
  const secure = () => [...named(ports.tls), `https://one.test:${ports.tls}/`];
  const mutual = () => [...named(ports.mutual), `https://one.test:${ports.mutual}/`];
  const cases: [string, () => string[], string | RegExp, number?][] = [
    ["GET", () => [plain()], /^HTTP\/1\.1 200 OK\r\n(.*\r\n)*x-app: 1\r\n(.*\r\n)*\r\nhello$/],
    ["HEAD", () => ["-I", plain()], /^HTTP\/1\.1 200 OK\r\n(.*\r\n)*content-length: 5\r\n(.*\r\n)*\r\n$/i],
    ["upload with a length", () => ["--data-binary", `@${file("upload")}`, plain()], `POST ${upload.length} intact`],
    [
      "chunked upload",
      () => ["-T", file("upload"), "-H", "transfer-encoding: chunked", plain()],
      `PUT ${upload.length} intact`,
    ],
    [
      "upload that waits for 100 Continue",
      () => ["-H", "expect: 100-continue", "--data-binary", `@${file("upload")}`, plain()],
      /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n[\s\S]*intact$/,
    ],
    ["Range", () => ["-r", "16-19", plain()], /^HTTP\/1\.1 206 [\s\S]*\r\n\r\n0123$/],
    [
      "HTTP/1.0",
      () => ["--http1.0", plain()],
      /^HTTP\/1\.1 200 OK\r\n(.*\r\n)*connection: close\r\n(.*\r\n)*\r\nhello$/,
    ],
    ["TLS 1.2", () => ["--tls-max", "1.2", ...secure()], /200 OK[\s\S]*hello$/],
    ["TLS 1.3", () => ["--tlsv1.3", ...secure()], /200 OK[\s\S]*hello$/],
    [
      "TLS 1.1: refused",
      () => ["--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", ...secure()],
      "",
      35,
    ],
    ["HTTP/2 offered: HTTP/1.1 it is", () => ["--http2", ...secure()], /^HTTP\/1\.1 200 OK/],
    ["a client certificate", () => ["--cert", file("client.pem"), ...mutual()], /200 OK[\s\S]*hello$/],
    ["no client certificate where one is required: refused", () => ["--tls-max", "1.2", ...mutual()], "", 56],
  ];
  for (const [what, args, want, code = 0] of cases)
    test(what, async () => {
      const ran = await run(["curl", "-sS", "-i", "-m", "10", ...args()]);
      if (code !== 56) expect([ran.code, ran.err.slice(0, code === 0 ? undefined : 0)]).toEqual([code, ""]);
      // Which error it is depends on whether curl was still writing.
      else expect([35, 52, 55, 56]).toContain(ran.code);
      if (typeof want === "string") expect(ran.out).toEndWith(want);
      else expect(ran.out).toMatch(want);
      if (code !== 0) expect(ran.out).toBe("");
    });

  test("through a balancer that speaks the PROXY protocol: the client is the balancer's; without it nobody is served", async () => {
    const url = `https://one.test:${ports.balanced}/who`;
    const ask = (...args: string[]) => run(["curl", "-sS", "-m", "5", ...named(ports.balanced), ...args, url]);
    const plainly = "GET /who HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    const { text } = await raw(ports.balanced, ["PROXY TCP4 192.0.2.7 127.0.0.1 5", "6 80\r\n", plainly]);
    expect(text).toEndWith("\r\n\r\n192.0.2.7");
    expect((await raw(ports.balanced, plainly)).text).toBe("");
    expect((await ask("--haproxy-protocol")).out).toBe("127.0.0.1");
    expect((await ask()).code).toBeGreaterThan(0);
  });

  test("three requests over one connection", async () => {
    const { out } = await run(["curl", "-sS", "-w", "%{num_connects} ", plain(), plain(), plain()]);
    expect(out).toBe("hello1 hello0 hello0 ");
  });
});

describe.skipIf(missing("wrk"))("wrk", () => {
  for (const scheme of ["http", "https"] as const)
    test(`over ${scheme}: no error of any kind`, async () => {
      const url = `${scheme}://localhost:${scheme === "http" ? ports.plain : ports.tls}/`;
      const { out } = await run(["wrk", "-t1", "-c16", "-d1s", url]);
      expect(out).not.toContain("Socket errors");
      expect(out).not.toContain("Non-2xx");
      expect(Number(/Requests\/sec:\s+([\d.]+)/.exec(out)?.[1])).toBeGreaterThan(200);
    });
});

describe("WebSocket", () => {
  const schemes = [
    ["ws", () => `ws://127.0.0.1:${ports.plain}/socket`],
    ["wss", () => `wss://localhost:${ports.tls}/socket`],
  ] as const;
  for (const [scheme, url] of schemes)
    test(`${scheme}: messages of all sizes come back, and the close is clean`, async () => {
      const socket = new WebSocket(url(), { tls: { rejectUnauthorized: false } } as never);
      const sizes = [0, 1, 125, 126, 65_535, 65_536, 1_000_000];
      const got: number[] = [];
      const closed = Promise.withResolvers<CloseEvent>();
      socket.onmessage = ({ data }) => {
        got.push(String(data).length);
        if (got.length === sizes.length) socket.close(1000, "done");
      };
      socket.onopen = () => {
        for (const size of sizes) socket.send("x".repeat(size));
      };
      socket.onclose = (event) => closed.resolve(event);
      const { code, wasClean } = await closed.promise;
      expect(got).toEqual(sizes);
      expect([code, wasClean]).toEqual([1000, true]);
    });

  test("by hand: fragments with a ping in between, byte by byte", async () => {
    const mask = Buffer.from([1, 2, 3, 4]);
    const frame = (first: number, text: string): Buffer => {
      const payload = Buffer.from(text).map((byte, i) => byte ^ mask[i % 4]!);
      return Buffer.concat([Buffer.from([first, 0x80 | payload.length]), mask, payload]);
    };
    const head = [
      "GET /socket HTTP/1.1",
      "host: a",
      "connection: Upgrade",
      "upgrade: WebSocket",
      "sec-websocket-version: 13",
      "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    const answers: Buffer[] = [];
    const closed = Promise.withResolvers<void>();
    const opened = Promise.withResolvers<void>();
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: ports.plain,
      socket: {
        data(_socket, chunk) {
          answers.push(Buffer.from(chunk));
          opened.resolve();
        },
        close: () => closed.resolve(),
      },
    });
    socket.write(`${head.join("\r\n")}\r\n\r\n`);
    await opened.promise;
    const frames = [frame(0x01, "he"), frame(0x89, "ping"), frame(0x80, "llo"), frame(0x88, "\u0003\u00e8")];
    frames[3] = Buffer.concat([Buffer.from([0x88, 0x82]), mask, Buffer.from([0x03 ^ 1, 0xe8 ^ 2])]);
    for (const byte of Buffer.concat(frames)) {
      socket.write(Buffer.from([byte]));
      await realClock.sleep(1);
    }
    await closed.promise;
    const all = Buffer.concat(answers);
    expect(all.latin1Slice(0, 34)).toBe("HTTP/1.1 101 Switching Protocols\r\n");
    expect(all.latin1Slice(0, all.length)).toContain(": s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");
    const bytes = all.subarray(all.indexOf("\r\n\r\n") + 4);
    const pong = Buffer.concat([Buffer.from([0x8a, 4]), Buffer.from("ping")]);
    const echo = Buffer.concat([Buffer.from([0x81, 5]), Buffer.from("hello")]);
    expect(bytes.subarray(0, 13)).toEqual(Buffer.concat([pong, echo]));
    expect([...bytes.subarray(13, 17)]).toEqual([0x88, 2, 3, 0xe8]);
  });
});

describe.skipIf(missing("openssl"))("openssl s_client", () => {
  const get = "GET / HTTP/1.1\r\nhost: one.test\r\nconnection: close\r\n\r\n";
  async function ask(port: number, ...args: string[]): Promise<string> {
    const { out, err } = await run(["openssl", "s_client", "-connect", `127.0.0.1:${port}`, ...args], get, 250);
    return out + err;
  }
  const one = ["-servername", "one.test"];
  const verified = () => [...one, "-CAfile", file("ca.pem"), "-verify_return_error"];
  const suite = (name: string) => ["-tls1_2", "-cipher", `${name}:@SECLEVEL=0`];
  const served = /HTTP\/1\.1 200 OK/;
  const refused = /alert|unexpected eof|Cipher is \(NONE\)/;

  const cases: [string, () => Promise<string>, RegExp[], RegExp?][] = [
    [
      "shows the certificate for its name",
      () => ask(ports.tls, ...one),
      [/subject=CN = one\.test/, /Compression: NONE/, served],
    ],
    ["gets nothing for another name", () => ask(ports.tls, "-servername", "two.test"), [refused], /subject=/],
    ["gets nothing without a name", () => ask(ports.tls, "-noservername"), [refused], /subject=/],
    [
      "verifies the chain and the name",
      () => ask(ports.tls, ...verified(), "-verify_hostname", "one.test"),
      [/Verification: OK/, served],
    ],
    [
      "negotiates http/1.1 by ALPN",
      () => ask(ports.tls, ...one, "-alpn", "h2,http/1.1"),
      [/ALPN protocol: http\/1\.1/, served],
    ],
    ["TLS 1.1 is refused", () => ask(ports.tls, ...one, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"), [refused], served],
    [
      "TLS 1.2 with an ECDSA suite",
      () => ask(ports.tls, ...one, ...suite("ECDHE-ECDSA-AES128-GCM-SHA256")),
      [/TLSv1\.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256/, served],
    ],
    [
      "TLS 1.2 with an RSA suite",
      () => ask(ports.tls, ...one, ...suite("ECDHE-RSA-CHACHA20-POLY1305")),
      [/TLSv1\.2, Cipher is ECDHE-RSA-CHACHA20-POLY1305/, served],
    ],
    ["a CBC suite is refused", () => ask(ports.tls, ...one, ...suite("ECDHE-RSA-AES128-SHA")), [refused], served],
    [
      "a suite without forward secrecy is refused",
      () => ask(ports.tls, ...one, ...suite("AES128-GCM-SHA256")),
      [refused],
      served,
    ],
    ["a curve that is not offered is refused", () => ask(ports.tls, ...one, "-groups", "P-521"), [refused], served],
    [
      "with a client certificate",
      () => ask(ports.mutual, ...one, "-cert", file("client.pem")),
      [/Acceptable client certificate CA names\nCN = clients/, served],
    ],
    [
      "without the client certificate that is required",
      () => ask(ports.mutual, ...one),
      [/alert certificate required/],
      served,
    ],
    [
      "with somebody else's client certificate",
      () => ask(ports.mutual, ...one, "-cert", file("foreign.pem")),
      [/BEGIN CERTIFICATE/],
      served,
    ],
  ];
  for (const [what, asked, want, never] of cases)
    test(what, async () => {
      const text = await asked();
      for (const pattern of want) expect(text).toMatch(pattern);
      if (never) expect(text).not.toMatch(never);
    });

  test("renegotiation is refused", async () => {
    const { out, err } = await run(
      ["openssl", "s_client", "-connect", `127.0.0.1:${ports.tls}`, ...one, "-tls1_2"],
      "R\n",
      300,
    );
    expect(out + err).toMatch(/RENEGOTIATING\n[\s\S]*(no renegotiation|unexpected eof|alert)/);
  });
});

describe.skipIf(missing("sslscan"))("sslscan", () => {
  test(
    "finds TLS 1.2 and 1.3 with the listed suites and curves, and no weakness",
    async () => {
      const { out } = await run(["sslscan", "--no-colour", "--xml=-", "--sni-name=one.test", `127.0.0.1:${ports.tls}`]);
      const tags = (name: string) =>
        [...out.matchAll(new RegExp(`<${name}\\b([^>]*)>`, "g"))].map(([, text]) =>
          Object.fromEntries([...text!.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, key, value]) => [key!, value!])),
        );
      const enabled = tags("protocol").filter((tag) => tag["enabled"] === "1");
      expect(enabled.map(({ type, version }) => `${type} ${version}`).sort()).toEqual(["tls 1.2", "tls 1.3"]);
      expect(
        tags("cipher")
          .map(({ sslversion, cipher }) => `${sslversion} ${cipher}`)
          .sort(),
      ).toEqual([
        "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256",
        "TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384",
        "TLSv1.2 ECDHE-RSA-CHACHA20-POLY1305",
        "TLSv1.3 TLS_AES_128_GCM_SHA256",
        "TLSv1.3 TLS_AES_256_GCM_SHA384",
        "TLSv1.3 TLS_CHACHA20_POLY1305_SHA256",
      ]);
      const groups = tags("group").map(({ sslversion, name }) => `${sslversion} ${name}`);
      expect(groups.sort()).toEqual([
        "TLSv1.2 secp256r1 (NIST P-256)",
        "TLSv1.2 x25519",
        "TLSv1.3 secp256r1 (NIST P-256)",
        "TLSv1.3 x25519",
      ]);
      // Some builds cannot look for it, and say nothing.
      expect(tags("compression").filter(({ supported }) => supported !== "0")).toEqual([]);
      expect(tags("heartbleed").filter(({ vulnerable }) => vulnerable !== "0")).toEqual([]);
      expect(tags("renegotiation").map(({ secure, supported }) => [supported, secure])).toEqual([["0", "0"]]);
      expect(tags("fallback").filter(({ supported }) => supported !== "1")).toEqual([]);
    },
    testMs,
  );
});

describe.skipIf(missing("slowhttptest"))("slowhttptest", () => {
  const connections = 40;
  const plain = () => `http://127.0.0.1:${ports.plain}`;
  const common = ["-c", String(connections), "-r", "200", "-i", "1", "-p", "2"];
  const cases: [string, string[], string][] = [
    ["slow heads", ["-H", "-t", "GET", "-x", "24", "-l", "5"], "/"],
    ["slow bodies", ["-B", "-t", "POST", "-s", "8192", "-x", "10", "-l", "5"], "/"],
    ["slow reading", ["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-l", "4"], "/big"],
  ];
  for (const [what, args, path] of cases)
    test(
      `${what}: the connections are closed, others are served at once`,
      async () => {
        const attack = run(["slowhttptest", ...common, ...args, "-u", `${plain()}${path}`]);
        let most = 0;
        let closedAfterMs: number | undefined;
        const startMs = realClock.monotonicMs();
        const slowestMs = await serveOthers(async () => {
          const open = await connectionsOpen();
          most = Math.max(most, open);
          if (most >= connections / 2 && open <= 2) closedAfterMs = realClock.monotonicMs() - startMs;
          return closedAfterMs !== undefined || realClock.monotonicMs() - startMs > 6_000;
        });
        await attack;
        expect(most).toBeGreaterThanOrEqual(connections / 2);
        expect(closedAfterMs).toBeLessThan(5_000);
        expect(slowestMs).toBeLessThan(500);
      },
      testMs,
    );

  test(
    "requests for hundreds of ranges: others are served at once",
    async () => {
      let over = false;
      const attack = run(["slowhttptest", ...common, "-R", "-a", "10", "-b", "500", "-l", "3", "-u", `${plain()}/big`]);
      attack.finally(() => {
        over = true;
      });
      expect(await serveOthers(async () => over)).toBeLessThan(500);
      expect((await attack).out).toContain("No open connections left");
    },
    testMs,
  );

  /** An ordinary client asks again and again until `enough`; how long it waited at most. */
  async function serveOthers(enough: () => Promise<boolean>): Promise<number> {
    let slowestMs = 0;
    do {
      await realClock.sleep(100);
      const askedMs = realClock.monotonicMs();
      expect(await (await fetch(plain(), { keepalive: false })).text()).toBe("hello");
      slowestMs = Math.max(slowestMs, realClock.monotonicMs() - askedMs);
    } while (!(await enough()));
    return slowestMs;
  }
});

/** Of the plain listener, as the proxy counts them. */
async function connectionsOpen(): Promise<number> {
  const stats = await (await fetch(`http://127.0.0.1:${proxy.running.adminPort}/stats`)).text();
  return Number(
    new RegExp(`^listener\\.127\\.0\\.0\\.1_${ports.plain}\\.downstream_cx_active: (\\d+)$`, "m").exec(stats)?.[1],
  );
}
