// Retries by an answer's fields, and waiting as an answer asks.
import { describe, expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { RetryPolicySchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { compileRetry } from "../compile/retry.ts";
import { milliseconds } from "../fixture.ts";
import { retriesAnswer, waitMs } from "./retry.ts";

const policy = (init: MessageInitShape<typeof RetryPolicySchema>) => compileRetry(create(RetryPolicySchema, init))!;
const answer = (status: number, fields: Record<string, string> = {}) => ({
  status,
  get: (name: string) => fields[name],
});
const lowest = { next: () => 0, below: () => 0 };

describe("an answer's fields", () => {
  const retriableHeaders = [{ name: "X-Again", headerMatchSpecifier: { case: "presentMatch", value: true } as const }];
  test("are a reason to retry for every method, if the policy names them", () => {
    const named = policy({ retryOn: "retriable-headers", retriableHeaders });
    expect(retriesAnswer(named, answer(200, { "x-again": "1" }), "POST")).toBe(true);
    expect(retriesAnswer(named, answer(503), "GET")).toBe(false);
    expect(retriesAnswer(policy({ retryOn: "5xx", retriableHeaders }), answer(200, { "x-again": "1" }), "GET")).toBe(
      false,
    );
  });
  test("include the status", () => {
    const status = { name: ":status", headerMatchSpecifier: { case: "exactMatch", value: "418" } as const };
    const teapots = policy({ retryOn: "retriable-headers", retriableHeaders: [status] });
    expect([retriesAnswer(teapots, answer(418), "GET"), retriesAnswer(teapots, answer(404), "GET")]).toEqual([
      true,
      false,
    ]);
  });
  test("a bare status code in retry_on is a listed one", () => {
    const listed = policy({ retryOn: "429,reset" });
    expect([retriesAnswer(listed, answer(429), "POST"), retriesAnswer(listed, answer(430), "POST")]).toEqual([
      true,
      false,
    ]);
  });
});

describe("the wait before a retry", () => {
  const limited = policy({
    retryOn: "429",
    rateLimitedRetryBackOff: {
      resetHeaders: [{ name: "Retry-After" }, { name: "x-reset", format: 1 }],
      maxInterval: milliseconds(10_000),
    },
  });
  const nowMs = 1_000_000;
  const cases: [Record<string, string>, number][] = [
    [{ "retry-after": "3" }, 3_000],
    [{ "x-reset": "1004" }, 4_000],
    [{ "retry-after": "soon", "x-reset": "1004" }, 4_000],
    [{ "retry-after": "11" }, 0],
    [{ "x-reset": "999" }, 0],
    [{}, 0],
  ];
  for (const [fields, want] of cases)
    test(`with ${JSON.stringify(fields)} is ${want === 0 ? "the back-off" : `${want} ms`}`, () =>
      expect(waitMs(limited, 1, answer(429, fields), nowMs, lowest)).toBe(want));
  test("is up to half longer than asked", () => {
    const highest = { next: () => 0.999, below: () => 0 };
    expect(Math.round(waitMs(limited, 1, answer(429, { "retry-after": "2" }), nowMs, highest))).toBe(2_999);
  });
});
