// Tests of starting, stopping and binding processes.

import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { realClock as clock } from "../kernel/clock.ts";
import { exitStatus, runCommand, startProcess } from "./process.ts";

const folder = mkdtempSync("/tmp/meshbed-process-test-");
afterAll(() => rmSync(folder, { recursive: true }));

/** A process nobody has waited for yet has ended all the same. */
async function isAlive(pid: number): Promise<boolean> {
  const { output } = await runCommand(["ps", "-o", "stat=", "-p", String(pid)], { clock });
  return output.trim() !== "" && !output.trim().startsWith("Z");
}

async function whenGone(pid: number): Promise<void> {
  for (let i = 0; i < 300 && (await isAlive(pid)); i++) await clock.sleep(10);
  expect(await isAlive(pid)).toBe(false);
}

/** A process that prints the pid of a grandchild, and a promise of that pid. */
function withGrandchild(script: string) {
  const pid = Promise.withResolvers<number>();
  const child = startProcess(
    { argv: ["sh", "-c", script], output: (chunk) => pid.resolve(Number(Buffer.from(chunk).toString())) },
    clock,
  );
  return { child, grandchild: pid.promise };
}

test("a process's exit code, signal and output are reported", async () => {
  const chunks: string[] = [];
  const output = (chunk: Uint8Array, stream: string) => void chunks.push(`${stream}: ${Buffer.from(chunk)}`);
  const child = startProcess({ argv: ["sh", "-c", "echo a; echo b >&2; exit 3"], output }, clock);
  expect(await child.exited).toMatchObject({ code: 3 });
  await child.outputEnded;
  expect(chunks.toSorted()).toEqual(["stderr: b\n", "stdout: a\n"]);
  const killed = startProcess({ argv: ["sleep", "100"], output: "ignore" }, clock);
  killed.kill("SIGTERM");
  expect(await killed.exited).toMatchObject({ code: 143, signal: "SIGTERM" });
  killed.kill("SIGKILL");
});

test("output can be appended to a file", async () => {
  const path = join(folder, "log");
  for (const word of ["one", "two"]) await startProcess({ argv: ["echo", word], output: path }, clock).exited;
  expect(readFileSync(path, "utf8")).toBe("one\ntwo\n");
});

test("environment and working folder are the given ones", async () => {
  const path = join(folder, "env");
  const env = { PATH: "/usr/bin:/bin", WHO: "me" };
  await startProcess({ argv: ["sh", "-c", "echo $WHO $HOME; pwd"], env, cwd: folder, output: path }, clock).exited;
  expect(readFileSync(path, "utf8")).toBe(`me\n${folder}\n`);
});

test("a program or folder that does not exist is an error that names it", () => {
  expect(() => startProcess({ argv: ["/no/such"], output: "ignore" }, clock)).toThrow("cannot start /no/such");
  expect(() => startProcess({ argv: ["true"], cwd: "/no/such", output: "ignore" }, clock)).toThrow("cannot start true");
});

test("stop asks first, kills after the grace, and takes the children along", async () => {
  const polite = startProcess(
    { argv: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.02; done"], output: "ignore" },
    clock,
  );
  await clock.sleep(100);
  expect((await polite.stop(5000)).code).toBe(0);
  const { child, grandchild } = withGrandchild("trap '' TERM; sleep 100 & echo $!; while :; do sleep 1; done");
  const pid = await grandchild;
  const began = clock.monotonicMs();
  expect(await child.stop(100)).toMatchObject({ code: 137, signal: "SIGKILL" });
  expect(clock.monotonicMs() - began).toBeLessThan(2000);
  await whenGone(pid);
});

test("what a process leaves in its group ends with it", async () => {
  const { child, grandchild } = withGrandchild("sleep 100 >/dev/null 2>&1 & echo $!");
  const pid = await grandchild;
  expect((await child.exited).code).toBe(0);
  await whenGone(pid);
});

describe.each(["process", "group"] as const)("a child bound to its parent by %s", (dieWithParent) => {
  test("ends when the parent is killed", async () => {
    const source = `
      const { startProcess } = await import(${JSON.stringify(join(import.meta.dir, "process.ts"))});
      const { realClock } = await import(${JSON.stringify(join(import.meta.dir, "../kernel/clock.ts"))});
      const child = startProcess({ argv: ["sh", "-c", "sleep 1000 & echo $$ $!; wait"], dieWithParent: "${dieWithParent}",
        output: (chunk) => process.stdout.write(chunk) }, realClock);
      await Bun.sleep(60_000);`;
    const parent = Bun.spawn([process.execPath, "-e", source], { stdout: "pipe", stderr: "inherit" });
    const { value } = await parent.stdout.getReader().read();
    const [pid, grandchild] = Buffer.from(value!).toString().split(" ").map(Number);
    expect(await isAlive(pid!)).toBe(true);
    parent.kill("SIGKILL");
    await whenGone(pid!);
    if (dieWithParent === "group") await whenGone(grandchild!);
    else process.kill(grandchild!, "SIGKILL");
  });
});

test("a command is bounded in time and output, and answers 127 when it does not exist", async () => {
  expect(await runCommand(["sh", "-c", "cat; exit 2"], { clock, input: "in" })).toEqual({
    code: 2,
    output: "in",
    timedOut: false,
  });
  const began = clock.monotonicMs();
  expect((await runCommand(["sh", "-c", "sleep 50 & sleep 60"], { clock, timeoutMs: 100 })).timedOut).toBe(true);
  expect(clock.monotonicMs() - began).toBeLessThan(2000);
  expect((await runCommand(["sh", "-c", "yes | head -c 300000"], { clock })).output.length).toBe(64 * 1024);
  expect((await runCommand(["/no/such"], { clock })).code).toBe(127);
});

test("an exit status reads as a shell's", () => {
  expect(exitStatus(0, null, 5)).toEqual({ code: 0, finishedAtMs: 5 });
  expect(exitStatus(null, "SIGKILL", 5)).toEqual({ code: 137, signal: "SIGKILL", finishedAtMs: 5 });
  expect(exitStatus(null, 15, 5)).toEqual({ code: 143, signal: "SIGTERM", finishedAtMs: 5 });
});
