// Body framing of HTTP/1.1 (RFC 9112 §6, §7): how long a body is, and a strict scanner for the chunked coding. Never copies bytes.

import type { Head } from "./http1_head.ts";

/** How a message body ends. */
export type Framing = "none" | "length" | "chunked" | "close";

export function requestFraming(head: Head): Framing {
  if (head.chunked) return "chunked";
  return head.contentLength > 0 ? "length" : "none";
}

/** RFC 9112 §6.3: the answer to HEAD, 1xx, 204 and 304 have no body whatever their fields say. */
export function responseFraming(head: Head, requestWasHead: boolean): Framing {
  const { status } = head;
  if (requestWasHead || status < 200 || status === 204 || status === 304) return "none";
  if (head.chunked) return "chunked";
  if (head.contentLength >= 0) return head.contentLength === 0 ? "none" : "length";
  return "close";
}

/** Chunk extensions and trailers are read and dropped; more bytes of them than this per body are refused. */
const discardedBytesMax = 8 * 1024;

const inSize = 0;
const inSizeFirst = 1;
const inExtension = 2;
const sizeLf = 3;
const inData = 4;
const dataCr = 5;
const dataLf = 6;
const trailerStart = 7;
const inTrailer = 8;
const trailerLf = 9;
const finalLf = 10;
const finished = 11;

/** Scans a chunked body as its bytes arrive. `ranges` holds what to forward of the last `scan`: start, end, start, end, … */
export class ChunkedScanner {
  #state: number = inSizeFirst;
  #remaining = 0;
  #sizeDigits = 0;
  #discarded = 0;
  /** Payload bytes seen, without framing. */
  payloadBytes = 0;
  readonly ranges: number[] = [];

  get done(): boolean {
    return this.#state === finished;
  }

  reset(): void {
    this.#state = inSizeFirst;
    this.#remaining = 0;
    this.#discarded = 0;
    this.payloadBytes = 0;
    this.ranges.length = 0;
  }

  /**
   * Scans `buffer[from, to)`; returns the offset just past what belongs to the body, or -1 when it is malformed.
   * With `raw` the ranges include the framing (without extensions and trailers), else the payload only.
   */
  scan(buffer: Buffer, from: number, to: number, raw: boolean): number {
    const { ranges } = this;
    ranges.length = 0;
    let i = from;
    let start = raw && !this.#discarding() ? from : -1;
    while (i < to && this.#state !== finished) {
      if (this.#state === inData) {
        const length = Math.min(this.#remaining, to - i);
        if (!raw) ranges.push(i, i + length);
        this.payloadBytes += length;
        this.#remaining -= length;
        i += length;
        if (this.#remaining === 0) this.#state = dataCr;
        continue;
      }
      const wasDiscarding = this.#discarding();
      const wasTrailerLf = this.#state === trailerLf;
      if (!this.#step(buffer[i]!)) return -1;
      const discarding = this.#discarding();
      if (raw && discarding !== wasDiscarding) {
        if (discarding) {
          if (start >= 0 && i > start) ranges.push(start, i);
          start = -1;
        } else start = wasTrailerLf ? i + 1 : i;
      }
      i++;
    }
    if (raw && start >= 0 && i > start) ranges.push(start, i);
    return i;
  }

  #discarding(): boolean {
    return this.#state === inExtension || this.#state === inTrailer || this.#state === trailerLf;
  }

  /** One byte outside chunk data; false when it may not be there. */
  #step(c: number): boolean {
    switch (this.#state) {
      case inSizeFirst:
      case inSize:
        return this.#sizeByte(c);
      case inExtension:
        if (c === 13) this.#state = sizeLf;
        else if (c < 32 && c !== 9) return false;
        return c === 127 ? false : ++this.#discarded <= discardedBytesMax;
      case sizeLf:
        if (c !== 10) return false;
        this.#state = this.#remaining === 0 ? trailerStart : inData;
        return true;
      case dataCr:
        if (c !== 13) return false;
        this.#state = dataLf;
        return true;
      case dataLf:
        if (c !== 10) return false;
        this.#state = inSizeFirst;
        return true;
      case trailerStart:
        if (c === 13) this.#state = finalLf;
        else if (c <= 32 || c === 58 || c === 127) return false;
        else this.#state = inTrailer;
        return true;
      case inTrailer:
        if (c === 13) this.#state = trailerLf;
        else if ((c < 32 && c !== 9) || c === 127) return false;
        return ++this.#discarded <= discardedBytesMax;
      case trailerLf:
        if (c !== 10) return false;
        this.#state = trailerStart;
        return true;
      default:
        if (c !== 10) return false;
        this.#state = finished;
        return true;
    }
  }

  #sizeByte(c: number): boolean {
    const digit = c >= 48 && c <= 57 ? c - 48 : (c | 32) >= 97 && (c | 32) <= 102 ? (c | 32) - 87 : -1;
    if (digit >= 0) {
      if (this.#state === inSizeFirst) {
        this.#remaining = 0;
        this.#sizeDigits = 0;
        this.#state = inSize;
      }
      // 12 hexadecimal digits are 256 TiB: enough, and exact in a double.
      if (++this.#sizeDigits > 12) return false;
      this.#remaining = this.#remaining * 16 + digit;
      return true;
    }
    if (this.#state === inSizeFirst) return false;
    if (c === 13) this.#state = sizeLf;
    else if (c === 59) this.#state = inExtension;
    else return false;
    return true;
  }
}
