// Picking an endpoint: each policy, avoided hosts, priorities and panic, localities, and what an update keeps.
import { describe, expect, test } from "bun:test";
import { seededRandom } from "../../kernel/random.ts";
import { type ClusterSlot, Endpoint, type Placement, unknownWorkload } from "../clusters/cluster.ts";
import type { Cluster, LoadBalancing } from "../clusters/config.ts";
import { pick, pickAgain, pickWeighted } from "./balance.ts";
import { endpointsOf, hosts, leastRequest, roundRobin, slotOf, weights } from "./fixture.ts";

function share(slot: ClusterSlot, draws: number, seed: number): number[] {
  const random = seededRandom(seed);
  const counts = slot.all.map(() => 0);
  for (let i = 0; i < draws; i++) counts[Number(pick(slot, random, undefined)!.address)]!++;
  return counts;
}
const policies: LoadBalancing[] = [
  roundRobin,
  leastRequest,
  { policy: "RANDOM" },
  { policy: "RING_HASH", ringSizeMin: 1024, ringSizeMax: 8192 },
  { policy: "MAGLEV", tableSize: 1021 },
];

describe("policies", () => {
  test("round robin takes turns; with weights everybody gets exactly the share", () => {
    expect(share(slotOf(hosts(3), { balancing: roundRobin }), 9, 1)).toEqual([3, 3, 3]);
    expect(share(slotOf(weights(5, 3, 2), { balancing: roundRobin }), 100, 1)).toEqual([50, 30, 20]);
  });
  test("weighted turns are spread evenly: a host of weight 1 among 9 is never chosen twice within nine picks", () => {
    const slot = slotOf(weights(9, 1), { balancing: roundRobin });
    const random = seededRandom(1);
    const picks = Array.from({ length: 100 }, () => pick(slot, random, undefined)!.address).join("");
    expect(picks.replaceAll("0", "").length).toBe(10);
    expect(picks).not.toMatch(/10{0,7}1/);
  });
  test("random is uniform whatever the weights, as Envoy's", () => {
    for (let seed = 1; seed <= 5; seed++) {
      const [a, b] = share(slotOf(weights(3, 1), { balancing: { policy: "RANDOM" } }), 10_000, seed);
      expect([seed, Math.abs(a! - 5_000) < 250, a! + b!]).toEqual([seed, true, 10_000]);
    }
  });
  test("least request prefers the less busy of two, and never the busiest of all", () => {
    const slot = slotOf(hosts(4), { balancing: leastRequest });
    slot.all[0]!.active = 50;
    expect(share(slot, 2_000, 3)[0]).toBe(0);
  });
  test("with a full scan, or no more hosts than choices, the least busy always wins", () => {
    for (const balancing of [
      { ...leastRequest, fullScan: true },
      { ...leastRequest, choices: 6 },
    ]) {
      const slot = slotOf(hosts(6), { balancing });
      for (const [index, endpoint] of slot.all.entries()) endpoint.active = index === 4 ? 1 : 2;
      expect(share(slot, 100, 3)).toEqual([0, 0, 0, 0, 100, 0]);
    }
  });
  test("with more choices the least busy is found more often", () => {
    const found = (choices: number): number => {
      const slot = slotOf(hosts(8), { balancing: { ...leastRequest, choices } });
      for (const endpoint of slot.all) endpoint.active = 1;
      slot.all[5]!.active = 0;
      return share(slot, 4_000, 7)[5]!;
    };
    expect(found(5)).toBeGreaterThan(found(3) * 1.2);
    expect(found(3)).toBeGreaterThan(found(2));
  });
  test("weighted least request divides a host's weight by its requests in progress", () => {
    const slot = slotOf(weights(2, 1), { balancing: leastRequest });
    slot.all[0]!.active = 3;
    // 2 / 4 against 1 / 1.
    expect(share(slot, 300, 1)).toEqual([100, 200]);
    const blind = slotOf(weights(2, 1), { balancing: { ...leastRequest, activeRequestBias: 0 } });
    blind.all[0]!.active = 3;
    expect(share(blind, 300, 1)).toEqual([200, 100]);
  });
  test("the same hash finds the same host, and no hash any host", () => {
    for (const balancing of policies.slice(3)) {
      const slot = slotOf(hosts(5), { balancing });
      const random = seededRandom(1);
      const first = pick(slot, random, undefined, 123_456_789_123_456_789n)!;
      for (let i = 0; i < 50; i++) expect(pick(slot, random, undefined, 123_456_789_123_456_789n)).toBe(first);
      expect(Math.min(...share(slot, 1_000, 1))).toBeGreaterThan(80);
    }
  });
});

describe("hosts to avoid", () => {
  test("are avoided while there is another", () => {
    for (const balancing of policies) {
      const slot = slotOf(hosts(2), { balancing });
      const random = seededRandom(4);
      let avoided = 0;
      for (let i = 0; i < 500; i++) avoided += Number(pick(slot, random, [slot.all[0]!])!.address === "1");
      expect([balancing.policy, avoided]).toEqual([balancing.policy, 500]);
    }
    // The failed host is idle, so least request would choose it again and again.
    const busy = slotOf(hosts(3), { balancing: policies.find(({ policy }) => policy === "LEAST_REQUEST")! });
    for (const host of busy.all.slice(1)) host.active = 9;
    const random = seededRandom(6);
    for (let i = 0; i < 500; i++) expect(pick(busy, random, [busy.all[0]!])).not.toBe(busy.all[0]!);
    const alone = slotOf(hosts(1), { balancing: { policy: "RANDOM" } });
    expect(pick(alone, seededRandom(1), [alone.all[0]!])).toBe(alone.all[0]);
  });
  test("under one hash are left for another host", () => {
    for (const balancing of policies.slice(3)) {
      const slot = slotOf(hosts(4), { balancing });
      const random = seededRandom(5);
      let moved = 0;
      for (let key = 0n; key < 200n; key++) {
        const hash = (key * 0x9e3779b97f4a7c15n) & 0xffffffffffffffffn;
        const first = pick(slot, random, undefined, hash)!;
        moved += Number(pick(slot, random, [first], hash) !== first);
      }
      expect([balancing.policy, moved]).toEqual([balancing.policy, 200]);
    }
  });
});

describe("priorities, panic and health", () => {
  const placed = (priority: number, count: number, health: Placement["health"] = "healthy"): Partial<Placement>[] =>
    hosts(count, { priority, health });
  const settings: Partial<Cluster> = { balancing: roundRobin };
  const loads: [string, Partial<Placement>[], Partial<Cluster>, number[]][] = [
    ["all load stays with a healthy first priority", [...placed(0, 2), ...placed(1, 2)], {}, [50, 50, 0, 0]],
    [
      "a priority with 3 of 4 healthy keeps all",
      [...placed(0, 3), ...placed(0, 1, "unhealthy"), ...placed(1, 1)],
      {},
      [34, 33, 33, 0, 0],
    ],
    ["half healthy spills 30 %", [...placed(0, 1), ...placed(0, 1, "unhealthy"), ...placed(1, 1)], {}, [70, 0, 30]],
    ["a dead priority fails over whole", [...placed(0, 1, "unhealthy"), ...placed(1, 2)], {}, [0, 50, 50]],
    ["an empty priority is passed over", [...placed(1, 1)], {}, [100]],
    ["unhealthy hosts are not used without panic", [...placed(0, 1), ...placed(0, 1, "unhealthy")], {}, [100, 0]],
    [
      "below the threshold health is disregarded",
      [...placed(0, 1), ...placed(0, 3, "unhealthy")],
      {},
      [25, 25, 25, 25],
    ],
    [
      "a threshold of 0 disables panic",
      [...placed(0, 1), ...placed(0, 3, "unhealthy")],
      { panicThresholdPercent: 0 },
      [100, 0, 0, 0],
    ],
    ["degraded hosts get what healthy ones leave", [...placed(0, 1), ...placed(0, 1, "degraded")], {}, [70, 30]],
    ["hosts of weight 0 are not used", weights(1, 0), {}, [100, 0]],
  ];
  for (const [name, placements, more, want] of loads)
    test(name, () => {
      const slot = slotOf(placements, { ...settings, ...more });
      const got = share(slot, 100, 1);
      expect(got.map((count, at) => Math.abs(count - want[at]!) <= 1)).toEqual(want.map(() => true));
      expect(got.map((count) => count > 0)).toEqual(want.map((count) => count > 0));
    });
  test("nothing usable is no choice: no endpoint, or panic disabled and nobody healthy", () => {
    const random = seededRandom(1);
    expect(pick(slotOf([], settings), random, undefined)).toBeUndefined();
    const dead = slotOf(placed(0, 2, "unhealthy"), { ...settings, panicThresholdPercent: 0 });
    expect(pick(dead, random, undefined)).toBeUndefined();
  });
  test("a change of health counts from the next pick on", () => {
    const slot = slotOf(hosts(2), { ...settings, panicThresholdPercent: 0 });
    expect(share(slot, 10, 1)).toEqual([5, 5]);
    slot.all[0]!.failedActiveCheck = true;
    slot.reselect();
    expect(share(slot, 10, 1)).toEqual([0, 10]);
  });
});

describe("localities", () => {
  const at = (locality: string, localityWeight: number, more: Partial<Placement> = {}): Partial<Placement> => ({
    locality,
    localityWeight,
    ...more,
  });
  const settings: Partial<Cluster> = { balancing: roundRobin, localityWeighted: true };
  const cases: [string, Partial<Placement>[], number[]][] = [
    ["weights decide, not numbers of hosts", [at("a", 80), at("b", 20), at("b", 20)], [80, 10, 10]],
    ["a locality without weight gets nothing", [at("a", 1), at("b", 0)], [100, 0]],
    ["without any weight, all hosts are alike", [at("a", 0), at("b", 0)], [50, 50]],
    [
      "a locality loses load with its healthy hosts, beyond overprovisioning",
      [at("a", 50), at("a", 50, { health: "unhealthy" }), at("b", 50), at("b", 50)],
      // 50 × 0.7 against 50.
      [41, 0, 29, 29],
    ],
  ];
  for (const [name, placements, want] of cases)
    test(name, () => {
      const got = share(slotOf(placements, settings), 100, 1);
      expect(got.map((count, index) => Math.abs(count - want[index]!) <= 1)).toEqual(want.map(() => true));
    });
  test("hashing follows locality weights too", () => {
    const slot = slotOf([at("a", 90), at("b", 10)], { ...settings, balancing: { policy: "MAGLEV", tableSize: 1021 } });
    const [a] = share(slot, 2_000, 1);
    expect(Math.abs(a! - 1_800)).toBeLessThan(80);
  });
});

describe("updates", () => {
  test("an endpoint keeps its object unless it is reached in another way", () => {
    const slot = slotOf(hosts(2), { balancing: roundRobin });
    const [a, b] = slot.all;
    const next = endpointsOf(weights(7, 1));
    const moved = new Endpoint("1", "1 tls", b!.transport, unknownWorkload);
    slot.setEndpoints([next[0]!, moved]);
    expect(slot.all[0]).toBe(a!);
    expect([a!.weight, a!.removed, b!.removed, slot.all[1] === moved]).toEqual([7, false, true, true]);
  });
  test("an address told twice is one endpoint", () => {
    const slot = slotOf([], { balancing: roundRobin });
    slot.setEndpoints([...endpointsOf(hosts(1)), ...endpointsOf(hosts(1))]);
    expect(slot.all.length).toBe(1);
  });
});

test("a weighted choice never takes a weight of 0, and there is none when all are 0", () => {
  expect(pickWeighted([0, 0], 0, seededRandom(1))).toBeUndefined();
  const random = seededRandom(2);
  for (let i = 0; i < 200; i++) expect(pickWeighted([0, 1, 0], 1, random)).toBe(1);
});

describe("retries", () => {
  const priorityOf = (slot: ClusterSlot, failed: readonly Endpoint[], prioritiesEvery: number, seed: number) =>
    pickAgain(slot, seededRandom(seed), failed, { avoidPreviousHosts: true, prioritiesEvery }, undefined, undefined)!
      .placement.priority;
  const slot = slotOf([...hosts(3), ...hosts(2, { priority: 1 }), ...hosts(1, { priority: 2 })], {
    balancing: roundRobin,
  });
  const tries = (...priorities: number[]) =>
    priorities.map((priority) => slot.all.find(({ placement }) => placement.priority === priority)!);

  test("after every second failed try the priorities of those before are left out, until all were tried", () => {
    const cases: [number[], number][] = [
      [[0], 0],
      [[0, 0], 1],
      [[0, 0, 1], 1],
      [[0, 0, 1, 1], 2],
      [[0, 0, 1, 1, 2], 2],
      [[0, 0, 1, 1, 2, 2], 0],
    ];
    for (let seed = 1; seed <= 10; seed++)
      for (const [failed, expected] of cases)
        expect([seed, failed, priorityOf(slot, tries(...failed), 2, seed)]).toEqual([seed, failed, expected]);
  });
  test("without a retry priority they stay with the priority that has the load", () => {
    expect(priorityOf(slot, tries(0, 0, 0, 0), 0, 1)).toBe(0);
  });
});
