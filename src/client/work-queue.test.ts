// The work queue: de-duplication, one worker per key, back-off, bounds.

import { expect, test } from "bun:test";
import { VirtualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { WorkQueue } from "./work-queue.ts";

const create = (options: { keysMax?: number; delayMaxMs?: number } = {}) => {
  const clock = new VirtualClock();
  return { clock, queue: new WorkQueue({ clock, random: seededRandom(1), ...options }) };
};
const takeAll = (queue: WorkQueue) => {
  const keys: string[] = [];
  for (let key = queue.take(); key !== undefined; key = queue.take()) keys.push(key);
  return keys;
};

test("a key waits once however often it is added, in the order of the first time", () => {
  const { queue } = create();
  for (const key of ["a", "b", "a", "c", "b"]) queue.add(key);
  expect(takeAll(queue)).toEqual(["a", "b", "c"]);
});

test("a key added while it is worked on comes back when it is done, and only then", () => {
  const { queue } = create();
  queue.add("a");
  queue.take();
  queue.add("a");
  expect(queue.take()).toBeUndefined();
  queue.done("a");
  expect(queue.take()).toBe("a");
  queue.done("a");
  expect(queue.take()).toBeUndefined();
});

test("failures wait 5, 10, 20 ms and so on up to the maximum; success starts over", () => {
  const { clock, queue } = create({ delayMaxMs: 30 });
  const delaysMs = [1, 2, 3, 4, 5].map(() => {
    const delayMs = queue.retry("a");
    clock.advance(delayMs);
    expect(queue.take()).toBe("a");
    queue.done("a");
    return delayMs;
  });
  [5, 10, 20, 30, 30].forEach((idealMs, i) => {
    expect(delaysMs[i]!).toBeLessThanOrEqual(idealMs);
    expect(delaysMs[i]!).toBeGreaterThanOrEqual(idealMs * 0.9);
  });
  queue.forget("a");
  expect(queue.retry("a")).toBeLessThanOrEqual(5);
});

test("of two delays the earlier counts, and adding at once cancels the wait", () => {
  const { clock, queue } = create();
  queue.addAfter("a", 100);
  queue.addAfter("a", 10);
  queue.addAfter("a", 50);
  clock.advance(10);
  expect(takeAll(queue)).toEqual(["a"]);
  queue.done("a");
  clock.advance(200);
  expect(takeAll(queue)).toEqual([]);
  queue.addAfter("b", 100);
  queue.add("b");
  expect(takeAll(queue)).toEqual(["b"]);
  queue.done("b");
  clock.advance(200);
  expect(takeAll(queue)).toEqual([]);
});

test("a full queue refuses and says so; a closed one forgets", () => {
  const { clock, queue } = create({ keysMax: 2 });
  for (const key of ["a", "b", "c"]) queue.add(key);
  expect(queue.overflowed).toBe(true);
  expect(takeAll(queue)).toEqual(["a", "b"]);
  queue.addAfter("d", 5);
  queue.close();
  clock.advance(10);
  queue.add("e");
  expect(takeAll(queue)).toEqual([]);
});
