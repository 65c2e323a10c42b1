// A relay with an idle limit and a greatest duration: what TCP proxying and upgraded connections share.

import { type Relay, relay } from "../wire/relay.ts";
import type { OwnedSocket, SocketWriter } from "../wire/socket.ts";
import type { Runtime } from "./chain.ts";
import type { Swept } from "./sweep.ts";

/**
 * While the process drains, a session that has been silent for this long is closed: nothing says that it will ever end by itself.
 * Istio gives its proxies as long to drain (terminationDrainDuration); one that is in use has the whole drain time.
 */
const drainIdleMs = 5_000;

export interface JoinObserver {
  /** Closed after this long without a byte in either direction. */
  idleMs: number;
  /** Closed after this long whatever happens. */
  durationMaxMs: number;
  /** Asked now and then; closed when not. */
  mayGoOn?(): boolean;
  onBytes(fromFirst: boolean, count: number): void;
  onClosed(how: "ended" | "idle" | "expired" | "forbidden"): void;
}

export function joinSockets(
  first: OwnedSocket,
  second: OwnedSocket,
  writers: { first: SocketWriter; second: SocketWriter },
  early: { first?: Buffer | undefined; second?: Buffer | undefined },
  runtime: Runtime,
  observer: JoinObserver,
): Relay {
  const { sweeper } = runtime;
  const startedMs = runtime.clock.monotonicMs();
  let lastActiveMs = startedMs;
  let moved = false;
  let how: "ended" | "idle" | "expired" | "forbidden" = "ended";
  const swept: Swept = {
    onTick(nowMs) {
      if (moved) {
        moved = false;
        lastActiveMs = nowMs;
      }
      const idleMs = runtime.draining ? Math.min(observer.idleMs, drainIdleMs) : observer.idleMs;
      if (nowMs - lastActiveMs > idleMs) how = "idle";
      else if (observer.mayGoOn?.() === false) how = "forbidden";
      else if (nowMs - startedMs > observer.durationMaxMs || runtime.closes === "all") how = "expired";
      else return;
      joined.abort();
    },
  };
  sweeper.add(swept);
  const joined = relay(first, second, writers, early, {
    onBytes(fromFirst, count) {
      moved = true;
      observer.onBytes(fromFirst, count);
    },
    onRelayClosed() {
      sweeper.delete(swept);
      observer.onClosed(how);
    },
  });
  return joined;
}
