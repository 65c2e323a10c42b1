// Runs a reconciler: takes keys from a work queue, backs off when it throws, stops trying on TerminalError.

import type { Clock } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { Random } from "../kernel/random.ts";
import { isConflict, type Reconciler, TerminalError } from "./types.ts";
import { WorkQueue } from "./work-queue.ts";

export interface RunnerOptions {
  reconciler: Reconciler;
  clock: Clock;
  random: Random;
  log: Log;
  /** Nothing is reconciled before this resolves, as a rule the informers' `synced`. */
  ready?: Promise<unknown>;
  /** Keys worked on at once. Default 8. */
  activeMax?: number;
  delayMaxMs?: number;
  keysMax?: number;
  /** All keys there are: added again after the queue overflowed, so that nothing is lost. */
  allKeys: () => Iterable<string>;
}

export interface Runner {
  enqueue(key: string): void;
  enqueueAfter(key: string, delayMs: number): void;
  /** No key waits or is being worked on (delayed keys do not count). */
  idle(): boolean;
  stop(): void;
}

export function runReconciler(options: RunnerOptions): Runner {
  const { reconciler, clock, random, activeMax = 8, allKeys } = options;
  const log = options.log.with({ reconciler: reconciler.name });
  const queue = new WorkQueue({
    clock,
    random,
    ...(options.delayMaxMs !== undefined && { delayMaxMs: options.delayMaxMs }),
    ...(options.keysMax !== undefined && { keysMax: options.keysMax }),
  });
  let ready = false;
  let stopped = false;
  let scheduled = false;

  // A microtask later: one batch of changes becomes one run per key.
  const schedule = () => {
    if (scheduled || !ready || stopped) return;
    scheduled = true;
    queueMicrotask(pump);
  };
  const pump = () => {
    scheduled = false;
    while (!stopped && queue.activeSize < activeMax) {
      const key = queue.take();
      if (key === undefined) break;
      void work(key);
    }
    if (queue.overflowed && queue.size === 0 && !stopped) {
      queue.overflowed = false;
      log.warn("queue overflowed: adding all keys again");
      for (const key of allKeys()) queue.add(key);
    }
  };
  const work = async (key: string) => {
    try {
      const result = await reconciler.reconcile(key);
      queue.forget(key);
      if (result.kind === "again") queue.addAfter(key, result.afterMs);
    } catch (error) {
      if (stopped) return;
      if (error instanceof TerminalError) {
        queue.forget(key);
        log.error("gave up", { key, error: error.message });
      } else {
        const delayMs = Math.ceil(queue.retry(key));
        if (isConflict(error)) log.debug("conflict", { key, delayMs });
        else log.warn("failed", { key, delayMs, error: messageOf(error) });
      }
    } finally {
      queue.done(key);
      schedule();
    }
  };
  queue.onReady = schedule;
  void (options.ready ?? Promise.resolve()).then(() => {
    ready = true;
    schedule();
  });

  return {
    enqueue: (key) => queue.add(key),
    enqueueAfter: (key, delayMs) => queue.addAfter(key, delayMs),
    idle: () => queue.size === 0 && queue.activeSize === 0,
    stop() {
      stopped = true;
      queue.close();
    },
  };
}
