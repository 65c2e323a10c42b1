// One HTTP/2 connection (RFC 9113), client or server: reads frames, keeps streams and windows, refuses what breaks the rules or floods.

import { HpackDecoder } from "./hpack_decoder.ts";
import { HpackEncoder } from "./hpack_encoder.ts";
import { type Budget, newBudget, spendNuisance, spendReset } from "./http2_abuse.ts";
import {
  flag,
  frameBytesMax,
  frameHeaderBytes,
  frameType,
  h2Error,
  preface,
  setting,
  streamIdMax,
  windowBytesDefault,
  windowBytesMax,
} from "./http2_frames.ts";
import { fieldBlockBytesMax, headReader } from "./http2_head.ts";
import { Http2Output } from "./http2_output.ts";
import { FrameReader, type FrameSink } from "./http2_reader.ts";
import { Http2Stream, type StreamConnection, type StreamUser } from "./http2_stream.ts";
import { release } from "./release.ts";
import type { OwnedSocket } from "./socket.ts";

export interface Http2Limits {
  /** Streams the peer may have open at once. */
  streamsMax: number;
  /** Both at least windowBytesDefault, which a peer may use before it has heard of them. */
  streamWindowBytes: number;
  connectionWindowBytes: number;
  headBytesMax: number;
  headersMax: number;
}

/** Whoever runs the connection. */
export interface Http2Observer {
  nowMs(): number;
  /** A server: who the new stream is for. */
  accept(stream: Http2Stream): StreamUser;
  onStreamClosed(stream: Http2Stream): void;
  /** The peer's settings have arrived or changed. */
  onSettings(): void;
  /** The peer takes no further streams. */
  onGoAway(): void;
  /** The peer broke the rules: GOAWAY is on its way, every stream is gone; nothing more is read. */
  onFailed(code: number, why: string): void;
}

/** Fragments of one field block; more are a flood (CVE-2024-27316 and its siblings). */
const continuationsMax = 32;
/** Streams we have reset whose frames may still be on their way. */
const recentResetsMax = 256;

/** preface → open → draining (GOAWAY sent or received) → over. */
export class Http2Connection implements StreamConnection, FrameSink {
  readonly output: Http2Output;
  readonly encoder = new HpackEncoder();
  readonly #decoder = new HpackDecoder();
  readonly #observer: Http2Observer;
  readonly #limits: Http2Limits;
  readonly #isServer: boolean;
  readonly streams = new Map<number, Http2Stream>();
  readonly waiting = new Set<Http2Stream>();
  readonly #recentResets = new Set<number>();
  readonly #budget: Budget = newBudget();
  #state: "preface" | "open" | "over" = "open";
  readonly #reader = new FrameReader(this);
  #unitsRead = 0;
  /** A field block under way. */
  #block: { streamId: number; ends: boolean; parts: Buffer[]; bytes: number } | undefined;
  #settled = false;
  sendWindow = windowBytesDefault;
  #peerStreamWindow = windowBytesDefault;
  #receiveWindow: number;
  #uncredited = 0;
  /** The peer's limit on our streams. */
  peerStreamsMax = Number.POSITIVE_INFINITY;
  /** Of streams opened by the peer (server), or by us (client). */
  lastStreamId = 0;
  /** Set by the GOAWAY we sent: later streams are not looked at. */
  #goAwayId = streamIdMax;
  /** No further streams: the peer said so, or we did. */
  draining = false;
  #unfinishedSinceMs = -1;

  constructor(socket: OwnedSocket, isServer: boolean, limits: Http2Limits, observer: Http2Observer) {
    this.output = new Http2Output(socket);
    this.#isServer = isServer;
    this.#limits = limits;
    this.#observer = observer;
    this.#receiveWindow = limits.connectionWindowBytes;
    if (isServer) this.#state = "preface";
    else this.output.raw(preface);
    this.output.settings([
      isServer ? [setting.maxConcurrentStreams, limits.streamsMax] : [setting.enablePush, 0],
      [setting.initialWindowSize, limits.streamWindowBytes],
      [setting.maxHeaderListSize, limits.headBytesMax],
    ]);
    const more = limits.connectionWindowBytes - windowBytesDefault;
    if (more > 0) this.output.windowUpdate(0, more);
  }

  get over(): boolean {
    return this.#state === "over";
  }
  get awaitsPreface(): boolean {
    return this.#state === "preface";
  }
  /** Since when something other than a body is incomplete; -1: nothing is. */
  get unfinishedSinceMs(): number {
    return this.#unfinishedSinceMs;
  }

  // ---- reading ----

  onData(chunk: Buffer): void {
    this.#unitsRead = 0;
    if (this.#reader.read(chunk)) release(chunk);
    const unfinished = this.#block !== undefined || this.#reader.waitsForHead;
    if (!unfinished) this.#unfinishedSinceMs = -1;
    else if (this.#unfinishedSinceMs < 0 || (this.#unitsRead > 0 && this.#block === undefined))
      this.#unfinishedSinceMs = this.#observer.nowMs();
  }

  onPreface(bytes: Buffer, from: number): void {
    if (bytes.compare(preface, 0, preface.length, from, from + preface.length) === 0) this.#state = "open";
    else this.fail(h2Error.protocol, "no preface");
  }

  /** A whole frame; false: a part of it is kept by somebody. */
  onFrame(bytes: Buffer, from: number, to: number): boolean {
    this.#unitsRead++;
    const length = (bytes[from]! << 16) | (bytes[from + 1]! << 8) | bytes[from + 2]!;
    const type = bytes[from + 3]!;
    const flags = bytes[from + 4]!;
    const streamId = bytes.readUInt32BE(from + 5) & streamIdMax;
    const at = from + frameHeaderBytes;
    if (length > frameBytesMax) return this.fail(h2Error.frameSize, "frame too large");
    if (this.output.flooded) return this.fail(h2Error.enhanceYourCalm, "answers are not read");
    if (this.#block !== undefined && (type !== frameType.continuation || streamId !== this.#block.streamId))
      return this.fail(h2Error.protocol, "field block interrupted");
    if (!this.#settled && (type !== frameType.settings || (flags & flag.ack) !== 0))
      return this.fail(h2Error.protocol, "no SETTINGS");
    switch (type) {
      case frameType.data:
        return this.#data(bytes, at, to, flags, streamId);
      case frameType.headers:
        return this.#headers(bytes, at, to, flags, streamId);
      case frameType.continuation:
        return this.#continuation(bytes, at, to, flags);
      case frameType.windowUpdate:
        return this.#windowUpdate(bytes, at, to, streamId);
      case frameType.rstStream:
        return this.#rstStream(bytes, at, to, streamId);
      case frameType.settings:
        return this.#settings(bytes, at, to, flags, streamId);
      case frameType.ping:
        return this.#ping(bytes, at, to, flags, streamId);
      case frameType.goAway:
        return this.#goAway(bytes, at, to, streamId);
      case frameType.pushPromise:
        return this.fail(h2Error.protocol, "PUSH_PROMISE");
      case frameType.priority:
        if (streamId === 0) return this.fail(h2Error.protocol, "PRIORITY of no stream");
        if (to - at !== 5) return this.#streamError(streamId, h2Error.frameSize);
        return this.#nuisance();
      default:
        return this.#nuisance();
    }
  }

  #data(bytes: Buffer, start: number, end: number, flags: number, streamId: number): boolean {
    if (streamId === 0) return this.fail(h2Error.protocol, "DATA of no stream");
    const size = end - start;
    this.#receiveWindow -= size;
    if (this.#receiveWindow < 0) return this.fail(h2Error.flowControl, "connection window overrun");
    const { from, to } = unpadded(bytes, start, end, flags);
    if (from > to) return this.fail(h2Error.protocol, "padding too long");
    const ended = (flags & flag.endStream) !== 0;
    if (size === 0 && !ended) this.#nuisance();
    if (this.over) return true;
    const stream = this.streams.get(streamId);
    if (stream === undefined || stream.remoteEnded || !stream.headReceived) {
      this.credit(size);
      return stream === undefined ? this.#unknown(streamId) : this.#streamError(streamId, h2Error.streamClosed);
    }
    stream.receiveWindow -= size;
    stream.bodyLeft -= to - from;
    const lies = stream.bodyLeft < 0 || (ended && stream.lacksBody);
    if (stream.receiveWindow < 0 || lies) {
      this.credit(size);
      return this.#streamError(streamId, lies ? h2Error.protocol : h2Error.flowControl);
    }
    if (to > from) this.#budget.nuisances = 0;
    const done = to > from ? stream.user.onData(bytes, from, to) : true;
    if (ended && !stream.closed) stream.endRemote(undefined);
    if (stream.closed) this.credit(size);
    else stream.received(size);
    return done;
  }

  #headers(bytes: Buffer, start: number, end: number, flags: number, streamId: number): boolean {
    if (streamId === 0) return this.fail(h2Error.protocol, "HEADERS of no stream");
    let { from, to } = unpadded(bytes, start, end, flags);
    if ((flags & flag.priority) !== 0) from += 5;
    if (from > to) return this.fail(h2Error.protocol, "padding too long");
    const ends = (flags & flag.endStream) !== 0;
    if ((flags & flag.endHeaders) !== 0) return this.#head(bytes, from, to, streamId, ends);
    this.#block = { streamId, ends, parts: [Buffer.from(bytes.subarray(from, to))], bytes: to - from };
    return true;
  }
  #continuation(bytes: Buffer, from: number, to: number, flags: number): boolean {
    const block = this.#block;
    if (block === undefined) return this.fail(h2Error.protocol, "CONTINUATION of nothing");
    block.bytes += to - from;
    if (block.parts.length > continuationsMax || block.bytes > fieldBlockBytesMax)
      return this.fail(h2Error.enhanceYourCalm, "field block too long");
    block.parts.push(Buffer.from(bytes.subarray(from, to)));
    if ((flags & flag.endHeaders) === 0) return true;
    this.#block = undefined;
    const all = Buffer.concat(block.parts);
    return this.#head(all, 0, all.length, block.streamId, block.ends);
  }

  /** A whole field block. It must be decoded whatever becomes of it: later ones build on it. */
  #head(block: Buffer, from: number, to: number, streamId: number, ends: boolean): boolean {
    const stream = this.streams.get(streamId);
    const kind = stream?.headReceived ? "trailers" : this.#isServer ? "request" : "response";
    headReader.begin(kind, this.#limits.headBytesMax, this.#limits.headersMax);
    if (!headReader.decode(this.#decoder, block, from, to))
      return this.fail(h2Error.compression, "field block malformed");
    if (stream === undefined) return this.#isServer ? this.#open(streamId, ends) : this.#unknown(streamId);
    if (stream.remoteEnded) return this.#streamError(streamId, h2Error.streamClosed);
    return kind === "trailers" ? this.#trailers(stream, ends) : this.#message(stream, ends);
  }

  #open(streamId: number, ends: boolean): boolean {
    if (streamId <= this.lastStreamId) return this.#unknown(streamId);
    if (streamId % 2 === 0) return this.fail(h2Error.protocol, "stream id of a server");
    this.lastStreamId = streamId;
    if (streamId > this.#goAwayId) return true;
    this.#budget.streams++;
    if (this.streams.size >= this.#limits.streamsMax) {
      this.output.rstStream(streamId, h2Error.refusedStream);
      return this.#reset(this.#observer.nowMs());
    }
    const windows = { send: this.#peerStreamWindow, receive: this.#limits.streamWindowBytes };
    const stream = new Http2Stream(streamId, this, windows, this.#observer.nowMs());
    stream.user = this.#observer.accept(stream);
    this.streams.set(streamId, stream);
    return this.#message(stream, ends);
  }
  #message(stream: Http2Stream, ends: boolean): boolean {
    const { user, id } = stream;
    const result = headReader.finish(user.head);
    if (result === "malformed") return this.#streamError(id, h2Error.protocol);
    this.#budget.nuisances = 0;
    const isInterim = !this.#isServer && user.head.status < 200 && result === "ok";
    if (isInterim && ends) return this.#streamError(id, h2Error.protocol);
    stream.headReceived = !isInterim;
    const length = result === "ok" ? user.head.contentLength : -1;
    const isBodiless = !this.#isServer && (user.isHead || user.head.status === 204 || user.head.status === 304);
    if (ends && length > 0 && !isBodiless) return this.#streamError(id, h2Error.protocol);
    if (isBodiless && !isInterim) stream.bodyLeft = 0;
    else if (!ends && length >= 0) stream.bodyLeft = length;
    stream.remoteEnded = ends;
    if (result === "ok") user.onHead(ends);
    else user.onHeadTooLarge(ends);
    stream.settle();
    return true;
  }
  #trailers(stream: Http2Stream, ends: boolean): boolean {
    const section = headReader.section();
    if (!ends || section === undefined || stream.lacksBody) return this.#streamError(stream.id, h2Error.protocol);
    stream.endRemote(section);
    return true;
  }

  #windowUpdate(bytes: Buffer, from: number, to: number, streamId: number): boolean {
    if (to - from !== 4) return this.fail(h2Error.frameSize, "WINDOW_UPDATE");
    const increment = bytes.readUInt32BE(from) & windowBytesMax;
    this.#nuisance();
    if (this.over) return true;
    if (streamId === 0) {
      if (increment === 0) return this.fail(h2Error.protocol, "WINDOW_UPDATE of nothing");
      this.sendWindow += increment;
      if (this.sendWindow > windowBytesMax) return this.fail(h2Error.flowControl, "window overflow");
      this.#pump();
      return true;
    }
    const stream = this.streams.get(streamId);
    if (stream === undefined) return this.#isIdle(streamId) ? this.fail(h2Error.protocol, "idle stream") : true;
    if (increment === 0) return this.#streamError(streamId, h2Error.protocol);
    stream.sendWindow += increment;
    if (stream.sendWindow > windowBytesMax) return this.#streamError(streamId, h2Error.flowControl);
    if (this.waiting.has(stream)) this.#pump();
    return true;
  }

  #rstStream(bytes: Buffer, from: number, to: number, streamId: number): boolean {
    if (to - from !== 4) return this.fail(h2Error.frameSize, "RST_STREAM");
    if (streamId === 0 || this.#isIdle(streamId)) return this.fail(h2Error.protocol, "RST_STREAM of an idle stream");
    const stream = this.streams.get(streamId);
    if (stream === undefined) return this.#nuisance();
    stream.lost(bytes.readUInt32BE(from), "remote");
    return this.#reset(stream.openedMs);
  }

  #settings(bytes: Buffer, from: number, to: number, flags: number, streamId: number): boolean {
    if (streamId !== 0) return this.fail(h2Error.protocol, "SETTINGS of a stream");
    if ((flags & flag.ack) !== 0) return to === from || this.fail(h2Error.frameSize, "SETTINGS");
    if ((to - from) % 6 !== 0) return this.fail(h2Error.frameSize, "SETTINGS");
    this.#nuisance();
    if (this.over) return true;
    this.#settled = true;
    for (let i = from; i < to; i += 6)
      if (!this.#setting(bytes.readUInt16BE(i), bytes.readUInt32BE(i + 2))) return true;
    this.output.settingsAck();
    this.#observer.onSettings();
    this.#pump();
    return true;
  }
  #setting(id: number, value: number): boolean {
    switch (id) {
      case setting.headerTableSize:
        this.encoder.limit(value);
        return true;
      case setting.enablePush:
        return value <= (this.#isServer ? 1 : 0) || this.#failed(h2Error.protocol, "ENABLE_PUSH");
      case setting.maxConcurrentStreams:
        this.peerStreamsMax = value;
        return true;
      case setting.initialWindowSize: {
        if (value > windowBytesMax) return this.#failed(h2Error.flowControl, "INITIAL_WINDOW_SIZE");
        const difference = value - this.#peerStreamWindow;
        this.#peerStreamWindow = value;
        for (const stream of this.streams.values()) {
          stream.sendWindow += difference;
          if (stream.sendWindow > windowBytesMax) return this.#failed(h2Error.flowControl, "window overflow");
        }
        return true;
      }
      case setting.maxFrameSize:
        return (value >= frameBytesMax && value < 2 ** 24) || this.#failed(h2Error.protocol, "MAX_FRAME_SIZE");
      default:
        return true;
    }
  }

  #ping(bytes: Buffer, from: number, to: number, flags: number, streamId: number): boolean {
    if (streamId !== 0) return this.fail(h2Error.protocol, "PING of a stream");
    if (to - from !== 8) return this.fail(h2Error.frameSize, "PING");
    if ((flags & flag.ack) === 0) this.output.pingAck(bytes, from);
    return this.#nuisance();
  }

  #goAway(bytes: Buffer, from: number, to: number, streamId: number): boolean {
    if (streamId !== 0) return this.fail(h2Error.protocol, "GOAWAY of a stream");
    if (to - from < 8) return this.fail(h2Error.frameSize, "GOAWAY");
    this.draining = true;
    const last = bytes.readUInt32BE(from) & streamIdMax;
    // What the peer has not looked at may be sent elsewhere.
    if (!this.#isServer)
      for (const stream of [...this.streams.values()])
        if (stream.id > last) stream.lost(h2Error.refusedStream, "remote");
    this.#observer.onGoAway();
    return true;
  }

  // ---- streams and windows ----

  /** A client's next stream. */
  open(user: StreamUser): Http2Stream {
    this.lastStreamId = this.lastStreamId === 0 ? 1 : this.lastStreamId + 2;
    const windows = { send: this.#peerStreamWindow, receive: this.#limits.streamWindowBytes };
    const stream = new Http2Stream(this.lastStreamId, this, windows, this.#observer.nowMs());
    stream.user = user;
    this.streams.set(stream.id, stream);
    return stream;
  }
  onStreamClosed(stream: Http2Stream): void {
    this.streams.delete(stream.id);
    if (!stream.remoteEnded) this.#remember(stream.id);
    this.#observer.onStreamClosed(stream);
  }
  #remember(streamId: number): void {
    const resets = this.#recentResets;
    resets.add(streamId);
    if (resets.size > recentResetsMax) resets.delete(resets.values().next().value!);
  }

  credit(bytes: number): void {
    this.#uncredited += bytes;
    if (this.#uncredited * 2 < this.#limits.connectionWindowBytes || this.over) return;
    this.#receiveWindow += this.#uncredited;
    this.output.windowUpdate(0, this.#uncredited);
    this.#uncredited = 0;
  }

  /** The kernel takes bytes again. */
  onDrain(): void {
    if (this.output.drain()) this.#pump();
  }
  /** Streams take turns, a frame each. */
  #pump(): void {
    const { waiting, output } = this;
    for (let progress = true; progress && waiting.size > 0 && !output.blocked; ) {
      progress = false;
      for (const stream of [...waiting]) {
        if (output.blocked) return;
        if (!waiting.has(stream) || !stream.pump()) continue;
        progress = true;
        // The next turn begins with the others.
        if (waiting.delete(stream)) waiting.add(stream);
      }
    }
  }

  #isIdle(streamId: number): boolean {
    if (this.#isServer) return streamId > this.lastStreamId;
    return streamId > this.lastStreamId || streamId % 2 === 0;
  }
  /** A frame of a stream that is not here (any more). */
  #unknown(streamId: number): boolean {
    if (this.#isIdle(streamId)) return this.fail(h2Error.protocol, "idle stream");
    if (this.#recentResets.has(streamId) || streamId > this.#goAwayId) return true;
    return this.fail(h2Error.streamClosed, "closed stream");
  }

  // ---- errors ----

  #streamError(streamId: number, code: number): boolean {
    const stream = this.streams.get(streamId);
    this.output.rstStream(streamId, code);
    if (stream === undefined) return this.#nuisance();
    stream.lost(code, "protocol");
    return this.#reset(stream.openedMs);
  }
  /** A stream ended by RST_STREAM; too many of them in no time are an attack (CVE-2023-44487). */
  #reset(openedMs: number): boolean {
    if (!this.#isServer || spendReset(this.#budget, this.#observer.nowMs() - openedMs)) return true;
    return this.fail(h2Error.enhanceYourCalm, "too many resets");
  }
  /** A frame that brings nobody anything. Always true. */
  #nuisance(): boolean {
    const may = spendNuisance(this.#budget, this.output.dataFrames, this.#observer.nowMs());
    return may || this.fail(h2Error.enhanceYourCalm, "too many frames without content");
  }
  #failed(code: number, why: string): false {
    this.fail(code, why);
    return false;
  }

  /** Says GOAWAY, ends every stream, reads nothing more. Always true: nothing of the frame is kept. */
  fail(code: number, why: string): true {
    if (this.over) return true;
    this.output.goAway(this.#isServer ? this.lastStreamId : 0, code, why);
    this.#end(code);
    this.#observer.onFailed(code, why);
    return true;
  }
  /** The connection is gone. */
  closed(): void {
    this.#end(h2Error.none);
  }
  #end(code: number): void {
    this.#state = "over";
    this.#block = undefined;
    for (const stream of [...this.streams.values()]) stream.lost(code, "connection");
  }

  /** A server's graceful end: first "no more, please", then (`final`) which streams still counted. */
  announceEnd(final: boolean): void {
    if (this.over) return;
    this.draining = true;
    if (final) this.#goAwayId = this.lastStreamId;
    this.output.goAway(this.#isServer ? (final ? this.lastStreamId : streamIdMax) : 0, h2Error.none, "");
  }
}

/** Where the payload is; `from > to` when the padding is longer than the frame. */
function unpadded(bytes: Buffer, from: number, to: number, flags: number): { from: number; to: number } {
  if ((flags & flag.padded) === 0) return { from, to };
  return from < to ? { from: from + 1, to: to - bytes[from]! } : { from: 1, to: 0 };
}
