// Where endpoints are, and in which order or shares a client elsewhere uses them (localityLbSetting). Pure.

import { getOrAdd } from "../kernel/map.ts";
import { distributionOf, failoverOf, type PortPolicy } from "./policies.ts";
import type { Model, Workload } from "./types.ts";

export interface Locality {
  region: string;
  zone: string;
  subZone: string;
}

/** Of a client. */
export interface Place {
  /** Equal for clients that are to be told the same; empty while no rule asks where a client is. */
  key: string;
  locality: Locality;
  labels: Readonly<Record<string, string>>;
}

/** An endpoint as far as its place goes. */
interface Placed {
  workload: Workload | undefined;
  nodeName: string;
  labels?: Readonly<Record<string, string>> | undefined;
  weight?: number | undefined;
  locality?: Locality | undefined;
}

/** Endpoints of one locality with one priority. */
export interface LocalityGroup<E> {
  locality: Locality;
  priority: number;
  weight: number;
  endpoints: E[];
}

const localityLabel = "istio-locality";
const regionLabel = "topology.kubernetes.io/region";
const zoneLabel = "topology.kubernetes.io/zone";
const subZoneLabel = "topology.istio.io/subzone";

/** By the labels of the node, unless the workload's say it: "region.zone.subzone", or with slashes (Istio: GetLocalityLabel). */
export function localityOf(model: Model, nodeName: string, own: Readonly<Record<string, string>> = {}): Locality {
  const said = own[localityLabel];
  if (said) {
    const [region = "", zone = "", subZone = ""] = said.split(said.includes("/") ? "/" : ".");
    return { region, zone, subZone };
  }
  const labels = model.nodeByName.get(nodeName)?.metadata.labels ?? {};
  return { region: labels[regionLabel] ?? "", zone: labels[zoneLabel] ?? "", subZone: labels[subZoneLabel] ?? "" };
}

export const localityText = ({ region, zone, subZone }: Locality): string => `${region}/${zone}/${subZone}`;

/** A workload's labels with those of its node's place, as Istio adds them. */
export function placeLabels(model: Model, nodeName: string, labels: Readonly<Record<string, string>> = {}) {
  const { region, zone, subZone } = localityOf(model, nodeName, labels);
  const places = { [regionLabel]: region, [zoneLabel]: zone, [subZoneLabel]: subZone };
  return { ...labels, ...places, "kubernetes.io/hostname": nodeName };
}

/** Sorted by locality. `place` undefined: nearness does not matter. */
export function groupByLocality<E extends Placed>(
  model: Model,
  endpoints: readonly E[],
  policy: PortPolicy,
  place: Place | undefined,
): LocalityGroup<E>[] {
  const distribution = distributionOf(policy);
  const failover = place && failoverOf(policy);
  const labels = failover?.priority ?? [];
  const groups = new Map<string, LocalityGroup<E>>();
  for (const endpoint of endpoints) {
    const locality = endpoint.locality ?? localityOf(model, endpoint.nodeName, endpoint.workload?.labels);
    const own =
      labels.length > 0 ? placeLabels(model, endpoint.nodeName, endpoint.labels ?? endpoint.workload?.labels) : {};
    let priority = 0;
    if (place && labels.length > 0) priority = priorityByLabels(place.labels, own, labels);
    else if (place && failover) priority = priorityByPlace(place.locality, locality, failover.failover);
    const id = `${localityText(locality)}|${priority}`;
    const group = getOrAdd(groups, id, () => ({ locality, priority, weight: 0, endpoints: [] }));
    group.weight += endpoint.weight || 1;
    group.endpoints.push(endpoint);
  }
  const sorted = [...groups.keys()].sort().map((id) => groups.get(id)!);
  if (place && distribution) return distribute(sorted, place.locality, distribution);
  // Envoy wants priorities without gaps.
  const used = [...new Set(sorted.map(({ priority }) => priority))].sort((a, b) => a - b);
  for (const group of sorted) group.priority = used.indexOf(group.priority);
  return sorted;
}

/** Same sub-zone, zone, region; then the region that `failover` names for the client's, then the others. */
function priorityByPlace(
  client: Locality,
  endpoint: Locality,
  failover: readonly { from?: string; to?: string }[],
): number {
  if (client.region === endpoint.region) {
    if (client.zone !== endpoint.zone) return 2;
    return client.subZone === endpoint.subZone ? 0 : 1;
  }
  const rule = failover.find(({ from }) => from === client.region);
  return rule !== undefined && rule.to !== endpoint.region ? 4 : 3;
}

/** The more of the labels are equal, from the first on, the nearer. "name=value" says the client's value. */
function priorityByLabels(
  client: Readonly<Record<string, string>>,
  endpoint: Readonly<Record<string, string>>,
  labels: readonly string[],
): number {
  const differs = labels.findIndex((text) => {
    const equals = text.indexOf("=");
    const name = equals < 0 ? text : text.slice(0, equals);
    return (equals < 0 ? (client[name] ?? "") : text.slice(equals + 1)) !== (endpoint[name] ?? "");
  });
  return differs < 0 ? 0 : labels.length - differs;
}

/** The first rule for the client's place decides; localities it does not name get nothing. No rule: as many as there are. */
function distribute<E>(
  groups: readonly LocalityGroup<E>[],
  client: Locality,
  distribution: readonly { from?: string; to?: Record<string, number> }[],
): LocalityGroup<E>[] {
  const rule = distribution.find(({ from }) => covers(from ?? "", client));
  if (rule === undefined) return [...groups];
  const left = new Set(groups);
  const kept = new Set<LocalityGroup<E>>();
  for (const [pattern, share] of Object.entries(rule.to ?? {})) {
    const matching = [...left].filter(({ locality }) => covers(pattern, locality));
    const total = matching.reduce((sum, { weight }) => sum + weight, 0);
    for (const group of matching) {
      left.delete(group);
      if (share === 0) continue;
      // A pattern's share is divided by how many endpoints its localities have.
      group.weight = Math.ceil((group.weight * share) / total);
      kept.add(group);
    }
  }
  return groups.filter((group) => kept.has(group));
}

/** "region/zone/subzone", ended early or with "*". */
function covers(pattern: string, { region, zone, subZone }: Locality): boolean {
  const [r = "", z = "*", s = "*"] = pattern.split("/");
  const fits = (part: string, value: string): boolean => part === "*" || part === value;
  return fits(r, region) && (z === "" || fits(z, zone)) && (s === "" || fits(s, subZone));
}
