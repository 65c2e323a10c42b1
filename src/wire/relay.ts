// Joins two sockets byte for byte, both ways, with back-pressure and half-close. Used for TCP, upgrades and CONNECT.

import { release } from "./release.ts";
import { closeSocket, type OwnedSocket, type SocketOwner, type SocketWriter } from "./socket.ts";

export interface RelayObserver {
  /** Bytes that arrived from the first (`true`) or the second socket. */
  onBytes(fromFirst: boolean, count: number): void;
  /** Both sides are closed; called once. */
  onRelayClosed(): void;
}

/** One end of a relay: owns its socket, writes to the other end. */
class RelayEnd implements SocketOwner {
  readonly socket: OwnedSocket;
  readonly writer: SocketWriter;
  other!: RelayEnd;
  readonly observer: RelayObserver;
  readonly first: boolean;
  lastActivityMs = 0;
  closed = false;
  ended = false;

  constructor(socket: OwnedSocket, writer: SocketWriter, first: boolean, observer: RelayObserver) {
    this.socket = socket;
    this.writer = writer;
    this.first = first;
    this.observer = observer;
  }

  onData(chunk: Buffer): void {
    this.observer.onBytes(this.first, chunk.length);
    if (this.other.closed) return;
    if (this.other.writer.write(chunk, 0, chunk.length, "read")) release(chunk);
    else this.socket.pause();
  }
  onDrain(): void {
    if (!this.writer.flush()) return;
    if (this.other.closed || (this.ended && this.other.ended)) closeSocket(this.socket);
    else this.other.socket.resume();
  }
  onEnd(): void {
    this.ended = true;
    if (!this.other.closed) this.other.writer.end();
    // Both directions have ended: Bun closes a socket only when told to.
    if (this.other.ended) this.#closeBoth();
  }
  onClose(): void {
    if (this.closed) return;
    this.closed = true;
    if (this.other.closed) this.observer.onRelayClosed();
    else if (this.ended || !this.other.writer.blocked) this.other.shut();
    else this.other.writer.end();
  }
  /** The other side is gone for good: nothing this side sends can be delivered. */
  shut(): void {
    this.writer.end();
    if (!this.writer.blocked) closeSocket(this.socket);
  }
  #closeBoth(): void {
    if (!this.writer.blocked) closeSocket(this.socket);
    if (!this.other.closed && !this.other.writer.blocked) closeSocket(this.other.socket);
  }
}

export interface Relay {
  /** Closes both sides at once. */
  abort(): void;
}

/**
 * Joins `first` and `second`; both get new owners. `firstData` and `secondData` are bytes already read from each.
 * Buffered memory is bounded by one read per direction: a blocked writer pauses the other side's reader.
 */
export function relay(
  first: OwnedSocket,
  second: OwnedSocket,
  writers: { first: SocketWriter; second: SocketWriter },
  early: { first?: Buffer | undefined; second?: Buffer | undefined },
  observer: RelayObserver,
): Relay {
  const a = new RelayEnd(first, writers.first, true, observer);
  const b = new RelayEnd(second, writers.second, false, observer);
  a.other = b;
  b.other = a;
  first.data = a;
  second.data = b;
  if (early.first?.length) a.onData(early.first);
  if (early.second?.length) b.onData(early.second);
  if (!b.writer.blocked) first.resume();
  if (!a.writer.blocked) second.resume();
  return {
    abort() {
      first.terminate();
      second.terminate();
    },
  };
}
