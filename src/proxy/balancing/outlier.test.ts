// Outlier detection as a table of histories, and the arithmetic behind it.
import { describe, expect, test } from "bun:test";
import { seededRandom } from "../../kernel/random.ts";
import { outlierDefaults } from "./fixture.ts";
import { type HostMonitor, type OutlierConfig, OutlierDetector, successRateThreshold } from "./outlier.ts";

function detectorOf(settings: Partial<OutlierConfig>, hosts: number) {
  let nowMs = 0;
  let changes = 0;
  const config = { ...outlierDefaults, ejectionPercentMax: 100, ...settings };
  const detector = new OutlierDetector(config, { monotonicMs: () => nowMs }, seededRandom(1), () => changes++);
  const monitors = Array.from({ length: hosts }, () => detector.add());
  return {
    detector,
    monitors,
    changes: () => changes,
    /** Whole intervals go by. */
    pass(intervals: number): void {
      for (let i = 0; i < intervals; i++) {
        nowMs += config.intervalMs;
        detector.tick();
      }
    },
  };
}
const statuses = (monitor: HostMonitor, codes: readonly number[]): void => {
  for (const code of codes) monitor.status(code);
};
const times = (count: number, code: number): number[] => Array(count).fill(code);
const gatewayOn = { ...outlierDefaults.enforcingPercent, consecutive_gateway_failure: 100 };

describe("consecutive failures", () => {
  const cases: [string, Partial<OutlierConfig>, (host: HostMonitor) => void, boolean][] = [
    ["five 5xx eject", {}, (host) => statuses(host, [500, 501, 502, 503, 599]), true],
    ["four do not", {}, (host) => statuses(host, times(4, 500)), false],
    [
      "a good answer between starts the count again",
      {},
      (host) => statuses(host, [...times(4, 500), 404, ...times(4, 500)]),
      false,
    ],
    [
      "gateway failures alone are not enforced by default",
      { consecutive5xx: 9, consecutiveGatewayFailure: 2 },
      (host) => statuses(host, times(8, 503)),
      false,
    ],
    [
      "gateway failures eject where enforced",
      { consecutive5xx: 9, consecutiveGatewayFailure: 2, enforcingPercent: gatewayOn },
      (host) => statuses(host, [502, 504]),
      true,
    ],
    [
      "a 500 is no gateway failure",
      { consecutive5xx: 9, consecutiveGatewayFailure: 2, enforcingPercent: gatewayOn },
      (host) => statuses(host, [502, 500, 502]),
      false,
    ],
    [
      "a failure to connect counts as 503",
      { consecutive5xx: 2 },
      (host) => {
        host.local("connect-failed");
        host.local("timeout");
      },
      true,
    ],
    [
      "a connection made is no answer",
      { consecutive5xx: 2 },
      (host) => {
        host.status(500);
        host.local("connected");
        host.status(500);
      },
      true,
    ],
    [
      "a TCP connection made is success",
      { consecutive5xx: 2 },
      (host) => {
        host.local("connect-failed");
        host.local("final");
        host.local("connect-failed");
      },
      false,
    ],
    [
      "split: failures to connect have their own count",
      { consecutive5xx: 2, splitLocalOrigin: true, consecutiveLocalOriginFailure: 3 },
      (host) => {
        host.local("timeout");
        host.local("connect-failed");
      },
      false,
    ],
    [
      "split: and eject by it",
      { consecutive5xx: 2, splitLocalOrigin: true, consecutiveLocalOriginFailure: 3 },
      (host) => {
        for (let i = 0; i < 3; i++) host.local("timeout");
      },
      true,
    ],
    [
      "split: a connection made starts that count again",
      { splitLocalOrigin: true, consecutiveLocalOriginFailure: 2 },
      (host) => {
        host.local("timeout");
        host.local("connected");
        host.local("timeout");
      },
      false,
    ],
    [
      "enforcing 0 only counts",
      { enforcingPercent: { ...outlierDefaults.enforcingPercent, consecutive_5xx: 0 } },
      (host) => statuses(host, times(20, 500)),
      false,
    ],
  ];
  for (const [name, settings, history, want] of cases)
    test(name, () => {
      const { monitors, changes } = detectorOf(settings, 1);
      history(monitors[0]!);
      expect([monitors[0]!.ejected, changes()]).toEqual([want, Number(want)]);
    });

  test("what is detected is counted, enforced or not, and what there was no room for", () => {
    const { detector, monitors } = detectorOf({ ejectionPercentMax: 40 }, 3);
    for (const monitor of monitors) statuses(monitor, times(5, 500));
    expect([
      detector.detectedCount.consecutive_5xx,
      detector.enforcedCount.consecutive_5xx,
      detector.overflows,
    ]).toEqual([3, 1, 2]);
  });
});

describe("how many are ejected", () => {
  const cases: [number, boolean, number, number][] = [
    // percent allowed, always one, hosts, ejected of all bad
    [10, false, 3, 0],
    [10, true, 3, 1],
    [10, false, 10, 1],
    [50, false, 3, 1],
    [67, false, 3, 2],
    [100, false, 3, 3],
    [0, true, 5, 1],
  ];
  for (const [ejectionPercentMax, alwaysEjectOne, count, want] of cases)
    test(`at ${ejectionPercentMax} %${alwaysEjectOne ? ", always one," : ""} ${want} of ${count}`, () => {
      const { monitors } = detectorOf({ ejectionPercentMax, alwaysEjectOne }, count);
      for (const monitor of monitors) statuses(monitor, times(5, 500));
      expect(monitors.filter(({ ejected }) => ejected).length).toBe(want);
    });
  test("a removed host makes room", () => {
    const { detector, monitors } = detectorOf({ ejectionPercentMax: 50 }, 2);
    statuses(monitors[0]!, times(5, 500));
    detector.remove(monitors[0]!);
    detector.add();
    statuses(monitors[1]!, times(5, 500));
    expect([monitors[1]!.ejected, detector.ejectedCount]).toEqual([true, 1]);
  });
});

describe("coming back", () => {
  test("takes base time × ejections up to the maximum, and good behaviour shortens it again", () => {
    const { monitors, pass } = detectorOf({ intervalMs: 10_000, baseEjectionMs: 30_000, maxEjectionMs: 70_000 }, 1);
    const host = monitors[0]!;
    const intervalsOut = (): number => {
      statuses(host, times(5, 500));
      let count = 0;
      while (host.ejected) {
        pass(1);
        count++;
      }
      return count;
    };
    expect([intervalsOut(), intervalsOut(), intervalsOut(), intervalsOut()]).toEqual([3, 6, 7, 7]);
    pass(10);
    expect(intervalsOut()).toBe(3);
  });
  test("starts from nothing: answers that came late while it was out do not count", () => {
    const { monitors, pass } = detectorOf({ intervalMs: 30_000 }, 1);
    const host = monitors[0]!;
    statuses(host, times(9, 500));
    pass(1);
    expect(host.ejected).toBe(false);
    statuses(host, times(4, 500));
    expect(host.ejected).toBe(false);
    host.status(500);
    expect(host.ejected).toBe(true);
  });
  test("a passed active check brings a host back at once, unless it must not", () => {
    for (const activeCheckUnejects of [true, false]) {
      const { monitors } = detectorOf({ activeCheckUnejects }, 1);
      statuses(monitors[0]!, times(5, 500));
      monitors[0]!.checkPassed();
      expect(monitors[0]!.ejected).toBe(!activeCheckUnejects);
    }
  });
});

describe("rates", () => {
  test("Envoy's example: rates of 50, 100, 100, 100, 100 have their threshold at 52", () => {
    expect(successRateThreshold([50, 100, 100, 100, 100], 1.9)).toBeCloseTo(52, 6);
  });
  const cases: [string, Partial<OutlierConfig>, number, number, boolean][] = [
    // hosts, requests each; the first host fails every second one
    ["a low success rate ejects", {}, 6, 100, true],
    ["with too few requests it does not", {}, 6, 99, false],
    ["nor with too few hosts", {}, 4, 100, false],
  ];
  for (const [name, settings, count, requests, want] of cases)
    test(name, () => {
      const { monitors, pass } = detectorOf(settings, count);
      for (let i = 0; i < requests; i++)
        for (const [index, monitor] of monitors.entries()) monitor.status(index === 0 && i % 2 === 0 ? 500 : 200);
      pass(1);
      expect(monitors.map(({ ejected }) => ejected)).toEqual(monitors.map((_, index) => want && index === 0));
    });
  test("a high failure percentage ejects where enforced, and the next interval starts from nothing", () => {
    const enforcingPercent = { ...outlierDefaults.enforcingPercent, success_rate: 0, failure_percentage: 100 };
    const { detector, monitors, pass } = detectorOf({ enforcingPercent, consecutive5xx: 1_000 }, 5);
    for (let i = 0; i < 50; i++)
      for (const [index, monitor] of monitors.entries()) monitor.status(index === 0 ? 500 : 200);
    pass(1);
    expect([monitors[0]!.ejected, detector.enforcedCount.failure_percentage]).toEqual([true, 1]);
    expect(monitors[1]!.successRatePercent).toBe(100);
    pass(1);
    expect(monitors[1]!.successRatePercent).toBeUndefined();
  });
});
