// Carries TCP connections between the host's localhost and the inside, through a socket file that both can see.

import { type RelayObserver, relay } from "../wire/relay.ts";
import { type OwnedSocket, ownedHandlers, type SocketOwner, SocketWriter } from "../wire/socket.ts";

export type Target = { unix: string } | { hostname: string; port: number };

const connectionsMax = 4_096;
const observer: RelayObserver = { onBytes() {}, onRelayClosed() {} };

/** Waits for the second leg. It is paused, so what the client sends stays in the kernel, but for one read that may be under way. */
class Waiting implements SocketOwner {
  early: Buffer | undefined;
  closed = false;
  ended = false;
  onData(chunk: Buffer): void {
    this.early = this.early ? Buffer.concat([this.early, chunk]) : Buffer.from(chunk);
  }
  onDrain(): void {}
  onEnd(): void {
    this.ended = true;
  }
  onClose(): void {
    this.closed = true;
  }
}

export interface RelayServer {
  stop(): void;
}

/** Accepts at `from` and joins each connection with a new one to what `to` answers; without an answer it is closed. */
export function startRelay(from: Target, to: () => Target | undefined): RelayServer {
  let open = 0;
  const accept = (first: OwnedSocket) => {
    const waiting = new Waiting();
    first.data = waiting;
    first.pause();
    const target = to();
    if (target === undefined || open >= connectionsMax) return void first.end();
    open++;
    const second = {
      onOpen(socket: OwnedSocket) {
        if (waiting.closed) return void socket.end();
        const writers = { first: new SocketWriter(first), second: new SocketWriter(socket) };
        relay(first, socket, writers, { first: waiting.early }, { ...observer, onRelayClosed: () => void open-- });
        if (waiting.ended) first.data.onEnd();
      },
      onConnectError() {
        open--;
        first.end();
      },
      onData() {},
      onDrain() {},
      onEnd() {},
      onClose() {
        open--;
      },
    } satisfies SocketOwner;
    const options = { data: second, socket: ownedHandlers, allowHalfOpen: true };
    const connecting =
      "unix" in target
        ? Bun.connect<SocketOwner>({ ...options, ...target })
        : Bun.connect<SocketOwner>({ ...options, ...target });
    // A refused connection is told to onConnectError as well.
    void connecting.catch(() => {});
  };
  const socket = { ...ownedHandlers, open: accept };
  const listener =
    "unix" in from
      ? Bun.listen<SocketOwner>({ ...from, socket })
      : Bun.listen<SocketOwner>({ ...from, socket, allowHalfOpen: true });
  return { stop: () => listener.stop(true) };
}
