// Picks one endpoint of a cluster: round robin, least request of two random ones, random; all weighted. Pure but for the rotation counter.

import type { Random } from "../kernel/random.ts";
import type { ClusterSlot, Endpoint } from "./cluster.ts";

/** Tries to find one that is not in `avoid` before giving in (Envoy: host_selection_retry_max_attempts, Istio sets 5). */
const reselectionsMax = 5;

/** Undefined when the cluster has no usable endpoint. `avoid`: hosts that earlier attempts of this request failed on. */
export function pick(slot: ClusterSlot, random: Random, avoid: readonly Endpoint[] | undefined): Endpoint | undefined {
  const { endpoints } = slot;
  if (endpoints.length <= 1) return endpoints[0];
  let chosen = pickOnce(slot, endpoints, random);
  if (avoid !== undefined)
    for (let i = 0; i < reselectionsMax && avoid.includes(chosen); i++) chosen = pickOnce(slot, endpoints, random);
  return chosen;
}

function pickOnce(slot: ClusterSlot, endpoints: readonly Endpoint[], random: Random): Endpoint {
  switch (slot.current?.policy) {
    case "RANDOM":
      return slot.uniformWeights ? endpoints[random.below(endpoints.length)]! : weightedRandom(endpoints, random);
    case "ROUND_ROBIN":
      return slot.uniformWeights ? endpoints[slot.rotation++ % endpoints.length]! : smoothRotation(endpoints);
    default:
      return slot.uniformWeights ? leastOfTwo(endpoints, random) : leastLoaded(endpoints, random);
  }
}

/** Envoy's LEAST_REQUEST with equal weights and choice_count 2; the two are different hosts. */
function leastOfTwo(endpoints: readonly Endpoint[], random: Random): Endpoint {
  const first = random.below(endpoints.length);
  let second = random.below(endpoints.length - 1);
  if (second >= first) second++;
  const a = endpoints[first]!;
  const b = endpoints[second]!;
  return b.active < a.active ? b : a;
}

/** Unequal weights: two draws by weight, then the lower active requests per weight. */
function leastLoaded(endpoints: readonly Endpoint[], random: Random): Endpoint {
  const a = weightedRandom(endpoints, random);
  const b = weightedRandom(endpoints, random);
  return (b.active + 1) / b.weight < (a.active + 1) / a.weight ? b : a;
}

function weightedRandom(endpoints: readonly Endpoint[], random: Random): Endpoint {
  let total = 0;
  for (let i = 0; i < endpoints.length; i++) total += endpoints[i]!.weight;
  let at = random.next() * total;
  for (let i = 0; i < endpoints.length; i++) {
    at -= endpoints[i]!.weight;
    if (at < 0) return endpoints[i]!;
  }
  return endpoints[endpoints.length - 1]!;
}

/** nginx's smooth weighted round robin: every host gets its share, spread evenly over the rotation. */
function smoothRotation(endpoints: readonly Endpoint[]): Endpoint {
  let total = 0;
  let best = endpoints[0]!;
  for (let i = 0; i < endpoints.length; i++) {
    const endpoint = endpoints[i]!;
    endpoint.balance += endpoint.weight;
    total += endpoint.weight;
    if (endpoint.balance > best.balance) best = endpoint;
  }
  best.balance -= total;
  return best;
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
