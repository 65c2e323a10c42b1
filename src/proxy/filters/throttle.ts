// Slows an answer's body down to a rate: bytes go out in equal portions, sixteen a second (Envoy's StreamRateLimiter).

import type { Cancel, Clock } from "../../kernel/clock.ts";
import type { BodySink, BodyTransform } from "../filter.ts";

const portionsPerSecond = 16;

export class Throttle implements BodyTransform {
  readonly #portionBytes: number;
  readonly #clock: Clock;
  readonly #sink: BodySink;
  /** What waits; at most the parts of one read, as nothing more is taken meanwhile. */
  #waiting: Buffer | undefined;
  #ended = false;
  #left: number;
  #timer: Cancel | undefined;
  #blocked = false;

  constructor(kibPerSecond: number, clock: Clock, sink: BodySink) {
    this.#portionBytes = Math.max(1, Math.floor((kibPerSecond * 1024) / portionsPerSecond));
    this.#left = this.#portionBytes;
    this.#clock = clock;
    this.#sink = sink;
  }

  write(chunk: Buffer, from: number, to: number): boolean {
    const part = Buffer.from(chunk.subarray(from, to));
    this.#waiting = this.#waiting ? Buffer.concat([this.#waiting, part]) : part;
    this.#send();
    return this.#waiting === undefined;
  }
  end(): void {
    this.#ended = true;
    this.#send();
  }
  onDrain(): void {
    this.#blocked = false;
    this.#send();
  }
  abort(): void {
    this.#timer?.();
    this.#waiting = undefined;
  }

  #send(): void {
    const had = this.#waiting;
    while (this.#waiting !== undefined && this.#left > 0 && !this.#blocked) {
      const portion = this.#waiting.subarray(0, this.#left);
      this.#waiting = portion.length < this.#waiting.length ? this.#waiting.subarray(portion.length) : undefined;
      this.#left -= portion.length;
      this.#blocked = !this.#sink.push(portion);
    }
    if (this.#waiting !== undefined || this.#left < this.#portionBytes)
      this.#timer ??= this.#clock.after(1000 / portionsPerSecond, () => this.#fill());
    if (this.#waiting !== undefined) return;
    if (this.#ended) {
      this.#timer?.();
      this.#sink.end();
    } else if (had !== undefined) this.#sink.onRoom();
  }
  #fill(): void {
    this.#timer = undefined;
    this.#left = this.#portionBytes;
    if (this.#waiting !== undefined) this.#send();
  }
}
