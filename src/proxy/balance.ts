// Picks one endpoint of a cluster for a request.

import type { Random } from "../kernel/random.ts";
import { select } from "./balancing/selection.ts";
import type { ClusterSlot, Endpoint } from "./cluster.ts";

/** Further picks to find a host that is not in `avoid` (Envoy: host_selection_retry_max_attempts, Istio sets 5). */
const reselectionsMax = 5;

/**
 * Undefined when the cluster has no usable endpoint. `avoid`: hosts that earlier attempts of this request failed on.
 * `hash` is the request's by its route's hash policy; without one, consistent hashing picks at random.
 */
export function pick(
  slot: ClusterSlot,
  random: Random,
  avoid: readonly Endpoint[] | undefined,
  hash?: bigint,
): Endpoint | undefined {
  if (slot.selection === undefined) {
    if (slot.current === undefined) return undefined;
    slot.selection = select(slot, random);
    if (slot.selection === undefined) return undefined;
  }
  const { selection } = slot;
  let chosen = selection.pick(random, hash, 0);
  if (avoid !== undefined)
    for (let attempt = 1; attempt <= reselectionsMax && avoid.includes(chosen); attempt++)
      chosen = selection.pick(random, hash, attempt);
  return chosen;
}

/** Index into `weights` by one draw; weights of 0 are never chosen. Undefined when all are 0. */
export function pickWeighted(weights: readonly number[], total: number, random: Random): number | undefined {
  if (total <= 0) return undefined;
  let at = random.below(total);
  for (let i = 0; i < weights.length; i++) {
    at -= weights[i]!;
    if (at < 0) return i;
  }
  return undefined;
}
