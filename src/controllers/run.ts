// Runs a reconciler over shared informers as a controller: the part all of them have in common.

import { runReconciler } from "../client/runner.ts";
import type { ReconcileResult } from "../client/types.ts";
import type { Controller, ControllerDeps } from "./types.ts";

export interface ControllerParts {
  name: string;
  reconcile(key: string): Promise<ReconcileResult>;
  /** Nothing is reconciled before these are synced. */
  needs: readonly { readonly synced: Promise<void> }[];
  /** Every key there is, for when the queue overflowed. */
  keys(): Iterable<string>;
  /** Subscribes to what concerns this controller; answers what unsubscribes. */
  watch(enqueue: (key: string) => void): readonly (() => void)[];
  activeMax?: number;
  delayMaxMs?: number;
}

export function runController({ clock, random, log }: ControllerDeps, parts: ControllerParts): Controller {
  const { name, reconcile, activeMax, delayMaxMs } = parts;
  const runner = runReconciler({
    reconciler: { name, reconcile },
    clock,
    random,
    log,
    ready: Promise.all(parts.needs.map(({ synced }) => synced)),
    allKeys: parts.keys,
    ...(activeMax !== undefined && { activeMax }),
    ...(delayMaxMs !== undefined && { delayMaxMs }),
  });
  const stops = parts.watch(runner.enqueue);
  return {
    name,
    idle: runner.idle,
    stop() {
      runner.stop();
      for (const stop of stops) stop();
    },
  };
}
