// The scheduler over the real API server: binding, refusals and their retry, races, speed.

import { afterEach, expect, test } from "bun:test";
import { allKinds } from "../api/kinds/all.ts";
import { events, nodes, pods } from "../api/resources.ts";
import type { Pod } from "../api/types.ts";
import { createApi } from "../apiserver/api.ts";
import { createClient } from "../client/client.ts";
import { VirtualClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import { startScheduler } from "./scheduler.ts";

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

async function start() {
  const clock = new VirtualClock();
  const deps = { clock, random: seededRandom(1), log: silentLog };
  const store = createMemoryStore();
  const api = await createApi({ store, kinds: allKinds, ...deps });
  const client = createClient(api.transport);
  const scheduler = startScheduler({ client, ...deps });
  stops.push(scheduler.stop, () => {
    api.close();
    store.close();
  });
  const settle = async () => {
    for (let quiet = 0; quiet < 4; ) {
      await new Promise((resolve) => setImmediate(resolve));
      quiet = scheduler.idle() ? quiet + 1 : 0;
    }
  };
  const createNode = (name: string, cpu = "4") =>
    client.create(nodes, {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name },
      status: {
        allocatable: { cpu, memory: "8Gi", pods: "110" },
        capacity: { cpu, memory: "8Gi", pods: "110" },
        conditions: [{ type: "Ready", status: "True" }],
      },
    });
  const createPod = (name: string, cpu = "1", spec: object = {}) =>
    client.create(pods, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "default" },
      spec: { containers: [{ name: "c", image: "i", resources: { requests: { cpu } } }], ...spec },
    });
  const get = (name: string): Promise<Pod> => client.get(pods, "default", name);
  const scheduled = async (name: string) =>
    (await get(name)).status?.conditions?.find(({ type }) => type === "PodScheduled");
  return { client, clock, settle, createNode, createPod, get, scheduled };
}

test("a pod is bound, and the event names the node", async () => {
  const { client, settle, createNode, createPod, get, scheduled } = await start();
  await createNode("n1");
  await createPod("a");
  await settle();
  expect((await get("a")).spec?.nodeName).toBe("n1");
  expect((await scheduled("a"))?.status).toBe("True");
  const [event] = (await client.list(events)).items;
  expect(event).toMatchObject({ reason: "Scheduled", message: "Successfully assigned default/a to n1" });
});

test("a pod that fits nowhere says why, once, and is bound as soon as there is room", async () => {
  const { client, settle, createNode, createPod, get, scheduled } = await start();
  await createPod("a", "3");
  await settle();
  expect(await scheduled("a")).toMatchObject({
    status: "False",
    reason: "Unschedulable",
    message: "no nodes available to schedule pods",
  });
  await createNode("n1", "2");
  await settle();
  expect((await scheduled("a"))?.message).toBe("0/1 nodes are available: 1 Insufficient cpu.");
  const refusals = async () => (await client.list(events)).items.filter(({ reason }) => reason === "FailedScheduling");
  expect(await refusals()).toHaveLength(2);
  expect((await refusals()).map(({ count }) => count)).toEqual([1, 1]);
  const capacity = { cpu: "8", memory: "8Gi", pods: "110" };
  await client.patch(
    nodes,
    undefined,
    "n1",
    { status: { allocatable: capacity, capacity } },
    { subresource: "status" },
  );
  await settle();
  expect((await get("a")).spec?.nodeName).toBe("n1");
});

test("the end of a pod makes room for the one that waits", async () => {
  const { client, settle, createNode, createPod, get } = await start();
  await createNode("n1");
  await createPod("first", "3");
  await createPod("second", "3");
  await settle();
  const names = ["first", "second"];
  const bound = await Promise.all(names.map(async (name) => (await get(name)).spec?.nodeName));
  expect(bound).toEqual(["n1", undefined]);
  await client.patch(pods, "default", "first", { status: { phase: "Succeeded" } }, { subresource: "status" });
  await settle();
  expect((await get("second")).spec?.nodeName).toBe("n1");
});

test("pods created at once never overfill a node, although their bindings overlap", async () => {
  const { client, settle, createNode, createPod } = await start();
  await Promise.all([createNode("n1"), createNode("n2")]);
  await Promise.all(Array.from({ length: 12 }, (_, i) => createPod(`p${i}`)));
  await settle();
  const list = (await client.list(pods)).items;
  const on = (name: string | undefined) => list.filter((pod) => pod.spec?.nodeName === name).length;
  expect([on("n1"), on("n2"), on(undefined)]).toEqual([4, 4, 4]);
});

test("pods of other schedulers and pods with gates are left alone", async () => {
  const { settle, createNode, createPod, get } = await start();
  await createNode("n1");
  await createPod("other", "1", { schedulerName: "mine" });
  await createPod("gated", "1", { schedulingGates: [{ name: "example.com/wait" }] });
  await settle();
  expect((await get("other")).spec?.nodeName).toBeUndefined();
  expect((await get("gated")).spec?.nodeName).toBeUndefined();
});

test("an idle scheduler binds a pod within a few milliseconds of its creation", async () => {
  const { settle, createNode, createPod, get } = await start();
  for (let i = 0; i < 8; i++) await createNode(`n${i}`, "100");
  const durationsMs: number[] = [];
  for (let i = 0; i < 50; i++) {
    const startMs = performance.now();
    await createPod(`p${i}`);
    while ((await get(`p${i}`)).spec?.nodeName === undefined) await new Promise((resolve) => setImmediate(resolve));
    durationsMs.push(performance.now() - startMs);
    await settle();
  }
  expect(durationsMs.sort((a, b) => a - b)[25]!).toBeLessThan(10);
});
