// Format strings: every operator against one described request, and what may not get through.
import { describe, expect, test } from "bun:test";
import type { JsonObject } from "@bufbuild/protobuf";
import { newEdits } from "../../wire/http1_write.ts";
import { parseWorkload } from "../clusters/cluster.ts";
import { requestOf } from "../request_fixture.ts";
import { compileBodyText, compileHeaderValue, compileJson, compileLogText, envoyFormat } from "./formatter.ts";
import { noNeeds, type StreamInfo } from "./stream_info.ts";

/** What Istio's control plane configures when asked for text. */
const istioFormat =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% ' +
  '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ' +
  '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% ' +
  "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

function infoOf(fields: Record<string, string> = {}, more: Partial<StreamInfo> = {}): StreamInfo {
  const request = requestOf("/list?page=2&q=a%20b", { host: "shop.test", ...fields });
  const requestEdits = newEdits();
  requestEdits.added = "x-request-id: 7d2c\r\nx-envoy-original-path: /old?page=2\r\n";
  return {
    type: "DownstreamEnd",
    owner: { nodeId: "sidecar~1", identity: parseWorkload("web;shop;web;v1;Kubernetes"), stats: undefined },
    connection: {
      remoteAddress: "10.0.0.9",
      remotePort: 5000,
      localAddress: "10.0.0.1",
      localPort: 80,
      secure: false,
      serverName: "",
      peer: { identity: parseWorkload(""), authenticated: false },
    },
    clientAddress: "10.0.0.9",
    request,
    requestEdits,
    responseHead: undefined,
    responseEdits: newEdits(),
    responseHeaders: new Map([
      ["x-envoy-upstream-service-time", "7"],
      ["grpc-status", "14"],
    ]),
    startedAtMs: Date.UTC(2026, 10, 3, 4, 5, 6, 78),
    durationMs: 12.4,
    requestEndMs: 1.6,
    responseStartMs: 9.2,
    status: 503,
    flags: "UF,URX",
    details: "via_upstream",
    terminationDetails: "",
    failure: "",
    requestHeadBytes: 80,
    requestBodyBytes: 10,
    responseBodyBytes: 200,
    responseBytes: 300,
    route: undefined,
    cluster: undefined,
    endpoint: undefined,
    upstreamLocalAddress: "10.0.0.1:4444",
    tries: 2,
    metadata: new Map([["jwt", { claims: { sub: "ann", admin: true, age: 41 } }]]),
    filterState: new Map([["peer", "x"]]),
    traceId: "",
    traced: false,
    localReplyBody: "",
    ...more,
  };
}

const text = (format: string, info = infoOf(), omitEmpty = false): string =>
  compileLogText(format, omitEmpty, noNeeds())(info);

describe("operators", () => {
  const cases: [string, string][] = [
    ["%START_TIME%", "2026-11-03T04:05:06.078Z"],
    ["%START_TIME(%Y/%m/%d %H:%M:%S.%3f)%", "2026/11/03 04:05:06.078"],
    ["%START_TIME(%s)%", "1793678706"],
    ["%START_TIME(%a %e %b %j %p %I)%", "Tue  3 Nov 307 AM 04"],
    ["%REQ(:METHOD)% %REQ(:path)% %REQ(:AUTHORITY)%", "GET /list?page=2&q=a%20b shop.test"],
    ["%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/old?page=2"],
    ["%REQ(X-MISSING?HOST)%", "shop.test"],
    ["%REQ(X-MISSING)%", "-"],
    ["%REQ(:PATH):5%", "/list"],
    ["%RESP(X-Envoy-Upstream-Service-Time)%", "7"],
    ["%RESP(:STATUS)%", "503"],
    ["%PATH(NQ:PATH)% %PATH(NQ)% %PATH(WQ:ORIG)%", "/list /old /old?page=2"],
    ["%QUERY_PARAM(q)%", "a b"],
    ["%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS%", "HTTP/1.1 503 UF,URX"],
    ["%RESPONSE_FLAGS_LONG%", "UpstreamConnectionFailure,UpstreamRetryLimitExceeded"],
    ["%BYTES_RECEIVED% %BYTES_SENT% %DOWNSTREAM_WIRE_BYTES_RECEIVED%", "10 200 90"],
    ["%DURATION% %REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "12 2 9 3"],
    ["%COMMON_DURATION(DS_RX_END:US_RX_BEG:us)%", "7600"],
    ["%UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_LOCAL_PORT%", "2 10.0.0.1:4444 4444"],
    ["%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %ROUTE_NAME%", "- - -"],
    ["%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.9:5000 10.0.0.9"],
    ["%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT%", "10.0.0.1:80 80"],
    ["%REQUESTED_SERVER_NAME% %DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_SUBJECT%", "- - -"],
    ["%DYNAMIC_METADATA(jwt:claims:sub)% %METADATA(DYNAMIC:jwt:claims:age)%", "ann 41"],
    ["%DYNAMIC_METADATA(jwt:claims)%", "{\\x22sub\\x22:\\x22ann\\x22,\\x22admin\\x22:true,\\x22age\\x22:41}"],
    ["%DYNAMIC_METADATA(jwt:constructor)%", "-"],
    ["%FILTER_STATE(peer:PLAIN)%", "x"],
    ["%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%", "Unavailable UNAVAILABLE 14"],
    ["%STREAM_ID% %TRACE_ID% %ACCESS_LOG_TYPE%", "7d2c - DownstreamEnd"],
    ["100%% of %%REQ%%", "100% of %REQ%"],
  ];
  for (const [format, expected] of cases) test(`${format} is ${expected}`, () => expect(text(format)).toBe(expected));

  test("an address out of x-forwarded-for has port 0", () => {
    const info = infoOf({}, { clientAddress: "1.2.3.4" });
    expect(text("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", info)).toBe(
      "1.2.3.4:0 10.0.0.9:5000",
    );
  });

  test("Istio's and Envoy's default formats compile, and say what to keep", () => {
    const needs = noNeeds();
    expect(compileLogText(istioFormat, false, needs)(infoOf({ "user-agent": "curl/8" }))).toBe(
      '[2026-11-03T04:05:06.078Z] "GET /old?page=2 HTTP/1.1" 503 UF,URX via_upstream - "-" 10 200 12 7 "-" "curl/8" ' +
        '"7d2c" "shop.test" "-" - 10.0.0.1:4444 10.0.0.1:80 10.0.0.9:5000 - -\n',
    );
    expect([...needs.responseHeaders]).toEqual(["x-envoy-upstream-service-time"]);
    expect(needs).toMatchObject({ times: false, upstreamLocalAddress: true });
    expect(text(envoyFormat)).toContain("503 UF,URX 10 200 12 7");
  });

  const bad: [string, RegExp][] = [
    ["%NO_SUCH_THING%", /unknown operator %NO_SUCH_THING%/],
    ["50% of", /unknown operator "% of" \(a lone % is written %%\)/],
    ["%DURATION(ms)%", /%DURATION% takes no arguments/],
    ["%REQ()%", /need the name of a field/],
    ["%START_TIME(%Q)%", /unknown %Q/],
    ["%COMMON_DURATION(A:B)%", /two of DS_RX_BEG/],
    ["%GRPC_STATUS(x)%", /CAMEL_STRING, SNAKE_STRING or NUMBER/],
  ];
  for (const [format, message] of bad)
    test(`${format} is refused with its reason`, () => expect(() => text(format)).toThrow(message));
});

describe("safety", () => {
  test("no value can end a log line or leave its quotes", () => {
    const info = infoOf(
      { "user-agent": 'x" 200 "\\' },
      {
        metadata: new Map([["jwt", { sub: "a\r\n[2026] forged\u2028" }]]),
        connection: { ...infoOf().connection, serverName: "\x00\x1b[31m" },
      },
    );
    expect(text('"%REQ(USER-AGENT)%" %DYNAMIC_METADATA(jwt:sub)% %REQUESTED_SERVER_NAME%', info)).toBe(
      '"x\\x22 200 \\x22\\x5C" a\\x0D\\x0A[2026] forged\\u2028 \\x00\\x1B[31m',
    );
  });

  test("a field's UTF-8 bytes are logged as text", () => {
    const info = infoOf({ "user-agent": Buffer.from("Zoë ✓").toString("latin1") });
    expect(text("%REQ(USER-AGENT)%", info)).toBe("Zoë ✓");
  });

  test("a header value cannot hold what would split the head", () => {
    const value = compileHeaderValue("for %DYNAMIC_METADATA(jwt:sub)%");
    if (typeof value === "string") throw new Error("not compiled");
    const info = infoOf({}, { metadata: new Map([["jwt", { sub: "a\r\nset-cookie: b=c" }]]) });
    expect(value(info)).toBe("for aset-cookie: b=c");
  });
});

describe("JSON and bodies", () => {
  const json = (struct: JsonObject, omitEmpty = false, sorted = false): unknown =>
    JSON.parse(compileJson(struct, omitEmpty, sorted, noNeeds())(infoOf()));

  test("a single operator keeps its type, nested objects and lists are walked", () => {
    expect(
      json({
        code: "%RESPONSE_CODE%",
        text: "%RESPONSE_CODE% for %REQ(HOST)%",
        nested: { admin: "%DYNAMIC_METADATA(jwt:claims:admin)%", claims: "%DYNAMIC_METADATA(jwt:claims)%" },
        list: ["%BYTES_SENT%", 1, true],
        missing: "%REQ(X-MISSING)%",
      }),
    ).toEqual({
      code: 503,
      text: "503 for shop.test",
      nested: { admin: true, claims: { sub: "ann", admin: true, age: 41 } },
      list: [200, 1, true],
      missing: null,
    });
  });

  test("empty values are left out on request, and keys sorted", () => {
    const struct = { b: "%REQ(X-MISSING)%", z: "%REQ(HOST)%", a: "x%REQ(X-MISSING)%" };
    expect(json(struct, true)).toEqual({ z: "shop.test", a: "x" });
    expect(compileJson(struct, true, true, noNeeds())(infoOf())).toBe('{"a":"x","z":"shop.test"}');
  });

  test("a text log without empty values has nothing in their place", () => {
    expect(text("[%REQ(X-MISSING)%]", infoOf(), true)).toBe("[]");
    expect(compileBodyText("%LOCAL_REPLY_BODY%", true, noNeeds())(infoOf({}, { localReplyBody: "no\n" }))).toBe("no\n");
  });

  test("a header value without operators is a plain string", () => {
    expect(compileHeaderValue("100%% sure")).toBe("100% sure");
    expect(compileHeaderValue("plain")).toBe("plain");
  });
});
