// Time, passed in. The only place that reads the real clock or arms real timers.

/** Cancels what it was returned for; calling it twice is harmless. */
export type Cancel = () => void;

export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Monotonic milliseconds with fraction, for durations. */
  monotonicMs(): number;
  /** Runs `callback` once after `delayMs`. */
  after(delayMs: number, callback: () => void): Cancel;
  /** Runs `callback` every `periodMs`, first after one period. */
  every(periodMs: number, callback: () => void): Cancel;
  /** Resolves after `delayMs`, or at once when `signal` aborts. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** RFC 3339 with second precision, as Kubernetes writes metav1.Time. */
export function timestamp(clock: Clock): string {
  return `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;
}

/** RFC 3339 with microseconds, as Kubernetes writes metav1.MicroTime. */
export function microTimestamp(clock: Clock): string {
  return new Date(clock.now()).toISOString().replace("Z", "000Z");
}

function sleepOn(clock: Pick<Clock, "after">, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const finish = () => {
      cancel();
      signal?.removeEventListener("abort", finish);
      resolve();
    };
    const cancel = clock.after(delayMs, finish);
    signal?.addEventListener("abort", finish);
  });
}

export const realClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
  every(periodMs, callback) {
    const timer = setInterval(callback, periodMs);
    return () => clearInterval(timer);
  },
  sleep: (delayMs, signal) => sleepOn(realClock, delayMs, signal),
};

/** A clock that moves only when told to; timers fire in order of their due time. */
export class VirtualClock implements Clock {
  #nowMs: number;
  #nextId = 0;
  readonly #timers = new Map<number, { dueMs: number; periodMs: number | undefined; callback: () => void }>();

  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#nowMs = startMs;
  }
  now() {
    return this.#nowMs;
  }
  monotonicMs() {
    return this.#nowMs;
  }
  after(delayMs: number, callback: () => void): Cancel {
    return this.#arm(delayMs, undefined, callback);
  }
  every(periodMs: number, callback: () => void): Cancel {
    return this.#arm(periodMs, periodMs, callback);
  }
  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, delayMs, signal);
  }
  #arm(delayMs: number, periodMs: number | undefined, callback: () => void): Cancel {
    const id = this.#nextId++;
    this.#timers.set(id, { dueMs: this.#nowMs + Math.max(0, delayMs), periodMs, callback });
    return () => this.#timers.delete(id);
  }

  /** Moves time forward, firing every timer that comes due on the way, also those armed by the fired ones. */
  advance(durationMs: number): void {
    const endMs = this.#nowMs + durationMs;
    for (;;) {
      let next: number | undefined;
      let nextDueMs = Number.POSITIVE_INFINITY;
      for (const [id, timer] of this.#timers)
        if (timer.dueMs <= endMs && timer.dueMs < nextDueMs) {
          next = id;
          nextDueMs = timer.dueMs;
        }
      if (next === undefined) break;
      const timer = this.#timers.get(next)!;
      this.#nowMs = Math.max(this.#nowMs, timer.dueMs);
      if (timer.periodMs === undefined) this.#timers.delete(next);
      else timer.dueMs += Math.max(1, timer.periodMs);
      timer.callback();
    }
    this.#nowMs = endMs;
  }
}
