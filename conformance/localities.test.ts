// The rules of examples/istio/localities.yaml: nearer endpoints first, failover, retries further away, shares by locality.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Color, type EchoBed, startEcho, tally } from "./echo.ts";
import { until } from "./testbed.ts";

let bed: EchoBed;
beforeAll(async () => {
  bed = await startEcho();
  await bed.example("localities.yaml");
  for (const name of ["east", "west"])
    await bed.kubectl("rollout", "status", `deployment/${name}`, "-n", "echo", "--timeout=20s");
  await until("both localities are known", 5_000, async () => {
    const [east, west] = [await served("red", "/"), await served("blue", "/")];
    return east["200 east"] === 10 && west["200 west"] === 10;
  });
}, 90_000);
afterAll(() => bed?.down());

const served = async (client: Color, path: string, count = 10): Promise<Record<string, number>> => {
  const answers = await bed.from(client, { url: `http://spread.echo${path}`, count, workers: 4 });
  return tally(answers, ({ status, headers }) => `${status} ${headers["x-version"] ?? "-"}`);
};

test("each client is served where it is", async () => {
  expect(await served("red", "/", 100)).toEqual({ "200 east": 100 });
  expect(await served("blue", "/", 100)).toEqual({ "200 west": 100 });
});

test("retryRemoteLocalities: after two failures nearby a retry goes elsewhere; without it, it stays", async () => {
  expect(await served("red", "/near?failing=east", 20)).toEqual({ "503 east": 20 });
  expect(await served("red", "/further?failing=east", 20)).toEqual({ "200 west": 20 });
});

test("distribute: shares by locality", async () => {
  const requests = 500;
  const seen = await served("red", "/shared", requests);
  console.log(`  80:20 over ${requests} requests: ${JSON.stringify(seen)}`);
  expect(Object.keys(seen).sort()).toEqual(["200 east", "200 west"]);
  expect(Math.abs(seen["200 west"]! - requests / 5)).toBeLessThanOrEqual(4 * Math.sqrt(requests * 0.16));
});

test("failover: when nobody is left nearby, others serve, and no request fails on the way", async () => {
  let over = false;
  const asking = (async () => {
    const seen: Record<string, number> = {};
    while (!over)
      for (const [key, count] of Object.entries(await served("red", "/"))) seen[key] = (seen[key] ?? 0) + count;
    return seen;
  })();
  await bed.kubectl("scale", "deployment/east", "-n", "echo", "--replicas=0");
  await until("the west serves the east", 10_000, async () => (await served("red", "/"))["200 west"] === 10);
  over = true;
  expect(Object.keys(await asking).sort()).toEqual(["200 east", "200 west"]);
}, 20_000);
