// How much of the load each priority gets, and where the balancer panics: Envoy's priority spill-over in whole percents, pure.

export interface PriorityHosts {
  total: number;
  healthy: number;
  degraded: number;
}

export interface PriorityLoad {
  /** Percent of all requests for its healthy hosts; in panic, for all its hosts. */
  healthy: number;
  /** Percent for its degraded hosts. */
  degraded: number;
  /** Too few hosts are available: health is disregarded. */
  panic: boolean;
}

/** Of the priorities from the most preferred on. Loads add up to 100 unless there is no host to be used. */
export function priorityLoads(
  priorities: readonly PriorityHosts[],
  panicThresholdPercent: number,
  overprovisioningPercent: number,
): PriorityLoad[] {
  const share = (hosts: number, total: number): number =>
    total === 0 ? 0 : Math.min(100, Math.floor((overprovisioningPercent * hosts) / total));
  const healthy = priorities.map((hosts) => share(hosts.healthy, hosts.total));
  const degraded = priorities.map((hosts) => share(hosts.degraded, hosts.total));
  const available = Math.min(100, sum(healthy) + sum(degraded));
  const panics = priorities.map(({ total, healthy, degraded }) => {
    const percent = total === 0 ? 0 : (100 * (healthy + degraded)) / total;
    return available < 100 && percent < panicThresholdPercent;
  });
  if (panics.every((panic) => panic)) return panicLoads(priorities);
  const loads = panics.map((panic) => ({ healthy: 0, degraded: 0, panic }));
  if (available === 0) return loads;
  let left = 100;
  for (const of of ["healthy", "degraded"] as const)
    (of === "healthy" ? healthy : degraded).forEach((percent, priority) => {
      const load = Math.min(left, Math.floor((percent * 100) / available));
      loads[priority]![of] = load;
      left -= load;
    });
  // What rounding left over.
  const firstHealthy = healthy.findIndex((percent) => percent > 0);
  if (firstHealthy >= 0) loads[firstHealthy]!.healthy += left;
  else loads[degraded.findIndex((percent) => percent > 0)]!.degraded += left;
  return loads;
}

/** Every priority panics: load by number of hosts, whatever their health. */
function panicLoads(priorities: readonly PriorityHosts[]): PriorityLoad[] {
  const total = sum(priorities.map((hosts) => hosts.total));
  const loads = priorities.map((hosts) => ({
    healthy: total === 0 ? 0 : Math.floor((100 * hosts.total) / total),
    degraded: 0,
    panic: true,
  }));
  const first = priorities.findIndex((hosts) => hosts.total > 0);
  if (first >= 0) loads[first]!.healthy += 100 - sum(loads.map((load) => load.healthy));
  return loads;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);

/** A locality's weight by how much of it is available, with the same overprovisioning (Envoy: effective locality weight). */
export function localityLoad(
  weight: number,
  available: number,
  total: number,
  overprovisioningPercent: number,
): number {
  return total === 0 ? 0 : weight * Math.min(1, (overprovisioningPercent / 100) * (available / total));
}
