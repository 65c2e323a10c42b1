// When the log is compacted.

import { expect, test } from "bun:test";
import { VirtualClock } from "../kernel/clock.ts";
import { defaultCompaction, planCompaction, startCompaction } from "./compaction.ts";
import { createMemoryStore } from "./memory.ts";

const policy = { ...defaultCompaction, ageKeptMs: 100, revisionsKeptMin: 10, revisionsKeptMax: 1000 };

test.each([
  ["nothing old, nothing much", [{ atMs: 950, revision: 5 }], 60, 0],
  [
    "old marks",
    [
      { atMs: 800, revision: 20 },
      { atMs: 900, revision: 40 },
      { atMs: 950, revision: 45 },
    ],
    60,
    40,
  ],
  ["the last few are kept whatever their age", [{ atMs: 0, revision: 58 }], 60, 50],
  ["too many", [], 1500, 500],
  ["fewer than the minimum", [{ atMs: 0, revision: 5 }], 8, 0],
])("%s", (_, marks, revision, target) => {
  expect(planCompaction(marks, 1000, revision, policy)).toBe(target);
});

test("a running store is compacted once its revisions are old enough", async () => {
  const store = createMemoryStore();
  const clock = new VirtualClock();
  const stop = startCompaction(store, clock, { ...policy, periodMs: 50 });
  for (let i = 0; i < 40; i++) await store.put(`/${i}`, "v", 0);
  clock.advance(50);
  expect(store.compactedRevision).toBe(0);
  clock.advance(100);
  expect(store.compactedRevision).toBe(31);
  stop();
  await store.close();
});
