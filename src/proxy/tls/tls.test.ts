// TLS at a gateway, mutual TLS between two proxies, TCP, and the end of listeners and of the process.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { connect as tlsConnect } from "node:tls";
import { HttpConnectionManager_ForwardClientCertDetails as Forward } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { type Authority, createAuthority, createSelfSigned } from "../../identity/authority.ts";
import { realClock } from "../../kernel/clock.ts";
import {
  assignment,
  type Configuration,
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  keyPair,
  listener,
  prefix,
  raw,
  routes,
  serverTls,
  startFixture,
  tcpChain,
  toCluster,
  trusted,
  until,
  workload,
} from "../fixture.ts";

const hourMs = 3_600_000;
const clock = realClock;
let authority: Authority;
let app: ReturnType<typeof Bun.serve<undefined>>;
const open: FixtureProxy[] = [];

async function start(...args: Parameters<typeof startFixture>): Promise<FixtureProxy> {
  const proxy = await startFixture(...args);
  open.push(proxy);
  return proxy;
}

beforeAll(async () => {
  authority = await createAuthority({ commonName: "mesh", clock });
  app = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async (request) =>
      Response.json({ headers: Object.fromEntries(request.headers), body: await request.text() }),
  });
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((proxy) => proxy.close()));
});
afterAll(() => app.stop(true));

const appAddress = (): string => `127.0.0.1:${app.port}`;

describe("a gateway with TLS", () => {
  const port = freePort();
  const plainPort = freePort();

  async function gateway(): Promise<FixtureProxy> {
    const pair = (name: string) => createSelfSigned({ commonName: name, dnsNames: [name], lifetimeMs: hourMs, clock });
    const chain = (secret: string, serverNames: string[]) =>
      httpChain(secret, {}, {
        name: secret,
        filterChainMatch: { serverNames },
        transportSocket: serverTls(secret),
      } as never);
    return start({
      listeners: [
        listener("127.0.0.1", port, [chain("one", ["one.test"]), chain("two", ["*.two.test"])]),
        listener("127.0.0.1", plainPort, [httpChain("plain")]),
      ],
      clusters: [cluster("app", [appAddress()])],
      routes: [
        ...["one", "two"].map((name) =>
          routes(name, [
            {
              match: prefix("/"),
              responseHeadersToAdd: [{ header: { key: "x-chain", value: name } }],
              action: toCluster("app"),
            },
          ]),
        ),
        routes("plain", [
          {
            match: prefix("/"),
            action: { case: "redirect", value: { schemeRewriteSpecifier: { case: "httpsRedirect", value: true } } },
          },
        ]),
      ],
      secrets: [keyPair("one", await pair("one.test")), keyPair("two", await pair("a.two.test"))],
    });
  }

  /** A request over TLS for a server name; "refused" when the handshake fails. */
  function over(serverName: string, more: object = {}): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    let text = "";
    const socket = tlsConnect(
      { host: "127.0.0.1", port, servername: serverName, rejectUnauthorized: false, ...more },
      () => {
        text = `${socket.getPeerCertificate().subject?.CN} ${socket.getProtocol()} `;
        socket.write(`GET / HTTP/1.1\r\nhost: ${serverName}\r\nconnection: close\r\n\r\n`);
      },
    );
    socket.on("data", (chunk) => {
      text += chunk;
    });
    socket.on("error", () => resolve(text || "refused"));
    socket.on("close", () => resolve(text || "refused"));
    return promise;
  }

  test("the server name chooses certificate and routes; an unknown one is refused", async () => {
    await gateway();
    const one = await over("one.test");
    expect(one).toStartWith("one.test TLSv1.3 HTTP/1.1 200");
    expect(one).toContain("x-chain: one");
    expect(one).toContain('"x-forwarded-proto":"https"');
    const two = await over("b.two.test");
    expect(two).toStartWith("a.two.test TLSv1.3 HTTP/1.1 200");
    expect(two).toContain("x-chain: two");
    expect(await over("three.test")).toBe("refused");
  });

  test("TLS 1.1 is refused, TLS 1.2 is served, plain text on the TLS port is closed", async () => {
    await gateway();
    expect(await over("one.test", { maxVersion: "TLSv1.1", minVersion: "TLSv1" })).toBe("refused");
    expect(await over("one.test", { maxVersion: "TLSv1.2" })).toStartWith("one.test TLSv1.2 HTTP/1.1 200");
    const plain = await raw(port, "GET / HTTP/1.1\r\nhost: one.test\r\n\r\n");
    expect([plain.text, plain.closed]).toEqual(["", true]);
  });

  test("plain HTTP is sent to HTTPS", async () => {
    await gateway();
    const got = await fetch(`http://127.0.0.1:${plainPort}/a?b=c`, {
      redirect: "manual",
      headers: { host: "one.test" },
    });
    expect([got.status, got.headers.get("location")]).toEqual([301, "https://one.test/a?b=c"]);
  });

  test("a new certificate is used for the next connection", async () => {
    const proxy = await gateway();
    const before = proxy.snapshots.get("router~127.0.0.1~gateway.test~test.svc.cluster.local");
    expect(before).toBeDefined();
    const renewed = await createSelfSigned({
      commonName: "renewed",
      dnsNames: ["one.test"],
      lifetimeMs: hourMs,
      clock,
    });
    const config: Configuration = {
      listeners: [
        listener("127.0.0.1", port, [
          httpChain("one", {}, {
            name: "one",
            filterChainMatch: { serverNames: ["one.test"] },
            transportSocket: serverTls("one"),
          } as never),
        ]),
      ],
      clusters: [cluster("app", [appAddress()])],
      routes: [routes("one", [{ match: prefix("/"), action: toCluster("app") }])],
      secrets: [keyPair("one", renewed)],
    };
    await proxy.configure(config);
    expect(await over("one.test")).toStartWith("renewed TLSv1.3 HTTP/1.1 200");
  });
});

describe("two proxies with mutual TLS between them", () => {
  const spiffe = (account: string): string => `spiffe://cluster.local/ns/test/sa/${account}`;
  const clientNode = "sidecar~127.0.0.1~client.test~test.svc.cluster.local";
  const serverNode = "sidecar~127.0.0.3~server.test~test.svc.cluster.local";

  const xfcc = { forwardClientCertDetails: Forward.SANITIZE_SET, setCurrentClientCertDetails: { uri: true } };

  interface Pair {
    port: number;
    tcpPort: number;
    client: FixtureProxy;
    server: FixtureProxy;
  }

  async function pair(expected = spiffe("server"), issuer: Authority = authority): Promise<Pair> {
    const [tunnelPort, port, tcpPort] = [freePort("127.0.0.3"), freePort(), freePort()];
    const issue = async (account: string, by: Authority) =>
      keyPair("default", await by.issue({ uris: [spiffe(account)], lifetimeMs: hourMs, usages: ["server", "client"] }));
    const roots = trusted("ROOTCA", authority.certPem);
    const tunnel = { address: `127.0.0.3:${tunnelPort}`, identity: expected };
    const destination = `127.0.0.3:${app.port}`;
    const server = await start(
      { workloads: [workload("test/server", "127.0.0.3", serverNode)] },
      { role: "node", nodeId: "node~127.0.0.3~n2~cluster.local", bindMode: { nodeIp: "127.0.0.3", mode: "ports" } },
      {
        [serverNode]: {
          listeners: [
            listener("127.0.0.3", tunnelPort, [{ filters: [], transportSocket: serverTls("default", "ROOTCA") }], {
              name: "connect_terminate",
              inbound: true,
            }),
            listener(
              "127.0.0.3",
              15006,
              [
                httpChain("inbound", xfcc, {
                  name: "app",
                  filterChainMatch: { destinationPort: app.port },
                } as never),
                tcpChain("inbound-app", { name: "tcp", filterChainMatch: { destinationPort: 9 } } as never),
              ],
              {
                name: "virtualInbound",
                inbound: true,
                bindToPort: false,
                workload: "server;test;server;v1;Kubernetes",
              },
            ),
          ],
          clusters: [
            cluster("inbound-app", [appAddress()], {
              metadata: {
                filterMetadata: { istio: { services: [{ host: "app.test", name: "app", namespace: "test" }] } },
              },
            } as never),
          ],
          routes: [routes("inbound", [{ match: prefix("/"), action: toCluster("inbound-app") }])],
          secrets: [await issue("server", authority), roots],
        },
      },
    );
    const client = await start(
      { workloads: [workload("test/client", "127.0.0.1", clientNode)] },
      { role: "node", nodeId: "node~127.0.0.1~n1~cluster.local" },
      {
        [clientNode]: {
          listeners: [
            listener("127.0.0.1", port, [httpChain("outbound")], { workload: "client;test;client;v1;Kubernetes" }),
            listener("127.0.0.1", tcpPort, [tcpChain("app-tcp")]),
          ],
          clusters: [cluster("app"), cluster("app-tcp")],
          endpoints: [assignment("app", [destination], { tunnel }), assignment("app-tcp", ["127.0.0.3:9"], { tunnel })],
          routes: [routes("outbound", [{ match: prefix("/"), action: toCluster("app") }])],
          secrets: [await issue("client", issuer), roots],
        },
      },
    );
    return { port, tcpPort, client, server };
  }

  test("requests go through, the server learns who called, and both sides count the same", async () => {
    const { port, client, server } = await pair();
    for (let i = 0; i < 7; i++) {
      const got = await fetch(`http://127.0.0.1:${port}/x`, {
        method: "POST",
        body: "hello",
        headers: { "x-forwarded-client-cert": "forged" },
      });
      expect(got.status).toBe(200);
      const { headers, body } = (await got.json()) as { headers: Record<string, string>; body: string };
      expect(body).toBe("hello");
      const told = headers["x-forwarded-client-cert"]!.replace(/Hash=[0-9a-f]{64}/, "Hash=…");
      expect(told).toBe(`By=${spiffe("server")};Hash=…;URI=${spiffe("client")}`);
    }
    const line = (text: string, reporter: string): string | undefined =>
      text.split("\n").find((row) => row.startsWith("istio_requests_total") && row.includes(`reporter="${reporter}"`));
    const source = line(await client.metrics(), "source")!;
    const destination = line(await server.metrics(), "destination")!;
    const labels = (row: string): Record<string, string> =>
      Object.fromEntries([...row.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key!, value!]));
    const { reporter: _s, connection_security_policy: sourcePolicy, ...said } = labels(source);
    const { reporter: _d, connection_security_policy: destinationPolicy, ...heard } = labels(destination);
    expect({ ...said, source_cluster: "", destination_cluster: "" }).toEqual({
      ...heard,
      source_cluster: "",
      destination_cluster: "",
    });
    expect([sourcePolicy, destinationPolicy]).toEqual(["unknown", "mutual_tls"]);
    expect(said).toMatchObject({
      source_workload: "client",
      destination_workload: "server",
      destination_service: "app.test",
      response_code: "200",
      source_principal: spiffe("client"),
      destination_principal: spiffe("server"),
    });
    expect([source.split(" ").at(-1), destination.split(" ").at(-1)]).toEqual(["7", "7"]);
  });

  test("a server with another identity than expected gets no request", async () => {
    const { port, server } = await pair(spiffe("somebody-else"));
    const got = await fetch(`http://127.0.0.1:${port}/`);
    expect([got.status, await got.text()]).toEqual([
      503,
      "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
    ]);
    expect(await server.metrics()).not.toContain('reporter="destination"');
  });

  test("a client with a certificate of another authority is refused", async () => {
    const stranger = await createAuthority({ commonName: "mesh", clock });
    const { port, server } = await pair(spiffe("server"), stranger);
    expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(503);
    expect(await server.metrics()).not.toContain('reporter="destination"');
  });

  test("TCP goes through the tunnel too, both ways and to the end", async () => {
    const { tcpPort, server } = await pair();
    const got = await raw(tcpPort, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    expect(got.text).toStartWith("HTTP/1.1 200");
    expect(got.closed).toBe(true);
    await clock.sleep(20);
    expect(await server.metrics()).toMatch(/istio_tcp_connections_closed_total\{.*reporter="destination".*\} 1\n/);
  });
});

describe("TCP", () => {
  test("bytes pass both ways; a half-closed client still gets its answer; the bytes are counted", async () => {
    const echo = Bun.listen<{ got: string }>({
      hostname: "127.0.0.1",
      port: 0,
      allowHalfOpen: true,
      socket: {
        open(socket) {
          socket.data = { got: "" };
        },
        data(socket, chunk) {
          socket.data.got += chunk.toString();
        },
        end(socket) {
          socket.write(`you said ${socket.data.got}`);
          socket.end();
        },
      },
    });
    const port = freePort();
    const proxy = await start({
      listeners: [listener("127.0.0.1", port, [tcpChain("echo")])],
      clusters: [cluster("echo", [`127.0.0.1:${echo.port}`])],
    });
    let text = "";
    let closed = false;
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      allowHalfOpen: true,
      socket: {
        data(_socket, chunk) {
          text += chunk.toString();
        },
        end(own) {
          own.end();
        },
        close() {
          closed = true;
        },
      },
    });
    socket.write("something");
    socket.shutdown();
    await until("the end", () => closed);
    expect(text).toBe("you said something");
    await clock.sleep(20);
    const metrics = await proxy.metrics();
    expect(metrics).toMatch(/istio_tcp_received_bytes_total\{.*\} 9\n/);
    expect(metrics).toMatch(/istio_tcp_sent_bytes_total\{.*\} 18\n/);
    expect(metrics).toMatch(/istio_tcp_connections_closed_total\{.*\} 1\n/);
    echo.stop(true);
  });

  test("without a reachable endpoint the client is closed", async () => {
    const port = freePort();
    await start({
      listeners: [listener("127.0.0.1", port, [tcpChain("dead")])],
      clusters: [cluster("dead", ["127.0.0.1:1"])],
    });
    expect(await raw(port, "hello")).toEqual({ text: "", closed: true });
  });
});

describe("the end", () => {
  const port = freePort();
  const slow = (): { address: string; answer(): void; stop(): void; asked(): boolean } => {
    const answers: (() => void)[] = [];
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data: (socket) => void answers.push(() => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate")),
      },
    });
    return {
      address: `127.0.0.1:${server.port}`,
      answer: () => answers.forEach((give) => void give()),
      stop: () => server.stop(true),
      asked: () => answers.length > 0,
    };
  };
  const configuration = (address: string): Configuration => ({
    listeners: [listener("127.0.0.1", port, [httpChain("main")])],
    clusters: [cluster("app", [address])],
    routes: [routes("main", [{ match: prefix("/"), action: toCluster("app") }])],
  });

  test("a removed listener accepts nobody, lets a request in flight finish and closes its idle connections", async () => {
    const server = slow();
    const proxy = await start(configuration(server.address));
    const inFlight = raw(port, "GET / HTTP/1.1\r\nhost: a\r\n\r\n", undefined, 4_000);
    await until("the request", server.asked);
    await proxy.configure({ clusters: [cluster("app", [server.address])] });
    expect(await fetch(`http://127.0.0.1:${port}/`).catch(() => "refused")).toBe("refused");
    server.answer();
    const { text, closed } = await inFlight;
    expect(text).toEndWith("late");
    expect(closed).toBe(true);
    server.stop();
  });

  test("close() waits for a request in flight, tells the client to close, and ends promptly with idle clients", async () => {
    const server = slow();
    const proxy = await startFixture(configuration(server.address));
    const idle = raw(port, "", undefined, 4_000);
    const inFlight = raw(port, "GET / HTTP/1.1\r\nhost: a\r\n\r\n", undefined, 4_000);
    await until("the request", server.asked);
    let ended = false;
    const closing = proxy.close().then(() => {
      ended = true;
    });
    await clock.sleep(100);
    expect(ended).toBe(false);
    expect((await idle).closed).toBe(true);
    const startMs = performance.now();
    server.answer();
    const { text } = await inFlight;
    expect(text).toContain("connection: close");
    expect(text).toEndWith("late");
    await closing;
    expect(performance.now() - startMs).toBeLessThan(500);
    server.stop();
  });
});
