// How long `meshbed up` takes to its first answer through the gateway, what it costs in CPU time until then, and what the
// whole process tree weighs (PSS), by role. Every run starts in a new state folder.
// Usage: bun bench/up.ts [--runs 5] [--mode namespaces|ports] [--base-port 18080] [--timeline]

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { median } from "./proxy/statistics.ts";

const root = join(import.meta.dir, "..");
const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "5" },
    mode: { type: "string" },
    "base-port": { type: "string", default: "18080" },
    timeline: { type: "boolean", default: false },
  },
});
const runs = Number(values.runs);
const basePort = Number(values["base-port"]);
const ports = { http: basePort, https: basePort + 1, api: basePort + 2 };
const startTimeoutMs = 60_000;
/** After the first answer, before memory is read: what start-up left behind has been collected or never will be. */
const settleMs = 2_000;
/** Linux's clock ticks in /proc/<pid>/stat (USER_HZ). */
const tickMs = 10;

interface Part {
  processes: number;
  pssBytes: number;
  cpuMs: number;
}
interface Run {
  ms: number;
  parts: Map<string, Part>;
}

function statOf(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** Process ids of `pid` and everything below it. */
function treeOf(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      const parent = Number(statOf(Number(name))[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
    } catch {
      // Ended meanwhile.
    }
  }
  const tree = [pid];
  for (let i = 0; i < tree.length; i++) tree.push(...(children.get(tree[i]!) ?? []));
  return tree;
}

/** "kubelet", "app video/web", "unshare": what a process is for. */
function roleOf(pid: number): string {
  const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").filter(Boolean);
  const script = words.findIndex((word) => /\.[jt]s$/.test(word));
  if (script === -1 || /^(un)?share$|nsenter/.test(words[0] ?? "")) return words[0]?.split("/").at(-1) ?? "(kernel)";
  const app = /apps\/(.+)\/main\.ts$/.exec(words[script]!)?.[1];
  return app ? `app ${app}` : words[script + 1] === "up" ? "supervisor" : (words[script + 1] ?? "supervisor");
}

/** Proportional set size: shared pages are counted once over all who share them. */
const pssBytesOf = (pid: number): number =>
  Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0) * 1024;

/** Of the process and the children it waited for. */
function cpuMsOf(pid: number): number {
  return statOf(pid)
    .slice(11, 15)
    .reduce((sum, ticks) => sum + Number(ticks) * tickMs, 0);
}

function addTo(parts: Map<string, Part>, pid: number, read: (part: Part) => void): void {
  try {
    const role = roleOf(pid);
    const part = parts.get(role) ?? { processes: 0, pssBytes: 0, cpuMs: 0 };
    read(part);
    parts.set(role, part);
  } catch {
    // Ended meanwhile.
  }
}

async function firstAnswer(exited: () => number | null): Promise<void> {
  const started = performance.now();
  while (performance.now() - started < startTimeoutMs && exited() === null) {
    const status = await fetch(`http://127.0.0.1:${ports.http}/`, { keepalive: false }).then(
      (response) => response.status,
      () => 0,
    );
    if (status === 200) return;
    await Bun.sleep(5);
  }
  throw new Error(`no 200 within ${startTimeoutMs} ms (exit code ${exited()})`);
}

async function once(): Promise<Run> {
  const state = mkdtempSync(join(tmpdir(), "meshbed-bench-"));
  const options = { state, "http-port": ports.http, "https-port": ports.https, "api-port": ports.api };
  const started = performance.now();
  const child = Bun.spawn(
    [
      join(root, "bin/meshbed"),
      "up",
      ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]),
      ...(values.mode ? ["--mode", values.mode] : []),
    ],
    { stdout: values.timeline ? "inherit" : "ignore", stderr: "inherit", cwd: tmpdir() },
  );
  try {
    await firstAnswer(() => child.exitCode);
    const ms = performance.now() - started;
    const parts = new Map<string, Part>();
    for (const pid of treeOf(child.pid)) addTo(parts, pid, (part) => (part.cpuMs += cpuMsOf(pid)));
    await Bun.sleep(settleMs);
    for (const pid of treeOf(child.pid))
      addTo(parts, pid, (part) => {
        part.processes++;
        part.pssBytes += pssBytesOf(pid);
      });
    return { ms, parts };
  } finally {
    child.kill("SIGTERM");
    await child.exited;
    rmSync(state, { recursive: true, force: true });
  }
}

const total = (run: Run, pick: (part: Part) => number): number =>
  [...run.parts.values()].reduce((sum, part) => sum + pick(part), 0);
const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
const describe = (ms: number, cpuMs: number, pssBytes: number): string =>
  `first 200 after ${Math.round(ms)} ms (${Math.round(cpuMs)} ms of CPU time), PSS ${megabytes(pssBytes)} MB`;

const results: Run[] = [];
for (let number = 1; number <= runs; number++) {
  const run = await once();
  results.push(run);
  const figures = describe(
    run.ms,
    total(run, (part) => part.cpuMs),
    total(run, (part) => part.pssBytes),
  );
  console.log(`run ${number}: ${figures}, ${total(run, (part) => part.processes)} processes`);
}
console.log("\nmedians by role:          processes   PSS MB   CPU ms to the first 200");
const medianOf = (role: string, pick: (part: Part) => number): number =>
  median(results.map((run) => pick(run.parts.get(role) ?? { processes: 0, pssBytes: 0, cpuMs: 0 })));
const rows = [...new Set(results.flatMap((run) => [...run.parts.keys()]))].map((role) => ({
  role,
  processes: medianOf(role, (part) => part.processes),
  pssBytes: medianOf(role, (part) => part.pssBytes),
  cpuMs: medianOf(role, (part) => part.cpuMs),
}));
for (const { role, processes, pssBytes, cpuMs } of rows.sort((a, b) => b.pssBytes - a.pssBytes))
  if (processes > 0)
    console.log(
      `  ${role.padEnd(24)}${`${processes}`.padStart(8)}${megabytes(pssBytes).padStart(9)}${cpuMs.toFixed(0).padStart(9)}`,
    );
const summary = describe(
  median(results.map((run) => run.ms)),
  median(results.map((run) => total(run, (part) => part.cpuMs))),
  median(results.map((run) => total(run, (part) => part.pssBytes))),
);
console.log(`\nmedian of ${runs}: ${summary}`);
