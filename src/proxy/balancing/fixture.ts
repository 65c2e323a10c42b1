// Makes cluster slots of plain endpoints for the tests of balancing.

import { create } from "@bufbuild/protobuf";
import { OutlierDetectionSchema } from "#gen/xds/envoy/config/cluster/v3/outlier_detection_pb.js";
import { ClusterSlot, Endpoint, type Placement, unknownWorkload } from "../clusters/cluster.ts";
import { type Cluster, clusterDefaults } from "../clusters/config.ts";
import { compileOutlier } from "../compile/resilience.ts";
import type { OutlierConfig } from "./outlier.ts";

/** The n-th endpoint has address "n". */
export function endpointsOf(placements: readonly Partial<Placement>[]): Endpoint[] {
  return placements.map((placement, index) => {
    const address = String(index);
    const transport = { host: "h", port: index, tls: undefined, connectTarget: undefined };
    const endpoint = new Endpoint(address, address, transport, unknownWorkload);
    endpoint.placement = { ...endpoint.placement, hashKey: `10.0.0.${index}:80`, ...placement };
    return endpoint;
  });
}

export function slotOf(
  placements: readonly Partial<Placement>[],
  settings: Partial<Cluster>,
  clock?: { monotonicMs(): number },
): ClusterSlot {
  const slot = new ClusterSlot("c", clock);
  slot.current = { ...clusterDefaults("c"), ...settings };
  slot.setEndpoints(endpointsOf(placements));
  return slot;
}

export const weights = (...list: number[]): Partial<Placement>[] => list.map((weight) => ({ weight }));
export const hosts = (count: number, placement: Partial<Placement> = {}): Partial<Placement>[] =>
  Array.from({ length: count }, () => placement);

export const roundRobin = { policy: "ROUND_ROBIN", slowStart: undefined } as const;
export const leastRequest = {
  policy: "LEAST_REQUEST",
  slowStart: undefined,
  choices: 2,
  fullScan: false,
  activeRequestBias: 1,
} as const;

/** Envoy's defaults. */
export const outlierDefaults: OutlierConfig = compileOutlier(create(OutlierDetectionSchema), "c");
