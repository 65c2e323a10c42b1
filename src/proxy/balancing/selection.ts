// How a cluster's endpoints are picked from now until they change: groups by priority, health and locality, each with its policy.

import type { Random } from "../../kernel/random.ts";
import type { ClusterSlot, Endpoint } from "../clusters/cluster.ts";
import type { LoadBalancing } from "../clusters/config.ts";
import { type HashTable, maglevTable, randomHash, ringTable } from "./consistent.ts";
import { Edf } from "./edf.ts";
import { localityLoad, type PriorityLoad, priorityLoads } from "./priority.ts";
import { type SlowStart, slowStartFactor } from "./slow_start.ts";

/** Endpoints that stand in for each other. */
interface Group {
  /** Share of the cluster's load. */
  load: number;
  hosts: readonly Endpoint[];
}

/** Picks one of a group. `hash` matters to consistent hashing only, where `attempt` counts the hosts rejected before. */
interface Picker {
  pick(random: Random, hash: bigint | undefined, attempt: number): Endpoint;
}

export interface Selection {
  readonly picker: Picker;
  /** All that the picker may choose. */
  readonly hosts: readonly Endpoint[];
}

/** How to pick one of `all`, which is the slot's endpoints or a subset of them. Undefined: there is no host to be used. */
export function select(slot: ClusterSlot, all: readonly Endpoint[], random: Random): Selection | undefined {
  const { balancing } = slot.current!;
  const consistent = balancing.policy === "RING_HASH" || balancing.policy === "MAGLEV";
  const groups = loadGroups(slot, all, !consistent).filter(({ load }) => load > 0);
  const pickers = groups.map(({ hosts }) => pickerOf(balancing, hosts, all, slot, random));
  if (pickers.length === 0) return undefined;
  const hosts = groups.flatMap((group) => group.hosts);
  if (pickers.length === 1) return { picker: pickers[0]!, hosts };
  const loads = groups.map(({ load }) => load);
  return { picker: consistent ? new HashedGroups(pickers, loads) : new SharedGroups(pickers, loads), hosts };
}

/** The groups of a cluster with their loads. `byLocality`: weighted localities are groups of their own. */
function loadGroups(slot: ClusterSlot, all: readonly Endpoint[], byLocality: boolean): Group[] {
  const { panicThresholdPercent, localityWeighted } = slot.current!;
  const { overprovisioningPercent } = slot;
  const byPriority: Endpoint[][] = [];
  for (const endpoint of all) {
    const { priority, weight } = endpoint.placement;
    while (byPriority.length <= priority) byPriority.push([]);
    if (weight > 0) byPriority[priority]!.push(endpoint);
  }
  const loads = priorityLoads(
    byPriority.map((hosts) => ({
      total: hosts.length,
      healthy: countOf(hosts, "healthy"),
      degraded: countOf(hosts, "degraded"),
    })),
    panicThresholdPercent,
    overprovisioningPercent,
  );
  return byPriority.flatMap((hosts, priority) =>
    priorityGroups(hosts, loads[priority]!, localityWeighted && byLocality ? overprovisioningPercent : undefined),
  );
}

const countOf = (hosts: readonly Endpoint[], health: string): number =>
  hosts.reduce((count, host) => count + Number(host.health === health), 0);

/** `overprovisioningPercent` is given when localities are weighted. In panic localities do not count. */
function priorityGroups(
  hosts: readonly Endpoint[],
  load: PriorityLoad,
  overprovisioningPercent: number | undefined,
): Group[] {
  if (load.panic) return [{ load: load.healthy, hosts }];
  return (["healthy", "degraded"] as const).flatMap((health) => {
    const usable = hosts.filter((host) => host.health === health);
    if (usable.length === 0 || load[health] === 0) return [];
    const localities =
      overprovisioningPercent === undefined ? [] : localityGroups(hosts, usable, overprovisioningPercent);
    const total = localities.reduce((sum, group) => sum + group.load, 0);
    if (total === 0) return [{ load: load[health], hosts: usable }];
    return localities.map((group) => ({ load: (load[health] * group.load) / total, hosts: group.hosts }));
  });
}

function localityGroups(
  all: readonly Endpoint[],
  usable: readonly Endpoint[],
  overprovisioningPercent: number,
): Group[] {
  const groups = new Map<string, Endpoint[]>();
  for (const host of usable) {
    const group = groups.get(host.placement.locality);
    if (group) group.push(host);
    else groups.set(host.placement.locality, [host]);
  }
  return [...groups].map(([locality, hosts]) => {
    const total = all.reduce((count, { placement }) => count + Number(placement.locality === locality), 0);
    const { localityWeight } = hosts[0]!.placement;
    return { load: localityLoad(localityWeight, hosts.length, total, overprovisioningPercent), hosts };
  });
}

function pickerOf(
  balancing: LoadBalancing,
  hosts: readonly Endpoint[],
  all: readonly Endpoint[],
  slot: ClusterSlot,
  random: Random,
): Picker {
  if (hosts.length === 1) return new Only(hosts[0]!);
  switch (balancing.policy) {
    case "RANDOM":
      return new RandomPicker(hosts);
    case "RING_HASH":
      return new HashPicker(hosts, ringTable(hashed(hosts, all, slot), balancing.ringSizeMin, balancing.ringSizeMax));
    case "MAGLEV":
      return new HashPicker(hosts, maglevTable(hashed(hosts, all, slot), balancing.tableSize));
    case "LEAST_REQUEST": {
      const { slowStart, activeRequestBias, choices, fullScan } = balancing;
      if (!isUniform(hosts, slot, slowStart)) return new WeightedPicker(hosts, slot, slowStart, activeRequestBias);
      if (fullScan || choices >= hosts.length) return new LeastOfAll(hosts);
      return choices === 2 ? new LeastOfTwo(hosts) : new LeastOfSome(hosts, choices);
    }
    default: {
      const slowStart = balancing.policy === "ROUND_ROBIN" ? balancing.slowStart : undefined;
      if (!isUniform(hosts, slot, slowStart)) return new WeightedPicker(hosts, slot, slowStart, 0);
      return new Rotation(hosts, random.below(hosts.length));
    }
  }
}

/** Equal weights, and nobody in slow start. */
function isUniform(hosts: readonly Endpoint[], slot: ClusterSlot, slowStart: SlowStart | undefined): boolean {
  const nowMs = slot.nowMs();
  return hosts.every(
    (host) =>
      host.weight === hosts[0]!.weight &&
      (slowStart === undefined || nowMs - host.healthySinceMs >= slowStart.windowMs),
  );
}

/** With weighted localities a host's share is that of its locality, divided by the weights within. */
function hashed(
  hosts: readonly Endpoint[],
  all: readonly Endpoint[],
  slot: ClusterSlot,
): { key: string; weight: number }[] {
  const plain = hosts.map(({ placement }) => ({ key: placement.hashKey, weight: placement.weight }));
  if (!slot.current!.localityWeighted) return plain;
  const groups = localityGroups(
    all.filter(({ priority }) => priority === hosts[0]!.priority),
    hosts,
    slot.overprovisioningPercent,
  );
  if (groups.every(({ load }) => load === 0)) return plain;
  const shares = new Map<Endpoint, number>();
  for (const { load, hosts: members } of groups) {
    const weight = members.reduce((sum, host) => sum + host.weight, 0);
    for (const host of members) shares.set(host, (load * host.weight) / weight);
  }
  return hosts.map((host) => ({ key: host.placement.hashKey, weight: shares.get(host)! }));
}

// ---- between groups ----

/** Groups take turns by load. */
class SharedGroups implements Picker {
  readonly #groups: readonly Picker[];
  readonly #loads: readonly number[];
  readonly #turns: Edf;
  constructor(groups: readonly Picker[], loads: readonly number[]) {
    this.#groups = groups;
    this.#loads = loads;
    this.#turns = new Edf(loads);
  }
  pick(random: Random, hash: bigint | undefined, attempt: number): Endpoint {
    const at = this.#turns.first;
    this.#turns.putBack(this.#loads[at]!);
    return this.#groups[at]!.pick(random, hash, attempt);
  }
}

/** The hash decides on the group too, so that a key stays. */
class HashedGroups implements Picker {
  readonly #groups: readonly Picker[];
  readonly #loads: readonly number[];
  constructor(groups: readonly Picker[], loads: readonly number[]) {
    this.#groups = groups;
    this.#loads = loads;
  }
  pick(random: Random, hash: bigint | undefined, attempt: number): Endpoint {
    let left = hash === undefined ? random.below(100) : Number(hash % 100n);
    let at = 0;
    while (at < this.#loads.length - 1 && left >= this.#loads[at]!) left -= this.#loads[at++]!;
    return this.#groups[at]!.pick(random, hash, attempt);
  }
}

// ---- within a group ----

class Only implements Picker {
  readonly #host: Endpoint;
  constructor(host: Endpoint) {
    this.#host = host;
  }
  pick(): Endpoint {
    return this.#host;
  }
}

class RandomPicker implements Picker {
  readonly #hosts: readonly Endpoint[];
  constructor(hosts: readonly Endpoint[]) {
    this.#hosts = hosts;
  }
  pick(random: Random): Endpoint {
    return this.#hosts[random.below(this.#hosts.length)]!;
  }
}

class Rotation implements Picker {
  readonly #hosts: readonly Endpoint[];
  #next: number;
  constructor(hosts: readonly Endpoint[], start: number) {
    this.#hosts = hosts;
    this.#next = start;
  }
  pick(): Endpoint {
    const host = this.#hosts[this.#next]!;
    this.#next = this.#next + 1 === this.#hosts.length ? 0 : this.#next + 1;
    return host;
  }
}

/** Two different hosts, the less busy wins. */
class LeastOfTwo implements Picker {
  readonly #hosts: readonly Endpoint[];
  constructor(hosts: readonly Endpoint[]) {
    this.#hosts = hosts;
  }
  pick(random: Random): Endpoint {
    const hosts = this.#hosts;
    const first = random.below(hosts.length);
    let second = random.below(hosts.length - 1);
    if (second >= first) second++;
    const a = hosts[first]!;
    const b = hosts[second]!;
    return b.active < a.active ? b : a;
  }
}

class LeastOfSome implements Picker {
  readonly #hosts: readonly Endpoint[];
  readonly #choices: number;
  constructor(hosts: readonly Endpoint[], choices: number) {
    this.#hosts = hosts;
    this.#choices = choices;
  }
  pick(random: Random): Endpoint {
    let best = this.#hosts[random.below(this.#hosts.length)]!;
    for (let i = 1; i < this.#choices; i++) {
      const other = this.#hosts[random.below(this.#hosts.length)]!;
      if (other.active < best.active) best = other;
    }
    return best;
  }
}

/** Every host is looked at: asked for, or there are no more than would be drawn. Ties are broken by chance. */
class LeastOfAll implements Picker {
  readonly #hosts: readonly Endpoint[];
  constructor(hosts: readonly Endpoint[]) {
    this.#hosts = hosts;
  }
  pick(random: Random): Endpoint {
    const hosts = this.#hosts;
    let best = hosts[0]!;
    let ties = 1;
    for (let i = 1; i < hosts.length; i++) {
      const host = hosts[i]!;
      if (host.active > best.active) continue;
      ties = host.active < best.active ? 1 : ties + 1;
      if (ties === 1 || random.below(ties) === 0) best = host;
    }
    return best;
  }
}

/** Turns by weight; with a bias, a host's weight sinks with its requests in progress (weighted least request). */
class WeightedPicker implements Picker {
  readonly #hosts: readonly Endpoint[];
  readonly #slot: ClusterSlot;
  readonly #slowStart: SlowStart | undefined;
  readonly #activeBias: number;
  readonly #turns: Edf;
  constructor(hosts: readonly Endpoint[], slot: ClusterSlot, slowStart: SlowStart | undefined, activeBias: number) {
    this.#hosts = hosts;
    this.#slot = slot;
    this.#slowStart = slowStart;
    this.#activeBias = activeBias;
    this.#turns = new Edf(hosts.map((host) => this.#weight(host)));
  }
  #weight(host: Endpoint): number {
    let { weight } = host.placement;
    if (this.#slowStart !== undefined)
      weight *= slowStartFactor(this.#slowStart, this.#slot.nowMs() - host.healthySinceMs);
    if (this.#activeBias === 1) return weight / (host.active + 1);
    return this.#activeBias === 0 ? weight : weight / (host.active + 1) ** this.#activeBias;
  }
  pick(): Endpoint {
    const host = this.#hosts[this.#turns.first]!;
    this.#turns.putBack(this.#weight(host));
    return host;
  }
}

class HashPicker implements Picker {
  readonly #hosts: readonly Endpoint[];
  readonly #table: HashTable;
  constructor(hosts: readonly Endpoint[], table: HashTable) {
    this.#hosts = hosts;
    this.#table = table;
  }
  pick(random: Random, hash: bigint | undefined, attempt: number): Endpoint {
    return this.#hosts[this.#table.find(hash ?? randomHash(random), attempt)]!;
  }
}
