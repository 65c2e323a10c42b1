// Graceful end of a server that may be process 1 of its container: not ready first, then no new connections, then finish what runs.

import type { Log } from "./log.ts";

export interface Lifecycle {
  /** False from the first SIGTERM or SIGINT on. */
  readonly draining: boolean;
}

interface Stoppable {
  stop(force?: boolean): Promise<void>;
}

/**
 * Installs the handlers; process 1 gets no default ones from the kernel. After a signal: `drainDelayMs` for load balancers to notice that
 * readiness is gone, then requests in flight finish, at most `graceMs`, then `close` runs and the process ends with 0.
 */
export function drainOnSignal(
  server: () => Stoppable,
  options: { drainDelayMs: number; graceMs: number; log: Log; close: () => Promise<void> | void },
): Lifecycle {
  const state = { draining: false };
  const onSignal = async (signal: string): Promise<void> => {
    if (state.draining) return;
    state.draining = true;
    options.log.info("draining", { signal });
    await Bun.sleep(options.drainDelayMs);
    const finished = await Promise.race([
      server()
        .stop(false)
        .then(() => true),
      Bun.sleep(options.graceMs).then(() => false),
    ]);
    if (!finished) await server().stop(true);
    await options.close();
    options.log.info("stopped", { finished });
    options.log.flush();
    process.exit(0);
  };
  process.on("SIGTERM", () => void onSignal("SIGTERM"));
  process.on("SIGINT", () => void onSignal("SIGINT"));
  return state;
}
