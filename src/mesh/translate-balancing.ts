// loadBalancer of a DestinationRule → a cluster's balancing, and the hash policies of routes that lead to it. Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  Cluster_SlowStartConfigSchema,
  type ClusterSchema,
  Cluster_LbPolicy as Lb,
  type Cluster_SlowStartConfig as SlowStart,
} from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import {
  type RouteAction_HashPolicy as HashPolicy,
  RouteAction_HashPolicySchema as HashPolicySchema,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { parseDurationMs } from "../api/duration.ts";
import { durationOf } from "./envoy.ts";
import type { PortPolicy } from "./policies.ts";

type LoadBalancer = NonNullable<PortPolicy["loadBalancer"]>;
type Balancing = Required<Pick<MessageInitShape<typeof ClusterSchema>, "lbPolicy">> &
  Pick<MessageInitShape<typeof ClusterSchema>, "lbConfig">;

export function balancingOf(balancer: LoadBalancer | undefined): Balancing {
  const hash = balancer?.consistentHash;
  if (hash?.maglev !== undefined) {
    const { tableSize } = hash.maglev;
    if (!tableSize || !isTableSize(tableSize)) return { lbPolicy: Lb.MAGLEV };
    return { lbPolicy: Lb.MAGLEV, lbConfig: { case: "maglevLbConfig", value: { tableSize: BigInt(tableSize) } } };
  }
  if (hash !== undefined) {
    const size = hash.ringHash?.minimumRingSize || hash.minimumRingSize;
    if (!size || size > ringSizeMax) return { lbPolicy: Lb.RING_HASH };
    return { lbPolicy: Lb.RING_HASH, lbConfig: { case: "ringHashLbConfig", value: { minimumRingSize: BigInt(size) } } };
  }
  const slowStartConfig = slowStartOf(balancer);
  switch (balancer?.simple) {
    case "ROUND_ROBIN":
      return {
        lbPolicy: Lb.ROUND_ROBIN,
        ...(slowStartConfig && { lbConfig: { case: "roundRobinLbConfig", value: { slowStartConfig } } }),
      };
    case "RANDOM":
      return { lbPolicy: Lb.RANDOM };
    case "PASSTHROUGH":
      return { lbPolicy: Lb.CLUSTER_PROVIDED };
    default:
      return {
        lbPolicy: Lb.LEAST_REQUEST,
        ...(slowStartConfig && { lbConfig: { case: "leastRequestLbConfig", value: { slowStartConfig } } }),
      };
  }
}

/** Envoy's bounds: a cluster beyond them would be refused, and all others with it. */
export const ringSizeMax = 8_388_608;
const tableSizeMax = 5_000_011;

/** Maglev wants a prime number. */
export function isTableSize(size: number): boolean {
  if (size < 2 || size > tableSizeMax) return false;
  for (let divisor = 2; divisor * divisor <= size; divisor++) if (size % divisor === 0) return false;
  return true;
}

/** Istio: warmup, with its defaults; the older warmupDurationSecs leaves them to the proxy. */
function slowStartOf(balancer: LoadBalancer | undefined): SlowStart | undefined {
  const warmup = balancer?.warmup;
  const durationMs = parseDurationMs(warmup?.duration ?? balancer?.warmupDurationSecs ?? "");
  if (!durationMs) return undefined;
  return create(Cluster_SlowStartConfigSchema, {
    slowStartWindow: durationOf(durationMs),
    ...(warmup && {
      aggression: { defaultValue: warmup.aggression ?? 1, runtimeKey: "" },
      minWeightPercent: { value: warmup.minimumPercent ?? 10 },
    }),
  });
}

/** What of a request decides on its host; none when the cluster does not hash. */
export function hashPolicyOf(balancer: LoadBalancer | undefined): HashPolicy | undefined {
  const hash = balancer?.consistentHash;
  if (hash === undefined) return undefined;
  const { httpHeaderName, httpCookie, httpQueryParameterName, useSourceIp } = hash;
  if (httpHeaderName !== undefined)
    return create(HashPolicySchema, { policySpecifier: { case: "header", value: { headerName: httpHeaderName } } });
  if (httpCookie !== undefined) {
    const { name, path = "", ttl, attributes = [] } = httpCookie;
    const ttlMs = ttl === undefined ? undefined : parseDurationMs(ttl);
    const value = { name, path, attributes, ...(ttlMs !== undefined && { ttl: durationOf(ttlMs) }) };
    return create(HashPolicySchema, { policySpecifier: { case: "cookie", value } });
  }
  if (httpQueryParameterName !== undefined)
    return create(HashPolicySchema, {
      policySpecifier: { case: "queryParameter", value: { name: httpQueryParameterName } },
    });
  if (useSourceIp)
    return create(HashPolicySchema, { policySpecifier: { case: "connectionProperties", value: { sourceIp: true } } });
  return undefined;
}
