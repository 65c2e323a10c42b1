// lb_subset_config of an Envoy Cluster message → settings.

import type {
  Cluster,
  Cluster_LbSubsetConfig as Message,
  Cluster_LbSubsetConfig_LbSubsetSelector as SelectorMessage,
} from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import {
  Cluster_LbSubsetConfig_LbSubsetFallbackPolicy as FallbackPolicy,
  Cluster_LbSubsetConfig_LbSubsetSelector_LbSubsetSelectorFallbackPolicy as SelectorFallback,
} from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { criteriaOf, type Fallback, noCriteria, type SubsetSettings } from "../balancing/subsets.ts";

const fallbacks: Readonly<Record<FallbackPolicy, Fallback>> = {
  [FallbackPolicy.NO_FALLBACK]: "none",
  [FallbackPolicy.ANY_ENDPOINT]: "any",
  [FallbackPolicy.DEFAULT_SUBSET]: "default",
};

export function compileSubsets(cluster: Cluster, message: Message): SubsetSettings {
  const unsupported = ["scaleLocalityWeight", "panicModeAny", "listAsAny", "metadataFallbackPolicy"] as const;
  for (const field of unsupported)
    if (message[field]) throw refused("UNSUPPORTED", cluster, `${field} is not supported`);
  return {
    fallback: fallbacks[message.fallbackPolicy],
    defaultSubset: criteriaOf(message.defaultSubset) ?? noCriteria,
    selectors: message.subsetSelectors.map((selector) => compileSelector(cluster, selector)),
    localityWeighted: message.localityWeightAware,
  };
}

type Selector = SubsetSettings["selectors"][number];

function compileSelector(cluster: Cluster, message: SelectorMessage): Selector {
  const { fallbackKeysSubset } = message;
  const keys = [...new Set(message.keys)].sort();
  if (keys.length === 0) throw refused("INVALID", cluster, "a selector has no keys");
  if (message.singleHostPerSubset) throw refused("UNSUPPORTED", cluster, "singleHostPerSubset is not supported");
  switch (message.fallbackPolicy) {
    case SelectorFallback.NOT_DEFINED:
      return { keys, fallback: undefined };
    case SelectorFallback.NO_FALLBACK:
      return { keys, fallback: "none" };
    case SelectorFallback.ANY_ENDPOINT:
      return { keys, fallback: "any" };
    case SelectorFallback.DEFAULT_SUBSET:
      return { keys, fallback: "default" };
    case SelectorFallback.KEYS_SUBSET: {
      const fewer = fallbackKeysSubset.length > 0 && fallbackKeysSubset.length < keys.length;
      if (!fewer || !fallbackKeysSubset.every((key) => keys.includes(key)))
        throw refused("INVALID", cluster, `fallback_keys_subset must be some, not all, of ${keys.join(", ")}`);
      return { keys, fallback: { keys: fallbackKeysSubset } };
    }
  }
}

const refused = (kind: "INVALID" | "UNSUPPORTED", { name }: Cluster, what: string): MeshbedError =>
  new MeshbedError(`CLUSTER_${kind}`, `cluster ${name}: lb_subset_config: ${what}`);
