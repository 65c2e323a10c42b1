// The contract of a store, run against every implementation.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "../kernel/random.ts";
import { createMemoryStore } from "./memory.ts";
import { openSqliteStore } from "./sqlite.ts";
import { type Store, type StoreEvent, watchBufferEventsMax, watchesMax, watchHistoryEventsMax } from "./types.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "meshbed-store-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const implementations: Record<string, () => Store> = {
  memory: createMemoryStore,
  sqlite: () => openSqliteStore(join(folder, "state.db")),
};

const codeOf = (run: () => unknown): unknown => {
  try {
    run();
  } catch (error) {
    return (error as { code?: string }).code;
  }
  return undefined;
};
const brief = (events: readonly StoreEvent[]) => events.map((event) => `${event.type} ${event.key} ${event.revision}`);

for (const [name, open] of Object.entries(implementations))
  describe(`${name} store`, () => {
    let store: Store;
    beforeEach(() => {
      store = open();
    });
    afterEach(() => store.close());

    test("starts at revision 1 and numbers writes from 2", async () => {
      expect(store.revision).toBe(1);
      expect(await store.put("/a/1", "x", 0)).toBe(2);
      expect(store.revision).toBe(2);
      expect(store.get("/a/1")).toEqual({ key: "/a/1", value: "x", revision: 2 });
      expect(store.get("/a/2")).toBeUndefined();
    });

    test("a write with a stale revision is refused and changes nothing", async () => {
      await store.put("/a/1", "x", 0);
      await expect(store.put("/a/1", "y", 0)).rejects.toMatchObject({ code: "REVISION_CONFLICT" });
      await expect(store.put("/a/1", "y", 1)).rejects.toMatchObject({ code: "REVISION_CONFLICT" });
      await expect(store.put("/a/2", "y", 2)).rejects.toMatchObject({ code: "REVISION_CONFLICT" });
      await expect(store.delete("/a/1", 9)).rejects.toMatchObject({ code: "REVISION_CONFLICT" });
      await expect(store.delete("/a/2", 0)).rejects.toMatchObject({ code: "REVISION_CONFLICT" });
      expect(store.get("/a/1")!.value).toBe("x");
      expect(store.revision).toBe(2);
      expect(await store.put("/a/1", "y", 2)).toBe(3);
    });

    test("of many writers of one key in one tick exactly one wins", async () => {
      const outcomes = await Promise.allSettled(Array.from({ length: 50 }, (_, i) => store.put("/k", String(i), 0)));
      expect(outcomes.filter((outcome) => outcome.status === "fulfilled").length).toBe(1);
      expect(store.revision).toBe(2);
    });

    test("a write cannot be read before it is durable", async () => {
      const written = store.put("/a", "x", 0);
      expect(store.get("/a")).toBeUndefined();
      await written;
      expect(store.get("/a")).toBeDefined();
    });

    test("a deleted key can be created again", async () => {
      const first = await store.put("/a", "x", 0);
      const gone = await store.delete("/a", first);
      expect(store.get("/a")).toBeUndefined();
      expect(store.list("/").entries).toEqual([]);
      const again = await store.put("/a", "y", 0);
      expect([first, gone, again]).toEqual([2, 3, 4]);
    });

    test("lists a prefix in order, in pages, at one revision", async () => {
      await Promise.all(["/b/2", "/a/1", "/b/1", "/b/3", "/c"].map((key) => store.put(key, key, 0)));
      const first = store.list("/b/", { limit: 2 });
      expect(first.entries.map((entry) => entry.key)).toEqual(["/b/1", "/b/2"]);
      expect(first.remaining).toBe(1);
      await store.put("/b/4", "late", 0);
      await store.delete("/b/3", store.get("/b/3")!.revision);
      const second = store.list("/b/", { limit: 2, after: "/b/2", revision: first.revision });
      expect(second.entries.map((entry) => entry.key)).toEqual(["/b/3"]);
      expect(second.remaining).toBe(0);
      expect(store.list("/b/").entries.map((entry) => entry.key)).toEqual(["/b/1", "/b/2", "/b/4"]);
      expect(store.list("/nothing/").entries).toEqual([]);
    });

    test("an older revision shows older values", async () => {
      const created = await store.put("/a", "1", 0);
      await store.put("/a", "2", created);
      expect(store.list("/", { revision: created }).entries[0]!.value).toBe("1");
      expect(codeOf(() => store.list("/", { revision: 99 }))).toBe("FUTURE_REVISION");
    });

    test("a watch gives the past after its revision and then the present", async () => {
      await store.put("/a/1", "x", 0);
      await store.put("/a/2", "y", 0);
      const watch = store.watch("/a/", 2);
      await store.put("/b/1", "other", 0);
      await store.put("/a/1", "z", 2);
      expect(brief(watch.take())).toEqual(["put /a/2 3", "put /a/1 5"]);
      expect(watch.take()).toEqual([]);
      const ready = watch.ready();
      await store.delete("/a/2", 3);
      await ready;
      const events = watch.take();
      expect(brief(events)).toEqual(["delete /a/2 6"]);
      expect(events[0]).toMatchObject({ value: "y", previous: { key: "/a/2", value: "y", revision: 3 } });
      expect(watch.revision).toBe(6);
      watch.close();
      expect(watch.end).toEqual({ kind: "closed" });
    });

    test("an update tells the value it replaced, also from the log", async () => {
      await store.put("/a", "old", 0);
      await store.put("/a", "new", 2);
      const [created, updated] = store.watch("/", 1).take();
      expect(created!.previous).toBeUndefined();
      expect(updated!.previous).toEqual({ key: "/a", value: "old", revision: 2 });
    });

    test("a watch far in the past reads page by page and misses nothing", async () => {
      const total = watchHistoryEventsMax * 2 + 10;
      await Promise.all(Array.from({ length: total }, (_, i) => store.put(`/k/${i}`, "v", 0)));
      const watch = store.watch("/k/", 1);
      const seen: number[] = [];
      let late = false;
      for (;;) {
        const events = watch.take();
        expect(events.length).toBeLessThanOrEqual(watchHistoryEventsMax);
        if (events.length === 0) break;
        seen.push(...events.map((event) => event.revision));
        if (!late) await store.put("/k/late", "v", 0);
        late = true;
      }
      expect(seen).toEqual(Array.from({ length: total + 1 }, (_, i) => i + 2));
    });

    test("a consumer that falls behind is cut off, with what it had intact", async () => {
      const watch = store.watch("/k/", 1);
      const quick = store.watch("/other/", 1);
      await Promise.all(Array.from({ length: watchBufferEventsMax + 1 }, (_, i) => store.put(`/k/${i}`, "v", 0)));
      expect(watch.end).toEqual({ kind: "slow" });
      expect(watch.take().length).toBe(watchBufferEventsMax);
      expect(watch.take()).toEqual([]);
      await watch.ready();
      expect(quick.end).toBeUndefined();
    });

    test("watches are limited, and a closed one makes room", () => {
      const open = Array.from({ length: watchesMax }, () => store.watch("/", 1));
      expect(codeOf(() => store.watch("/", 1))).toBe("STORE_FULL");
      open[0]!.close();
      expect(store.watch("/", 1).end).toBeUndefined();
    });

    test("compaction keeps the newest values and refuses what is gone", async () => {
      await store.put("/a", "1", 0);
      await store.put("/a", "2", 2);
      await store.put("/gone", "x", 0);
      await store.delete("/gone", 4);
      const behind = store.watch("/", 2);
      store.compact(5);
      await store.put("/a", "3", 3);
      expect(store.compactedRevision).toBe(5);
      expect(codeOf(() => store.list("/", { revision: 4 }))).toBe("COMPACTED");
      expect(codeOf(() => store.watch("/", 4))).toBe("COMPACTED");
      expect(behind.take()).toEqual([]);
      expect(behind.end).toEqual({ kind: "compacted" });
      expect(store.list("/", { revision: 5 }).entries).toEqual([{ key: "/a", value: "2", revision: 3 }]);
      expect(store.watch("/", 5).take()[0]!.previous!.value).toBe("2");
      expect(await store.put("/gone", "again", 0)).toBe(7);
    });

    test("closing settles waiting writes and ends watches", async () => {
      const watch = store.watch("/", 1);
      const ready = watch.ready();
      const written = store.put("/a", "x", 0);
      await store.close();
      expect(await written).toBe(2);
      await ready;
      expect(watch.end).toEqual({ kind: "closed" });
      await expect(store.put("/b", "x", 0)).rejects.toMatchObject({ code: "STORE_CLOSED" });
    });

    test("random histories replay through watches into the same state", async () => {
      const seed = 20261101;
      const random = seededRandom(seed);
      const live = store.watch("/", 1);
      const replayed = new Map<string, string>();
      for (let round = 0; round < 60; round++) {
        await Promise.allSettled(
          Array.from({ length: random.below(6) + 1 }, (_, i) => {
            const key = `/${random.below(8)}`;
            const current = store.get(key);
            if (current !== undefined && random.below(3) === 0) return store.delete(key, current.revision);
            return store.put(key, `${round}.${i}`, current?.revision ?? 0);
          }),
        );
        if (random.below(10) === 0) store.compact(store.revision - random.below(5));
        for (const event of live.take())
          if (event.type === "put") replayed.set(event.key, event.value);
          else replayed.delete(event.key);
      }
      const listed = new Map(store.list("/").entries.map((entry) => [entry.key, entry.value]));
      expect({ seed, state: [...replayed].sort() }).toEqual({ seed, state: [...listed].sort() });
    });
  });

test("a reopened sqlite store continues where it was", async () => {
  const path = join(folder, "state.db");
  const first = openSqliteStore(path);
  await first.put("/a", "x", 0);
  await first.put("/b", "y", 0);
  await first.delete("/b", 3);
  first.compact(4);
  await first.close();
  const second = openSqliteStore(path);
  expect(second.revision).toBe(4);
  expect(second.compactedRevision).toBe(4);
  expect(second.get("/a")!.revision).toBe(2);
  expect(await second.put("/b", "z", 0)).toBe(5);
  await second.close();
});

test("a second process may not open the same file", async () => {
  const path = join(folder, "state.db");
  await openSqliteStore(path).close();
  const store = openSqliteStore(path);
  const script = `
    const { openSqliteStore } = await import(${JSON.stringify(join(import.meta.dir, "sqlite.ts"))});
    try { openSqliteStore(${JSON.stringify(path)}); } catch (error) { console.log(error.code); }`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
  expect((await new Response(child.stdout).text()).trim()).toBe("STORE_UNAVAILABLE");
  await store.close();
});

test("kill -9 loses no acknowledged write", async () => {
  const path = join(folder, "state.db");
  const script = `
    const { openSqliteStore } = await import(${JSON.stringify(join(import.meta.dir, "sqlite.ts"))});
    const store = openSqliteStore(${JSON.stringify(path)});
    for (let i = 0; ; i++) {
      const revision = await Promise.all([store.put("/a/" + i, "v" + i, 0), store.put("/b/" + i, "w" + i, 0)]);
      process.stdout.write(i + " " + revision[1] + "\\n");
    }`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
  let output = "";
  for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
    output += chunk;
    if (output.split("\n").length > 200) child.kill("SIGKILL");
  }
  await child.exited;
  const acknowledged = output.trimEnd().split("\n");
  const [last, revision] = acknowledged[acknowledged.length - 1]!.split(" ").map(Number);
  const store = openSqliteStore(path);
  for (let i = 0; i <= last!; i++) {
    expect(store.get(`/a/${i}`)?.value).toBe(`v${i}`);
    expect(store.get(`/b/${i}`)?.value).toBe(`w${i}`);
  }
  expect(store.revision).toBeGreaterThanOrEqual(revision!);
  expect(store.list("/a/").entries.length).toBe(store.list("/b/").entries.length);
  await store.close();
});
