// Bookinfo by the Gateway API: its gateway, and the mesh routes of examples/bookinfo/gateway-api by Service.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { root, startTestbed, type Testbed, until } from "./testbed.ts";

const folder = join(root, "examples/bookinfo");
let testbed: Testbed;
/** Of the gateway, as its status says it. */
let address = "";
const gatewayApi = (...files: string[]) =>
  testbed.kubectl("apply", ...files.flatMap((file) => ["-f", join(folder, "gateway-api", `${file}.yaml`)]));

beforeAll(async () => {
  testbed = await startTestbed({
    args: ["-f", join(folder, "00-namespace.yaml"), "-f", join(folder, "10-bookinfo.yaml")],
  });
  await gatewayApi("bookinfo-versions", "bookinfo-gateway");
  await testbed.kubectl("wait", "--for=condition=programmed", "gtw/bookinfo-gateway", "--timeout=20s");
  address = await testbed.kubectl("get", "gtw", "bookinfo-gateway", "-o", "jsonpath={.status.addresses[0].value}");
  await until("the page is served", 10_000, async () => (await page()).status === 200);
}, 90_000);
afterAll(() => testbed?.down());

const page = () => fetch(`http://${address}/productpage`);

/** By its stars: none, black, red. */
async function reviewsVersion(): Promise<string> {
  const response = await fetch(`http://${address}/api/v1/products/0/reviews`);
  if (response.status !== 200) return String(response.status);
  const [first] = ((await response.json()) as { reviews: { rating?: { color: string } }[] }).reviews;
  return first?.rating === undefined ? "v1" : first.rating.color === "red" ? "v3" : "v2";
}

async function versions(requests: number): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  let sent = 0;
  const worker = async () => {
    while (sent++ < requests) {
      const version = await reviewsVersion();
      counts[version] = (counts[version] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return counts;
}
const answeredBy = (...wanted: string[]) =>
  until(`reviews ${wanted.join(" and ")} answer`, 5_000, async () => {
    const seen = Object.keys(await versions(48)).sort();
    return seen.join() === wanted.join();
  });

test("the gateway serves the page, and what no route names it does not", async () => {
  expect(await (await page()).text()).toContain("The Comedy of Errors");
  expect((await fetch(`http://${address}/`)).status).toBe(404);
  await answeredBy("v1", "v2", "v3");
});

const shares: [file: string, share: Record<string, number>][] = [
  ["route-all-v1", { v1: 1 }],
  ["route-reviews-50-v3", { v1: 0.5, v3: 0.5 }],
  ["route-reviews-90-10", { v1: 0.9, v2: 0.1 }],
  ["route-reviews-v3", { v3: 1 }],
  ["route-reviews-v1", { v1: 1 }],
];
for (const [file, share] of shares)
  test(`${file}: shares of 400 requests are as written, ± 4 standard deviations`, async () => {
    await gatewayApi(file);
    await answeredBy(...Object.keys(share));
    const requests = 400;
    const seen = await versions(requests);
    console.log(`  ${file}: ${JSON.stringify(seen)}`);
    expect(Object.keys(seen).sort()).toEqual(Object.keys(share));
    for (const [version, part] of Object.entries(share)) {
      const deviation = Math.sqrt((part * (1 - part)) / requests);
      expect(Math.abs(seen[version]! / requests - part)).toBeLessThanOrEqual(4 * deviation);
    }
  });
