// Entry of every meshbed process. Inner processes skip the command-line library: a dozen of them start at once.

import { join } from "node:path";

const innerVerbs = ["sandbox", "control-plane", "kubelet", "node-proxy", "gateway"];
const verb = process.argv[2] ?? "";

/** `up` needs the bundle anyway, and loads in half the time from it; so does `proxy`. Undefined: go on with this file. */
async function bundle(): Promise<string | undefined> {
  if ((verb !== "up" && verb !== "proxy") || !import.meta.path.endsWith(".ts")) return undefined;
  const { mainBundle } = await import("./cluster/bundle.ts");
  // Sources that do not compile: the verb itself meets the same error, and prints it as any other.
  const main = await mainBundle(join(import.meta.dir, "..")).catch(() => undefined);
  return main === import.meta.path ? undefined : main;
}

if (innerVerbs.includes(verb)) {
  const { runInner } = await import("./cluster/inner.ts");
  await runInner(verb, process.argv.slice(3));
} else {
  const main = await bundle();
  if (main === undefined) {
    const { runCli } = await import("./cli/program.ts");
    await runCli(process.argv);
  } else await import(main);
}
