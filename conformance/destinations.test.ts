// The rules of examples/istio/destinations.yaml: hashing of every kind, PASSTHROUGH, which DestinationRule holds, exportTo.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Pod } from "../src/api/types.ts";
import { type Color, came, type EchoBed, type Order, startEcho } from "./echo.ts";

let bed: EchoBed;
beforeAll(async () => {
  bed = await startEcho();
  await bed.example("destinations.yaml");
}, 90_000);
afterAll(() => bed?.down());

async function podsServing(client: Color, order: Order): Promise<Set<string>> {
  const answers = await bed.from(client, { count: 12, ...order });
  for (const answer of answers) expect(answer.status).toBe(200);
  return new Set(answers.map((answer) => came(answer).pod));
}

/** Each value is served by one pod, and together they use all three. */
async function sticks(orderOf: (value: string) => Order): Promise<void> {
  const used = new Set<string>();
  for (let value = 0; value < 24; value++) {
    const pods = await podsServing("red", orderOf(`value-${value}`));
    expect(pods.size).toBe(1);
    for (const pod of pods) used.add(pod);
  }
  expect(used.size).toBe(3);
}

test("by a header with maglev: each value has its pod", () =>
  sticks((value) => ({ url: "http://by-header/", headers: { "x-user": value } })));

test("by a query parameter with a ring: each value has its pod", () =>
  sticks((value) => ({ url: `http://by-query/?user=${value}` })));

test("by a cookie: who has none is given one, and stays where it leads", async () => {
  const used = new Set<string>();
  for (let user = 0; user < 12; user++) {
    const [first] = await bed.from("red", { url: "http://by-cookie/" });
    const cookie = first!.headers["set-cookie"]!;
    expect(cookie).toMatch(/^place="?[\w-]+"?; Max-Age=60; Path=\/; HttpOnly$/i);
    const pods = await podsServing("red", { url: "http://by-cookie/", headers: { cookie: cookie.split(";")[0]! } });
    expect([...pods]).toEqual([came(first!).pod]);
    used.add(came(first!).pod);
  }
  expect(used.size).toBeGreaterThan(1);
});

test("by the source address: a client always reaches the same pod", async () => {
  for (const [client, url] of [
    ["red", "http://by-address/"],
    ["blue", "http://by-address.echo/"],
  ] as const)
    expect((await podsServing(client, { url, count: 40 })).size).toBe(1);
});

test("PASSTHROUGH: the pod that the client connected to answers", async () => {
  const pods = JSON.parse(await bed.kubectl("get", "pods", "-n", "echo", "-l", "app=server", "-o", "json")) as {
    items: Pod[];
  };
  expect(pods.items).toHaveLength(3);
  for (const { metadata, status } of pods.items) {
    const url = `http://${status!.podIP}:8080/`;
    const answered = await podsServing("red", { url, headers: { host: "direct.echo.svc.cluster.local:8080" } });
    expect([...answered]).toEqual([metadata.name]);
  }
});

test("the client's namespace decides on the rule, then the service's, then the root's; exported elsewhere it is none", async () => {
  const version = async (client: Color, url: string) => {
    const answers = await bed.from(client, { url, count: 6 });
    return [...new Set(answers.map(({ status, headers }) => headers["x-version"] ?? status))];
  };
  expect(await version("red", "http://looked-up/")).toEqual(["v1"]);
  expect(await version("blue", "http://looked-up.echo/")).toEqual(["v2"]);
  expect(await version("red", "http://from-root/")).toEqual(["v2"]);
  expect(await version("blue", "http://from-root.echo/")).toEqual(["v2"]);
  expect(await version("red", "http://looked-up/third")).toEqual([503]);
});

test("exportTo . keeps rules and services to their own namespace", async () => {
  const kept = { url: "http://server.echo/", headers: { host: "kept.test" } };
  expect((await bed.from("red", kept))[0]!.body).toBe("kept");
  // Unknown to the other namespace's proxies, so it goes where it was sent.
  expect(came((await bed.from("blue", kept))[0]!).host).toBe("kept.test");
  const requests = (namespace: string) =>
    bed.metric(namespace === "echo" ? "red" : "blue", "istio_requests_total", {
      ...{ reporter: "source", source_workload: "client", source_workload_namespace: namespace },
      destination_service_name: "kept",
    });
  expect((await podsServing("red", { url: "http://kept:8765/", count: 3 })).size).toBeGreaterThan(0);
  expect((await podsServing("blue", { url: "http://kept.echo:8765/", count: 3 })).size).toBeGreaterThan(0);
  expect([await requests("echo"), await requests("elsewhere")]).toEqual([3, 0]);
});
