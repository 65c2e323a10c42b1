// Reads what was added to a growing file since the last look.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";

const readSizeBytesMax = 1024 * 1024;

export class TailedFile {
  readonly #path: string;
  #offset = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** New text, at most the last mebibyte of it; from the start again when the file became shorter. */
  read(): string {
    const descriptor = openSync(this.#path, "r");
    try {
      const size = fstatSync(descriptor).size;
      if (size < this.#offset) this.#offset = 0;
      const start = Math.max(this.#offset, size - readSizeBytesMax);
      const buffer = Buffer.alloc(size - start);
      const length = readSync(descriptor, buffer, 0, buffer.length, start);
      this.#offset = start + length;
      return buffer.toString("utf8", 0, length);
    } finally {
      closeSync(descriptor);
    }
  }
}
