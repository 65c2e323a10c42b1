// From the host into a running sandbox: the command line that runs a program on one of its machines.

import { readFileSync } from "node:fs";
import { MeshbedError } from "../kernel/errors.ts";
import { toolPath } from "./process.ts";
import { inNetworkNamespace } from "./topology.ts";
import type { Isolation } from "./types.ts";

/** Process 1 of the sandbox as the host counts processes: the child of `unshare`. */
function initOf(sandboxPid: number): number {
  try {
    const child = Number(readFileSync(`/proc/${sandboxPid}/task/${sandboxPid}/children`, "utf8").split(" ")[0]);
    if (child > 0) return child;
  } catch {
    // Reported below.
  }
  throw new MeshbedError("SANDBOX_GONE", `process ${sandboxPid} holds no namespaces`, { fix: "see `meshbed status`" });
}

/** argv that runs `command` in the network of `machine`. Throws SANDBOX_GONE. */
export function enterMachineArgv(
  sandboxPid: number,
  isolation: Isolation,
  machine: string,
  command: readonly string[],
): string[] {
  const user = isolation.rootless ? ["--user", "--preserve-credentials"] : [];
  const inside = inNetworkNamespace(machine, command);
  return [toolPath("nsenter"), "--target", String(initOf(sandboxPid)), ...user, "--mount", "--pid", "--", ...inside];
}
