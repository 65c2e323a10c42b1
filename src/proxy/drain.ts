// How a process stops serving: hands its ports to a successor, lets the connections it has go on for a while, then ends them.

import type { Clock } from "../kernel/clock.ts";
import type { Runtime } from "./chain.ts";
import type { Sockets } from "./sockets.ts";
import type { DrainTimes } from "./types.ts";

/** Envoy's drain time, and what a TCP connection needs to be made: connections begun before are still accepted. */
const drainDefaults: DrainTimes = { acceptMs: 100, drainMs: 45_000 };
/** From being told to end, for requests in flight. */
const endMaxMs = 1_000;
const pollMs = 10;

/** serving → draining → ended; ended at once when told so. */
export class Drain {
  readonly #clock: Clock;
  readonly #runtime: Runtime;
  readonly #sockets: Sockets;
  #ended = false;

  constructor(runtime: Runtime, sockets: Sockets) {
    this.#clock = runtime.clock;
    this.#runtime = runtime;
    this.#sockets = sockets;
  }

  /**
   * Every answer now asks its client to close. Idle connections are kept, as by Envoy: a client may be sending its next request just
   * now, and HTTP/1.1 has no way to tell it in time. Accepting ends with `onDeaf`. Resolves when no connection is left, or at the
   * drain's end.
   */
  async drain(times: Partial<DrainTimes>, onDeaf: () => void): Promise<void> {
    const { acceptMs, drainMs } = { ...drainDefaults, ...times };
    this.#runtime.draining = true;
    const startMs = this.#clock.monotonicMs();
    this.#sockets.steerAway();
    await this.#until(startMs + acceptMs, () => false);
    this.#sockets.close();
    onDeaf();
    await this.#until(startMs + drainMs, () => this.#sockets.open === 0);
  }

  /** Idle connections at once; requests in flight may finish for a moment; then every connection, tunnels and upgrades included. */
  async end(): Promise<void> {
    const { sweeper } = this.#runtime;
    this.#ended = true;
    this.#runtime.draining = true;
    this.#sockets.close();
    this.#runtime.closes = "idle";
    sweeper.sweep();
    const deadlineMs = this.#clock.monotonicMs() + endMaxMs;
    while (this.#sockets.open > 0 && this.#clock.monotonicMs() < deadlineMs) await this.#clock.sleep(pollMs);
    this.#runtime.closes = "all";
    sweeper.sweep();
  }

  async #until(deadlineMs: number, done: () => boolean): Promise<void> {
    while (!this.#ended && !done() && this.#clock.monotonicMs() < deadlineMs) await this.#clock.sleep(pollMs);
  }
}
