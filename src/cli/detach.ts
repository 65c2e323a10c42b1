// `meshbed up -d`: the same command in a session of its own; shows its start-up, and returns when the testbed is up.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { statePaths } from "../cluster/config.ts";
import { readyFile } from "../cluster/state.ts";
import { startProcess } from "../host/process.ts";
import { realClock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { TailedFile } from "./tail.ts";

const pollMs = 25;

export async function detach(stateDir: string): Promise<void> {
  const paths = statePaths(stateDir);
  for (const folder of [paths.run, paths.logs]) mkdirSync(folder, { recursive: true });
  const output = join(paths.logs, "up.log");
  const ready = readyFile(stateDir);
  rmSync(ready, { force: true });
  writeFileSync(output, "");
  const argv = [process.execPath, ...process.argv.slice(1).filter((word) => word !== "-d" && word !== "--detach")];
  const child = startProcess({ argv, output, dieWithParent: "never" }, realClock);
  let code: number | undefined;
  void child.exited.then((status) => {
    code = status.code;
  });
  const tail = new TailedFile(output);
  const show = () => process.stdout.write(tail.read());
  while (code === undefined && !(await Bun.file(ready).exists())) {
    await realClock.sleep(pollMs);
    show();
  }
  show();
  if (code !== undefined)
    throw new MeshbedError("START_FAILED", `the testbed ended with code ${code} before it was up`, {
      fix: `read ${output}, or start without -d`,
    });
  console.log("  running in the background; stop it with: meshbed down");
  process.exit(0);
}
