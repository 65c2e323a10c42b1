// The rules of examples/istio/resilience.yaml: retries, timeouts, faults, limits and ejection, as client, server and metrics see them.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { came, type EchoBed, startEcho, tally } from "./echo.ts";
import { until } from "./testbed.ts";

let bed: EchoBed;
beforeAll(async () => {
  bed = await startEcho();
  await bed.example("resilience.yaml");
  await bed.kubectl("rollout", "status", "deployment/half-hearing", "-n", "echo", "--timeout=20s");
  await bed.kubectl("rollout", "status", "deployment/half-deaf", "-n", "echo", "--timeout=20s");
}, 90_000);
afterAll(() => bed?.down());

const flagged = (flags: string) => bed.metric("gateway", "istio_requests_total", { response_flags: flags });
const status = ({ status }: { status: number }) => String(status);

test("a failed request is tried again as often as the rule says", async () => {
  const third = await bed.get("retries.test", "/errors?key=three&fail=3");
  expect([third.status, came(third).times]).toEqual([200, 4]);
  const fourth = await bed.get("retries.test", "/errors?key=four&fail=4");
  expect([fourth.status, came(fourth).times]).toEqual([503, 4]);
  expect(await flagged("URX")).toBe(1);
});

test("a number in retryOn is a status code; others are not tried again", async () => {
  expect((await bed.get("retries.test", "/codes?key=teapot&fail=1&status=418")).status).toBe(200);
  expect((await bed.get("retries.test", "/codes?key=error&fail=1&status=503")).status).toBe(503);
});

test("perTryTimeout ends each attempt, and the last one is answered with 504", async () => {
  const { status, tookMs } = await bed.get("retries.test", "/slow?key=slow&delayMs=1000");
  expect(status).toBe(504);
  expect(tookMs).toBeGreaterThanOrEqual(600);
  expect(tookMs).toBeLessThan(1_400);
  const quick = await bed.get("retries.test", "/slow");
  expect([quick.status, came(quick).times]).toEqual([200, 1]);
});

test("without a rule connections that fail are tried elsewhere, answers with an error are not", async () => {
  const error = await bed.get("retries.test", "/default?key=default&fail=1");
  expect([error.status, came(error).times]).toEqual([503, 1]);
  const answers = await bed.many(100, 4, () => bed.get("retries.test", "/half"));
  expect(tally(answers, status)).toEqual({ 200: 100 });
  const without = tally(await bed.many(100, 4, () => bed.get("retries.test", "/half-without")), status);
  console.log(
    `  half of the endpoints deaf: with Istio's hidden retries 100 of 100, without ${JSON.stringify(without)}`,
  );
  expect(without["503"]).toBeGreaterThanOrEqual(40);
  expect(without["200"]).toBeGreaterThanOrEqual(40);
});

test("a timeout is answered with 504 and flag UT", async () => {
  const { status, tookMs, body } = await bed.get("timeout.test", "/?delayMs=2000");
  expect([status, body]).toEqual([504, "upstream request timeout"]);
  expect(tookMs).toBeGreaterThanOrEqual(290);
  expect(tookMs).toBeLessThan(1_000);
  expect((await bed.get("timeout.test", "/?delayMs=100")).status).toBe(200);
  expect(await flagged("UT")).toBeGreaterThanOrEqual(1);
});

test("faults hit the share written, abort and delay each, and nobody without a percentage", async () => {
  const requests = 500;
  const aborted = tally(await bed.many(requests, 16, () => bed.get("faults.test", "/abort")), status);
  console.log(`  30 % of ${requests} aborted: ${JSON.stringify(aborted)}`);
  expect(Object.keys(aborted).sort()).toEqual(["200", "418"]);
  expect(Math.abs(aborted["418"]! - requests * 0.3)).toBeLessThanOrEqual(4 * Math.sqrt(requests * 0.21));
  expect(await flagged("FI")).toBe(aborted["418"]!);

  const delayed = await bed.many(200, 32, () => bed.get("faults.test", "/delay"));
  expect(tally(delayed, status)).toEqual({ 200: 200 });
  expect(Math.abs((await flagged("DI")) - 100)).toBeLessThanOrEqual(4 * Math.sqrt(50));
  // How long a request took also depends on the machine; never less than the delay, though.
  const quick = delayed.filter(({ tookMs }) => tookMs < 200).length;
  expect(quick).toBeLessThanOrEqual(200 - (await flagged("DI")));
  expect(quick).toBeGreaterThan(0);

  const both = await bed.get("faults.test", "/both");
  expect(both.status).toBe(500);
  expect(both.tookMs).toBeGreaterThanOrEqual(200);
  expect(await flagged("DI,FI")).toBe(1);
  const grpc = await bed.get("faults.test", "/grpc", { headers: { "content-type": "application/grpc" } });
  expect([grpc.status, grpc.headers["grpc-status"]]).toEqual([200, "14"]);
  expect(tally(await bed.many(50, 8, () => bed.get("faults.test", "/none")), status)).toEqual({ 200: 50 });
});

test("beyond maxConnections and pending requests 503 with flag UO; a port's own settings replace them whole", async () => {
  const before = await flagged("UO");
  const limited = await bed.many(10, 10, () => bed.get("limited.test", "/connections?delayMs=150"));
  const seen = tally(limited, status);
  console.log(`  10 at once, 1 connection and 1 waiting allowed: ${JSON.stringify(seen)}`);
  expect(seen).toEqual({ 200: 2, 503: 8 });
  const refused = limited.find((answer) => answer.status === 503)!;
  expect(refused.headers["x-envoy-overloaded"]).toBe("true");
  expect(refused.tookMs).toBeLessThan(150);
  expect((await flagged("UO")) - before).toBe(8);
  const others = await bed.many(10, 10, () => bed.get("limited.test", "/port?delayMs=150"));
  expect(tally(others, status)).toEqual({ 200: 10 });
});

test("http2MaxRequests limits requests under way, whatever the protocol", async () => {
  const seen = tally(await bed.many(10, 10, () => bed.get("limited.test", "/requests?delayMs=150")), status);
  expect(seen).toEqual({ 200: 2, 503: 8 });
});

test("maxRetries: what fails while another retry is under way is not tried again, flag UO", async () => {
  const before = await flagged("UO");
  const path = () => `/?key=${crypto.randomUUID()}&fail=1`;
  const seen = tally(await bed.many(10, 10, () => bed.get("retries-limited.test", path())), status);
  console.log(`  10 fail at once, 1 retry allowed: ${JSON.stringify(seen)}`);
  expect(Object.keys(seen).sort()).toEqual(["200", "503"]);
  expect((await flagged("UO")) - before).toBe(seen["503"]!);
  expect((await bed.get("retries-limited.test", path())).status).toBe(200);
});

test("a pod that fails in a row is left out, and comes back", async () => {
  const pods = new Set((await bed.many(9, 1, () => bed.get("ejecting.test", "/"))).map((answer) => came(answer).pod));
  expect(pods.size).toBe(3);
  const failing = [...pods][0]!;
  const path = `/?failing=${failing}`;
  const errors: number[] = [];
  for (let i = 0; i < 30; i++) errors.push((await bed.get("ejecting.test", path)).status);
  // Its third error in a row is its last: one of three in turn until then.
  expect(
    tally(
      errors.map((status) => ({ status, headers: {}, body: "", tookMs: 0 })),
      status,
    )["503"],
  ).toBe(3);
  expect(errors.lastIndexOf(503)).toBeLessThanOrEqual(9);
  await until("the pod is asked again", 5_000, async () => came(await bed.get("ejecting.test", "/")).pod === failing);
});
