// Cuts what one connection receives into the preface and frames: in place where a read holds them whole, put together where it does not.

import { frameBytesMax, frameHeaderBytes, frameType, preface } from "./http2_frames.ts";

export interface FrameSink {
  /** A client's preface comes first. */
  readonly awaitsPreface: boolean;
  /** Nothing more is read. */
  readonly over: boolean;
  onPreface(bytes: Buffer, from: number): void;
  /** A frame, its header included; too large a one is cut off behind its header. False: a part of it is kept by somebody. */
  onFrame(bytes: Buffer, from: number, to: number): boolean;
}

export class FrameReader {
  readonly #sink: FrameSink;
  /** The beginning of a unit whose rest has not arrived. */
  #partial: Buffer | undefined;
  #length = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Something else than a body is incomplete: a body's pace is judged by its stream. */
  get waitsForHead(): boolean {
    return this.#partial !== undefined && (this.#length < 4 || this.#partial[3] !== frameType.data);
  }

  /** True: nobody keeps a part of the chunk. */
  read(chunk: Buffer): boolean {
    let at = 0;
    while (this.#partial !== undefined && at < chunk.length) at = this.#complete(chunk, at);
    let isFree = true;
    while (at < chunk.length && !this.#sink.over) {
      const length = this.#unitLength(chunk, at, chunk.length - at);
      if (at + length > chunk.length) {
        this.#keep(chunk, at, length);
        break;
      }
      if (!this.#hand(chunk, at, at + length)) isFree = false;
      at += length;
    }
    return isFree;
  }

  /** Adds to the partial unit, and hands it on once it is whole; returns how far the chunk has been used. */
  #complete(chunk: Buffer, at: number): number {
    let partial = this.#partial!;
    const wanted = this.#unitLength(partial, 0, this.#length);
    if (partial.length < wanted) {
      // Its header was incomplete, so its length was not known.
      partial = Buffer.allocUnsafeSlow(wanted);
      this.#partial!.copy(partial, 0, 0, this.#length);
      this.#partial = partial;
    }
    const count = Math.min(wanted - this.#length, chunk.length - at);
    chunk.copy(partial, this.#length, at, at + count);
    this.#length += count;
    if (this.#length === wanted && this.#unitLength(partial, 0, wanted) === wanted) {
      this.#partial = undefined;
      if (!this.#sink.over) this.#hand(partial, 0, wanted);
    }
    return at + count;
  }

  #hand(bytes: Buffer, from: number, to: number): boolean {
    const sink = this.#sink;
    if (!sink.awaitsPreface) return sink.onFrame(bytes, from, to);
    sink.onPreface(bytes, from);
    return true;
  }

  /** A frame's header alone while no more is known; a frame that is refused for its length is not waited for. */
  #unitLength(bytes: Buffer, at: number, available: number): number {
    if (this.#sink.awaitsPreface) return preface.length;
    if (available < frameHeaderBytes) return frameHeaderBytes;
    const length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
    return length > frameBytesMax ? frameHeaderBytes : frameHeaderBytes + length;
  }
  #keep(chunk: Buffer, at: number, length: number): void {
    this.#partial = Buffer.allocUnsafeSlow(length);
    this.#length = chunk.copy(this.#partial, 0, at, chunk.length);
  }
}
