// `meshbed down`: ends the supervisor and waits until it is gone; everything else ends with it.

import { existsSync, rmSync } from "node:fs";
import { readRunning } from "../cluster/state.ts";
import { realClock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { paint } from "./terminal.ts";

const waitMaxMs = 15_000;
const killAfterMs = 10_000;

export async function down(stateDir: string, purge: boolean): Promise<void> {
  const running = readRunning(stateDir);
  if (running) {
    const startedMs = realClock.monotonicMs();
    process.kill(running.supervisorPid, "SIGTERM");
    let killed = false;
    while (readRunning(stateDir)) {
      const elapsedMs = realClock.monotonicMs() - startedMs;
      if (elapsedMs > waitMaxMs)
        throw new MeshbedError("STILL_RUNNING", `process ${running.supervisorPid} does not end`, {
          fix: `look at it with: ps -fp ${running.supervisorPid}`,
        });
      if (elapsedMs > killAfterMs && !killed) {
        // Safe at any time: the kernel ends everything inside with it.
        process.kill(running.supervisorPid, "SIGKILL");
        killed = true;
      }
      await realClock.sleep(20);
    }
    console.log(`${paint.green("✓")} stopped`);
  } else console.log(`nothing is running from ${stateDir}`);
  if (purge && existsSync(stateDir)) {
    rmSync(stateDir, { recursive: true, force: true });
    console.log(`${paint.green("✓")} removed ${stateDir}`);
  }
}
