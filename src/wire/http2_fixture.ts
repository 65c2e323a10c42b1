// Frames by hand: a peer that says exactly what a test wants said, for this room's tests and the proxy's. Nothing at run time imports it.

import { HpackDecoder } from "./hpack_decoder.ts";
import { flag, frameHeaderBytes, frameType, preface, writeFrameHeader } from "./http2_frames.ts";

export interface Frame {
  type: number;
  flags: number;
  streamId: number;
  payload: Buffer;
}

export function frame(type: number, flags: number, streamId: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(frameHeaderBytes + payload.length);
  writeFrameHeader(bytes, 0, payload.length, type, flags, streamId);
  bytes.set(payload, frameHeaderBytes);
  return bytes;
}
export const number32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
export const settings = (...values: [id: number, value: number][]): Buffer =>
  frame(
    frameType.settings,
    flag.none,
    0,
    Buffer.concat(values.map(([id, value]) => Buffer.concat([Buffer.from([id >> 8, id & 255]), number32(value)]))),
  );

export const getFields: [string, string][] = [
  [":method", "GET"],
  [":scheme", "http"],
  [":authority", "a"],
  [":path", "/"],
];
/** Blocks without entries for the table, so that tests may send them in any order. */
export function plainBlock(fields: readonly (readonly [string, string])[]): Buffer {
  const parts: Buffer[] = [];
  const text = (value: string): Buffer => {
    const bytes = Buffer.from(value, "latin1");
    if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
    const prefix = [127];
    let rest = bytes.length - 127;
    for (; rest >= 128; rest >>= 7) prefix.push((rest & 127) | 128);
    return Buffer.concat([Buffer.from([...prefix, rest]), bytes]);
  };
  for (const [name, value] of fields) parts.push(Buffer.from([0]), text(name), text(value));
  return Buffer.concat(parts);
}
export const headers = (
  streamId: number,
  fields: readonly (readonly [string, string])[] = getFields,
  flags: number = flag.endHeaders | flag.endStream,
): Buffer => frame(frameType.headers, flags, streamId, plainBlock(fields));
export const data = (streamId: number, text: string | Uint8Array, flags: number = flag.none): Buffer =>
  frame(frameType.data, flags, streamId, typeof text === "string" ? Buffer.from(text) : text);

/** A client's first bytes. */
export const hello: Buffer = Buffer.concat([preface, settings()]);

/** Takes bytes apart as they come. */
export class FrameCollector {
  readonly frames: Frame[] = [];
  readonly #decoder = new HpackDecoder();
  #rest: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    for (;;) {
      if (this.#rest.length < frameHeaderBytes) return;
      const end = frameHeaderBytes + this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < end) return;
      const payload = this.#rest.subarray(frameHeaderBytes, end);
      const streamId = this.#rest.readUInt32BE(5);
      this.frames.push({ type: this.#rest[3]!, flags: this.#rest[4]!, streamId, payload: Buffer.from(payload) });
      this.#rest = this.#rest.subarray(end);
    }
  }
  of(type: number, streamId?: number): Frame[] {
    return this.frames.filter((one) => one.type === type && (streamId === undefined || one.streamId === streamId));
  }
  /** Code of the GOAWAY, if there was one that says an error or an end. */
  get goAway(): number | undefined {
    const last = this.of(frameType.goAway).at(-1);
    return last?.payload.readUInt32BE(4);
  }
  reset(streamId: number): number | undefined {
    return this.of(frameType.rstStream, streamId)[0]?.payload.readUInt32BE(0);
  }
  /** Lines of the head frames, in order; each may be asked for once, as blocks build on each other. */
  heads(): string[][] {
    const out = Buffer.alloc(256 * 1024);
    return this.of(frameType.headers).map(({ payload }) => {
      const lines: string[] = [];
      this.#decoder.decode(payload, 0, payload.length, out, {
        full: false,
        onField(buffer, from, _nameEnd, to) {
          lines.push(buffer.latin1Slice(from, to));
          return to + 2;
        },
      });
      return lines;
    });
  }
}
