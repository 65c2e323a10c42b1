// Faults through a running proxy: what the request may ask for, for whom they are, how many at once; and the rate of a body on virtual time.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { HTTPFaultSchema } from "#gen/xds/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { VirtualClock } from "../../kernel/clock.ts";
import type { BodySink } from "../filter.ts";
import { milliseconds, prefix, toCluster } from "../fixture.ts";
import { FilterFixture, httpFilter } from "./fixture.ts";
import { Throttle } from "./throttle.ts";

const fixture = new FilterFixture();
beforeAll(() => fixture.start());
afterAll(() => fixture.stop());

type Init = MessageInitShape<typeof HTTPFaultSchema>;
const all = { numerator: 100 };
const serve = (init: Init): Promise<void> =>
  fixture.serve({ httpFilters: [httpFilter("fault", HTTPFaultSchema, init)] }, [
    { match: prefix("/"), action: toCluster("a") },
  ]);
const status = async (headers: Record<string, string> = {}): Promise<number> =>
  (await fixture.fetch("/", { headers })).status;
const abort = { errorType: { case: "httpStatus", value: 555 }, percentage: all } as const;

describe("the request's own wishes", () => {
  test("abort it, if they are allowed and make sense", async () => {
    await serve({ abort: { errorType: { case: "headerAbort", value: {} }, percentage: all } });
    expect([
      await status(),
      await status({ "x-envoy-fault-abort-request": "418" }),
      await status({ "x-envoy-fault-abort-request": "99" }),
      await status({ "x-envoy-fault-abort-request": "418", "x-envoy-fault-abort-request-percentage": "0" }),
    ]).toEqual([200, 418, 200, 200]);
    const grpc = await fixture.fetch("/", {
      headers: { "x-envoy-fault-abort-grpc-request": "14", "content-type": "application/grpc" },
    });
    expect([grpc.status, grpc.headers.get("grpc-status"), grpc.headers.get("content-type")]).toEqual([
      200,
      "14",
      "application/grpc",
    ]);
    await serve({ abort });
    expect(await status({ "x-envoy-fault-abort-request": "418" })).toBe(555);
  });
  test("delay it, and never more often than configured", async () => {
    await serve({ delay: { faultDelaySecifier: { case: "headerDelay", value: {} }, percentage: all } });
    const startMs = performance.now();
    await status({ "x-envoy-fault-delay-request": "80" });
    expect(performance.now() - startMs).toBeGreaterThan(75);
    await serve({ delay: { faultDelaySecifier: { case: "headerDelay", value: {} }, percentage: { numerator: 0 } } });
    const thenMs = performance.now();
    await status({ "x-envoy-fault-delay-request": "400", "x-envoy-fault-delay-request-percentage": "100" });
    expect(performance.now() - thenMs).toBeLessThan(300);
  });
});

test("faults are for the requests, clusters and nodes they name", async () => {
  const field = { name: "x-user", headerMatchSpecifier: { case: "exactMatch", value: "tester" } } as const;
  await serve({ abort, headers: [field] });
  expect([await status(), await status({ "x-user": "tester" })]).toEqual([200, 555]);
  await serve({ abort, upstreamCluster: "a" });
  expect(await status()).toBe(555);
  await serve({ abort, upstreamCluster: "other" });
  expect(await status()).toBe(200);
  await serve({ abort, downstreamNodes: ["n1"] });
  expect([await status(), await status({ "x-envoy-downstream-service-node": "n1" })]).toEqual([200, 555]);
});

test("only so many faults are injected at once", async () => {
  const delay = { faultDelaySecifier: { case: "fixedDelay", value: milliseconds(100) }, percentage: all } as const;
  await serve({ delay, maxActiveFaults: 2 });
  const startMs = performance.now();
  const took = await Promise.all(
    Array.from({ length: 6 }, async () => {
      await status();
      return performance.now() - startMs;
    }),
  );
  expect(took.filter((ms) => ms > 95).length).toBe(2);
  await status();
  expect(performance.now() - startMs).toBeGreaterThan(195);
});

test("an answer is slowed down to the rate that is asked for", async () => {
  await serve({ responseRateLimit: { limitType: { case: "fixedLimit", value: { limitKbps: 64n } }, percentage: all } });
  fixture.backend.answer = () => new Response("x".repeat(16 * 1024));
  const startMs = performance.now();
  const answer = await fixture.fetch("/");
  expect((await answer.text()).length).toBe(16 * 1024);
  // 4 KiB every 62.5 ms, the first at once.
  expect(performance.now() - startMs).toBeGreaterThan(180);
});

test("a throttled body keeps to its rate, waits for a full client, and says when it has room", () => {
  const clock = new VirtualClock();
  let sent = 0;
  let rooms = 0;
  let ended = false;
  let full = false;
  const sink: BodySink = {
    push(chunk) {
      sent += chunk.length;
      return !full;
    },
    end() {
      ended = true;
    },
    onRoom() {
      rooms++;
    },
  };
  const throttle = new Throttle(16, clock, sink);
  expect(throttle.write(Buffer.alloc(3000), 0, 3000)).toBe(false);
  expect(sent).toBe(1024);
  clock.advance(62.5);
  expect([sent, rooms]).toEqual([2048, 0]);
  full = true;
  clock.advance(62.5);
  expect([sent, rooms]).toEqual([3000, 1]);
  expect(throttle.write(Buffer.alloc(100), 0, 100)).toBe(false);
  clock.advance(1000);
  expect(sent).toBe(3000);
  full = false;
  throttle.onDrain();
  expect([sent, rooms, ended]).toEqual([3100, 2, false]);
  throttle.end();
  expect(ended).toBe(true);
});
