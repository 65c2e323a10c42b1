// Tests that a sandbox ends whole, whoever in it is killed.

import { afterEach, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { realClock as clock } from "../kernel/clock.ts";
import { type Identity, identities, machineState, noneLeft, processesWith } from "./in-sandbox-suite.ts";
import { probeIsolation } from "./probe.ts";
import { sandboxArgv } from "./sandbox.ts";

const parentOf = (pid: number) => Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ")[1]);
const argsOf = (pid: number) => readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");

const supervisors: Bun.Subprocess[] = [];
afterEach(async () => {
  for (const supervisor of supervisors) supervisor.kill("SIGKILL");
  await Promise.all(supervisors.splice(0).map((supervisor) => supervisor.exited));
});

/** A supervisor with a sandbox in which a tree of processes runs, one of them in a session of its own. */
async function startTree({ prefix, isolation }: Identity) {
  const id = crypto.randomUUID();
  const inside = ["sh", "-c", "setsid sleep 1000 & (sleep 1000 &) ; mount -t tmpfs t /mnt; echo READY; sleep 1000"];
  const source = `Bun.spawn(${JSON.stringify(sandboxArgv(isolation, inside))}, { stdout: "inherit", stderr: "inherit" }); await Bun.sleep(60_000);`;
  const supervisor = Bun.spawn([...prefix, process.execPath, "-e", source], {
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, HOME: "/tmp", MESHBED_TEST_RUN: id },
  });
  supervisors.push(supervisor);
  await supervisor.stdout.getReader().read();
  const marker = `MESHBED_TEST_RUN=${id}`;
  // Supervisor, unshare, init, the shell inside and three sleepers.
  for (let i = 0; i < 300 && processesWith(marker).length < 7; i++) await clock.sleep(10);
  const pids = processesWith(marker);
  expect(pids.length).toBe(7);
  const unshare = pids.find((pid) => parentOf(pid) === supervisor.pid)!;
  const init = pids.find((pid) => parentOf(pid) === unshare)!;
  const main = pids.find((pid) => parentOf(pid) === init && argsOf(pid)[0] === "sh")!;
  return { supervisor, marker, victims: { supervisor: supervisor.pid, unshare, init, main } };
}

for (const identity of await identities())
  describe(`as ${identity.name}`, () => {
    test.each(["supervisor", "unshare", "init", "main"] as const)(
      "nothing is left when the %s is killed",
      async (victim) => {
        const before = await machineState();
        const { supervisor, marker, victims } = await startTree(identity);
        process.kill(victims[victim], "SIGKILL");
        if (victim !== "supervisor") {
          for (let i = 0; i < 300 && processesWith(marker).length > 1; i++) await clock.sleep(10);
          expect(processesWith(marker)).toEqual([supervisor.pid]);
          supervisor.kill("SIGKILL");
        }
        await supervisor.exited;
        await noneLeft(marker);
        expect(await machineState()).toBe(before);
      },
      20_000,
    );

    test("exit code, standard streams and reaping of orphans are an init's", async () => {
      const script = `read word; echo "got $word"; for i in 1 2 3; do (sleep 0.01 &); done; sleep 0.2
cat /proc/[0-9]*/stat | grep -c ') Z '; exit 5`;
      const child = Bun.spawn([...identity.prefix, ...sandboxArgv(identity.isolation, ["sh", "-c", script])], {
        stdin: new Blob(["hello\n"]),
        stdout: "pipe",
      });
      expect(await new Response(child.stdout).text()).toBe("got hello\n0\n");
      expect(await child.exited).toBe(5);
    });
  });

test("the probe says how pods are isolated and why", async () => {
  expect(await probeIsolation("ports")).toMatchObject({ mode: "ports", rootless: false });
  const isolation = await probeIsolation();
  expect(isolation.reason).not.toBe("");
  if (isolation.mode === "ports")
    expect(probeIsolation("namespaces")).rejects.toThrow("namespaces were asked for, but");
  else expect(await probeIsolation("namespaces")).toEqual(isolation);
});
