// Counts gRPC messages in a body as it goes by: five bytes stand before each, the last four of them its length.

const prefixBytes = 5;

export class GrpcMessages {
  count = 0;
  #seen = 0;
  #length = 0;
  /** Of the current message. */
  #left = 0;

  reset(): void {
    this.count = 0;
    this.#seen = 0;
    this.#length = 0;
    this.#left = 0;
  }

  see(chunk: Buffer, from: number, to: number): void {
    let i = from;
    while (i < to) {
      if (this.#left > 0) {
        const skipped = Math.min(this.#left, to - i);
        this.#left -= skipped;
        i += skipped;
        continue;
      }
      // The first byte says whether the message is compressed.
      if (this.#seen > 0) this.#length = this.#length * 256 + chunk[i]!;
      i++;
      if (++this.#seen < prefixBytes) continue;
      this.count++;
      this.#left = this.#length;
      this.#seen = 0;
      this.#length = 0;
    }
  }
}
