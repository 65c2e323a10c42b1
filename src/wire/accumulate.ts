// Collects a message head that arrives in pieces, looking at every byte once whatever the sizes of the pieces.

const terminator = Buffer.from("\r\n\r\n");

export class HeadAccumulator {
  #buffer: Buffer | undefined;
  #length = 0;

  get empty(): boolean {
    return this.#buffer === undefined;
  }
  get length(): number {
    return this.#length;
  }

  /** Adds a piece; returns everything so far once an empty line (or more than `bytesMax`) has arrived, else undefined. */
  append(chunk: Buffer, from: number, to: number, bytesMax: number): Buffer | undefined {
    const length = this.#length + to - from;
    const old = this.#buffer;
    if (old === undefined || old.length < length) {
      this.#buffer = Buffer.allocUnsafeSlow(Math.max(1024, length * 2));
      if (old) old.copy(this.#buffer, 0, 0, this.#length);
    }
    const buffer = this.#buffer!;
    chunk.copy(buffer, this.#length, from, to);
    const searchFrom = Math.max(0, this.#length - 3);
    this.#length = length;
    if (length <= bytesMax && buffer.subarray(searchFrom, length).indexOf(terminator) < 0) return undefined;
    const all = buffer.subarray(0, length);
    this.clear();
    return all;
  }

  /** What has been collected, taken out. */
  take(): Buffer {
    const all = this.#buffer?.subarray(0, this.#length) ?? Buffer.alloc(0);
    this.clear();
    return all;
  }
  clear(): void {
    this.#buffer = undefined;
    this.#length = 0;
  }
}
