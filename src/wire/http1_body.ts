// Body framing of HTTP/1.1 (RFC 9112 §6, §7): how long a body is, and a strict scanner for the chunked coding. Never copies bytes.

import { classes, Head, scanTrailers, tokenChar, valueChar } from "./http1_head.ts";

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

/** Bodies with more bytes of chunk extensions and trailers together than this are refused. */
const besideBytesMax = 8 * 1024;

const inSize = 0;
const inSizeFirst = 1;
const inExtension = 2;
const sizeLf = 3;
const inData = 4;
const dataCr = 5;
const dataLf = 6;
const trailerStart = 7;
const inTrailerName = 8;
const inTrailer = 9;
const trailerLf = 10;
const finalLf = 11;
const finished = 12;

/** Scans a chunked body as its bytes arrive. `ranges` holds what to forward of the last `scan`: start, end, start, end, … */
export class ChunkedScanner {
  #state: number = inSizeFirst;
  #remaining = 0;
  #sizeDigits = 0;
  #beside = 0;
  /** The trailer section as received; undefined when it is to be dropped. */
  #trailers: number[] | undefined;
  /** Payload bytes seen, without framing. */
  payloadBytes = 0;
  readonly ranges: number[] = [];

  get done(): boolean {
    return this.#state === finished;
  }

  /** `keepTrailers`: the ranges of a raw scan stop before the trailer section, and `takeTrailers` gives it. */
  reset(keepTrailers = false): void {
    this.#state = inSizeFirst;
    this.#remaining = 0;
    this.#beside = 0;
    this.#trailers = keepTrailers ? [] : undefined;
    this.payloadBytes = 0;
    this.ranges.length = 0;
  }

  get keepsTrailers(): boolean {
    return this.#trailers !== undefined;
  }
  /** Once done: the trailer section to forward, ended by its empty line. Only fields that may stand in one (RFC 9110 §6.5.1). */
  takeTrailers(): Buffer {
    const bytes = Buffer.from(this.#trailers!);
    this.#trailers = undefined;
    return allowedTrailers(bytes);
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
      const before = this.#state;
      if (!this.#step(buffer[i]!)) return -1;
      if (before >= trailerStart && this.#trailers !== undefined) this.#trailers.push(buffer[i]!);
      const discarding = this.#discarding();
      if (raw && discarding !== wasDiscarding) {
        if (discarding) {
          // A kept trailer section begins after this LF; what is dropped begins with this byte.
          const stop = before === sizeLf ? i + 1 : i;
          if (start >= 0 && stop > start) ranges.push(start, stop);
          start = -1;
        } else start = before === trailerLf ? i + 1 : i;
      }
      i++;
    }
    if (raw && start >= 0 && i > start) ranges.push(start, i);
    return i;
  }

  #discarding(): boolean {
    const state = this.#state;
    if (this.#trailers !== undefined && state >= trailerStart) return true;
    return state === inExtension || (state >= inTrailerName && state <= trailerLf);
  }

  /** One byte outside chunk data; false when it may not be there. */
  #step(c: number): boolean {
    switch (this.#state) {
      case inSizeFirst:
      case inSize:
        return this.#sizeByte(c);
      case inExtension:
        if (c === 13) this.#state = sizeLf;
        else if ((classes[c]! & valueChar) === 0) return false;
        return ++this.#beside <= besideBytesMax;
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
        else if ((classes[c]! & tokenChar) === 0) return false;
        else this.#state = inTrailerName;
        return true;
      case inTrailerName:
        if (c === 58) this.#state = inTrailer;
        else if ((classes[c]! & tokenChar) === 0) return false;
        return ++this.#beside <= besideBytesMax;
      case inTrailer:
        if (c === 13) this.#state = trailerLf;
        else if ((classes[c]! & valueChar) === 0) return false;
        return ++this.#beside <= besideBytesMax;
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

/**
 * Fields that decide about framing, routing, authentication, caching or the body's meaning: a recipient that merges trailers into
 * the head would take them for the head's own (RFC 9110 §6.5.1).
 */
const forbiddenTrailer =
  /^(?:content-.*|transfer-encoding|te|trailer|host|connection|keep-alive|proxy-.*|upgrade|expect|max-forwards|authorization|www-authenticate|cookie|set-cookie2?|cache-control|pragma|range|if-.*|age|date|expires|location|retry-after|vary|warning|x-forwarded-.*|x-envoy-.*|x-request-id)$/;

/** The fields of a scanned trailer section that are passed on. */
export function allowedTrailers(section: Buffer): Buffer {
  const head = new Head();
  const end = scanTrailers(head, section, 0, section.length);
  // More fields than a head may have, or two that contradict each other: none of them.
  if (end <= 0) return Buffer.from("\r\n");
  let out = "";
  for (let i = 0; i < head.count; i++) {
    const name = section.latin1Slice(head.spans[i * 4]!, head.spans[i * 4 + 1]!);
    if (!forbiddenTrailer.test(name.toLowerCase())) out += `${name}: ${head.value(i)}\r\n`;
  }
  return Buffer.from(`${out}\r\n`, "latin1");
}
