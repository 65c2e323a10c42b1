// TCP sessions: limits on time, tries and connections, weighted clusters, half-close, and what the log says of them.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Socket as BunSocket, TCPSocketListener } from "bun";
import { RBAC_Action } from "#gen/xds/envoy/config/rbac/v3/rbac_pb.js";
import { FileAccessLogSchema } from "#gen/xds/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { RBACSchema as NetworkRbacSchema } from "#gen/xds/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import { TcpProxySchema } from "#gen/xds/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { realClock } from "../kernel/clock.ts";
import { cluster, type FixtureProxy, freePort, listener, milliseconds, pack, startFixture, until } from "./fixture.ts";

type Socket = BunSocket<unknown>;
type TcpInit = Parameters<typeof pack<typeof TcpProxySchema>>[1];

interface Server {
  listener: TCPSocketListener<unknown>;
  address: string;
  sockets: Set<Socket>;
  accepted: number;
  ended: number;
}
/** Says its name when a connection opens; echoes; after the client's end says so and ends as well. */
function startServer(name: string): Server {
  const listening = Bun.listen<unknown>({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen: true,
    socket: {
      open(socket) {
        server.accepted++;
        server.sockets.add(socket);
        socket.write(`${name}:`);
      },
      data: (socket, chunk) => void socket.write(chunk),
      end(socket) {
        server.ended++;
        socket.write("bye");
        socket.end();
      },
      close: (socket) => void server.sockets.delete(socket),
    },
  });
  const server: Server = {
    listener: listening,
    address: `127.0.0.1:${listening.port}`,
    sockets: new Set(),
    accepted: 0,
    ended: 0,
  };
  return server;
}

let a: Server;
let b: Server;
let proxy: FixtureProxy;
const port = freePort();
const folder = mkdtempSync(join(tmpdir(), "meshbed-tcp-"));

beforeAll(async () => {
  a = startServer("a");
  b = startServer("b");
  proxy = await startFixture({});
});
afterAll(async () => {
  await proxy.close();
  a.listener.stop(true);
  b.listener.stop(true);
  rmSync(folder, { recursive: true });
});

type Clusters = NonNullable<Parameters<FixtureProxy["configure"]>[0]["clusters"]>;
const to = (name: string) => ({ clusterSpecifier: { case: "cluster", value: name } }) as const;

async function serve(
  tcp: TcpInit,
  clusters: Clusters = [cluster("a", [a.address]), cluster("b", [b.address])],
): Promise<void> {
  const value = pack(TcpProxySchema, { statPrefix: "tcp", ...tcp } as TcpInit);
  const filters = [{ name: "tcp", configType: { case: "typedConfig", value } as const }];
  await proxy.configure({ listeners: [listener("127.0.0.1", port, [{ filters }])], clusters });
}

test("what a new policy forbids ends, also on a connection that is open already", async () => {
  const any = { case: "any", value: true } as const;
  const everybody = { permissions: [{ rule: any }], principals: [{ identifier: any }] };
  const chain = (deny: boolean) => {
    const rules = { action: deny ? RBAC_Action.DENY : RBAC_Action.ALLOW, policies: { everybody } };
    const rbac = {
      name: "rbac",
      configType: { case: "typedConfig", value: pack(NetworkRbacSchema, { rules }) } as const,
    };
    const value = pack(TcpProxySchema, { statPrefix: "tcp", clusterSpecifier: { case: "cluster", value: "a" } });
    return { name: "same", filters: [rbac, { name: "tcp", configType: { case: "typedConfig", value } as const }] };
  };
  const configure = (deny: boolean) =>
    proxy.configure({
      listeners: [listener("127.0.0.1", port, [chain(deny)])],
      clusters: [cluster("a", [a.address])],
    });
  await configure(false);
  const client = await connect();
  client.socket.write("hello");
  await until("the connection works", () => client.text() !== "");
  await configure(false);
  expect(client.closed()).toBe(false);
  await configure(true);
  await until("the connection is closed", () => client.closed());
});

interface Client {
  socket: Socket;
  text(): string;
  ended(): boolean;
  closed(): boolean;
}
async function connect(): Promise<Client> {
  let text = "";
  let ended = false;
  let closed = false;
  const socket = await Bun.connect<unknown>({
    hostname: "127.0.0.1",
    port,
    allowHalfOpen: true,
    socket: {
      data(_socket, chunk) {
        text += chunk.toString();
      },
      end() {
        ended = true;
      },
      close() {
        closed = true;
      },
    },
  });
  return { socket, text: () => text, ended: () => ended, closed: () => closed };
}

describe("a TCP session", () => {
  test("hears a server that speaks first, and both halves end by themselves", async () => {
    await serve(to("a"));
    const client = await connect();
    await until("the greeting", () => client.text() === "a:");
    client.socket.write("hello");
    await until("the echo", () => client.text() === "a:hello");
    client.socket.shutdown();
    await until("the answer after our end", () => client.text() === "a:hellobye");
    await until("the server's end", () => client.ended() || client.closed());
    client.socket.terminate();
  });

  test("ends after its idle timeout, and not while bytes pass", async () => {
    await serve({ ...to("a"), idleTimeout: milliseconds(400) });
    const client = await connect();
    const startMs = realClock.monotonicMs();
    while (realClock.monotonicMs() - startMs < 1_500) {
      client.socket.write("x");
      await realClock.sleep(50);
    }
    expect(client.closed()).toBe(false);
    const silentMs = realClock.monotonicMs();
    await until("the end", () => client.closed(), 3_000);
    expect(realClock.monotonicMs() - silentMs).toBeGreaterThan(390);
    await until("the server's side", () => a.sockets.size === 0);
  });

  test("ends after its greatest duration, whatever passes", async () => {
    await serve({ ...to("a"), maxDownstreamConnectionDuration: milliseconds(400) });
    const client = await connect();
    const startMs = realClock.monotonicMs();
    while (!client.closed() && realClock.monotonicMs() - startMs < 3_000) {
      client.socket.write("x");
      await realClock.sleep(20);
    }
    const lastedMs = realClock.monotonicMs() - startMs;
    expect(lastedMs).toBeGreaterThan(390);
    expect(lastedMs).toBeLessThan(2_000);
  });

  test("tries as many endpoints as it may", async () => {
    const endpoints = ["127.0.0.1:1", "127.0.0.2:1", a.address];
    const rotating = { lbPolicy: 0 };
    await serve({ ...to("some"), maxConnectAttempts: 3 }, [cluster("some", endpoints, rotating)]);
    for (let i = 0; i < 6; i++) {
      const client = await connect();
      await until("the greeting", () => client.text() === "a:");
      client.socket.terminate();
    }
    await serve({ ...to("few"), maxConnectAttempts: 1 }, [cluster("few", endpoints, rotating)]);
    const outcomes: string[] = [];
    for (let i = 0; i < 3; i++) {
      const client = await connect();
      await until("an outcome", () => client.text() === "a:" || client.closed());
      outcomes.push(client.closed() ? "closed" : client.text());
      client.socket.terminate();
    }
    expect(outcomes.sort()).toEqual(["a:", "closed", "closed"]);
  });

  test("is refused beyond the cluster's connections, counted from the attempt; an ended one makes room", async () => {
    const limits = { circuitBreakers: { thresholds: [{ maxConnections: 2 }] } };
    await serve(to("limited"), [cluster("limited", [a.address], limits)]);
    const before = a.accepted;
    const clients = await Promise.all(Array.from({ length: 6 }, connect));
    await until("all decided", () => clients.every((one) => one.text() === "a:" || one.closed()));
    expect(clients.filter((one) => one.text() === "a:").length).toBe(2);
    expect(a.accepted - before).toBe(2);
    for (const one of clients) one.socket.terminate();
    await until("room", () => a.sockets.size === 0);
    const next = await connect();
    await until("the next", () => next.text() === "a:");
    next.socket.terminate();
  });

  test("goes to weighted clusters by their shares", async () => {
    const clusters = [
      { name: "a", weight: 3 },
      { name: "b", weight: 1 },
    ];
    await serve({ clusterSpecifier: { case: "weightedClusters", value: { clusters } } });
    const before = [a.accepted, b.accepted];
    for (let i = 0; i < 200; i++) {
      const client = await connect();
      await until("the greeting", () => client.text() !== "");
      client.socket.terminate();
    }
    const toB = b.accepted - before[1]!;
    expect(a.accepted - before[0]! + toB).toBe(200);
    // Four standard deviations of a binomial with n = 200 and p = 1/4 are 24.5.
    expect(Math.abs(toB - 50)).toBeLessThan(25);
  });

  test("is logged with its bytes and with why it ended", async () => {
    const path = join(folder, "access.log");
    const format = "%BYTES_RECEIVED% %BYTES_SENT% [%RESPONSE_FLAGS%] %UPSTREAM_CLUSTER%\n";
    const value = pack(FileAccessLogSchema, { path, accessLogFormat: { case: "format", value: format } });
    const accessLog = [{ name: "file", configType: { case: "typedConfig", value } as const }];
    const duration = { maxDownstreamConnectionDuration: milliseconds(500) };
    await serve({ ...to("a"), accessLog, ...duration }, [cluster("a", [a.address])]);
    const client = await connect();
    client.socket.write("hello");
    await until("the echo", () => client.text() === "a:hello");
    client.socket.shutdown();
    await until("the end", () => client.text().endsWith("bye"));
    client.socket.terminate();
    const expired = await connect();
    await until("the duration's end", () => expired.closed());
    await serve({ ...to("dead"), accessLog }, [cluster("dead", ["127.0.0.1:1"])]);
    const refused = await connect();
    await until("the refusal", () => refused.closed());
    const lines = (): string[] => readFileSync(path, "utf8").trim().split("\n");
    await until("three lines", () => lines().length === 3);
    expect(lines()).toEqual(["5 10 [-] a", "0 2 [DT] a", "0 0 [UF,URX] dead"]);
  });
});
