// Lists in pages and watches: selectors, resource versions, bookmarks, ends.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { allKinds } from "../api/kinds/all.ts";
import type { KubeObject, Status, WatchEvent } from "../api/object.ts";
import type { ApiRequest } from "../api/rest.ts";
import { VirtualClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import { type Store, watchBufferEventsMax } from "../store/types.ts";
import { type Api, createApi } from "./api.ts";

let store: Store;
let clock: VirtualClock;
let api: Api;
let abort: AbortController;

beforeEach(async () => {
  store = createMemoryStore();
  clock = new VirtualClock();
  abort = new AbortController();
  api = await createApi({ store, kinds: allKinds, clock, random: seededRandom(7), log: silentLog });
});
afterEach(async () => {
  abort.abort();
  api.close();
  await store.close();
});

const maps = "/api/v1/namespaces/default/configmaps";
const allMaps = "/api/v1/configmaps";
type Query = Record<string, string>;

async function ask(method: ApiRequest["method"], path: string, body?: unknown, query: Query = {}) {
  const contentType = method === "PATCH" ? "application/merge-patch+json" : "application/json";
  const answer = await api.transport.request({ method, path, body, query, contentType });
  return {
    status: answer.status,
    body: answer.body as KubeObject & Status & { items: KubeObject[]; metadata: { continue?: string } },
  };
}
const create = async (name: string, labels: Record<string, string> = {}) =>
  (await ask("POST", maps, { apiVersion: "v1", kind: "ConfigMap", metadata: { name, labels } })).body;
const label = (name: string, labels: Record<string, string | null>) =>
  ask("PATCH", `${maps}/${name}`, { metadata: { labels } });

/** Reads `count` events of a watch, each as "TYPE name". */
class Reader {
  readonly #iterator: AsyncIterator<WatchEvent>;
  constructor(query: Query, path = maps) {
    this.#iterator = api.transport.watch({ method: "GET", path, query }, abort.signal)[Symbol.asyncIterator]();
  }
  async next(): Promise<WatchEvent | undefined> {
    const result = await this.#iterator.next();
    return result.done ? undefined : result.value;
  }
  async take(count: number): Promise<string[]> {
    const seen: string[] = [];
    for (let i = 0; i < count; i++) {
      const event = await this.next();
      seen.push(event === undefined ? "end" : `${event.type} ${event.object.metadata.name ?? ""}`.trim());
    }
    return seen;
  }
}

describe("list", () => {
  test("selects by labels, set-based ones too, and by fields", async () => {
    await create("a", { tier: "web", track: "stable" });
    await create("b", { tier: "web" });
    await create("c", { tier: "db" });
    const names = async (query: Query) =>
      (await ask("GET", maps, undefined, query)).body.items.map((o) => o.metadata.name);
    expect(await names({ labelSelector: "tier=web" })).toEqual(["a", "b"]);
    expect(await names({ labelSelector: "tier in (web,db),track notin (stable)" })).toEqual(["b", "c"]);
    expect(await names({ labelSelector: "tier!=db,!track" })).toEqual(["b"]);
    expect(await names({ fieldSelector: "metadata.name=c" })).toEqual(["c"]);
    expect(await names({ fieldSelector: "metadata.name!=c,metadata.namespace=default" })).toEqual(["a", "b"]);
    expect((await ask("GET", maps, undefined, { fieldSelector: "data.x=1" })).status).toBe(400);
    expect((await ask("GET", maps, undefined, { labelSelector: "a in (" })).status).toBe(400);
  });

  test("pages show one moment, whatever is written in between", async () => {
    for (const name of ["a", "b", "c", "d", "e"]) await create(name);
    const first = await ask("GET", maps, undefined, { limit: "2" });
    expect(first.body.items.map((o) => o.metadata.name)).toEqual(["a", "b"]);
    expect(first.body.metadata).toMatchObject({ remainingItemCount: 3 });
    await create("bb");
    await ask("DELETE", `${maps}/d`);
    const second = await ask("GET", maps, undefined, { limit: "2", continue: first.body.metadata.continue! });
    expect(second.body.items.map((o) => o.metadata.name)).toEqual(["c", "d"]);
    expect(second.body.metadata.resourceVersion).toBe(first.body.metadata.resourceVersion);
    const last = await ask("GET", maps, undefined, { limit: "2", continue: second.body.metadata.continue! });
    expect(last.body.items.map((o) => o.metadata.name)).toEqual(["e"]);
    expect(last.body.metadata.continue).toBeUndefined();
  });

  test("a limit counts selected objects, and a page that ends exactly has no continuation", async () => {
    for (let i = 0; i < 6; i++) await create(`m${i}`, { odd: String(i % 2) });
    const query = { limit: "2", labelSelector: "odd=1" };
    const first = await ask("GET", maps, undefined, query);
    expect(first.body.items.map((o) => o.metadata.name)).toEqual(["m1", "m3"]);
    const rest = await ask("GET", maps, undefined, { ...query, continue: first.body.metadata.continue! });
    expect(rest.body.items.map((o) => o.metadata.name)).toEqual(["m5"]);
    expect((await ask("GET", maps, undefined, { limit: "6" })).body.metadata.continue).toBeUndefined();
  });

  test("a page that was compacted away is 410, a nonsense token 400, a revision ahead 504", async () => {
    for (const name of ["a", "b", "c"]) await create(name);
    const first = await ask("GET", maps, undefined, { limit: "1" });
    await create("d");
    store.compact(store.revision);
    const gone = await ask("GET", maps, undefined, { limit: "1", continue: first.body.metadata.continue! });
    expect(gone.body).toMatchObject({ code: 410, reason: "Expired" });
    expect((await ask("GET", maps, undefined, { continue: "nonsense" })).status).toBe(400);
    expect((await ask("GET", maps, undefined, { limit: "-1" })).status).toBe(400);
    expect((await ask("GET", maps, undefined, { resourceVersion: "99999" })).status).toBe(504);
    const exact = { resourceVersion: "2", resourceVersionMatch: "Exact" };
    expect((await ask("GET", maps, undefined, exact)).status).toBe(410);
  });
});

describe("watch", () => {
  test("without a resourceVersion the present comes first, then changes", async () => {
    await create("a");
    const reader = new Reader({});
    expect(await reader.take(1)).toEqual(["ADDED a"]);
    await create("b");
    await label("a", { x: "1" });
    await ask("DELETE", `${maps}/b`);
    expect(await reader.take(3)).toEqual(["ADDED b", "MODIFIED a", "DELETED b"]);
  });

  test("from a resourceVersion nothing is missed and nothing repeated", async () => {
    const { body } = await ask("GET", maps);
    for (let i = 0; i < 20; i++) await create(`m${i}`);
    const reader = new Reader({ resourceVersion: body.metadata.resourceVersion });
    expect(await reader.take(20)).toEqual(Array.from({ length: 20 }, (_, i) => `ADDED m${i}`));
    await create("last");
    expect(await reader.take(1)).toEqual(["ADDED last"]);
  });

  test("a delete carries the revision of the delete, so that a watch resumes after it", async () => {
    const created = await create("a");
    const reader = new Reader({ resourceVersion: created.metadata.resourceVersion });
    await ask("DELETE", `${maps}/a`);
    const event = (await reader.next())!;
    expect(event.type).toBe("DELETED");
    expect(Number(event.object.metadata.resourceVersion)).toBe(store.revision);
  });

  test("objects that enter or leave the selection are added and deleted", async () => {
    await create("a");
    const reader = new Reader({ labelSelector: "on=yes", resourceVersion: String(store.revision) });
    await label("a", { on: "yes" });
    await label("a", { more: "1" });
    await label("a", { on: null });
    await label("a", { more: "2" });
    await label("a", { on: "yes" });
    expect(await reader.take(4)).toEqual(["ADDED a", "MODIFIED a", "DELETED a", "ADDED a"]);
  });

  test("one namespace, one name, or everything", async () => {
    const one = new Reader({}, "/api/v1/namespaces/kube-system/configmaps");
    const named = new Reader({ fieldSelector: "metadata.name=b" });
    const all = new Reader({}, allMaps);
    const path = new Reader({}, `${maps}/b`);
    await Bun.sleep(0);
    await create("a");
    await create("b");
    await ask("POST", "/api/v1/namespaces/kube-system/configmaps", {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "s" },
    });
    expect(await one.take(1)).toEqual(["ADDED s"]);
    expect(await named.take(1)).toEqual(["ADDED b"]);
    expect(await path.take(1)).toEqual(["ADDED b"]);
    expect(await all.take(3)).toEqual(["ADDED a", "ADDED b", "ADDED s"]);
  });

  test("a revision that was compacted, or is of another history, is an ERROR event with 410", async () => {
    await create("a");
    await create("b");
    store.compact(store.revision);
    for (const resourceVersion of ["3", "999999"]) {
      const reader = new Reader({ resourceVersion });
      const event = (await reader.next())!;
      expect(event.type).toBe("ERROR");
      expect(event.object as unknown).toMatchObject({ kind: "Status", code: 410, reason: "Expired" });
      expect(await reader.next()).toBeUndefined();
    }
  });

  test("bookmarks tell the revision while nothing happens, if asked for", async () => {
    await create("a");
    const reader = new Reader({ allowWatchBookmarks: "true", resourceVersion: String(store.revision) });
    const next = reader.next();
    await Bun.sleep(1);
    await ask("POST", "/api/v1/namespaces", { apiVersion: "v1", kind: "Namespace", metadata: { name: "other" } });
    clock.advance(60_000);
    const event = (await next)!;
    expect(event.type).toBe("BOOKMARK");
    expect(event.object).toMatchObject({ kind: "ConfigMap", apiVersion: "v1" });
    expect(event.object.metadata.resourceVersion).toBe(String(store.revision));
  });

  test("sendInitialEvents marks where the present ends", async () => {
    await create("a");
    const query = { sendInitialEvents: "true", resourceVersionMatch: "NotOlderThan", allowWatchBookmarks: "true" };
    const reader = new Reader(query);
    expect(await reader.take(1)).toEqual(["ADDED a"]);
    const mark = (await reader.next())!;
    expect(mark.type).toBe("BOOKMARK");
    expect(mark.object.metadata.annotations).toEqual({ "k8s.io/initial-events-end": "true" });
    await create("b");
    expect(await reader.take(1)).toEqual(["ADDED b"]);
    const silent = new Reader({ ...query, sendInitialEvents: "false" });
    const first = silent.take(1);
    await Bun.sleep(0);
    await create("c");
    expect(await first).toEqual(["ADDED c"]);
    const refused = new Reader({ sendInitialEvents: "true" });
    await expect(refused.next()).rejects.toMatchObject({ status: { code: 422 } });
  });

  test("timeoutSeconds ends the watch", async () => {
    const reader = new Reader({ timeoutSeconds: "5" });
    const next = reader.next();
    await Bun.sleep(1);
    clock.advance(4_999);
    await create("a");
    expect((await next)!.type).toBe("ADDED");
    const end = reader.next();
    await Bun.sleep(1);
    clock.advance(1);
    expect(await end).toBeUndefined();
  });

  test("an aborted watch ends and lets go of the store", async () => {
    const reader = new Reader({});
    const next = reader.next();
    await Bun.sleep(1);
    abort.abort();
    expect(await next).toBeUndefined();
  });

  test("a watch nobody reads is cut off, and its reader resumes without a loss", async () => {
    const reader = new Reader({ resourceVersion: String(store.revision) });
    const first = reader.next();
    await Bun.sleep(1);
    await create("first");
    expect((await first)!.object.metadata.name).toBe("first");
    const total = watchBufferEventsMax + 50;
    await Promise.all(Array.from({ length: total }, (_, i) => create(`m${i}`)));
    const seen = new Set<string>();
    let last = "";
    const drain = async (from: Reader) => {
      for (let event = await from.next(); event !== undefined; event = await from.next()) {
        seen.add(event.object.metadata.name);
        last = event.object.metadata.resourceVersion;
        if (seen.size === total) return;
      }
    };
    await drain(reader);
    expect(seen.size).toBeLessThan(total);
    await drain(new Reader({ resourceVersion: last }));
    expect(seen.size).toBe(total);
  });

  test("what cannot be watched is refused when the watch starts", async () => {
    await expect(new Reader({}, "/api/v1/gadgets").next()).rejects.toMatchObject({ status: { code: 404 } });
    await expect(new Reader({ labelSelector: "a in (" }).next()).rejects.toMatchObject({ status: { code: 400 } });
    await expect(new Reader({ resourceVersion: "x" }).next()).rejects.toMatchObject({ status: { code: 400 } });
  });
});
