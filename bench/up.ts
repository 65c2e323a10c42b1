// How long `meshbed up` takes to its first answer through the gateway, and what the whole process tree weighs (PSS).
// Usage: bun bench/up.ts [--runs 5] [--mode namespaces|ports]

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

const root = join(import.meta.dir, "..");
const { values } = parseArgs({ options: { runs: { type: "string", default: "5" }, mode: { type: "string" } } });
const runs = Number(values.runs);
const startTimeoutMs = 60_000;
const ports = { http: 18080, https: 18443, api: 16443 };

/** Process ids of `pid` and everything below it. */
function treeOf(pid: number): number[] {
  const parents = new Map<number, number[]>();
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      parents.set(parent, [...(parents.get(parent) ?? []), Number(name)]);
    } catch {
      // Ended meanwhile.
    }
  }
  const tree = [pid];
  for (let i = 0; i < tree.length; i++) tree.push(...(parents.get(tree[i]!) ?? []));
  return tree;
}

/** Proportional set size: shared pages are counted once over all who share them. */
function pssBytes(pid: number): { bytes: number; name: string } {
  try {
    const bytes = Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0) * 1024;
    const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").filter(Boolean);
    const name = argv.map((word) => word.split("/").slice(-2).join("/")).filter((word) => !/bun(\.exe)?$/.test(word));
    return { bytes, name: name.slice(0, 2).join(" ") };
  } catch {
    return { bytes: 0, name: "" };
  }
}

async function once(): Promise<{ ms: number; pss: number; processes: number; parts: Map<string, number> }> {
  const state = mkdtempSync(join(tmpdir(), "meshbed-bench-"));
  const started = performance.now();
  const child = Bun.spawn(
    [
      join(root, "bin/meshbed"),
      "up",
      ...[
        "--state",
        state,
        "--http-port",
        `${ports.http}`,
        "--https-port",
        `${ports.https}`,
        "--api-port",
        `${ports.api}`,
      ],
      ...(values.mode ? ["--mode", values.mode] : []),
    ],
    { stdout: "pipe", stderr: "inherit", cwd: tmpdir() },
  );
  try {
    let ms = 0;
    while (performance.now() - started < startTimeoutMs && child.exitCode === null) {
      const status = await fetch(`http://127.0.0.1:${ports.http}/`, { keepalive: false }).then(
        (response) => response.status,
        () => 0,
      );
      if (status === 200) {
        ms = performance.now() - started;
        break;
      }
      await Bun.sleep(5);
    }
    if (ms === 0) throw new Error(`no 200 within ${startTimeoutMs} ms (exit code ${child.exitCode})`);
    await Bun.sleep(2_000);
    const parts = new Map<string, number>();
    let pss = 0;
    const tree = treeOf(child.pid);
    for (const pid of tree) {
      const { bytes, name } = pssBytes(pid);
      pss += bytes;
      parts.set(name, (parts.get(name) ?? 0) + bytes);
    }
    return { ms, pss, processes: tree.length, parts };
  } finally {
    child.kill("SIGTERM");
    await child.exited;
    rmSync(state, { recursive: true, force: true });
  }
}

const median = (numbers: number[]) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
const results = [];
for (let run = 1; run <= runs; run++) {
  const result = await once();
  results.push(result);
  console.log(
    `run ${run}: first 200 after ${Math.round(result.ms)} ms, ${result.processes} processes, PSS ${(result.pss / 1e6).toFixed(0)} MB`,
  );
}
console.log("largest parts of the last run (PSS):");
const parts = [...results.at(-1)!.parts].filter(([, bytes]) => bytes > 1e6).sort((a, b) => b[1] - a[1]);
for (const [name, bytes] of parts) console.log(`  ${(bytes / 1e6).toFixed(0).padStart(5)} MB  ${name}`);
console.log(
  `median of ${runs}: first 200 after ${Math.round(median(results.map((r) => r.ms)))} ms, PSS ${(median(results.map((r) => r.pss)) / 1e6).toFixed(0)} MB`,
);
