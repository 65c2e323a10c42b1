// What a proxy holds: with many clusters, after much data, with many idle connections.

import { realClock } from "../../../src/kernel/clock.ts";
import { largeBytes } from "../backend.ts";
import { openIdle } from "../clients.ts";
import { wrk } from "../load.ts";
import { type Memory, memoryOf } from "../processes.ts";
import { meets, rowsOf } from "../statistics.ts";
import { startGateways, startMeshGateway } from "../subjects.ts";
import type { Bench, Case, Row, Sample, Subject } from "../types.ts";

const clusters = 100;
const streamedBytes = 1024 ** 3;
/** After a load, before memory is read. */
const settleMs = 2_000;
const pollMs = 50;

const rss = "RSS MB";
/** Proportional: the program's pages count by the share of the processes that use them. */
const pss = "PSS MB";

async function settled(subject: Subject): Promise<Memory> {
  await realClock.sleep(settleMs);
  return memoryOf(subject.pids());
}

/** Highest RSS while `work` goes on. */
async function peakRssMb(subject: Subject, work: Promise<unknown>): Promise<number> {
  let peak = 0;
  const stop = realClock.every(pollMs, () => {
    peak = Math.max(peak, memoryOf(subject.pids()).rssMb);
  });
  try {
    await work;
  } finally {
    stop();
  }
  return peak;
}

const bounded = (metric: string, value: number, atMost: number): Row => ({
  subject: "meshbed",
  metric,
  value,
  target: { text: `≤ ${atMost}`, met: meets(value, { atMost }) },
});

async function streamAll(bench: Bench, subject: Subject): Promise<void> {
  const load = { path: "/large", bodyBytes: largeBytes, connections: 32, seconds: 1 };
  for (let bytes = 0; bytes < streamedBytes; ) bytes += (await wrk(bench, subject.port, load)).requests * largeBytes;
}

const holding: Case = {
  name: "memory",
  what:
    `A gateway configured over ADS as in a mesh, with ${clusters} clusters and a virtual host for each; ` +
    "then 1 GiB streamed through it in answers of 1 MiB. Two seconds of rest before each figure.",
  async run(bench) {
    const subject = await startMeshGateway(bench, { idleClusters: clusters });
    const idle = await settled(subject);
    const peak = await peakRssMb(subject, streamAll(bench, subject));
    const after = await settled(subject);
    await subject.stop();
    return [
      bounded(`${rss}, idle with ${clusters} clusters`, idle.rssMb, 45),
      bounded(`${pss}, idle with ${clusters} clusters`, idle.pssMb, 45),
      { subject: "meshbed", metric: `private MB, idle with ${clusters} clusters`, value: idle.privateMb },
      bounded(`${rss} more after 1 GiB`, after.rssMb - idle.rssMb, 20),
      { subject: "meshbed", metric: `${rss} more while it streams, at most`, value: peak - idle.rssMb },
    ];
  },
};

async function withIdle(subject: Subject, count: number): Promise<Sample> {
  const before = await settled(subject);
  const connections = await openIdle(subject.port, count);
  const during = await settled(subject);
  connections.close();
  return { [rss]: during.rssMb, [pss]: during.pssMb, [perConnection]: ((during.rssMb - before.rssMb) * 1024) / count };
}

const perConnection = "KB per idle connection";

const idleThousand: Case = {
  name: "idle-1000",
  what: "1,000 keep-alive connections that have made one request each and wait.",
  async run(bench) {
    const samples = new Map<string, Sample[]>();
    for (const subject of await startGateways(bench, ["meshbed", "nginx", "haproxy"])) {
      samples.set(subject.name, [await withIdle(subject, 1000)]);
      await subject.stop();
    }
    return rowsOf([{ name: rss }, { name: pss }, { name: perConnection }], samples);
  },
};

const idleTenThousand: Case = {
  name: "idle-10000",
  what: "10,000 keep-alive connections that have made one request each and wait.",
  onDemand: true,
  async run(bench) {
    const [subject] = await startGateways(bench, ["meshbed"]);
    const sample = await withIdle(subject!, 10_000);
    await subject!.stop();
    const rows = rowsOf(
      [{ name: rss, valueTargets: { meshbed: { atMost: 150 } } }, { name: pss }, { name: perConnection }],
      new Map([["meshbed", [sample]]]),
    );
    return rows;
  },
};

export const memoryCases: readonly Case[] = [holding, idleThousand, idleTenThousand];
