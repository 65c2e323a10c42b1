// The canary of the README: testbed/canary, version 2 of the web server beside version 1, by weight and by a header field.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { root, startTestbed, type Testbed, until } from "./testbed.ts";

let testbed: Testbed;
const apply = (...names: string[]) =>
  testbed.kubectl("apply", ...names.flatMap((name) => ["-f", join(root, "testbed/canary", `${name}.yaml`)]));
beforeAll(async () => {
  testbed = await startTestbed();
  await apply("web-v2", "routing-weights");
  await testbed.kubectl("rollout", "status", "deployment/web-v2", "-n", "video", "--timeout=20s");
}, 90_000);
afterAll(() => testbed?.down());

async function version(path: string, headers: Record<string, string> = {}): Promise<string> {
  const response = await fetch(`${testbed.url}${path}`, { headers });
  return response.status === 200 ? ((await response.json()) as { version: string }).version : String(response.status);
}

test("by weight: one request in twenty gets version 2", async () => {
  await until("version 2 serves", 5_000, async () => (await version("/api/version")) === "v2");
  const requests = 2_000;
  let second = 0;
  let sent = 0;
  const worker = async () => {
    while (sent++ < requests) if ((await version("/api/version")) === "v2") second++;
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  console.log(`  ${second} of ${requests} requests to version 2`);
  expect(Math.abs(second - requests * 0.05)).toBeLessThanOrEqual(4 * Math.sqrt(requests * 0.0475));
}, 30_000);

test("by a header field: who asks for version 2 gets it, nobody else does", async () => {
  await apply("routing-header");
  const asked = { "x-canary": "true" };
  await until("the field decides", 5_000, async () => (await version("/api/version", asked)) === "v2");
  for (let i = 0; i < 40; i++) {
    expect(await version("/api/version", asked)).toBe("v2");
    expect(await version("/api/version")).toBe("v1");
  }
});
