// Access logs through a running proxy: what is written where, and what filters let through.
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type AccessLogSchema, ComparisonFilter_Op as Op } from "#gen/xds/envoy/config/accesslog/v3/accesslog_pb.js";
import { SubstitutionFormatStringSchema } from "#gen/xds/envoy/config/core/v3/substitution_format_string_pb.js";
import { FileAccessLogSchema } from "#gen/xds/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { TcpProxySchema } from "#gen/xds/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { createAuthority } from "../../identity/authority.ts";
import { realClock, VirtualClock } from "../../kernel/clock.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import {
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  inline,
  keyPair,
  listener,
  pack,
  prefix,
  raw,
  routes,
  serverTls,
  startFixture,
  toCluster,
  trusted,
  until,
} from "../fixture.ts";
import { LogFiles } from "./sinks.ts";

const folder = mkdtempSync(join(tmpdir(), "meshbed-access-log-"));
const backend = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch: (request) =>
    new Response(request.url.endsWith("/teapot") ? "short" : "hello", {
      status: request.url.endsWith("/teapot") ? 418 : 200,
      headers: { "x-kind": "test" },
    }),
});
const proxies: FixtureProxy[] = [];
afterAll(async () => {
  for (const proxy of proxies) await proxy.close();
  await backend.stop(true);
  rmSync(folder, { recursive: true });
});

type LogInit = MessageInitShape<typeof AccessLogSchema>;
let files = 0;
const newPath = (): string => join(folder, `${++files}.log`);
const format = (text: string) => ({ case: "textFormatSource", value: inline(text) }) as const;
const textLog = (path: string, text: string, filter?: LogInit["filter"]): LogInit => {
  const value = create(SubstitutionFormatStringSchema, { format: format(text) });
  const config = pack(FileAccessLogSchema, { path, accessLogFormat: { case: "logFormat", value } });
  return { name: "file", configType: { case: "typedConfig", value: config }, ...(filter && { filter }) };
};
const jsonLog = (path: string, value: Record<string, string>): LogInit => {
  const config = pack(FileAccessLogSchema, { path, accessLogFormat: { case: "typedJsonFormat", value } });
  return { name: "file", configType: { case: "typedConfig", value: config } };
};

async function start(accessLog: LogInit[], manager: Parameters<typeof httpChain>[1] = {}): Promise<number> {
  const port = freePort();
  const proxy = await startFixture({
    listeners: [listener("127.0.0.1", port, [httpChain("main", { accessLog, ...manager })])],
    clusters: [cluster("app", [`127.0.0.1:${backend.port}`]), cluster("dead", [`127.0.0.1:${freePort()}`])],
    routes: [
      routes("main", [
        { name: "dead", match: prefix("/dead"), action: toCluster("dead") },
        {
          name: "app",
          match: prefix("/app"),
          action: toCluster("app"),
          requestHeadersToAdd: [{ header: { key: "x-from", value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" } }],
          responseHeadersToAdd: [{ header: { key: "x-answer", value: "%RESPONSE_CODE% %RESP(X-KIND)%" } }],
        },
      ]),
    ],
  });
  proxies.push(proxy);
  return port;
}
const lines = (path: string): string[] => readFileSync(path, "utf8").split("\n").slice(0, -1);
const logged = async (path: string, count: number): Promise<string[]> => {
  await until(`${count} lines in ${path}`, () => lines(path).length >= count);
  return lines(path);
};

describe("HTTP", () => {
  test("text and JSON logs of one chain tell of the same request", async () => {
    const [text, json] = [newPath(), newPath()];
    const port = await start([
      textLog(
        text,
        "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %ROUTE_NAME% %RESP(X-KIND)% %RESP(X-ANSWER)%\n",
      ),
      jsonLog(json, {
        code: "%RESPONSE_CODE%",
        from: "%UPSTREAM_LOCAL_ADDRESS%",
        id: "%REQ(X-REQUEST-ID)%",
        start: "%RESPONSE_DURATION%",
      }),
    ]);
    const answer = await fetch(`http://127.0.0.1:${port}/app/teapot`, { method: "POST", body: "12345678" });
    expect(answer.headers.get("x-answer")).toBe("418 test");
    expect(await logged(text, 1)).toEqual([
      `POST /app/teapot 418 - via_upstream 8 5 127.0.0.1:${backend.port} app app test 418 test`,
    ]);
    const entry = JSON.parse((await logged(json, 1))[0]!);
    expect(entry).toMatchObject({ code: 418, start: expect.any(Number) });
    expect(entry.from).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(entry.id).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("what the proxy answers itself says why", async () => {
    const path = newPath();
    const port = await start([
      textLog(path, "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n"),
    ]);
    for (const target of ["nowhere", "dead"]) await fetch(`http://127.0.0.1:${port}/${target}`);
    await raw(port, "NONSENSE\r\n\r\n", () => false, 300);
    expect(await logged(path, 3)).toEqual([
      "/nowhere 404 NR route_not_found",
      "/dead 503 UF upstream_reset_before_response_started{remote_connection_failure}",
      "- 400 DPE http1.codec_error",
    ]);
  });

  test("filters choose by status, flags, header and combinations of them", async () => {
    const [errors, flagged, both] = [newPath(), newPath(), newPath()];
    const atLeast = (status: number): NonNullable<LogInit["filter"]> => ({
      filterSpecifier: {
        case: "statusCodeFilter",
        value: { comparison: { op: Op.GE, value: { defaultValue: status, runtimeKey: "k" } } },
      },
    });
    const withFlags: NonNullable<LogInit["filter"]> = {
      filterSpecifier: { case: "responseFlagFilter", value: { flags: ["NR"] } },
    };
    const debug: NonNullable<LogInit["filter"]> = {
      filterSpecifier: {
        case: "headerFilter",
        value: { header: { name: "x-debug", headerMatchSpecifier: { case: "presentMatch", value: true } } },
      },
    };
    const format = "%REQ(:PATH)%\n";
    const port = await start([
      textLog(errors, format, atLeast(400)),
      textLog(flagged, format, withFlags),
      textLog(both, format, { filterSpecifier: { case: "andFilter", value: { filters: [atLeast(400), debug] } } }),
    ]);
    await fetch(`http://127.0.0.1:${port}/app`);
    await fetch(`http://127.0.0.1:${port}/app/teapot`);
    await fetch(`http://127.0.0.1:${port}/lost`, { headers: { "x-debug": "1" } });
    expect(await logged(errors, 2)).toEqual(["/app/teapot", "/lost"]);
    expect(await logged(flagged, 1)).toEqual(["/lost"]);
    expect(await logged(both, 1)).toEqual(["/lost"]);
  });

  test("fields are still known after a body that came in the same read", async () => {
    const path = newPath();
    const port = await start([textLog(path, "%REQ(USER-AGENT)% %BYTES_RECEIVED%\n")]);
    const head = "POST /app HTTP/1.1\r\nhost: a\r\nuser-agent: t/1\r\ncontent-length: 60000\r\n\r\n";
    await raw(port, head + "x".repeat(60_000), (text) => text.includes("hello"));
    expect(await logged(path, 1)).toEqual(["t/1 60000"]);
  });

  test("local replies are mapped: status, body and fields", async () => {
    const path = newPath();
    const port = await start([textLog(path, "%RESPONSE_CODE% %BYTES_SENT%\n")], {
      localReplyConfig: {
        mappers: [
          {
            filter: { filterSpecifier: { case: "responseFlagFilter", value: { flags: ["NR"] } } },
            statusCode: 421,
            headersToAdd: [{ header: { key: "x-why", value: "%RESPONSE_CODE_DETAILS%" } }],
            bodyFormatOverride: {
              format: {
                case: "jsonFormat",
                value: { status: "%RESPONSE_CODE%", path: "%REQ(:PATH)%", was: "%LOCAL_REPLY_BODY%" },
              },
            },
          },
        ],
        bodyFormat: { format: format("<%LOCAL_REPLY_BODY%>"), contentType: "text/html" },
      },
    });
    const mapped = await fetch(`http://127.0.0.1:${port}/lost`);
    expect([mapped.status, mapped.headers.get("content-type"), mapped.headers.get("x-why")]).toEqual([
      421,
      "application/json",
      "route_not_found",
    ]);
    expect(await mapped.json()).toEqual({ status: 421, path: "/lost", was: null });
    const other = await fetch(`http://127.0.0.1:${port}/dead`);
    expect([other.status, other.headers.get("content-type")]).toEqual([503, "text/html"]);
    expect(await other.text()).toMatch(/^<upstream connect error.*>$/);
    expect((await logged(path, 2))[0]).toMatch(/^421 \d+$/);
  });
});

test("a TCP connection is logged when it is over, with its bytes", async () => {
  const path = newPath();
  const echo = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: (socket, chunk) => void socket.write(chunk) },
  });
  const port = freePort();
  const config = pack(TcpProxySchema, {
    statPrefix: "tcp",
    clusterSpecifier: { case: "cluster", value: "echo" },
    accessLog: [
      textLog(path, "%PROTOCOL% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %ACCESS_LOG_TYPE%\n"),
    ],
  });
  const proxy = await startFixture({
    listeners: [
      listener("127.0.0.1", port, [{ filters: [{ name: "tcp", configType: { case: "typedConfig", value: config } }] }]),
    ],
    clusters: [cluster("echo", [`127.0.0.1:${echo.port}`])],
  });
  proxies.push(proxy);
  await raw(port, "hello", (text) => text === "hello");
  expect(await logged(path, 1)).toEqual(["- - 5 5 echo TcpConnectionEnd"]);
  echo.stop(true);
  await raw(port, "lost", () => false, 500);
  expect((await logged(path, 2))[1]).toBe("- UF,URX 0 0 echo TcpConnectionEnd");
});

test("an upgraded connection is logged when it ends, a client that leaves as such, and large early data does no harm", async () => {
  const path = newPath();
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, chunk) {
        if (chunk.toString("latin1").startsWith("GET /app/silent")) return;
        if (chunk.toString("latin1").startsWith("GET "))
          socket.write(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-kind: ws\r\n\r\nhi",
          );
        else socket.end();
      },
    },
  });
  const port = freePort();
  const accessLog = [
    textLog(
      path,
      "%REQ(:PATH)% %REQ(USER-AGENT)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %RESP(X-KIND)% %BYTES_RECEIVED% %BYTES_SENT%\n",
    ),
  ];
  const proxy = await startFixture({
    listeners: [
      listener("127.0.0.1", port, [httpChain("main", { accessLog, upgradeConfigs: [{ upgradeType: "websocket" }] })]),
    ],
    clusters: [cluster("app", [`127.0.0.1:${server.port}`])],
    routes: [routes("main", [{ match: prefix("/"), action: toCluster("app") }])],
  });
  proxies.push(proxy);
  const head =
    "GET /app/ws HTTP/1.1\r\nhost: a\r\nuser-agent: t/1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
  await raw(port, `${head}${"x".repeat(40_000)}`, () => false, 800);
  const [line] = await logged(path, 1);
  expect(line).toMatch(/^\/app\/ws t\/1 101 - via_upstream ws 40000 2$/);
  await raw(port, "GET /app/silent HTTP/1.1\r\nhost: a\r\n\r\n", () => false, 200);
  expect((await logged(path, 2))[1]).toBe("/app/silent - 0 DC downstream_remote_disconnect - 0 0");
  server.stop(true);
});

test("the client's certificate and the TLS session are named where a format asks for them", async () => {
  const path = newPath();
  const hourMs = 3_600_000;
  const authority = await createAuthority({ commonName: "mesh", clock: realClock });
  const issue = (name: string, usages: ("server" | "client")[]) =>
    authority.issue({ uris: [`spiffe://cluster.local/ns/a/sa/${name}`], lifetimeMs: hourMs, usages });
  const [server, client] = [await issue("web", ["server"]), await issue("ann", ["client"])];
  const port = freePort();
  const format =
    "%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_LOCAL_URI_SAN% %DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_ISSUER% %DOWNSTREAM_PEER_CERT_V_END% %REQUESTED_SERVER_NAME% %DOWNSTREAM_PEER_FINGERPRINT_256:8%\n";
  const proxy = await startFixture({
    listeners: [
      listener("127.0.0.1", port, [
        httpChain("main", { accessLog: [textLog(path, format)] }, { transportSocket: serverTls("own", "roots") }),
      ]),
    ],
    clusters: [cluster("app", [`127.0.0.1:${backend.port}`])],
    routes: [routes("main", [{ match: prefix("/"), action: toCluster("app") }])],
    secrets: [keyPair("own", server), trusted("roots", authority.certPem)],
  });
  proxies.push(proxy);
  const tls = { ca: authority.certPem, cert: client.certPem, key: client.keyPem, checkServerIdentity: () => undefined };
  const answer = await fetch(`https://localhost:${port}/`, { tls });
  expect(answer.status).toBe(200);
  const [line] = await logged(path, 1);
  expect(line).toMatch(
    /^spiffe:\/\/cluster\.local\/ns\/a\/sa\/ann spiffe:\/\/cluster\.local\/ns\/a\/sa\/web TLSv1\.3 \S*CN=mesh\S* \d{4}-\d\d-\d\dT[\d:.]+Z localhost [0-9a-f]{8}$/,
  );
});

describe("files", () => {
  test("a renamed file is left and a new one begun on SIGUSR1", async () => {
    const path = newPath();
    const port = await start([textLog(path, "%REQ(:PATH)%\n")]);
    await fetch(`http://127.0.0.1:${port}/app/1`);
    await logged(path, 1);
    renameSync(path, `${path}.1`);
    process.kill(process.pid, "SIGUSR1");
    await until("a new file", () => existsSync(path));
    await fetch(`http://127.0.0.1:${port}/app/2`);
    expect(await logged(path, 1)).toEqual(["/app/2"]);
    expect(lines(`${path}.1`)).toEqual(["/app/1"]);
  });

  test("more lines than fit are dropped and counted, never kept without bound", async () => {
    const metrics = new Metrics();
    const sinks = new LogFiles({ log: silentLog, metrics, clock: new VirtualClock() });
    const path = newPath();
    const sink = sinks.open(path);
    const line = `${"x".repeat(1024 * 1024 - 1)}\n`;
    for (let i = 0; i < 10; i++) sink.write(line);
    expect(metrics.expose()).toMatch(/meshbed_access_log_dropped_lines_total\{path=".*"\} 6\n/);
    expect(await logged(path, 4)).toHaveLength(4);
  });

  test("a path that cannot be opened refuses the configuration and says so", () => {
    const sinks = new LogFiles({ log: silentLog, metrics: new Metrics(), clock: new VirtualClock() });
    expect(() => sinks.open(join(folder, "no/such/folder.log"))).toThrow(/access log .*folder\.log: ENOENT/);
  });
});
