// The pure decisions of the data path as tables: endpoint, virtual host, retry.
import { describe, expect, test } from "bun:test";
import { seededRandom } from "../kernel/random.ts";
import { pick, pickWeighted } from "./balance.ts";
import { type Cluster, ClusterSlot, Endpoint, type LoadBalancing, unknownWorkload } from "./cluster.ts";
import type { RequestView } from "./request.ts";
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

describe("pick", () => {
  function slotOf(policy: LoadBalancing, weights: number[], priorities: number[] = []): ClusterSlot {
    const slot = new ClusterSlot("c");
    slot.current = { policy } as Cluster;
    slot.setEndpoints(
      weights.map((weight, index) => {
        const transport = { host: "h", port: index, tls: undefined, connectTarget: undefined };
        const endpoint = new Endpoint(String(index), String(index), transport, unknownWorkload);
        endpoint.weight = weight;
        endpoint.priority = priorities[index] ?? 0;
        return endpoint;
      }),
    );
    return slot;
  }
  const share = (slot: ClusterSlot, draws: number, seed: number): number[] => {
    const random = seededRandom(seed);
    const counts = slot.all.map(() => 0);
    for (let i = 0; i < draws; i++) counts[Number(pick(slot, random, undefined)!.address)]!++;
    return counts;
  };

  test("round robin takes turns; with weights everybody gets exactly the share", () => {
    expect(share(slotOf("ROUND_ROBIN", [1, 1, 1]), 9, 1)).toEqual([3, 3, 3]);
    expect(share(slotOf("ROUND_ROBIN", [5, 3, 2]), 100, 1)).toEqual([50, 30, 20]);
  });
  test("random follows the weights", () => {
    for (let seed = 1; seed <= 5; seed++) {
      const [a, b] = share(slotOf("RANDOM", [3, 1]), 10_000, seed);
      expect([seed, Math.abs(a! - 7_500) < 200, a! + b!]).toEqual([seed, true, 10_000]);
    }
  });
  test("least request prefers the less busy of two, and never the busiest of all", () => {
    const slot = slotOf("LEAST_REQUEST", [1, 1, 1, 1]);
    slot.all[0]!.active = 50;
    expect(share(slot, 2_000, 3)[0]).toBe(0);
  });
  test("hosts that failed before are avoided while there is another", () => {
    for (const policy of ["ROUND_ROBIN", "RANDOM", "LEAST_REQUEST"] as const) {
      const slot = slotOf(policy, [1, 1]);
      const random = seededRandom(4);
      let avoided = 0;
      for (let i = 0; i < 500; i++) avoided += Number(pick(slot, random, [slot.all[0]!])!.address === "1");
      // Five further draws leave at most one in 2^6 to chance.
      expect([policy, avoided > 480]).toEqual([policy, true]);
    }
    const alone = slotOf("RANDOM", [1]);
    expect(pick(alone, seededRandom(1), [alone.all[0]!])).toBe(alone.all[0]);
  });
  test("a lower priority is used only when the higher has no healthy host", () => {
    const slot = slotOf("ROUND_ROBIN", [1, 1, 1], [0, 1, 1]);
    expect(share(slot, 6, 1)).toEqual([6, 0, 0]);
    const [first, ...rest] = slot.all;
    first!.healthy = false;
    slot.setEndpoints([first!, ...rest]);
    expect(share(slot, 6, 1)).toEqual([0, 3, 3]);
  });
  test("no endpoint is no choice, nor is a set of weights that are all 0", () => {
    expect(pick(slotOf("RANDOM", []), seededRandom(1), undefined)).toBeUndefined();
    expect(pickWeighted([0, 0], 0, seededRandom(1))).toBeUndefined();
    const random = seededRandom(2);
    for (let i = 0; i < 200; i++) expect(pickWeighted([0, 1, 0], 1, random)).toBe(1);
  });
  test("an endpoint keeps its object through an update unless it is reached in another way", () => {
    const slot = slotOf("ROUND_ROBIN", [1, 1]);
    const [a, b] = slot.all;
    const next = slotOf("ROUND_ROBIN", [7, 1]).all;
    const moved = new Endpoint("1", "1 tls", b!.transport, unknownWorkload);
    slot.setEndpoints([next[0]!, moved]);
    expect(slot.all[0]).toBe(a!);
    expect([a!.weight, a!.removed, b!.removed, slot.all[1] === moved]).toEqual([7, false, true, true]);
  });
});

describe("findVirtualHost", () => {
  const host = (name: string): VirtualHost => ({ name, routes: [] });
  const table: RouteTable = {
    name: "t",
    exact: new Map([["a.test", host("exact")]]),
    suffixes: [
      { text: ".deep.test", host: host("*.deep.test") },
      { text: ".test", host: host("*.test") },
    ],
    prefixes: [{ text: "www.", host: host("www.*") }],
    any: host("*"),
    clusters: [],
  };
  const cases: [string, string][] = [
    ["a.test", "exact"],
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
    perTryTimeoutMs: 0,
    avoidPreviousHosts: false,
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
      expect(retriesFailure(policy(on), failure, sent, true)).toBe(want));

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
          : retriesFailure(policy(on), failure, sent, false);
      expect(again).toBe(want);
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
