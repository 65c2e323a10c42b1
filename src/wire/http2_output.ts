// Frames on their way out of one HTTP/2 connection: collected while events are handled, written at the end of the loop's turn. Bounded against floods.

import { flag, frameBytesMax, frameHeaderBytes, frameType, writeFrameHeader } from "./http2_frames.ts";
import { fieldBlock } from "./http2_write.ts";
import type { OwnedSocket } from "./socket.ts";
import { SocketWriter } from "./socket.ts";

const bufferBytes = 64 * 1024;
/** Buffers between two uses; only connections that write right now hold one. */
const pooledMax = 16;
const pool: Buffer[] = [];

/** Frames and bytes that may wait for a peer that makes us answer but does not read (Envoy: max_outbound_control_frames and ~_frames). */
const controlFramesWaitingMax = 1_000;
const framesWaitingMax = 10_000;
const bytesWaitingMax = 4 * 1024 * 1024;

export class Http2Output {
  readonly writer: SocketWriter;
  #buffer: Buffer | undefined;
  #length = 0;
  #flushing = false;
  /** Offset of the flags of the last frame, while it is still here; -1 else. */
  #lastFlags = -1;
  #lastStream = 0;
  #controlFrames = 0;
  #frames = 0;
  #bytes = 0;
  readonly #flush = (): void => this.flush();
  /** Bytes of frames written, their headers included. */
  bytesWritten = 0;
  dataFrames = 0;

  constructor(socket: OwnedSocket) {
    this.writer = new SocketWriter(socket);
  }

  /** The kernel takes no more: data has to wait. */
  get blocked(): boolean {
    return this.writer.blocked;
  }
  /** The peer does not read, but makes us write. */
  get flooded(): boolean {
    return (
      this.#controlFrames > controlFramesWaitingMax || this.#frames > framesWaitingMax || this.#bytes > bytesWaitingMax
    );
  }

  /** Room for `count` bytes; the caller writes at the returned offset of `buffer`. */
  #reserve(count: number): number {
    if (this.#buffer !== undefined && this.#length + count > bufferBytes) this.#write();
    if (this.#buffer === undefined) {
      this.#buffer = pool.pop() ?? Buffer.allocUnsafeSlow(bufferBytes);
      if (!this.#flushing) {
        this.#flushing = true;
        // When everything that has arrived meanwhile is handled: answers of several servers go to their client in one write.
        setImmediate(this.#flush);
      }
    }
    const at = this.#length;
    this.#length += count;
    this.bytesWritten += count;
    if (this.writer.blocked) {
      this.#frames++;
      this.#bytes += count;
    }
    return at;
  }

  #write(): void {
    const buffer = this.#buffer!;
    this.writer.write(buffer, 0, this.#length, "reused");
    this.#length = 0;
    this.#lastFlags = -1;
    this.#buffer = undefined;
    if (pool.length < pooledMax) pool.push(buffer);
  }

  flush(): void {
    this.#flushing = false;
    if (this.#buffer !== undefined) this.#write();
  }

  /** Call from onDrain; true when everything is out. */
  drain(): boolean {
    if (!this.writer.flush()) return false;
    this.#controlFrames = 0;
    this.#frames = 0;
    this.#bytes = 0;
    return true;
  }

  raw(bytes: Buffer): void {
    const at = this.#reserve(bytes.length);
    bytes.copy(this.#buffer!, at);
  }

  /** A frame with a payload of at most `frameBytesMax` out of `source`. */
  data(streamId: number, source: Buffer, from: number, to: number, end: boolean): void {
    this.dataFrames++;
    const at = this.#frame(to - from, frameType.data, end ? flag.endStream : flag.none, streamId);
    source.copy(this.#buffer!, at, from, to);
  }

  /** The block of `length` bytes in `fieldBlock`, in as many frames as it needs. */
  headers(streamId: number, length: number, end: boolean): void {
    let from = 0;
    do {
      const to = Math.min(length, from + frameBytesMax);
      const first = from === 0;
      const flags = (first && end ? flag.endStream : 0) | (to === length ? flag.endHeaders : 0);
      const at = this.#frame(to - from, first ? frameType.headers : frameType.continuation, flags, streamId);
      fieldBlock.copy(this.#buffer!, at, from, to);
      // END_STREAM stands on the first frame.
      if (!first) this.#lastFlags = -1;
      from = to;
    } while (from < length);
  }

  /** Ends the stream with the frame written last, if that is its own and still here. */
  endWithLast(streamId: number): boolean {
    if (this.#lastFlags < 0 || this.#lastStream !== streamId) return false;
    this.#buffer![this.#lastFlags]! |= flag.endStream;
    return true;
  }

  rstStream(streamId: number, code: number): void {
    this.#control(frameType.rstStream, flag.none, streamId, code);
  }
  windowUpdate(streamId: number, increment: number): void {
    this.#control(frameType.windowUpdate, flag.none, streamId, increment);
  }
  #control(type: number, flags: number, streamId: number, value: number): void {
    const at = this.#controlFrame(4, type, flags, streamId);
    this.#buffer!.writeUInt32BE(value, at);
  }
  settings(values: readonly (readonly [id: number, value: number])[]): void {
    let at = this.#frame(values.length * 6, frameType.settings, flag.none, 0);
    for (const [id, value] of values) {
      this.#buffer!.writeUInt16BE(id, at);
      this.#buffer!.writeUInt32BE(value, at + 2);
      at += 6;
    }
  }
  settingsAck(): void {
    this.#controlFrame(0, frameType.settings, flag.ack, 0);
  }
  pingAck(source: Buffer, from: number): void {
    const at = this.#controlFrame(8, frameType.ping, flag.ack, 0);
    source.copy(this.#buffer!, at, from, from + 8);
  }
  goAway(lastStreamId: number, code: number, why: string): void {
    const at = this.#frame(8 + why.length, frameType.goAway, flag.none, 0);
    this.#buffer!.writeUInt32BE(lastStreamId, at);
    this.#buffer!.writeUInt32BE(code, at + 4);
    this.#buffer!.latin1Write(why, at + 8, why.length);
  }

  #controlFrame(length: number, type: number, flags: number, streamId: number): number {
    if (this.writer.blocked) this.#controlFrames++;
    return this.#frame(length, type, flags, streamId);
  }
  /** Writes a frame's header; returns where its payload goes. */
  #frame(length: number, type: number, flags: number, streamId: number): number {
    const at = this.#reserve(frameHeaderBytes + length);
    writeFrameHeader(this.#buffer!, at, length, type, flags, streamId);
    const ends = type === frameType.data || type === frameType.headers;
    this.#lastFlags = ends ? at + 4 : -1;
    this.#lastStream = streamId;
    return at + frameHeaderBytes;
  }
}
