// Processes that are kept running and replaced: which one serves, which one goes, and what is left when a successor fails.
import { afterEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { realClock } from "../kernel/clock.ts";
import { Children, type ChildSpec } from "./children.ts";
import type { ClusterConfig } from "./config.ts";
import { replaceableComponents, replaceComponent, serveOrders } from "./control.ts";
import type { ClusterEvent } from "./events.ts";

const folder = mkdtempSync(join(tmpdir(), "children-"));
mkdirSync(join(folder, "logs"));
mkdirSync(join(folder, "run"));

const events: ClusterEvent[] = [];
let children: Children;

/** A process that says it serves, and ends on SIGTERM after `drainMs`. */
const script = (says: string, drainMs: number): string[] => [
  process.execPath,
  "-e",
  `const end = () => process.kill(process.pid, "SIGKILL");
   process.on("SIGTERM", () => setTimeout(end, ${drainMs}));
   process.stdin.on("end", end).resume();
   console.log(JSON.stringify({ type: "manifests-applied", created: process.pid, configured: 0, unchanged: 0 }));
   ${says}; setInterval(() => {}, 1000);`,
];
const serving = `console.log('{"type":"serving"}')`;

function start(more: Partial<ChildSpec>): void {
  events.length = 0;
  children = new Children({ stateDir: folder } as ClusterConfig, realClock, (event) => events.push(event));
  children.start({ name: "proxy-a", argv: script("", 300), restartMs: 0, ...more });
}
const pids = (): number[] => events.flatMap((event) => (event.type === "manifests-applied" ? [event.created] : []));
const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};
async function until(what: string, condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !condition(); i++) await realClock.sleep(10);
  expect(condition() ? "" : `not reached: ${what}`).toBe("");
}

afterEach(() => children.stop());
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

test("a successor takes over before the old process is told to go, and is kept running in its place", async () => {
  start({ takeOverArgv: script(serving, 0), restartArgv: script("", 0) });
  await until("the first process", () => pids().length === 1);
  const { component, tookMs } = await children.replace("proxy-a");
  expect([component, tookMs > 0]).toEqual(["proxy-a", true]);
  const [old, successor] = pids();
  expect([old, successor].map((pid) => isAlive(pid!))).toEqual([true, true]);
  await expect(children.replace("proxy-a")).rejects.toMatchObject({ code: "RESTART_BUSY" });
  await until("the old process has drained", () => !isAlive(old!));
  expect(events.filter(({ type }) => type === "restarted")).toEqual([]);
  process.kill(successor!, "SIGKILL");
  await until("another one after the successor's death", () => pids().length === 3);
  expect(events.filter(({ type }) => type === "restarted")).toHaveLength(1);
});

test("a successor that fails leaves the old process as it was", async () => {
  start({ takeOverArgv: script("end()", 0) });
  await until("the first process", () => pids().length === 1);
  const failed = children.replace("proxy-a");
  await expect(failed).rejects.toMatchObject({
    code: "RESTART_FAILED",
    message: expect.stringContaining("SIGKILL"),
  });
  expect(isAlive(pids()[0]!)).toBe(true);
  expect(events.filter(({ type }) => type === "restarted")).toEqual([]);
});

test("stopping ends a process that drains as well as its successor", async () => {
  start({ argv: script("", 60_000), takeOverArgv: script(serving, 60_000) });
  await until("the first process", () => pids().length === 1);
  await children.replace("proxy-a");
  const startMs = realClock.monotonicMs();
  await children.stop();
  expect(realClock.monotonicMs() - startMs).toBeLessThan(2_000);
  expect(pids().map(isAlive)).toEqual([false, false]);
});

test("orders arrive over the socket file, and refusals come back with code and fix", async () => {
  start({ takeOverArgv: script(serving, 0) });
  children.start({ name: "kubelet-a", argv: script("", 0), restartMs: 0 });
  await until("both processes", () => pids().length === 2);
  process.chdir(folder);
  serveOrders(children);
  expect(await replaceableComponents()).toEqual(["proxy-a"]);
  expect(await replaceComponent("proxy-a")).toMatchObject({ component: "proxy-a" });
  await expect(replaceComponent("kubelet-a")).rejects.toMatchObject({
    code: "COMPONENT_UNKNOWN",
    fix: "choose one of proxy-a; a gateway is a pod: kubectl rollout restart",
  });
});
