// `meshbed logs`: the last lines of meshbed's own processes, and the next ones with -f.

import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { statePaths } from "../cluster/config.ts";
import { realClock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { TailedFile } from "./tail.ts";
import { paint } from "./terminal.ts";

const pollMs = 200;

export async function logs(
  stateDir: string,
  component: string | undefined,
  options: { follow: boolean; lines: string },
): Promise<void> {
  const folder = statePaths(stateDir).logs;
  const known = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".log")) : [];
  const names = known.map((name) => basename(name, ".log"));
  const wanted = component === undefined ? names : names.filter((name) => name === component);
  if (wanted.length === 0)
    throw new MeshbedError("NO_LOG", component === undefined ? `no logs in ${folder}` : `no log of '${component}'`, {
      fix: names.length > 0 ? `there are: ${names.join(", ")}` : "start the testbed: meshbed up",
    });
  const linesMax = Number(options.lines);
  if (!Number.isInteger(linesMax) || linesMax < 0)
    throw new MeshbedError("OPTION_INVALID", `--lines ${options.lines}: must be a whole number`);
  const files = wanted.map((name) => ({ name, tail: new TailedFile(join(folder, `${name}.log`)) }));
  const print = (lastMax: number) => {
    for (const { name, tail } of files) {
      const prefix = files.length > 1 ? `${paint.cyan(name.padEnd(16))} ` : "";
      const lines = tail.read().split("\n");
      for (const line of lines.filter((text) => text !== "").slice(-lastMax || lines.length))
        console.log(prefix + line);
    }
  };
  print(linesMax);
  while (options.follow) {
    await realClock.sleep(pollMs);
    print(Number.POSITIVE_INFINITY);
  }
}
