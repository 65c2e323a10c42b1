// For tests: runs a test file, or any command, in a sandbox as this user and, when that is root, as an ordinary one too,
// and checks that nothing of it is left on the machine.

import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { realClock as clock } from "../kernel/clock.ts";
import { findTool, runCommand } from "./process.ts";
import { sandboxArgv } from "./sandbox.ts";
import type { Isolation } from "./types.ts";

export interface Identity {
  name: string;
  /** Becomes that user. */
  prefix: readonly string[];
  isolation: Isolation;
}

const nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];

async function probeAs(prefix: readonly string[]): Promise<Isolation | string> {
  const source = `console.log(JSON.stringify(await (await import(${JSON.stringify(join(import.meta.dir, "probe.ts"))})).probeIsolation()))`;
  const result = await runCommand([...prefix, process.execPath, "-e", source], { clock, timeoutMs: 10_000 });
  try {
    const isolation = JSON.parse(result.output) as Isolation;
    return isolation.mode === "namespaces" ? isolation : isolation.reason;
  } catch {
    return result.output.trim().split("\n").at(-1) ?? "no answer";
  }
}

/** Who can have namespaces here; prints one line for each who cannot. */
export async function identities(): Promise<Identity[]> {
  const isRoot = process.geteuid?.() === 0;
  const setpriv = findTool("setpriv");
  const wanted = [
    { name: isRoot ? "root" : "this user", prefix: [] as string[] },
    ...(isRoot && setpriv ? [{ name: "an ordinary user", prefix: [setpriv, ...nobody] }] : []),
  ];
  const possible: Identity[] = [];
  for (const { name, prefix } of wanted) {
    const isolation = await probeAs(prefix);
    if (typeof isolation === "string") console.log(`skipped: namespaces as ${name}: ${isolation}`);
    else possible.push({ name, prefix, isolation });
  }
  return possible;
}

/** Processes, in this process namespace or below, whose environment holds `marker`. */
export function processesWith(marker: string): number[] {
  const holds = (pid: string) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, "utf8").includes(marker);
    } catch {
      return false;
    }
  };
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && holds(name))
    .map(Number);
}

/** Mounts and links of the machine outside. */
export async function machineState(): Promise<string> {
  const links = await runCommand(["ip", "-br", "link"], { clock });
  return readFileSync("/proc/self/mounts", "utf8") + links.output.replace(/@.*/g, "");
}

export async function noneLeft(marker: string): Promise<void> {
  for (let i = 0; i < 300 && processesWith(marker).length > 0; i++) await clock.sleep(10);
  expect(processesWith(marker)).toEqual([]);
}

/** Registers a test for each identity that runs `suite` (a file of this folder) inside. */
export async function suiteInSandbox(suite: string, env: Record<string, string> = {}): Promise<void> {
  for (const { name, prefix, isolation } of await identities())
    test(`${suite} passes as ${name}`, async () => {
      const before = await machineState();
      const marker = `MESHBED_TEST_RUN=${crypto.randomUUID()}`;
      const argv = [...prefix, ...sandboxArgv(isolation, [process.execPath, "test", `./${suite}`])];
      const child = Bun.spawn(argv, {
        cwd: import.meta.dir,
        stdout: "inherit",
        stderr: "inherit",
        env: {
          ...process.env,
          ...env,
          HOME: "/tmp",
          MESHBED_TEST_ROOTLESS: isolation.rootless ? "1" : "0",
          MESHBED_TEST_RUN: marker.split("=")[1]!,
        },
      });
      expect(await child.exited).toBe(0);
      await noneLeft(marker);
      expect(await machineState()).toBe(before);
    }, 120_000);
}
