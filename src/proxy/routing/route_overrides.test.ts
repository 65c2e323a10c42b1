// What x-envoy-* fields make of a route's timeouts and retries, as a table; and that only internal callers are heard.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { FilterFixture } from "../filters/fixture.ts";
import { prefix, toCluster } from "../fixture.ts";
import type { RequestView } from "../http/request.ts";
import type { ForwardAction } from "./route.ts";
import { overriddenAction } from "./route_overrides.ts";

describe("the fields", () => {
  const action = { timeoutMs: 1000, retry: undefined } as ForwardAction;
  const of = (fields: Record<string, string>) => {
    const { timeoutMs, retry } = overriddenAction(action, { header: (name: string) => fields[name] } as RequestView);
    return retry
      ? { timeoutMs, on: [...retry.on].join(), tries: retry.retriesMax, perTryMs: retry.perTryTimeoutMs }
      : undefined;
  };
  const cases: [Record<string, string>, ReturnType<typeof of>][] = [
    [{}, undefined],
    [{ "x-envoy-max-retries": "many" }, undefined],
    [{ "x-envoy-upstream-rq-timeout-ms": "0" }, { timeoutMs: 0, on: "", tries: 1, perTryMs: 0 }],
    [{ "x-envoy-retry-on": "5xx,reset" }, { timeoutMs: 1000, on: "5xx,reset", tries: 1, perTryMs: 0 }],
    [{ "x-envoy-retry-grpc-on": "unavailable" }, { timeoutMs: 1000, on: "unavailable", tries: 1, perTryMs: 0 }],
    [
      { "x-envoy-retry-on": "5xx", "x-envoy-max-retries": "4", "x-envoy-upstream-rq-per-try-timeout-ms": "200" },
      { timeoutMs: 1000, on: "5xx", tries: 4, perTryMs: 200 },
    ],
    [{ "x-envoy-upstream-rq-per-try-timeout-ms": "1000" }, { timeoutMs: 1000, on: "", tries: 1, perTryMs: 0 }],
    [{ "x-envoy-max-retries": "100000" }, { timeoutMs: 1000, on: "", tries: 100, perTryMs: 0 }],
  ];
  for (const [fields, want] of cases)
    test(`${JSON.stringify(fields)} ask for ${JSON.stringify(want) ?? "nothing"}`, () =>
      expect(of(fields)).toEqual(want));

  test("add to what the route retries", () => {
    const retry = { on: new Set(["reset"]), statusCodes: [500], retriesMax: 2, perTryTimeoutMs: 0 };
    const request = {
      header: (name: string) => ({ "x-envoy-retry-on": "429", "x-envoy-retriable-status-codes": "503, 504" })[name],
    } as RequestView;
    const changed = overriddenAction({ timeoutMs: 0, retry } as unknown as ForwardAction, request).retry!;
    expect([[...changed.on], changed.statusCodes]).toEqual([
      ["reset", "retriable-status-codes"],
      [500, 429, 503, 504],
    ]);
  });
});

describe("through a proxy", () => {
  const fixture = new FilterFixture();
  beforeAll(() => fixture.start());
  afterAll(() => fixture.stop());
  test("an internal caller's wishes are met and not passed on, anybody else's are not", async () => {
    const internal = { cidrRanges: [{ addressPrefix: "127.0.0.0", prefixLen: 8 }] };
    const headers = { "x-envoy-retry-on": "5xx", "x-envoy-max-retries": "2", "x-forwarded-for": "127.0.0.1" };
    const tries = async (manager: object): Promise<[number, string | null]> => {
      await fixture.serve(manager, [{ match: prefix("/"), action: toCluster("a") }]);
      let told: string | null = null;
      fixture.backend.answer = (request) => {
        told = request.headers.get("x-envoy-retry-on");
        return new Response("", { status: 500 });
      };
      await fixture.fetch("/", { headers });
      return [fixture.backend.requests.length, told];
    };
    expect(await tries({ internalAddressConfig: internal })).toEqual([3, null]);
    expect(await tries({})).toEqual([1, null]);
  });
});
