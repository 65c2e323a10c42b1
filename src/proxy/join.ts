// A relay with an idle limit: what TCP proxying and upgraded connections share.

import { type Relay, relay } from "../wire/relay.ts";
import type { OwnedSocket, SocketWriter } from "../wire/socket.ts";
import type { Runtime } from "./chain.ts";
import type { Swept } from "./sweep.ts";

export interface JoinObserver {
  /** Closed after this long without a byte in either direction. */
  idleMs: number;
  onBytes(fromFirst: boolean, count: number): void;
  onClosed(): void;
}

export function joinSockets(
  first: OwnedSocket,
  second: OwnedSocket,
  writers: { first: SocketWriter; second: SocketWriter },
  early: { first?: Buffer | undefined; second?: Buffer | undefined },
  runtime: Runtime,
  observer: JoinObserver,
): void {
  const { sweeper } = runtime;
  let lastActiveMs = sweeper.nowMs;
  let joined: Relay | undefined;
  const swept: Swept = {
    onTick(nowMs) {
      if (nowMs - lastActiveMs > observer.idleMs) joined?.abort();
    },
  };
  sweeper.add(swept);
  joined = relay(first, second, writers, early, {
    onBytes(fromFirst, count) {
      lastActiveMs = sweeper.nowMs;
      observer.onBytes(fromFirst, count);
    },
    onRelayClosed() {
      sweeper.delete(swept);
      observer.onClosed();
    },
  });
}
