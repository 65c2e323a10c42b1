// Subsets of a cluster's endpoints by their metadata (Envoy: lb_subset_config), pure.

import type { JsonObject } from "@bufbuild/protobuf";
import type { Endpoint } from "../clusters/cluster.ts";

/** What a route asks of endpoints: every key with its value, as JSON. */
export interface Criteria {
  readonly pairs: readonly (readonly [key: string, value: string])[];
  /** Equal for equal criteria. */
  readonly id: string;
}

export type Fallback = "none" | "any" | "default";

export interface SubsetSettings {
  readonly fallback: Fallback;
  readonly defaultSubset: Criteria;
  /** `keys`: sorted. `fallback`: undefined takes the cluster's; keys are those of the criteria to go on with. */
  readonly selectors: readonly {
    keys: readonly string[];
    fallback: Fallback | { keys: readonly string[] } | undefined;
  }[];
  readonly localityWeighted: boolean;
}

/** Of metadata of which the later wins; undefined when nothing is asked. */
export function criteriaOf(...metadata: readonly (JsonObject | undefined)[]): Criteria | undefined {
  const merged: JsonObject = Object.assign({}, ...metadata);
  const pairs = Object.keys(merged)
    .sort()
    .map((key) => [key, JSON.stringify(merged[key])] as const);
  return pairs.length === 0 ? undefined : withId(pairs);
}

const withId = (pairs: Criteria["pairs"]): Criteria => ({ pairs, id: JSON.stringify(pairs) });
export const noCriteria: Criteria = withId([]);

/** The endpoints that a request with these criteria may go to. */
export function subsetHosts(
  all: readonly Endpoint[],
  settings: SubsetSettings,
  criteria: Criteria = noCriteria,
): readonly Endpoint[] {
  const keys = criteria.pairs.map(([key]) => key).join();
  const selector = settings.selectors.find((one) => one.keys.length > 0 && one.keys.join() === keys);
  if (selector) {
    const found = matching(all, criteria);
    if (found.length > 0) return found;
  }
  const fallback = selector?.fallback ?? settings.fallback;
  if (typeof fallback === "object") {
    // Fewer keys than before, so that this ends.
    const fewer = criteria.pairs.filter(([key]) => fallback.keys.includes(key));
    return subsetHosts(all, settings, withId(fewer));
  }
  if (fallback === "any") return all;
  return fallback === "default" ? matching(all, settings.defaultSubset) : [];
}

function matching(all: readonly Endpoint[], { pairs }: Criteria): readonly Endpoint[] {
  return all.filter(({ metadata }) => {
    const own = (metadata?.["envoy.lb"] ?? {}) as JsonObject;
    return pairs.every(([key, value]) => Object.hasOwn(own, key) && JSON.stringify(own[key]) === value);
  });
}
