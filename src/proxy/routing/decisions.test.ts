// The pure decisions of the data path as tables: endpoint, virtual host, retry.
import { describe, expect, test } from "bun:test";
import type { RequestView } from "../http/request.ts";
import { indexDomains } from "./domains.ts";
import {
  appliesTo,
  backoffMs,
  type Failure,
  mayRepeat,
  parseRetryOn,
  type RetryPolicy,
  retriesFailure,
  retriesStale,
  retriesStatus,
} from "./retry.ts";
import { findVirtualHost, type RouteTable, type VirtualHost } from "./route.ts";

describe("findVirtualHost", () => {
  const hosts = ["a.test", "*.test", "*.deep.test", "www.*", "*", "a.TEST:80"];
  const table: RouteTable = {
    name: "t",
    domains: indexDomains(hosts.map((domain) => ({ domains: [domain] }))),
    host: (place): VirtualHost => ({ name: hosts[place]!, requireTls: undefined, routes: [], index: undefined }),
    clusters: [],
  };
  const cases: [string, string][] = [
    ["a.test", "a.test"],
    ["b.test", "*.test"],
    ["x.deep.test", "*.deep.test"],
    [".test", "*"],
    ["www.example", "www.*"],
    ["www.", "*"],
    ["", "*"],
  ];
  for (const [name, want] of cases)
    test(`"${name}" is ${want}`, () => expect(findVirtualHost(table, name)?.name).toBe(want));
});

describe("retries", () => {
  const policy = (on: string, statusCodes: number[] = []): RetryPolicy => ({
    retriesMax: 2,
    on: parseRetryOn(on),
    statusCodes,
    requests: [],
    answers: [],
    resetFields: [],
    resetMaxMs: 300_000,
    perTryTimeoutMs: 0,
    avoidPreviousHosts: false,
    prioritiesEvery: 0,
    baseBackoffMs: 25,
    maxBackoffMs: 250,
  });
  const statuses: [string, number[], number, string | undefined, boolean][] = [
    ["5xx", [], 500, undefined, true],
    ["5xx", [], 499, undefined, false],
    ["gateway-error", [], 500, undefined, false],
    ["gateway-error", [], 503, undefined, true],
    ["retriable-4xx", [], 409, undefined, true],
    ["retriable-4xx", [], 404, undefined, false],
    ["retriable-status-codes", [418], 418, undefined, true],
    ["connect-failure", [], 503, undefined, false],
    ["unavailable", [], 200, "14", true],
    ["unavailable", [], 200, "13", false],
    ["nonsense, 5xx", [], 502, undefined, true],
  ];
  for (const [on, codes, status, grpc, want] of statuses)
    test(`"${on}" ${want ? "retries" : "passes on"} ${status}${grpc ? ` with gRPC status ${grpc}` : ""}`, () =>
      expect(retriesStatus(policy(on, codes), status, grpc, true)).toBe(want));

  const failures: [string, Failure, boolean, boolean][] = [
    ["connect-failure", "connect-failure", false, true],
    ["connect-failure", "reset", true, false],
    ["reset", "reset", true, true],
    ["reset-before-request", "reset", true, false],
    ["reset-before-request", "reset", false, true],
    ["5xx", "per-try-timeout", true, true],
    ["connect-failure", "per-try-timeout", true, false],
    ["gateway-error", "stale", true, true],
  ];
  for (const [on, failure, sent, want] of failures)
    test(`"${on}" ${want ? "retries" : "gives up after"} ${failure}${sent ? ", the request sent" : ""}`, () =>
      expect(retriesFailure(policy(on), failure, sent, "PUT")).toBe(want));

  const once: [string, Failure | number, boolean, boolean][] = [
    ["5xx,reset", "per-try-timeout", true, false],
    ["5xx,reset", "reset", true, false],
    ["5xx,reset", "per-try-timeout", false, true],
    ["connect-failure", "connect-failure", false, true],
    ["reset-before-request", "reset", false, true],
    ["5xx,gateway-error,retriable-4xx", 503, true, false],
    ["retriable-status-codes", 503, true, true],
    ["unavailable", 200, true, true],
  ];
  for (const [on, failure, sent, want] of once)
    test(`a POST is ${want ? "" : "not "}tried again on "${on}" after ${failure}${sent ? ", the request sent" : ""}`, () => {
      const again =
        typeof failure === "number"
          ? retriesStatus(policy(on, [503]), failure, failure === 200 ? "14" : undefined, false)
          : retriesFailure(policy(on), failure, sent, "POST");
      expect(again).toBe(want);
    });
  test("a safe request whose connection breaks before its answer counts as not sent", () => {
    const sent = (method: string, failure: Failure) =>
      retriesFailure(policy("reset-before-request"), failure, true, method);
    expect(["GET", "HEAD", "PUT", "DELETE", "POST"].filter((method) => sent(method, "reset"))).toEqual(["GET", "HEAD"]);
    expect(sent("GET", "per-try-timeout")).toBe(false);
  });
  test("methods may be repeated that are idempotent, or any whose requests the policy names", () => {
    const methods = ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "CONNECT", "BREW"];
    expect(methods.filter((method) => mayRepeat(policy("5xx"), method))).toEqual(["GET", "HEAD", "PUT", "DELETE"]);
    const named = { ...policy("5xx"), requests: [(request: RequestView) => request.path === "/twice"] };
    expect(methods.filter((method) => mayRepeat(named, method))).toEqual(methods);
    expect(["/once", "/twice"].map((path) => appliesTo(named, { path } as RequestView))).toEqual([false, true]);
    expect(appliesTo(policy("5xx"), { path: "/once" } as RequestView)).toBe(true);
  });

  test("a stale connection is made good for safe methods only", () => {
    expect(
      ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH"].filter((method) => retriesStale(method, "stale")),
    ).toEqual(["GET", "HEAD", "OPTIONS"]);
    expect(retriesStale("GET", "reset")).toBe(false);
  });
  test("the back-off doubles up to its limit and is fully jittered", () => {
    const highest = { next: () => 0.999, below: () => 0 };
    expect([1, 2, 3, 4, 5, 9].map((n) => Math.round(backoffMs(policy("5xx"), n, highest)))).toEqual([
      25, 50, 100, 200, 250, 250,
    ]);
    expect(backoffMs(policy("5xx"), 3, { next: () => 0, below: () => 0 })).toBe(0);
  });
});
