// One stream of an HTTP/2 connection: its state, its flow control both ways, and what waits to be sent on it.

import type { HpackEncoder } from "./hpack_encoder.ts";
import type { Head } from "./http1_head.ts";
import { frameBytesMax, h2Error } from "./http2_frames.ts";
import type { Http2Output } from "./http2_output.ts";
import { writeTrailerBlock } from "./http2_write.ts";

/** Whoever a stream's messages are for. */
export interface StreamUser {
  /** Heads are read into this; its buffer is the message's own. */
  readonly head: Head;
  /** A client that asked with HEAD: the answer has no body, whatever it says. */
  readonly isHead: boolean;
  /** A request's or an answer's head (1xx: see the status); with `ended` nothing follows. */
  onHead(ended: boolean): void;
  /** The head's fields are more than may be: answered with 431 by a server, refused by a client. */
  onHeadTooLarge(ended: boolean): void;
  /** True: nothing of the chunk is kept. False: it is, and `pause` has been called if no more is wanted. */
  onData(chunk: Buffer, from: number, to: number): boolean;
  /** The last of the message; `trailers` as HTTP/1.1 writes a trailer section. */
  onEnd(trailers: Buffer | undefined): void;
  /** There is room again after `write` said false. */
  onRoom(): void;
  /** The stream is gone before its end: reset by the peer (`remote`), broken by it, or its connection was lost. */
  onReset(code: number, how: "remote" | "protocol" | "connection"): void;
}

/** What a stream needs of its connection. */
export interface StreamConnection {
  readonly output: Http2Output;
  readonly encoder: HpackEncoder;
  /** What the peer takes on the whole connection. */
  sendWindow: number;
  /** Streams that want to write more. */
  readonly waiting: Set<Http2Stream>;
  /** Bytes the user has done with: the connection's window grows again. */
  credit(bytes: number): void;
  /** Both sides have ended, or it was reset. */
  onStreamClosed(stream: Http2Stream): void;
}

export class Http2Stream {
  readonly id: number;
  user!: StreamUser;
  readonly #connection: StreamConnection;
  /** When it was opened: rapid resets are told by it. */
  readonly openedMs: number;
  /** What the peer takes. */
  sendWindow: number;
  /** What we take; and how much of it has been used up but not given back yet. */
  receiveWindow: number;
  readonly #receiveWindowBytes: number;
  #uncredited = 0;
  /** Handed over while paused. */
  #held = 0;
  #paused = false;
  /** The peer has ended its side; we ours; both or a reset: closed. */
  remoteEnded = false;
  localEnded = false;
  closed = false;
  /** A message head has been received; what comes next are trailers. */
  headReceived = false;
  /** By content-length; Infinity: not said. */
  bodyLeft = Number.POSITIVE_INFINITY;
  #dropsRest = false;
  #pending: Buffer[] | undefined;
  /** After what is pending: the end, with or without trailers. */
  #ending: { trailers: string } | undefined;

  constructor(id: number, connection: StreamConnection, windows: { send: number; receive: number }, openedMs: number) {
    this.id = id;
    this.#connection = connection;
    this.sendWindow = windows.send;
    this.receiveWindow = windows.receive;
    this.#receiveWindowBytes = windows.receive;
    this.openedMs = openedMs;
  }

  // ---- receiving ----

  pause(): void {
    this.#paused = true;
  }
  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    const held = this.#held;
    this.#held = 0;
    if (held > 0) this.#credit(held);
  }
  /** The user has been given `bytes`, or they were padding. */
  received(bytes: number): void {
    if (this.#paused) this.#held += bytes;
    else this.#credit(bytes);
  }
  #credit(bytes: number): void {
    this.#connection.credit(bytes);
    this.#uncredited += bytes;
    // Half a window at a time: few frames, and the peer is never kept waiting.
    if (this.remoteEnded || this.closed || this.#uncredited * 2 < this.#receiveWindowBytes) return;
    this.receiveWindow += this.#uncredited;
    this.#connection.output.windowUpdate(this.id, this.#uncredited);
    this.#uncredited = 0;
  }

  // ---- sending ----

  /** The block in `fieldBlock`; must be written at once, as blocks are decoded in order. */
  sendHead(blockBytes: number, end: boolean): void {
    if (this.closed) return;
    this.#connection.output.headers(this.id, blockBytes, end);
    if (end) this.#endLocal();
  }

  /** False: the peer or the kernel takes no more for now; what is left has been copied, and the user's `onRoom` follows. */
  write(chunk: Buffer, from: number, to: number): boolean {
    if (this.closed || from >= to) return this.#pending === undefined;
    const at = this.#pending === undefined ? this.#send(chunk, from, to) : from;
    if (at < to) {
      this.#pending ??= [];
      this.#pending.push(Buffer.from(chunk.subarray(at, to)));
    }
    const connection = this.#connection;
    if (at >= to && !connection.output.blocked) return true;
    connection.waiting.add(this);
    return false;
  }
  /** Sends what windows and the kernel allow; returns the offset past it. */
  #send(chunk: Buffer, from: number, to: number): number {
    const connection = this.#connection;
    let at = from;
    while (at < to && !connection.output.blocked) {
      const count = Math.min(to - at, frameBytesMax, this.sendWindow, connection.sendWindow);
      if (count <= 0) break;
      connection.output.data(this.id, chunk, at, at + count, false);
      this.sendWindow -= count;
      connection.sendWindow -= count;
      at += count;
    }
    return at;
  }

  /** `trailers`: complete lines, or "". */
  end(trailers: string): void {
    if (this.closed || this.localEnded) return;
    if (this.#pending !== undefined) this.#ending = { trailers };
    else this.#finish(trailers);
  }
  #finish(trailers: string): void {
    const { output, encoder } = this.#connection;
    if (trailers !== "") output.headers(this.id, writeTrailerBlock(encoder, trailers), true);
    else if (!output.endWithLast(this.id)) output.data(this.id, empty, 0, 0, true);
    this.#endLocal();
  }
  #endLocal(): void {
    this.localEnded = true;
    if (this.#dropsRest) this.dropRest();
    this.settle();
  }

  /** At most one frame of what waits, so that streams take turns. True: something was sent, or nothing waits any more. */
  pump(): boolean {
    const { waiting, output } = this.#connection;
    const pending = this.#pending;
    if (pending !== undefined) {
      const first = pending[0]!;
      const limit = Math.min(first.length, frameBytesMax);
      const sent = this.#send(first, 0, limit);
      if (sent < first.length) {
        if (sent > 0) pending[0] = first.subarray(sent);
        return sent > 0;
      }
      pending.shift();
      if (pending.length > 0) return true;
      this.#pending = undefined;
    }
    if (output.blocked) return false;
    waiting.delete(this);
    const ending = this.#ending;
    if (ending !== undefined) this.#finish(ending.trailers);
    else this.user.onRoom();
    return true;
  }

  /** The peer may send no more than it has: once our side has ended, the stream is reset without an error (RFC 9113 §8.1). */
  dropRest(): void {
    this.#dropsRest = true;
    if (this.localEnded && !this.remoteEnded) this.reset(h2Error.none);
  }

  /** We give it up. Harmless when it is closed. */
  reset(code: number): void {
    if (this.closed) return;
    this.#connection.output.rstStream(this.id, code);
    this.#close();
  }
  /** The peer, or what happens to the connection, ended it. */
  lost(code: number, how: "remote" | "protocol" | "connection"): void {
    if (this.closed) return;
    this.#close();
    this.user.onReset(code, how);
  }
  /** The peer's side has ended with what was just handed over. */
  endRemote(trailers: Buffer | undefined): void {
    this.remoteEnded = true;
    this.user.onEnd(trailers);
    this.settle();
  }
  /** Both sides may have ended. */
  settle(): void {
    if (this.remoteEnded && this.localEnded && !this.closed) this.#close();
  }
  /** Less has come than was announced. */
  get lacksBody(): boolean {
    return this.bodyLeft > 0 && this.bodyLeft !== Number.POSITIVE_INFINITY;
  }

  #close(): void {
    this.closed = true;
    this.#pending = undefined;
    this.#ending = undefined;
    const { waiting } = this.#connection;
    waiting.delete(this);
    // What the user never let go of still belongs to the connection's window.
    if (this.#held > 0) this.#connection.credit(this.#held);
    this.#held = 0;
    this.#connection.onStreamClosed(this);
  }
}

const empty: Buffer = Buffer.alloc(0);
