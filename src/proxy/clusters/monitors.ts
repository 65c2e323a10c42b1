// What watches a cluster's endpoints while it lives: outlier detection, active health checks, name resolution.

import type { Cancel } from "../../kernel/clock.ts";
import { OutlierDetector } from "../balancing/outlier.ts";
import type { Runtime } from "../chain.ts";
import type { ClusterSlot, Endpoint } from "./cluster.ts";
import { watchDns } from "./dns.ts";
import { HealthChecker } from "./health_checker.ts";

export type MonitorRuntime = Pick<Runtime, "clock" | "random" | "log" | "resolve" | "podSource">;

/**
 * Watches the slot's current cluster; called again when that changes. `names`: the host names of a DNS cluster.
 * `onWarm`: the cluster can be used, after its names were resolved and its endpoints checked for the first time.
 */
export function startMonitors(
  slot: ClusterSlot,
  names: readonly Endpoint[],
  runtime: MonitorRuntime,
  onWarm: () => void,
): void {
  const cluster = slot.current!;
  slot.stopMonitors?.();
  let isChecked = slot.warm;
  const stops: Cancel[] = [watchOutliers(slot, runtime)];
  const { healthCheck } = cluster;
  let checker: HealthChecker | undefined;
  if (healthCheck === undefined) {
    for (const endpoint of slot.made) endpoint.failedActiveCheck = false;
    slot.reselect();
  } else {
    checker = new HealthChecker(slot, healthCheck, runtime, () => {
      isChecked = true;
      slot.warm = true;
      onWarm();
    });
    stops.push(() => checker!.stop());
  }
  const detectorSync = slot.onEndpoints!;
  slot.onEndpoints = () => {
    detectorSync();
    checker?.sync();
    // The first endpoints of all are not used before they have been checked.
    if (!isChecked && checker?.isPending) slot.warm = false;
  };
  if (cluster.dns) stops.push(watchDns(slot, cluster.dns, names, runtime, onWarm));
  slot.stopMonitors = () => {
    for (const stop of stops) stop();
    slot.onEndpoints = undefined;
    slot.stopMonitors = undefined;
  };
}

/** A detector outlives a change of the cluster that leaves its settings alone. */
function watchOutliers(slot: ClusterSlot, { clock, random }: MonitorRuntime): Cancel {
  const { outlier: config } = slot.current!;
  if (config === undefined || !Bun.deepEquals(slot.outliers?.config, config)) {
    slot.outliers = config && new OutlierDetector(config, clock, random, () => slot.reselect());
    for (const endpoint of slot.made) endpoint.outlier = slot.outliers?.add();
    slot.reselect();
  }
  const detector = slot.outliers;
  slot.onEndpoints = () => {
    if (detector === undefined) return;
    const known = new Set(slot.all.map((endpoint) => (endpoint.outlier ??= detector.add())));
    for (const host of detector.hosts) if (!known.has(host)) detector.remove(host);
  };
  slot.onEndpoints();
  return config === undefined ? () => {} : clock.every(config.intervalMs, () => detector!.tick());
}
