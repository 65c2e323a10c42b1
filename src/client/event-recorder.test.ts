// Event recording: counting what repeats, bounds, names.

import { afterEach, expect, test } from "bun:test";
import { allKinds } from "../api/kinds/all.ts";
import { events } from "../api/resources.ts";
import { createApi } from "../apiserver/api.ts";
import { VirtualClock } from "../kernel/clock.ts";
import { createLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import { createClient } from "./client.ts";
import { createEventRecorder } from "./event-recorder.ts";

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

async function start() {
  const clock = new VirtualClock();
  const lines: string[] = [];
  const log = createLog((line) => lines.push(line));
  const store = createMemoryStore();
  const api = await createApi({ store, kinds: allKinds, clock, random: seededRandom(1), log });
  stops.push(() => {
    api.close();
    store.close();
  });
  const client = createClient(api.transport);
  const recorder = createEventRecorder({ client, component: "kubelet", host: "worker1", clock, log });
  const settle = async () => {
    while (recorder.pending > 0) await new Promise((resolve) => setImmediate(resolve));
  };
  const list = async () => (await client.list(events, { namespace: "default" })).items;
  return { clock, client, lines, recorder, settle, list };
}
const pod = (name: string) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "default", uid: `uid-${name}`, resourceVersion: "7", creationTimestamp: "" },
});

test("the same event again raises the count and the last time; another message is another event", async () => {
  const { clock, recorder, settle, list } = await start();
  recorder.record(pod("web"), "Warning", "BackOff", "Back-off restarting failed container");
  clock.advance(60_000);
  recorder.record(pod("web"), "Warning", "BackOff", "Back-off restarting failed container");
  recorder.record(pod("web"), "Normal", "Started", "Started container web");
  await settle();
  const [first, second] = (await list()).sort((a, b) => (a.reason! < b.reason! ? -1 : 1));
  expect(first).toMatchObject({
    count: 2,
    type: "Warning",
    firstTimestamp: "2026-01-01T00:00:00Z",
    lastTimestamp: "2026-01-01T00:01:00Z",
    involvedObject: { kind: "Pod", name: "web", namespace: "default", uid: "uid-web" },
    source: { component: "kubelet", host: "worker1" },
  });
  expect(second).toMatchObject({ count: 1, reason: "Started" });
});

test("an event that expired meanwhile is written anew", async () => {
  const { client, recorder, settle, list } = await start();
  recorder.record(pod("web"), "Normal", "Pulled", "again");
  await settle();
  await client.delete(events, "default", (await list())[0]!.metadata.name);
  recorder.record(pod("web"), "Normal", "Pulled", "again");
  await settle();
  expect((await list()).map(({ count }) => count)).toEqual([1]);
});

test("a flood is cut at the bound and the number dropped is logged", async () => {
  const { lines, recorder, settle, list } = await start();
  for (let i = 0; i < 1_500; i++) recorder.record(pod(`p${i}`), "Normal", "Created", "x");
  await settle();
  await new Promise((resolve) => setImmediate(resolve));
  const written = (await list()).length;
  expect(written).toBeGreaterThanOrEqual(1_000);
  expect(lines.join()).toContain(`dropped=${1_500 - written}`);
});
