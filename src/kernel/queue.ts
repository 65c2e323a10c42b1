// A bounded first-in first-out queue: push says no when full, it never grows past its bound and never drops silently.

import { assert } from "./assert.ts";

export class BoundedQueue<T> {
  readonly capacityMax: number;
  readonly #items: T[] = [];
  #head = 0;

  constructor(capacityMax: number) {
    assert(capacityMax > 0, "capacityMax must be positive");
    this.capacityMax = capacityMax;
  }
  get size(): number {
    return this.#items.length - this.#head;
  }
  /** False when the queue is full; the item was not taken. */
  push(item: T): boolean {
    if (this.size >= this.capacityMax) return false;
    this.#items.push(item);
    return true;
  }
  shift(): T | undefined {
    if (this.#head >= this.#items.length) return undefined;
    const item = this.#items[this.#head]!;
    this.#head++;
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    return item;
  }
}
