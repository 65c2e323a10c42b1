// Load balancing fields of an Envoy Cluster message → settings. `load_balancing_policy` wins over `lb_policy`, as in Envoy.

import type { Duration } from "@bufbuild/protobuf/wkt";
import {
  type Cluster,
  Cluster_LbPolicy as LbPolicy,
  Cluster_RingHashLbConfig_HashFunction as RingHashFunction,
} from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import {
  LeastRequestSchema,
  LeastRequest_SelectionMethod as SelectionMethod,
} from "#gen/xds/envoy/extensions/load_balancing_policies/least_request/v3/least_request_pb.js";
import { MaglevSchema } from "#gen/xds/envoy/extensions/load_balancing_policies/maglev/v3/maglev_pb.js";
import { RandomSchema } from "#gen/xds/envoy/extensions/load_balancing_policies/random/v3/random_pb.js";
import {
  RingHashSchema,
  RingHash_HashFunction as TypedHashFunction,
} from "#gen/xds/envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash_pb.js";
import { RoundRobinSchema } from "#gen/xds/envoy/extensions/load_balancing_policies/round_robin/v3/round_robin_pb.js";
import type { Percent } from "#gen/xds/envoy/type/v3/percent_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { isPrime } from "../balancing/consistent.ts";
import type { SlowStart } from "../balancing/slow_start.ts";
import type { SubsetSettings } from "../balancing/subsets.ts";
import { type LoadBalancing, panicThresholdDefaultPercent } from "../clusters/config.ts";
import { durationMs, unpack } from "./any.ts";
import { compileSubsets } from "./subsets.ts";

/** Envoy's defaults. */
const ringSizeMinDefault = 1024;
const ringSizeMaxDefault = 8 * 1024 * 1024;
const maglevTableSizeDefault = 65_537;
const choicesDefault = 2;
const slowStartWeightDefaultPercent = 10;

export interface CompiledBalancing {
  balancing: LoadBalancing;
  panicThresholdPercent: number;
  localityWeighted: boolean;
  subsets: SubsetSettings | undefined;
}

export function compileBalancing(message: Cluster): CompiledBalancing {
  const common = message.commonLbConfig;
  const panicThresholdPercent = Math.min(
    100,
    Math.round(common?.healthyPanicThreshold?.value ?? panicThresholdDefaultPercent),
  );
  if (common?.consistentHashingLbConfig?.hashBalanceFactor !== undefined)
    throw unsupported(message, "consistent_hashing_lb_config.hash_balance_factor");
  const { policies } = message.loadBalancingPolicy ?? { policies: [] };
  if (policies.length > 0) {
    for (const { typedExtensionConfig } of policies) {
      const typed = typedExtensionConfig?.typedConfig && typedBalancing(message, typedExtensionConfig.typedConfig);
      if (typed) return { ...typed, panicThresholdPercent, subsets: undefined };
    }
    throw unsupported(message, `load_balancing_policy ${policies[0]!.typedExtensionConfig?.name ?? ""}`);
  }
  const subsets = message.lbSubsetConfig && compileSubsets(message, message.lbSubsetConfig);
  const localityWeighted = common?.localityConfigSpecifier.case === "localityWeightedLbConfig";
  return {
    balancing: plainBalancing(message),
    panicThresholdPercent,
    localityWeighted: localityWeighted && (subsets?.localityWeighted ?? true),
    subsets,
  };
}

function plainBalancing(message: Cluster): LoadBalancing {
  const { lbConfig } = message;
  switch (message.lbPolicy) {
    case LbPolicy.ROUND_ROBIN: {
      const config = lbConfig.case === "roundRobinLbConfig" ? lbConfig.value : undefined;
      return { policy: "ROUND_ROBIN", slowStart: slowStartOf(config?.slowStartConfig) };
    }
    case LbPolicy.LEAST_REQUEST: {
      const config = lbConfig.case === "leastRequestLbConfig" ? lbConfig.value : undefined;
      return leastRequest(config, false);
    }
    case LbPolicy.RANDOM:
      return { policy: "RANDOM" };
    case LbPolicy.RING_HASH: {
      const config = lbConfig.case === "ringHashLbConfig" ? lbConfig.value : undefined;
      if (config?.hashFunction === RingHashFunction.MURMUR_HASH_2) throw unsupported(message, "MURMUR_HASH_2");
      return ringHash(message, config?.minimumRingSize, config?.maximumRingSize);
    }
    case LbPolicy.MAGLEV:
      return maglev(message, lbConfig.case === "maglevLbConfig" ? lbConfig.value.tableSize : undefined);
    // Only ORIGINAL_DST clusters provide their own, and for those this is not asked.
    default:
      throw unsupported(message, `lb_policy ${LbPolicy[message.lbPolicy]}`);
  }
}

type AnyMessage = Parameters<typeof unpack>[0];

/** Undefined: not a policy we have, so the next of the list is tried. */
function typedBalancing(
  message: Cluster,
  any: AnyMessage,
): Pick<CompiledBalancing, "balancing" | "localityWeighted"> | undefined {
  const weighted = (config: { localityConfigSpecifier: { case?: string | undefined } } | undefined): boolean =>
    config?.localityConfigSpecifier.case === "localityWeightedLbConfig";
  const roundRobin = unpack(any, RoundRobinSchema);
  if (roundRobin)
    return {
      balancing: { policy: "ROUND_ROBIN", slowStart: slowStartOf(roundRobin.slowStartConfig) },
      localityWeighted: weighted(roundRobin.localityLbConfig),
    };
  const least = unpack(any, LeastRequestSchema);
  if (least) {
    const fullScan = least.selectionMethod === SelectionMethod.FULL_SCAN || least.enableFullScan === true;
    return { balancing: leastRequest(least, fullScan), localityWeighted: weighted(least.localityLbConfig) };
  }
  const random = unpack(any, RandomSchema);
  if (random) return { balancing: { policy: "RANDOM" }, localityWeighted: weighted(random.localityLbConfig) };
  const ring = unpack(any, RingHashSchema);
  if (ring) {
    if (ring.hashFunction === TypedHashFunction.MURMUR_HASH_2) throw unsupported(message, "MURMUR_HASH_2");
    const balancing = ringHash(message, ring.minimumRingSize, ring.maximumRingSize);
    return { balancing, localityWeighted: ring.localityWeightedLbConfig !== undefined };
  }
  const table = unpack(any, MaglevSchema);
  if (!table) return undefined;
  return {
    balancing: maglev(message, table.tableSize),
    localityWeighted: table.localityWeightedLbConfig !== undefined,
  };
}

function leastRequest(
  config:
    | {
        choiceCount?: number | undefined;
        activeRequestBias?: { defaultValue: number } | undefined;
        slowStartConfig?: SlowStartMessage | undefined;
      }
    | undefined,
  fullScan: boolean,
): LoadBalancing {
  return {
    policy: "LEAST_REQUEST",
    choices: config?.choiceCount ?? choicesDefault,
    fullScan,
    activeRequestBias: Math.max(0, config?.activeRequestBias?.defaultValue ?? 1),
    slowStart: slowStartOf(config?.slowStartConfig),
  };
}

function ringHash(message: Cluster, min: bigint | undefined, max: bigint | undefined): LoadBalancing {
  const ringSizeMin = min === undefined ? ringSizeMinDefault : Number(min);
  const ringSizeMax = max === undefined ? ringSizeMaxDefault : Number(max);
  if (ringSizeMin > ringSizeMax || ringSizeMin < 1 || ringSizeMax > ringSizeMaxDefault)
    throw new MeshbedError(
      "CLUSTER_INVALID",
      `cluster ${message.name}: ring sizes ${ringSizeMin} to ${ringSizeMax} are no range within 1 to ${ringSizeMaxDefault}`,
    );
  return { policy: "RING_HASH", ringSizeMin, ringSizeMax };
}

/** Envoy's bound. */
const maglevTableSizeMax = 5_000_011;

function maglev(message: Cluster, size: bigint | undefined): LoadBalancing {
  const tableSize = size === undefined ? maglevTableSizeDefault : Number(size);
  if (tableSize > maglevTableSizeMax || !isPrime(tableSize))
    throw new MeshbedError(
      "CLUSTER_INVALID",
      `cluster ${message.name}: maglev table_size ${tableSize} is no prime number up to ${maglevTableSizeMax}`,
    );
  return { policy: "MAGLEV", tableSize };
}

interface SlowStartMessage {
  slowStartWindow?: Duration | undefined;
  aggression?: { defaultValue: number } | undefined;
  minWeightPercent?: Percent | undefined;
}

function slowStartOf(message: SlowStartMessage | undefined): SlowStart | undefined {
  const windowMs = durationMs(message?.slowStartWindow, 0);
  if (windowMs <= 0) return undefined;
  const aggression = message?.aggression?.defaultValue ?? 1;
  return {
    windowMs,
    aggression: aggression > 0 ? aggression : 1,
    weightPercentMin: message?.minWeightPercent?.value ?? slowStartWeightDefaultPercent,
  };
}

const unsupported = ({ name }: Cluster, what: string): MeshbedError =>
  new MeshbedError("CLUSTER_UNSUPPORTED", `cluster ${name}: ${what} is not supported`);
