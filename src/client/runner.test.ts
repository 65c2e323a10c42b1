// The runner: retries, terminal errors, again, concurrency, recovery from an overflow.

import { expect, test } from "bun:test";
import { VirtualClock } from "../kernel/clock.ts";
import { createLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { runReconciler } from "./runner.ts";
import { type ReconcileResult, TerminalError } from "./types.ts";

const tick = () => new Promise((resolve) => setImmediate(resolve));

function start(
  reconcile: (key: string) => Promise<ReconcileResult>,
  options: { activeMax?: number; keysMax?: number; ready?: Promise<void>; allKeys?: () => string[] } = {},
) {
  const clock = new VirtualClock();
  const lines: string[] = [];
  const log = createLog((line) => lines.push(line));
  const runner = runReconciler({
    reconciler: { name: "test", reconcile },
    clock,
    random: seededRandom(1),
    log,
    allKeys: () => [],
    ...options,
  });
  return { clock, lines, runner };
}

test("a reconciler that throws is tried again after its back-off, until it succeeds", async () => {
  let attempts = 0;
  const { clock, runner } = start(async () => {
    if (++attempts < 3) throw new Error("not yet");
    return { kind: "done" };
  });
  runner.enqueue("a");
  await tick();
  expect(attempts).toBe(1);
  clock.advance(5);
  await tick();
  clock.advance(10);
  await tick();
  expect(attempts).toBe(3);
  clock.advance(60_000);
  await tick();
  expect(attempts).toBe(3);
});

test("TerminalError stops trying until the key is added again", async () => {
  let attempts = 0;
  const { clock, lines, runner } = start(async () => {
    attempts++;
    throw new TerminalError("the spec is wrong");
  });
  runner.enqueue("a");
  await tick();
  clock.advance(2_000_000);
  await tick();
  expect(attempts).toBe(1);
  expect(lines.join()).toContain("the spec is wrong");
  runner.enqueue("a");
  await tick();
  expect(attempts).toBe(2);
});

test("again runs the key after its time, and nothing runs before the caches are ready or after stop", async () => {
  const ran: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const { clock, runner } = start(
    async () => {
      ran.push(clock.monotonicMs());
      return { kind: "again", afterMs: 100 };
    },
    { ready: promise },
  );
  const startMs = clock.monotonicMs();
  runner.enqueue("a");
  await tick();
  expect(ran).toEqual([]);
  resolve();
  await tick();
  clock.advance(100);
  await tick();
  expect(ran.map((ms) => ms - startMs)).toEqual([0, 100]);
  runner.stop();
  clock.advance(1_000);
  await tick();
  expect(ran).toHaveLength(2);
});

test("at most activeMax keys run at once, and one key never twice at once", async () => {
  const active = new Set<string>();
  let most = 0;
  const releases: (() => void)[] = [];
  const { runner } = start(
    async (key) => {
      expect(active.has(key)).toBe(false);
      active.add(key);
      most = Math.max(most, active.size);
      await new Promise<void>((resolve) => releases.push(resolve));
      active.delete(key);
      return { kind: "done" };
    },
    { activeMax: 2 },
  );
  for (const key of ["a", "b", "c"]) runner.enqueue(key);
  await tick();
  runner.enqueue("a");
  while (!runner.idle()) {
    releases.shift()?.();
    await tick();
  }
  expect(most).toBe(2);
});

test("keys refused by a full queue are not lost", async () => {
  const keys = Array.from({ length: 10 }, (_, i) => `k${i}`);
  const ran = new Set<string>();
  const { runner } = start(
    async (key) => {
      ran.add(key);
      return { kind: "done" };
    },
    { keysMax: 10, allKeys: () => keys },
  );
  for (const key of [...keys.slice(0, 3), ...Array.from({ length: 9 }, (_, i) => `other${i}`)]) runner.enqueue(key);
  await tick();
  expect([...ran].filter((key) => key.startsWith("k")).sort()).toEqual(keys);
});
