// What two proxies with mutual TLS add to the latency of a request at a fixed rate.

import { openLoop } from "../clients.ts";
import { interleave, wrk } from "../load.ts";
import { type Metric, percentile, rowsOf } from "../statistics.ts";
import { startPairs } from "../subjects.ts";
import type { Case, Sample, Subject } from "../types.ts";

const load = { requestsPerSecond: 1000, seconds: 3, connections: 64 };
const quickSeconds = 1;
/** Full load before the measurement: while code is still being compiled, on the same core, the p99 is 3 ms. */
const warmSeconds = 5;

const p50 = "p50 ms";
const p99 = "p99 ms";
const addedP50 = "p50 ms added to direct";
const addedP99 = "p99 ms added to direct";

const metrics: readonly Metric[] = [
  { name: p50 },
  { name: p99 },
  { name: addedP50, valueTargets: { meshbed: { atMost: 0.5 } }, ratioTargets: { haproxy: { atMost: 1.2 } } },
  { name: addedP99, valueTargets: { meshbed: { atMost: 2 } }, ratioTargets: { haproxy: { atMost: 1.2 } } },
];

/** What is beyond the direct sample of the same round; NaN for that one itself. */
function withAdded(samples: ReadonlyMap<string, readonly Sample[]>): Map<string, Sample[]> {
  const direct = samples.get("direct")!;
  return new Map(
    [...samples].map(([name, list]) => [
      name,
      list.map((sample, round) => ({
        ...sample,
        [addedP50]: name === "direct" ? Number.NaN : sample[p50]! - direct[round]![p50]!,
        [addedP99]: name === "direct" ? Number.NaN : sample[p99]! - direct[round]![p99]!,
      })),
    ]),
  );
}

export const latencyCase: Case = {
  name: "latency",
  what:
    "Small GETs at 1,000 requests/s (open loop, 64 connections) to the backend directly and through two proxies with mutual TLS; " +
    "latency counts from when a request was due. After 5 s of full load, as compiled code is what a proxy runs.",
  async run(bench) {
    const direct: Subject = { name: "direct", port: bench.backendPort, pids: () => [], stop: async () => {} };
    const subjects = [...(await startPairs(bench)), direct];
    const seconds = bench.quick ? quickSeconds : load.seconds;
    const sample = async ({ port }: Subject): Promise<Sample> => {
      const latenciesMs = await openLoop(port, { ...load, seconds });
      return { [p50]: percentile(latenciesMs, 0.5), [p99]: percentile(latenciesMs, 0.99) };
    };
    const warm = { path: "/small", bodyBytes: 0, connections: 32, seconds: warmSeconds };
    for (const { port } of subjects) await wrk(bench, port, warm);
    for (const subject of subjects) await sample(subject);
    const samples = await interleave(bench.rounds, subjects, sample);
    await Promise.all(subjects.map((subject) => subject.stop()));
    return rowsOf(metrics, withAdded(samples));
  },
};
