// A long run at full load: does memory grow, do sockets stay open, does a request fail?

import { realClock } from "../../../src/kernel/clock.ts";
import { largeBytes } from "../backend.ts";
import { type Load, wrk } from "../load.ts";
import { memoryOf, socketsOf } from "../processes.ts";
import { slope } from "../statistics.ts";
import { startGateways, startPairs } from "../subjects.ts";
import type { Bench, Case, Row, Subject } from "../types.ts";

/** Of the run, before memory is looked at: code is compiled and pools fill. */
const warmupShare = 0.2;
const samplePeriodMs = 1_000;
/** Between the last request and the count of sockets. */
const settleMs = 3_000;

const seconds = 3;
/** The load changes all the time; wrk drops its connections in the middle of answers whenever a part ends. */
const phases: readonly Load[] = [
  { path: "/small", bodyBytes: 0, connections: 32, seconds },
  { path: "/small", bodyBytes: 0, connections: 32, seconds, close: true },
  { path: "/large", bodyBytes: largeBytes, connections: 32, seconds },
  { path: "/upload", bodyBytes: largeBytes, connections: 32, seconds, upload: true },
];

interface Course {
  subject: Subject;
  requests: number;
  failures: number;
  /** Minutes since the start and the highest RSS in KB, per round of all phases: within a round it rises and falls with the load. */
  memory: [number, number][];
  highest: number;
  socketsBefore: number;
  socketsMax: number;
}

async function phase(bench: Bench, course: Course, load: Load): Promise<void> {
  try {
    course.requests += (await wrk(bench, course.subject.port, load)).requests;
  } catch (error) {
    course.failures++;
    console.error(String(error));
  }
}

function rowsFor(
  { subject, requests, failures, memory, socketsBefore, socketsMax }: Course,
  warm: Course["memory"],
): Row[] {
  const pids = subject.pids();
  const row = (metric: string, value: number): Row => ({ subject: subject.name, metric, value });
  return [
    row("requests served", requests),
    row("loads with a failed request", failures),
    row("highest RSS MB, first round", memory[0]![1] / 1024),
    row("highest RSS MB, first round after the warm-up", warm[0]![1] / 1024),
    row("highest RSS MB, last round", memory.at(-1)![1] / 1024),
    row("RSS slope, KB per minute", slope(warm)),
    row("RSS MB 3 s after", memoryOf(pids).rssMb),
    row("sockets before", socketsBefore),
    row("sockets under load, at most", socketsMax),
    row("sockets 3 s after", socketsOf(pids)),
  ];
}

export const soakCase: Case = {
  name: "soak",
  what:
    "Full load for --minutes, changing every 3 s between small GETs, a connection per request, 1 MiB down and 1 MiB up, in turn on a " +
    "gateway and on two proxies with mutual TLS. RSS every second; the slope is of each round's highest, by least squares, without the " +
    "first fifth.",
  onDemand: true,
  async run(bench) {
    const [gateway] = await startGateways(bench, ["meshbed"]);
    const [pair] = await startPairs(bench);
    const subjects = [gateway!, { ...pair!, name: "meshbed mTLS pair" }];
    const courses = subjects.map(
      (subject): Course => ({
        subject,
        requests: 0,
        failures: 0,
        memory: [],
        highest: 0,
        socketsBefore: socketsOf(subject.pids()),
        socketsMax: 0,
      }),
    );
    const startMs = realClock.monotonicMs();
    const minutesSoFar = (): number => (realClock.monotonicMs() - startMs) / 60_000;
    const sample = (): void => {
      for (const course of courses) {
        const pids = course.subject.pids();
        course.highest = Math.max(course.highest, memoryOf(pids).rssMb * 1024);
        course.socketsMax = Math.max(course.socketsMax, socketsOf(pids));
      }
    };
    const stop = realClock.every(samplePeriodMs, sample);
    while (minutesSoFar() < bench.minutes) {
      for (const load of phases) for (const course of courses) await phase(bench, course, load);
      for (const course of courses) {
        course.memory.push([minutesSoFar(), course.highest]);
        course.highest = 0;
      }
    }
    stop();
    const warmFrom = minutesSoFar() * warmupShare;
    await realClock.sleep(settleMs);
    const rows = courses.flatMap((course) =>
      rowsFor(
        course,
        course.memory.filter(([minute]) => minute >= warmFrom),
      ),
    );
    await Promise.all(subjects.map((subject) => subject.stop()));
    return rows;
  },
};
