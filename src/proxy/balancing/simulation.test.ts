// Balancing, ejection and limits over thousands of seeds of virtual time. Every failure names its seed; `SEED=n` runs that one alone.
import { describe, expect, test } from "bun:test";
import { type Random, seededRandom } from "../../kernel/random.ts";
import type { ClusterSlot, Endpoint, Placement, Usage } from "../clusters/cluster.ts";
import { type Cluster, defaultThresholds, type LoadBalancing } from "../clusters/config.ts";
import { pick } from "./balance.ts";
import { admitsPending, admitsRequest, admitsRetry } from "./circuit_breaker.ts";
import { type HashTable, maglevTable, randomHash, ringTable } from "./consistent.ts";
import { hosts, leastRequest, outlierDefaults, roundRobin, slotOf, weights } from "./fixture.ts";
import { OutlierDetector } from "./outlier.ts";

const only = process.env["SEED"];

/** Runs `scenario` for every seed from 1 on. */
function seeds(count: number, scenario: (random: Random, seed: number) => void): void {
  const from = only === undefined ? 1 : Number(only);
  const to = only === undefined ? count : from;
  for (let seed = from; seed <= to; seed++)
    try {
      scenario(seededRandom(seed), seed);
    } catch (cause) {
      throw new Error(`SEED=${seed}: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
}
/** Cheaper than expect() in a loop of millions. */
function check(holds: boolean, what: () => string): void {
  if (!holds) throw new Error(what());
}
const between = (random: Random, from: number, to: number): number => from + random.below(to - from + 1);
const sum = (list: readonly number[]): number => list.reduce((total, one) => total + one, 0);

function sharesOf(slot: ClusterSlot, random: Random, picks: number): number[] {
  const counts = slot.all.map(() => 0);
  for (let i = 0; i < picks; i++) counts[Number(pick(slot, random, undefined)!.address)]!++;
  return counts;
}
/** Counts may be off by `slack`, which is for turns that are not over yet. */
function checkShares(got: readonly number[], want: readonly number[], slack: number): void {
  const picks = sum(got);
  const total = sum(want);
  for (let i = 0; i < got.length; i++) {
    const expected = (picks * want[i]!) / total;
    check(Math.abs(got[i]! - expected) <= slack, () => `shares ${got} for ${want}: off by more than ${slack}`);
  }
}

describe("distribution, 10,000 seeds", () => {
  test("turns are exact: round robin and idle least request, with and without weights", () => {
    seeds(10_000, (random) => {
      const list = Array.from({ length: between(random, 2, 8) }, () => between(random, 1, 9));
      const balancing: LoadBalancing = random.below(2) === 0 ? roundRobin : { ...leastRequest, choices: 2 };
      const isUniform = list.every((weight) => weight === list[0]);
      if (balancing.policy === "LEAST_REQUEST" && isUniform) return;
      checkShares(sharesOf(slotOf(weights(...list), { balancing }), random, 60 + random.below(100)), list, 2);
    });
  });

  test("random draws stay within six standard deviations of even", () => {
    seeds(10_000, (random) => {
      const count = between(random, 2, 8);
      const picks = 200;
      const deviation = Math.sqrt((picks / count) * (1 - 1 / count));
      const slot = slotOf(hosts(count), { balancing: { policy: "RANDOM" } });
      checkShares(
        sharesOf(slot, random, picks),
        weights(...Array(count).fill(1)).map(() => 1),
        6 * deviation,
      );
    });
  });

  test("least request keeps the highest load near the mean, where random lets it grow", () => {
    const excess = { LEAST_REQUEST: 0, RANDOM: 0 };
    seeds(10_000, (random) => {
      for (const balancing of [leastRequest, { policy: "RANDOM" }] as const) {
        const slot = slotOf(hosts(10), { balancing });
        for (let i = 0; i < 100; i++) pick(slot, random, undefined)!.active++;
        const most = Math.max(...slot.all.map(({ active }) => active)) - 10;
        excess[balancing.policy] += most;
        // Two choices: log log n / log 2 + O(1) above the mean, whatever the number of requests.
        if (balancing.policy === "LEAST_REQUEST") check(most <= 4, () => `${most} above the mean`);
      }
    });
    if (only === undefined) expect(excess.LEAST_REQUEST).toBeLessThan(excess.RANDOM * 0.4);
  });

  test("load follows locality weights and priorities as far as hosts are healthy", () => {
    seeds(10_000, (random) => {
      const placements: Partial<Placement>[] = [];
      for (let priority = 0; priority < 2; priority++)
        for (let locality = 0; locality < 2; locality++) {
          const localityWeight = between(random, 1, 9);
          for (let i = between(random, 1, 4); i > 0; i--)
            placements.push({
              priority,
              locality: String(locality),
              localityWeight,
              health: random.below(4) === 0 ? "unhealthy" : "healthy",
            });
        }
      const slot = slotOf(placements, { balancing: roundRobin, localityWeighted: true, panicThresholdPercent: 0 });
      const want = expectedShares(placements);
      if (sum(want) === 0) check(pick(slot, random, undefined) === undefined, () => "a dead cluster was used");
      else checkShares(sharesOf(slot, random, 200), want, 3);
    });
  });

  test("below the panic threshold every host is used, above it only the healthy ones", () => {
    seeds(10_000, (random) => {
      const count = between(random, 2, 8);
      const dead = random.below(count + 1);
      const threshold = random.below(101);
      const placements = Array.from(
        { length: count },
        (_, i): Partial<Placement> => ({ health: i < dead ? "unhealthy" : "healthy" }),
      );
      const slot = slotOf(placements, { balancing: roundRobin, panicThresholdPercent: threshold });
      const percent = (100 * (count - dead)) / count;
      // 1.4 times the healthy share is enough for all load: no panic then, whatever the threshold.
      const panics = Math.floor((140 * (count - dead)) / count) < 100 && percent < threshold;
      if (!panics && dead === count) {
        check(pick(slot, random, undefined) === undefined, () => "a dead cluster was used");
        return;
      }
      const got = sharesOf(slot, random, count * 2);
      for (let i = 0; i < count; i++)
        check(got[i]! > 0 === (panics || i >= dead), () => `${dead} of ${count} dead, threshold ${threshold}: ${got}`);
    });
  });
});

/** Two priorities of two weighted localities, written down a second time and more plainly. */
function expectedShares(placements: readonly Partial<Placement>[]): number[] {
  const isHealthy = ({ health }: Partial<Placement>): boolean => health === "healthy";
  const health = [0, 1].map((priority) => {
    const all = placements.filter((one) => one.priority === priority);
    return Math.min(100, Math.floor((140 * all.filter(isHealthy).length) / all.length));
  });
  const available = Math.min(100, sum(health));
  if (available === 0) return placements.map(() => 0);
  let first = Math.min(100, Math.floor((100 * health[0]!) / available));
  const second = Math.min(100 - first, Math.floor((100 * health[1]!) / available));
  const left = 100 - first - second;
  if (health[0]! > 0) first += left;
  const loads = [first, health[0]! > 0 ? second : second + left];
  return placements.map((placement) => {
    if (!isHealthy(placement)) return 0;
    const peers = placements.filter(({ priority }) => priority === placement.priority);
    const weightOf = (locality: string): number => {
      const all = peers.filter((one) => one.locality === locality);
      const share = all.filter(isHealthy).length / all.length;
      return all.length === 0 ? 0 : all[0]!.localityWeight! * Math.min(1, 1.4 * share);
    };
    const mine = weightOf(placement.locality!);
    const living = peers.filter((one) => one.locality === placement.locality && isHealthy(one)).length;
    return (loads[placement.priority!]! * mine) / (weightOf("0") + weightOf("1")) / living;
  });
}

describe("ejection and recovery, 10,000 seeds of virtual minutes", () => {
  test("bad hosts are ejected at once and come back after base × count, never more of them than allowed", () => {
    seeds(10_000, (random) => {
      const config = {
        ...outlierDefaults,
        consecutive5xx: between(random, 1, 5),
        intervalMs: between(random, 1, 5) * 1000,
        baseEjectionMs: between(random, 5, 20) * 1000,
        maxEjectionMs: between(random, 20, 60) * 1000,
        ejectionPercentMax: between(random, 10, 100),
        alwaysEjectOne: random.below(2) === 0,
        ejectionJitterMaxMs: random.below(2) * 500,
      };
      simulateEjection(random, config);
    });
  });

  test("a host of low success rate is ejected at the interval's end, and the good ones never", () => {
    let ejected = 0;
    seeds(2_000, (random) => {
      let nowMs = 0;
      const config = { ...outlierDefaults, ejectionPercentMax: 50, consecutive5xx: 1_000 };
      const detector = new OutlierDetector(config, { monotonicMs: () => nowMs }, random, () => {});
      const monitors = Array.from({ length: 6 }, () => detector.add());
      for (let i = 0; i < 120; i++)
        for (const [host, monitor] of monitors.entries())
          monitor.status(random.next() < (host === 0 ? 0.5 : 0.01) ? 500 : 200);
      check(
        monitors.every((monitor) => !monitor.ejected),
        () => "ejected before the interval's end",
      );
      nowMs += config.intervalMs;
      detector.tick();
      check(
        monitors.slice(1).every((monitor) => !monitor.ejected),
        () => "a good host was ejected",
      );
      ejected += Number(monitors[0]!.ejected);
    });
    if (only === undefined) expect(ejected).toBe(2_000);
  });
});

interface Fate {
  endpoint: Endpoint;
  isBad: boolean;
  badInRow: number;
  ejectedAtMs: number | undefined;
  /** When it last came back. */
  backAtMs: number;
  count: number;
}

/** Round robin every 100 ms while some hosts answer 500 until half time; the rules are checked against a second account of them. */
function simulateEjection(random: Random, config: typeof outlierDefaults): void {
  const stepMs = 250;
  const halfMs = 60_000;
  const endMs = halfMs + config.maxEjectionMs + config.ejectionJitterMaxMs + 2 * config.intervalMs + 1_000;
  let nowMs = 0;
  const settings: Partial<Cluster> = { balancing: roundRobin, panicThresholdPercent: 0, outlier: config };
  const slot = slotOf(hosts(between(random, 2, 8)), settings, { monotonicMs: () => nowMs });
  const detector = new OutlierDetector(config, { monotonicMs: () => nowMs }, random, () => slot.reselect());
  const badCount = between(random, 1, slot.all.length);
  const fates = slot.all.map((endpoint, index): Fate => {
    endpoint.outlier = detector.add();
    return { endpoint, isBad: index < badCount, badInRow: 0, ejectedAtMs: undefined, backAtMs: 0, count: 0 };
  });
  const allowed = Math.max(Math.floor((config.ejectionPercentMax * fates.length) / 100), config.alwaysEjectOne ? 1 : 0);
  const ejected = (): number => fates.filter(({ ejectedAtMs }) => ejectedAtMs !== undefined).length;
  for (; nowMs < endMs; nowMs += stepMs) {
    if (nowMs > 0 && nowMs % config.intervalMs === 0) tick(fates, detector, config, nowMs);
    const endpoint = pick(slot, random, undefined);
    check((endpoint === undefined) === (ejected() === fates.length), () => "no choice while a host is in service");
    if (endpoint === undefined) continue;
    const fate = fates[Number(endpoint.address)]!;
    check(fate.ejectedAtMs === undefined, () => `${nowMs} ms: an ejected host was picked`);
    const fails = fate.isBad && nowMs < halfMs;
    const room = ejected() < allowed;
    endpoint.outlier!.status(fails ? 500 : 200);
    fate.badInRow = fails ? fate.badInRow + 1 : 0;
    const due = fate.badInRow === config.consecutive5xx;
    if (due) fate.badInRow = 0;
    check(endpoint.outlier!.ejected === (due && room), () => `${nowMs} ms: due ${due}, room ${room}`);
    if (due && room) {
      fate.ejectedAtMs = nowMs;
      fate.count++;
    }
    check(detector.ejectedCount === ejected() && ejected() <= allowed, () => `${nowMs} ms: ${ejected()} ejected`);
  }
  check(ejected() === 0, () => "a recovered host has not come back");
}

/** Whoever comes back does so at the first interval after base × count, count being that of the last ejections in quick succession. */
function tick(fates: readonly Fate[], detector: OutlierDetector, config: typeof outlierDefaults, nowMs: number): void {
  detector.tick();
  for (const fate of fates) {
    const monitor = fate.endpoint.outlier!;
    if (fate.ejectedAtMs === undefined) {
      check(!monitor.ejected, () => "ejected by the interval alone");
      if (fate.count > 0 && nowMs - fate.backAtMs >= config.intervalMs) fate.count--;
      continue;
    }
    const dueMs = Math.min(config.baseEjectionMs * fate.count, config.maxEjectionMs);
    const forMs = nowMs - fate.ejectedAtMs;
    if (monitor.ejected)
      check(forMs < dueMs + config.ejectionJitterMaxMs, () => `still out after ${forMs} of ${dueMs} ms`);
    else {
      check(
        forMs >= dueMs && forMs < dueMs + config.ejectionJitterMaxMs + config.intervalMs + 1,
        () => `back after ${forMs} of ${dueMs} ms`,
      );
      fate.ejectedAtMs = undefined;
      fate.backAtMs = nowMs;
      fate.badInRow = 0;
    }
  }
}

describe("slow start, 1,000 seeds", () => {
  test("a new host's share grows with its age from the least to its full weight", () => {
    seeds(1_000, (random) => {
      let nowMs = 1_000_000;
      const windowMs = between(random, 10, 60) * 1000;
      const aggression = [1, 1, 2][random.below(3)]!;
      const slowStart = { windowMs, aggression, weightPercentMin: 10 };
      const balancing: LoadBalancing =
        random.below(2) === 0 ? { ...roundRobin, slowStart } : { ...leastRequest, slowStart };
      const slot = slotOf(hosts(4), { balancing }, { monotonicMs: () => nowMs });
      for (const endpoint of slot.all) endpoint.healthySinceMs = 0;
      slot.all[0]!.healthySinceMs = nowMs;
      const shares: number[] = [];
      const phases = 5;
      for (let phase = 0; phase < phases; phase++) {
        let mine = 0;
        const picks = 200;
        for (let i = 0; i < picks; i++) {
          nowMs += windowMs / phases / picks;
          mine += Number(pick(slot, random, undefined) === slot.all[0]);
        }
        const age = ((phase + 0.5) / phases) ** (1 / aggression);
        shares.push(mine / picks);
        const want = age / (age + 3);
        check(Math.abs(mine / picks - want) < 0.03, () => `phase ${phase}: ${mine / picks}, not ${want}`);
      }
      check(
        shares.every((share, i) => i === 0 || share > shares[i - 1]!),
        () => `no ramp: ${shares}`,
      );
      slot.reselect();
      if (balancing.policy === "ROUND_ROBIN") checkShares(sharesOf(slot, random, 40), [1, 1, 1, 1], 1);
    });
  });
});

describe("consistent hashing, 500 seeds", () => {
  /** Keys that move although their host stays, as a share of all. */
  type Strays = (hostCount: number) => number;
  const tables: [string, (list: { key: string; weight: number }[]) => HashTable, Strays][] = [
    ["ring with places per host", (list) => ringTable(list, list.length * 160, 8_388_608), () => 0],
    // The places of the host that is gone are dealt out among the others.
    ["ring of a given size", (list) => ringTable(list, 1024, 8_388_608), (hostCount) => 1 / hostCount],
    // Maglev trades this for even shares.
    ["maglev", (list) => maglevTable(list, 4_099), () => 0.08],
  ];
  for (const [name, build, movesBesides] of tables)
    test(`${name}: removing one of n hosts moves its keys and hardly any other, and shares are even`, () => {
      seeds(500, (random) => {
        const count = between(random, 3, 8);
        const list = Array.from({ length: count }, (_, i) => ({ key: `10.${random.below(250)}.${i}.1:80`, weight: 1 }));
        const gone = random.below(count);
        const before = build(list);
        const after = build(list.filter((_, i) => i !== gone));
        const keys = 1_000;
        const shares = list.map(() => 0);
        let strays = 0;
        for (let i = 0; i < keys; i++) {
          const hash = randomHash(random);
          const was = before.find(hash, 0);
          shares[was]!++;
          const is = after.find(hash, 0);
          const isNow = is >= gone ? is + 1 : is;
          if (was !== gone) strays += Number(isNow !== was);
        }
        check(strays <= keys * movesBesides(count), () => `${strays} keys of hosts that stayed have moved`);
        const even = keys / count;
        check(
          shares.every((share) => share > even * 0.5 && share < even * 1.7),
          () => `shares ${shares}`,
        );
      });
    });
});

describe("circuit breakers, 10,000 seeds", () => {
  test("whatever comes and goes, no limit is passed, and a budget leaves retries their share", () => {
    seeds(10_000, (random) => {
      const thresholds = {
        ...defaultThresholds,
        requestsMax: between(random, 1, 20),
        pendingRequestsMax: random.below(5),
        retriesMax: random.below(4),
        retryBudget:
          random.below(2) === 0 ? { percent: between(random, 0, 100), concurrencyMin: random.below(4) } : undefined,
      };
      const usage: Usage = { requestsActive: 0, pendingActive: 0, retriesActive: 0 };
      for (let i = 0; i < 100; i++) {
        const arrives = random.below(3) > 0;
        if (!arrives) usage.requestsActive = Math.max(0, usage.requestsActive - 1);
        else if (admitsRequest(thresholds, usage)) usage.requestsActive++;
        if (random.below(2) === 0 && admitsPending(thresholds, usage)) usage.pendingActive++;
        if (random.below(3) === 0 && admitsRetry(thresholds, usage)) usage.retriesActive++;
        else if (random.below(2) === 0) usage.retriesActive = Math.max(0, usage.retriesActive - 1);
        check(usage.requestsActive <= thresholds.requestsMax, () => `${usage.requestsActive} requests`);
        check(usage.pendingActive <= thresholds.pendingRequestsMax, () => `${usage.pendingActive} pending`);
        const { retryBudget } = thresholds;
        const most = retryBudget
          ? Math.max(retryBudget.concurrencyMin, (thresholds.requestsMax * retryBudget.percent) / 100)
          : thresholds.retriesMax;
        check(usage.retriesActive <= most, () => `${usage.retriesActive} retries of ${most}`);
      }
    });
  });
});
