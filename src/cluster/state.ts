// What a running testbed leaves in its state folder for the other verbs: who supervises it, since when, on which ports.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MeshbedError } from "../kernel/errors.ts";
import { statePaths } from "./config.ts";

export interface Running {
  supervisorPid: number;
  /** Outermost process inside the namespaces, as the host sees it. */
  sandboxPid: number;
  startedAtMs: number;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  try {
    // Ended, but its parent has not asked how: as good as gone.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.charAt(stat.lastIndexOf(")") + 2) !== "Z";
  } catch {
    return process.platform !== "linux";
  }
}

/** The testbed of this state folder, if its supervisor lives. */
export function readRunning(stateDir: string): Running | undefined {
  try {
    const running = JSON.parse(readFileSync(statePaths(stateDir).supervisor, "utf8")) as Running;
    return isAlive(running.supervisorPid) ? running : undefined;
  } catch {
    return undefined;
  }
}

/** Throws NOT_RUNNING when there is none. */
export function requireRunning(stateDir: string): Running {
  const running = readRunning(stateDir);
  if (running) return running;
  throw new MeshbedError("NOT_RUNNING", `no testbed is running from ${stateDir}`, {
    fix: "start one with `meshbed up`, or point --state at its folder",
  });
}

export function writeRunning(stateDir: string, running: Running): void {
  writeFileSync(statePaths(stateDir).supervisor, JSON.stringify(running));
}

export function clearRunning(stateDir: string): void {
  rmSync(statePaths(stateDir).supervisor, { force: true });
}

/** Exists once the testbed is up. */
export const readyFile = (stateDir: string): string => join(statePaths(stateDir).run, "ready");
