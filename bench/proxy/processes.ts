// Child processes of the benchmark, pinned to a core, and what the kernel says they used: CPU time, memory, sockets.

import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Child, Lab } from "./types.ts";

export const proxyCore = "0";
export const loadCore = "1";

/** USER_HZ: what /proc/<pid>/stat counts in. */
const ticksPerSecond = 100;
/** A child that has not ended this long after SIGTERM is killed. */
const stopGraceMs = 2_000;

export function createLab(): Lab {
  const folder = mkdtempSync(join(tmpdir(), "meshbed-bench-"));
  const children = new Set<Child>();
  return {
    folder,
    start(core, command) {
      const running = Bun.spawn(["taskset", "-c", core, ...command], {
        stdin: "ignore",
        stdout: "ignore",
        stderr: "inherit",
      });
      const child: Child = {
        pid: running.pid,
        async stop() {
          children.delete(child);
          running.kill("SIGTERM");
          if (!(await Promise.race([running.exited.then(() => true), Bun.sleep(stopGraceMs)]))) running.kill("SIGKILL");
          await running.exited;
        },
      };
      children.add(child);
      return child;
    },
    async close() {
      await Promise.all([...children].map((child) => child.stop()));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A port that was free on this address a moment ago. */
export function freePort(host = "127.0.0.1"): number {
  const probe = Bun.listen({ hostname: host, port: 0, socket: { data() {} } });
  const { port } = probe;
  probe.stop(true);
  return port;
}

/** Where Debian puts daemons is not on everybody's PATH. */
export const which = (command: string): string | null =>
  Bun.which(command, { PATH: `${process.env["PATH"]}:/usr/sbin` });

/** A process and what it forked (nginx's worker). */
export function withChildren(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim();
  return [pid, ...(children === "" ? [] : children.split(" ").map(Number))];
}

/** CPU time of all threads that still live, helper threads included: nanoseconds of schedstat, or else ticks of stat. */
export function cpuMicros(pids: readonly number[]): number {
  let micros = 0;
  for (const pid of pids)
    for (const task of readdirSync(`/proc/${pid}/task`)) micros += taskMicros(`/proc/${pid}/task/${task}`);
  return micros;
}

function taskMicros(task: string): number {
  try {
    return Number(readFileSync(`${task}/schedstat`, "latin1").split(" ")[0]) / 1000;
  } catch {
    // A thread that has just ended has neither.
    const stat = readOr(`${task}/stat`, ") 0 0 0 0 0 0 0 0 0 0 0 0 0");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return ((Number(fields[11]) + Number(fields[12])) / ticksPerSecond) * 1e6;
  }
}

function readOr(path: string, fallback: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return fallback;
  }
}

export interface Memory {
  rssMb: number;
  /** Proportional: pages shared with other processes count by their share. */
  pssMb: number;
  /** In no other process. */
  privateMb: number;
}

export function memoryOf(pids: readonly number[]): Memory {
  const memory: Memory = { rssMb: 0, pssMb: 0, privateMb: 0 };
  for (const pid of pids) {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
    const megabytes = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(text)?.[1]) / 1024;
    memory.rssMb += megabytes("Rss");
    memory.pssMb += megabytes("Pss");
    memory.privateMb += megabytes("Private_Clean") + megabytes("Private_Dirty");
  }
  return memory;
}

/** Open sockets. */
export function socketsOf(pids: readonly number[]): number {
  let sockets = 0;
  for (const pid of pids)
    for (const fd of readdirSync(`/proc/${pid}/fd`)) if (isSocket(`/proc/${pid}/fd/${fd}`)) sockets++;
  return sockets;
}

function isSocket(fd: string): boolean {
  try {
    return readlinkSync(fd).startsWith("socket:");
  } catch {
    return false;
  }
}
