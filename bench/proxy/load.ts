// Closed-loop load by wrk: as many requests as the subject answers, over a fixed number of connections.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { largeBytes } from "./backend.ts";
import { cpuMicros, loadCore } from "./processes.ts";
import type { Bench, Sample, Subject } from "./types.ts";

export interface Load {
  path: string;
  /** Bytes of body per request, whichever way. */
  bodyBytes: number;
  connections: number;
  seconds: number;
  secure?: boolean;
  /** The body is sent, not fetched. */
  upload?: boolean;
  /** Every request opens a connection. */
  close?: boolean;
}

/** Fewer seconds in a quick run. */
const quickShare = 0.25;

function uploadScript(folder: string): string {
  const file = join(folder, "upload.lua");
  writeFileSync(file, `wrk.method = "POST"\nwrk.body = string.rep("x", ${largeBytes})\n`);
  return file;
}

/** Requests answered, or throws with what wrk said when any was not. */
export async function wrk(bench: Bench, port: number, load: Load): Promise<{ requests: number; seconds: number }> {
  const seconds = Math.max(1, Math.round(load.seconds * (bench.quick ? quickShare : 1)));
  const command = ["taskset", "-c", loadCore, "wrk", "-t1", `-c${load.connections}`, `-d${seconds}s`];
  if (load.upload) command.push("-s", uploadScript(bench.lab.folder));
  if (load.close) command.push("-H", "Connection: close");
  command.push(`${load.secure ? "https" : "http"}://127.0.0.1:${port}${load.path}`);
  const running = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  const text = await new Response(running.stdout).text();
  const [, count, elapsed, unit] = /(\d+) requests in ([\d.]+)(s|m)/.exec(text) ?? [];
  const requests = Number(count);
  if (!(requests > 0) || /Non-2xx|Socket errors/.test(text)) throw new Error(`load on ${load.path} failed:\n${text}`);
  return { requests, seconds: Number(elapsed) * (unit === "m" ? 60 : 1) };
}

export const microsPerRequest = "CPU µs per request";
export const megabytesPerCpuSecond = "MB per CPU second";
export const requestsPerSecond = "requests per second";

/** Cost of a load to the subject. MB are 2^20 bytes of body; NaN when bodies are small. */
export async function measure(bench: Bench, subject: Subject, load: Load): Promise<Sample> {
  const pids = subject.pids();
  const before = cpuMicros(pids);
  const { requests, seconds } = await wrk(bench, subject.port, load);
  const micros = cpuMicros(pids) - before;
  const megabytes = load.bodyBytes >= largeBytes ? (requests * load.bodyBytes) / largeBytes : Number.NaN;
  return {
    [microsPerRequest]: micros / requests,
    [megabytesPerCpuSecond]: megabytes / (micros / 1e6),
    [requestsPerSecond]: requests / seconds,
  };
}

/** Rounds in which every subject has its turn, each round beginning with the next one. */
export async function interleave(
  rounds: number,
  subjects: readonly Subject[],
  sample: (subject: Subject) => Promise<Sample>,
): Promise<Map<string, Sample[]>> {
  const samples = new Map<string, Sample[]>(subjects.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++)
    for (let i = 0; i < subjects.length; i++) {
      const subject = subjects[(round + i) % subjects.length]!;
      samples.get(subject.name)!.push(await sample(subject));
    }
  return samples;
}
