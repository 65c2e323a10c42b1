// Earliest deadline first: items take turns as often as their weights say, spread evenly. A binary heap in typed arrays: O(log n), no allocation.

export class Edf {
  /** Item numbers as a heap by (deadline, turn). */
  readonly #heap: Int32Array;
  readonly #deadline: Float64Array;
  /** When it was last put back: equal deadlines are served in this order. */
  readonly #turn: Float64Array;
  #turns = 0;

  /** `weights` are positive; item i is the one with the i-th weight. */
  constructor(weights: readonly number[]) {
    const { length } = weights;
    this.#heap = new Int32Array(length);
    this.#deadline = new Float64Array(length);
    this.#turn = new Float64Array(length);
    for (let i = 0; i < length; i++) {
      this.#deadline[i] = 1 / weights[i]!;
      this.#turn[i] = this.#turns++;
      this.#heap[i] = i;
    }
    for (let at = (length >> 1) - 1; at >= 0; at--) this.#sink(at);
  }

  /** Whose turn it is; it stays first until `putBack`. */
  get first(): number {
    return this.#heap[0]!;
  }

  /** Ends the first item's turn; `weight` is what it has now. */
  putBack(weight: number): void {
    const item = this.#heap[0]!;
    this.#deadline[item]! += 1 / weight;
    this.#turn[item] = this.#turns++;
    this.#sink(0);
  }

  #before(a: number, b: number): boolean {
    const difference = this.#deadline[a]! - this.#deadline[b]!;
    return difference < 0 || (difference === 0 && this.#turn[a]! < this.#turn[b]!);
  }

  #sink(from: number): void {
    const heap = this.#heap;
    const item = heap[from]!;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.#before(heap[child + 1]!, heap[child]!)) child++;
      if (!this.#before(heap[child]!, item)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = item;
  }
}
