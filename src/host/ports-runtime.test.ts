// Tests of the ports runtime with real processes.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { realClock as clock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { createPortFinder, createPortsRuntime } from "./ports-runtime.ts";
import { runCommand } from "./process.ts";
import type { ContainerSpec } from "./types.ts";

const folder = mkdtempSync("/tmp/meshbed-ports-test-");
afterAll(() => rmSync(folder, { recursive: true }));

const runtime = createPortsRuntime({ clock, log: silentLog, random: seededRandom(1) });
const podSpec = { podId: "uid", hostname: "h", ip: "127.0.0.1", hostNetwork: false, resolvConf: "", hosts: "" };
let count = 0;

function container(argv: string[], more: Partial<ContainerSpec> = {}): ContainerSpec {
  const id = `c-${count++}`;
  return {
    id,
    argv,
    env: { PATH: "/usr/bin:/bin", WHO: "me" },
    workingDir: undefined,
    mounts: [],
    logPath: join(folder, `${id}.log`),
    memoryLimitBytes: undefined,
    cpuLimitMillis: undefined,
    ...more,
  };
}

/** How many processes have this word in their command line. */
async function processesNamed(word: string): Promise<number> {
  const { output } = await runCommand(["ps", "-eo", "stat,args"], { clock });
  return output.split("\n").filter((line) => line.includes(word) && !line.startsWith("Z")).length;
}

async function whenGone(word: string): Promise<void> {
  for (let i = 0; i < 100 && (await processesNamed(word)) > 0; i++) await clock.sleep(20);
  expect(await processesNamed(word)).toBe(0);
}

test("a container runs in its working folder, logs in the CRI format and reports its exit", async () => {
  const pod = await runtime.createPod(podSpec);
  const workingDir = join(folder, "made/here");
  const spec = container(["sh", "-c", "echo $WHO; pwd; printf end >&2; exit 3"], { workingDir });
  expect(await (await pod.start(spec)).exited).toMatchObject({ code: 3 });
  const lines = readFileSync(spec.logPath, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => line.replace(/^\S+ /, ""));
  expect(lines.toSorted()).toEqual(["stderr F end", `stdout F ${workingDir}`, "stdout F me"]);
  await pod.remove();
});

test("a missing program or volume is an error that names it", async () => {
  const pod = await runtime.createPod(podSpec);
  expect(pod.start(container(["no-such-program"]))).rejects.toThrow("no-such-program");
  const mounts = [{ source: "/no/such", target: "/data", readOnly: true }];
  expect(pod.start(container(["true"], { mounts }))).rejects.toThrow("/no/such");
  await pod.remove();
});

test("SIGTERM reaches the program, and remove ends the whole tree", async () => {
  const pod = await runtime.createPod(podSpec);
  const polite = await pod.start(container(["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.02; done"]));
  await clock.sleep(150);
  polite.kill("SIGTERM");
  expect((await polite.exited).code).toBe(7);
  const word = `999.${process.pid}`;
  await pod.start(container(["sh", "-c", `sleep ${word} & sleep ${word}`]));
  await clock.sleep(100);
  expect(await processesNamed(word)).toBeGreaterThanOrEqual(2);
  await pod.remove();
  await whenGone(word);
});

test("containers end with a killed kubelet, grandchildren included", async () => {
  const word = `998.${process.pid}`;
  const source = `
    const { createPortsRuntime } = await import(${JSON.stringify(join(import.meta.dir, "ports-runtime.ts"))});
    const { realClock: clock } = await import(${JSON.stringify(join(import.meta.dir, "../kernel/clock.ts"))});
    const { silentLog: log } = await import(${JSON.stringify(join(import.meta.dir, "../kernel/log.ts"))});
    const { systemRandom: random } = await import(${JSON.stringify(join(import.meta.dir, "../kernel/random.ts"))});
    const pod = await createPortsRuntime({ clock, log, random }).createPod(${JSON.stringify(podSpec)});
    await pod.start(JSON.parse(process.env.SPEC));
    await Bun.sleep(100);
    console.log("READY"); await Bun.sleep(60_000);`;
  const SPEC = JSON.stringify(container(["sh", "-c", `sleep ${word} & sleep ${word}`]));
  const kubelet = Bun.spawn([process.execPath, "-e", source], {
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, SPEC },
  });
  await kubelet.stdout.getReader().read();
  expect(await processesNamed(`sleep ${word}`)).toBeGreaterThanOrEqual(2);
  kubelet.kill("SIGKILL");
  await kubelet.exited;
  await whenGone(`sleep ${word}`);
});

test("exec has the container's environment, a bound in time, and 127 for what does not exist", async () => {
  const pod = await runtime.createPod(podSpec);
  await pod.start(container(["sleep", "100"], { workingDir: folder }));
  const id = `c-${count - 1}`;
  expect(await pod.exec(id, ["sh", "-c", "echo $WHO; pwd"], 2000)).toEqual({
    code: 0,
    output: `me\n${folder}\n`,
    timedOut: false,
  });
  expect((await pod.exec(id, ["sleep", "60"], 50)).timedOut).toBe(true);
  expect((await pod.exec(id, ["/no/such"], 500)).code).toBe(127);
  await pod.remove();
  expect(pod.exec(id, ["true"], 100)).rejects.toThrow("not running");
});

test("free ports are free, below the ephemeral range, and not handed out twice in a row", async () => {
  const finder = createPortFinder(seededRandom(7));
  const first = await finder();
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(first + 1, "127.0.0.1", resolve));
  const ports = [first, ...(await Promise.all([finder(), finder(), finder()]))];
  taken.close();
  expect(new Set(ports).size).toBe(4);
  expect(ports).not.toContain(first + 1);
  expect(ports.every((port) => port >= 18_000 && port < 30_000)).toBe(true);
  expect(await runtime.freePort()).toBeGreaterThan(0);
});
