// One coarse timer for all idle and slow-peer deadlines, so that no request arms a timer of its own. Also the time, once a second.

import type { Cancel, Clock } from "../kernel/clock.ts";

export interface Swept {
  onTick(nowMs: number): void;
}

/** What was noted with `nowMs` happened at most this much later: deadlines add it, so that none comes early. */
export const sweepPeriodMs = 500;

export class Sweeper {
  /** Monotonic milliseconds, at most half a second old: good enough for "last active". */
  nowMs: number;
  /** The Date field (RFC 9110 §5.6.7) of now. */
  httpDate: string;
  readonly #items = new Set<Swept>();
  readonly #clock: Clock;
  readonly #cancel: Cancel;

  constructor(clock: Clock) {
    this.nowMs = clock.monotonicMs();
    this.httpDate = new Date(clock.now()).toUTCString();
    this.#clock = clock;
    this.#cancel = clock.every(sweepPeriodMs, () => this.sweep());
  }
  sweep(): void {
    this.nowMs = this.#clock.monotonicMs();
    this.httpDate = new Date(this.#clock.now()).toUTCString();
    for (const item of this.#items) item.onTick(this.nowMs);
  }
  get size(): number {
    return this.#items.size;
  }
  add(item: Swept): void {
    this.#items.add(item);
  }
  delete(item: Swept): void {
    this.#items.delete(item);
  }
  close(): void {
    this.#cancel();
    this.#items.clear();
  }
}
