// One owner per socket: protocol stages replace each other as `socket.data`, the callbacks stay. Writes keep what the kernel did not take.

import type { Socket, SocketHandler } from "bun";
import { release } from "./release.ts";

/** Whatever currently speaks on a socket. */
export interface SocketOwner {
  onData(chunk: Buffer): void;
  /** The kernel takes bytes again. */
  onDrain(): void;
  /** The peer sent FIN; our side may still write. */
  onEnd(): void;
  /** Nothing can be read or written any more. Called once. */
  onClose(error: Error | undefined): void;
  /** The TLS handshake ended; `error` tells why the peer's certificate was not accepted. */
  onHandshake?(success: boolean, error: Error | null): void;
  /** A client connection is established (before its TLS handshake, if any). */
  onOpen?(socket: OwnedSocket): void;
  /** A client connection could not be established. */
  onConnectError?(error: Error): void;
}

export type OwnedSocket = Socket<SocketOwner>;

/** Handlers for Bun.connect and for upgraded sockets. Listeners add their own `open`. */
export const ownedHandlers: SocketHandler<SocketOwner> = {
  open(socket) {
    socket.data.onOpen?.(socket);
  },
  data(socket, chunk) {
    socket.data.onData(chunk);
  },
  drain(socket) {
    socket.data.onDrain();
  },
  end(socket) {
    socket.data.onEnd();
  },
  close(socket, error) {
    socket.data?.onClose(error);
  },
  handshake(socket, success, error) {
    socket.data.onHandshake?.(success, error);
  },
  connectError(socket, error) {
    socket.data?.onConnectError?.(error);
  },
  error(socket, error) {
    // A handler threw (our bug) or the TLS session broke: this connection is lost, the process goes on.
    socketErrors.report(error);
    socket.terminate();
  },
};

/**
 * Closes for good, after what has been written. Not `end()` alone: on TLS it sends close_notify and then waits for the peer's for
 * ever, and further calls do nothing.
 */
export function closeSocket(socket: OwnedSocket): void {
  socket.shutdown();
  socket.end();
}

/** Where errors out of socket callbacks go; set once by the process. */
export const socketErrors: { report: (error: Error) => void } = { report: () => {} };

/** Owner of a socket nobody is interested in any more, or of the raw half of a TLS pair. */
export const nobody: SocketOwner = { onData() {}, onDrain() {}, onEnd() {}, onClose() {} };

/**
 * Writes to one socket in order. Bytes the kernel does not take are kept (bounded by what one read brings, as the
 * caller stops reading its source while `write` or `flush` says false).
 */
export class SocketWriter {
  readonly socket: OwnedSocket;
  #pending: Buffer[] | undefined;
  /** For each of `#pending`: its memory is ours to let go. */
  readonly #owned: boolean[] = [];
  #closing = false;
  bytesWritten = 0;

  constructor(socket: OwnedSocket) {
    this.socket = socket;
  }

  get blocked(): boolean {
    return this.#pending !== undefined;
  }

  /**
   * What of the bytes stays behind is copied when the buffer is `reused` by the caller, and let go once written when it is a whole
   * `read` that nobody else keeps a part of. False: wait for `onDrain`; a `read` is the writer's then, otherwise still the caller's.
   */
  write(data: Buffer, from: number, to: number, kind: "reused" | "kept" | "read"): boolean {
    if (from >= to) return this.#pending === undefined;
    this.bytesWritten += to - from;
    let at = from;
    if (this.#pending === undefined) {
      const written = this.socket.write(data, from, to - from);
      // A closed socket swallows the rest; its onClose follows.
      if (written < 0) return true;
      at += written;
      if (at >= to) return true;
      this.#pending = [];
    }
    this.#pending.push(kind === "reused" ? Buffer.from(data.subarray(at, to)) : data.subarray(at, to));
    this.#owned.push(kind === "read");
    return false;
  }

  /** Call from onDrain; true when everything is out. */
  flush(): boolean {
    const pending = this.#pending;
    if (pending !== undefined) {
      while (pending.length > 0) {
        const first = pending[0]!;
        const written = this.socket.write(first, 0, first.length);
        if (written < 0) break;
        if (written < first.length) {
          pending[0] = first.subarray(written);
          return false;
        }
        pending.shift();
        // Several parts of one read may wait in a row; its memory goes with the last.
        if (this.#owned.shift() && pending[0]?.buffer !== first.buffer) release(first);
      }
      this.#pending = undefined;
    }
    if (this.#closing) this.#finish();
    return true;
  }

  /** Sends FIN after what is pending. */
  end(): void {
    this.#closing = true;
    if (this.#pending === undefined) this.#finish();
  }
  #finish(): void {
    this.#closing = false;
    this.socket.shutdown();
  }
}
