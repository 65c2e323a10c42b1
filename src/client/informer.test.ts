// Informers against the real API server and against servers that break: nothing is lost, nothing goes back in time.

import { afterEach, expect, test } from "bun:test";
import { allKinds } from "../api/kinds/all.ts";
import type { WatchEvent } from "../api/object.ts";
import { configMaps } from "../api/resources.ts";
import type { ApiTransport } from "../api/rest.ts";
import type { ConfigMap } from "../api/types.ts";
import { createApi } from "../apiserver/api.ts";
import { realClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom, systemRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import { createClient } from "./client.ts";
import { createInformer } from "./informer.ts";
import { ObjectCache } from "./object-cache.ts";
import { ApiError, type IndexedInformer } from "./types.ts";

const deps = { clock: realClock, random: systemRandom, log: silentLog };
const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

async function startApi() {
  const store = createMemoryStore();
  const api = await createApi({ store, kinds: allKinds, ...deps });
  stops.push(() => {
    api.close();
    store.close();
  });
  return { store, api, client: createClient(api.transport) };
}
const draft = (name: string, data: Record<string, string> = {}) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace: "default" },
  data,
});
const object = (name: string, resourceVersion: number, uid = `uid-${name}`): ConfigMap => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace: "default", uid, resourceVersion: String(resourceVersion), creationTimestamp: "" },
});
const names = (informer: IndexedInformer<ConfigMap>) =>
  informer
    .list()
    .map(({ metadata }) => metadata.name)
    .sort();
async function until(condition: () => boolean) {
  for (let i = 0; i < 400; i++) {
    if (condition()) return;
    await Bun.sleep(5);
  }
  throw new Error("not within 2 s");
}

test("an informer lists, follows, indexes and reports what changed", async () => {
  const { client } = await startApi();
  await client.create(configMaps, draft("a", { team: "x" }));
  const informer = createInformer(
    { client, ...deps },
    configMaps,
    {},
    { team: (map) => [map.data?.["team"] ?? "none"] },
  );
  stops.push(informer.stop);
  await informer.synced;
  expect(names(informer)).toEqual(["a"]);
  const changes: string[] = [];
  informer.onChange((current, old) => changes.push(`${old?.data?.["team"]} to ${current?.data?.["team"]}`));
  await client.create(configMaps, draft("b", { team: "y" }));
  await client.patch(configMaps, "default", "a", { data: { team: "y" } });
  await client.delete(configMaps, "default", "b");
  await until(() => changes.length === 3);
  expect(changes).toEqual(["undefined to y", "x to y", "y to undefined"]);
  expect(informer.by("team", "y").map(({ metadata }) => metadata.name)).toEqual(["a"]);
  expect(informer.by("team", "x")).toEqual([]);
});

test("a reconciler sees its own writes at once, and an old event does not undo them", () => {
  const changes: string[] = [];
  const cache = new ObjectCache<ConfigMap>({}, (current, old) =>
    changes.push(`${old?.metadata.resourceVersion}-${current?.metadata.resourceVersion}`),
  );
  cache.replace([object("a", 5)], "5");
  cache.observe(object("a", 8));
  cache.apply("MODIFIED", object("a", 7));
  cache.apply("MODIFIED", object("a", 8));
  expect(changes).toEqual(["undefined-5", "5-8"]);
  cache.apply("DELETED", object("a", 9));
  cache.observe(object("a", 8)); // the answer to a write that arrives after the object is gone
  expect(cache.list()).toEqual([]);
  cache.observe(object("b", 12));
  cache.replace([object("c", 10)], "11"); // a list made before our write
  expect(cache.list().map(({ metadata }) => metadata.name)).toEqual(["b", "c"]);
  cache.observeDeleting("default/b", "other-uid", "now");
  expect(cache.get("default/b")?.metadata.deletionTimestamp).toBeUndefined();
  cache.observeDeleting("default/b", "uid-b", "now");
  expect(cache.get("default/b")?.metadata.deletionTimestamp).toBe("now");
  cache.replace([], "3"); // the server's history started over
  expect(cache.list()).toEqual([]);
});

/** Lets every request and watch fail at random, and cuts watches in the middle. */
function flaky(transport: ApiTransport, seed: number): ApiTransport & { calm: boolean } {
  const random = seededRandom(seed);
  const self: ApiTransport & { calm: boolean } = {
    calm: false,
    async request(request) {
      if (!self.calm && request.method === "GET" && random.below(3) === 0) throw new Error("connection refused");
      return transport.request(request);
    },
    async *watch(request, signal): AsyncIterable<WatchEvent> {
      if (!self.calm && random.below(3) === 0) throw new ApiError(410, { reason: "Expired", message: "too old" });
      const abort = new AbortController();
      const inner = AbortSignal.any([signal, abort.signal]);
      for await (const event of transport.watch(request, inner)) {
        if (!self.calm && random.below(6) === 0) break;
        yield event;
      }
      abort.abort();
    },
  };
  return self;
}

test("whatever breaks between informer and server, in the end the cache is what the server has", async () => {
  for (const seed of [1, 2, 3]) {
    const { api, client } = await startApi();
    const transport = flaky(api.transport, seed);
    const random = seededRandom(seed);
    const informer = createInformer({ ...deps, client: createClient(transport) }, configMaps, { namespace: "default" });
    stops.push(informer.stop);
    for (let i = 0; i < 150; i++) {
      const name = `m${random.below(12)}`;
      const exists = await client.get(configMaps, "default", name).catch(() => undefined);
      if (exists === undefined) await client.create(configMaps, draft(name));
      else if (random.below(2) === 0) await client.delete(configMaps, "default", name);
      else await client.patch(configMaps, "default", name, { data: { i: String(i) } });
      if (i % 10 === 0) await Bun.sleep(5);
    }
    transport.calm = true;
    const wanted = (await client.list(configMaps, { namespace: "default" })).items.map(
      ({ metadata }) => `${metadata.name} ${metadata.resourceVersion}`,
    );
    const found = () =>
      informer
        .list()
        .map(({ metadata }) => `${metadata.name} ${metadata.resourceVersion}`)
        .sort();
    for (let i = 0; i < 1_000 && !Bun.deepEquals(found(), wanted.sort()); i++) await Bun.sleep(5);
    expect({ seed, found: found() }).toEqual({ seed, found: wanted.sort() });
  }
}, 30_000);

test("when the watched revision is compacted away the informer lists again and reports what it missed", async () => {
  const { api, client, store } = await startApi();
  let cut = () => {};
  let down = false;
  const transport: ApiTransport = {
    request: (request) => (down ? Promise.reject(new Error("down")) : api.transport.request(request)),
    async *watch(request, signal) {
      if (down) throw new Error("down");
      const abort = new AbortController();
      cut = () => abort.abort();
      yield* api.transport.watch(request, AbortSignal.any([signal, abort.signal]));
    },
  };
  await client.create(configMaps, draft("stays"));
  await client.create(configMaps, draft("goes"));
  const informer = createInformer({ ...deps, client: createClient(transport) }, configMaps, { namespace: "default" });
  stops.push(informer.stop);
  await informer.synced;
  const deleted: string[] = [];
  informer.onChange((current, old) => current === undefined && deleted.push(old!.metadata.name));
  down = true;
  cut();
  await client.delete(configMaps, "default", "goes");
  await client.create(configMaps, draft("new"));
  store.compact(store.revision);
  await Bun.sleep(20);
  expect(names(informer)).toEqual(["goes", "stays"]);
  down = false;
  await until(() => names(informer).includes("new"));
  expect(names(informer)).toEqual(["new", "stays"]);
  expect(deleted).toEqual(["goes"]);
});
