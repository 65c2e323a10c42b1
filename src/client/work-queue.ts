// A queue of keys: each key waits at most once, is worked on by one worker at a time, and failures wait exponentially longer.

import type { Cancel, Clock } from "../kernel/clock.ts";
import { BoundedQueue } from "../kernel/queue.ts";
import type { Random } from "../kernel/random.ts";

export interface WorkQueueOptions {
  clock: Clock;
  random: Random;
  /** First wait after a failure. Default 5 ms (controller-runtime's ItemExponentialFailureRateLimiter). */
  delayBaseMs?: number;
  /** Default 1,000 s. */
  delayMaxMs?: number;
  /** Keys waiting or delayed at once. Beyond it a key is refused and `overflowed` set: the owner adds all keys again later. */
  keysMax?: number;
}

export class WorkQueue {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #delayBaseMs: number;
  readonly #delayMaxMs: number;
  readonly #keysMax: number;
  readonly #order: BoundedQueue<string>;
  readonly #waiting = new Set<string>();
  readonly #active = new Set<string>();
  /** Keys added while being worked on: they wait for done(). */
  readonly #again = new Set<string>();
  readonly #delayed = new Map<string, { dueMs: number; cancel: Cancel }>();
  readonly #failures = new Map<string, number>();
  #closed = false;
  /** A key was refused since this was last set to false. */
  overflowed = false;
  /** Called whenever take() may have something new. */
  onReady: () => void = () => {};

  constructor(options: WorkQueueOptions) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#delayBaseMs = options.delayBaseMs ?? 5;
    this.#delayMaxMs = options.delayMaxMs ?? 1_000_000;
    this.#keysMax = options.keysMax ?? 100_000;
    this.#order = new BoundedQueue(this.#keysMax);
  }

  /** Keys waiting now; delayed and active ones are not counted. */
  get size(): number {
    return this.#waiting.size;
  }
  get delayedSize(): number {
    return this.#delayed.size;
  }
  get activeSize(): number {
    return this.#active.size;
  }

  add(key: string): void {
    if (this.#closed || this.#waiting.has(key)) return;
    this.#cancelDelay(key);
    if (this.#active.has(key)) {
      this.#again.add(key);
      return;
    }
    if (!this.#order.push(key)) {
      this.overflowed = true;
      return;
    }
    this.#waiting.add(key);
    this.onReady();
  }

  /** Adds the key after `delayMs`; of several delays for one key the earliest counts. */
  addAfter(key: string, delayMs: number): void {
    if (this.#closed) return;
    if (delayMs <= 0) {
      this.add(key);
      return;
    }
    const dueMs = this.#clock.monotonicMs() + delayMs;
    const pending = this.#delayed.get(key);
    if (pending && pending.dueMs <= dueMs) return;
    if (!pending && this.#delayed.size >= this.#keysMax) {
      this.overflowed = true;
      return;
    }
    pending?.cancel();
    const cancel = this.#clock.after(delayMs, () => {
      this.#delayed.delete(key);
      this.add(key);
    });
    this.#delayed.set(key, { dueMs, cancel });
  }

  /** Adds the key after its back-off: base × 2^failures, at most the maximum, of which up to a tenth is cut at random. */
  retry(key: string): number {
    const failures = this.#failures.get(key) ?? 0;
    if (failures > 0 || this.#failures.size < this.#keysMax) this.#failures.set(key, failures + 1);
    const delayMs = Math.min(this.#delayMaxMs, this.#delayBaseMs * 2 ** Math.min(failures, 50));
    const jitteredMs = delayMs * (1 - 0.1 * this.#random.next());
    this.addAfter(key, jitteredMs);
    return jitteredMs;
  }

  /** The next failure of this key starts at the base delay again. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** The next key, now active until done(), or undefined when none waits. */
  take(): string | undefined {
    const key = this.#order.shift();
    if (key === undefined) return undefined;
    this.#waiting.delete(key);
    this.#active.add(key);
    return key;
  }

  done(key: string): void {
    this.#active.delete(key);
    if (this.#again.delete(key)) this.add(key);
  }

  /** Drops everything that waits; later adds are ignored. */
  close(): void {
    this.#closed = true;
    for (const { cancel } of this.#delayed.values()) cancel();
    this.#delayed.clear();
    this.#waiting.clear();
    this.#again.clear();
    while (this.#order.shift() !== undefined);
  }

  #cancelDelay(key: string): void {
    this.#delayed.get(key)?.cancel();
    this.#delayed.delete(key);
  }
}
