// Picks one endpoint of a cluster for a request.

import type { Random } from "../../kernel/random.ts";
import type { ClusterSlot, Endpoint } from "../clusters/cluster.ts";
import { type Selection, select } from "./selection.ts";
import { type Criteria, noCriteria, subsetHosts } from "./subsets.ts";

/** Further picks to find a host that is not in `avoid` (Envoy: host_selection_retry_max_attempts, Istio sets 5). */
const reselectionsMax = 5;

/**
 * Undefined when the cluster has no usable endpoint. `avoid`: hosts that earlier attempts of this request failed on.
 * `hash` is the request's by its route's hash policy; without one, consistent hashing picks at random.
 * `criteria`: what the route asks of endpoints, which matters to clusters with subsets.
 */
export function pick(
  slot: ClusterSlot,
  random: Random,
  avoid: readonly Endpoint[] | undefined,
  hash?: bigint,
  criteria?: Criteria,
): Endpoint | undefined {
  const selection = slot.selection ?? prepare(slot, random, criteria);
  if (selection === undefined) return undefined;
  const { picker, hosts } = selection;
  let chosen = picker.pick(random, hash, 0);
  if (avoid === undefined) return chosen;
  for (let attempt = 1; attempt <= reselectionsMax && avoid.includes(chosen); attempt++)
    chosen = picker.pick(random, hash, attempt);
  // Unlike Envoy, any other host before a failed one: a dead host has the fewest requests, so LEAST_REQUEST likes it best.
  return avoid.includes(chosen) ? (otherThan(avoid, hosts, random) ?? chosen) : chosen;
}

/** What a retry policy says about hosts that were tried before. */
export interface Reselection {
  avoidPreviousHosts: boolean;
  /** After each so many failed tries, their priorities are left out (Envoy: previous_priorities); 0: never. */
  prioritiesEvery: number;
}

/** As `pick`, for a request that may have failed on some hosts. When all priorities were tried they are tried again. */
export function pickAgain(
  slot: ClusterSlot,
  random: Random,
  failed: readonly Endpoint[] | undefined,
  policy: Reselection | undefined,
  hash: bigint | undefined,
  criteria: Criteria | undefined,
): Endpoint | undefined {
  if (failed === undefined || policy === undefined) return pick(slot, random, undefined, hash, criteria);
  const { avoidPreviousHosts, prioritiesEvery } = policy;
  const counted = prioritiesEvery === 0 ? 0 : failed.length - (failed.length % prioritiesEvery);
  const subsets = slot.current?.subsets;
  if (counted > 0) {
    const tried = new Set(failed.slice(0, counted).map(({ placement }) => placement.priority));
    const hosts = subsets ? subsetHosts(slot.all, subsets, criteria) : slot.all;
    const others = hosts.filter(({ placement }) => !tried.has(placement.priority));
    const chosen = select(slot, others, random)?.picker.pick(random, hash, 0);
    if (chosen !== undefined) return chosen;
  }
  return pick(slot, random, avoidPreviousHosts ? failed : undefined, hash, criteria);
}

function otherThan(avoid: readonly Endpoint[], hosts: readonly Endpoint[], random: Random): Endpoint | undefined {
  const start = random.below(hosts.length);
  for (let i = 0; i < hosts.length; i++) {
    const host = hosts[(start + i) % hosts.length]!;
    if (!avoid.includes(host)) return host;
  }
  return undefined;
}

/** After a change, and for each pick of a subset. */
function prepare(slot: ClusterSlot, random: Random, criteria: Criteria = noCriteria): Selection | undefined {
  const { current, subsets } = slot;
  if (current === undefined) return undefined;
  if (current.subsets === undefined) {
    slot.selection = select(slot, slot.all, random);
    return slot.selection;
  }
  if (!subsets.has(criteria.id))
    subsets.set(criteria.id, select(slot, subsetHosts(slot.all, current.subsets, criteria), random));
  return subsets.get(criteria.id);
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
