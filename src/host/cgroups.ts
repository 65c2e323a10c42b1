// Memory and processor limits by control groups (v2, or v1 where the machine still has it), when they may be written.

import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

export interface Limits {
  memoryLimitBytes: number | undefined;
  cpuLimitMillis: number | undefined;
}

/** Folders in which groups for each resource are made; absent: that limit is not enforced here. */
export interface CgroupRoots {
  version: 1 | 2;
  memory?: string;
  cpu?: string;
}

const periodUs = 100_000;
const prefix = "meshbed.";

function writable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return existsSync(join(folder, "cgroup.procs"));
  } catch {
    return false;
  }
}

/** What this machine offers to this user. */
export function findCgroups(base = "/sys/fs/cgroup"): CgroupRoots {
  let controllers: string[] = [];
  try {
    controllers = readFileSync(join(base, "cgroup.subtree_control"), "utf8").trim().split(" ");
  } catch {
    const v1 = (name: "memory" | "cpu") => (writable(join(base, name)) ? { [name]: join(base, name) } : {});
    return { version: 1, ...v1("memory"), ...v1("cpu") };
  }
  const v2 = (name: "memory" | "cpu") => (writable(base) && controllers.includes(name) ? { [name]: base } : {});
  return { version: 2, ...v2("memory"), ...v2("cpu") };
}

export interface Cgroup {
  /** The container's first process writes itself into each. */
  folders: readonly string[];
  /** Limits that were asked for and cannot be had. */
  unenforced: readonly ("memory" | "cpu")[];
  /** True once the kernel has killed one of its processes for memory. */
  hadOomKill(): boolean;
  remove(): void;
}

/** A group for one container; `name` is unique on the machine. */
export function createCgroup(roots: CgroupRoots, name: string, limits: Limits): Cgroup {
  const folders = new Set<string>();
  const unenforced: ("memory" | "cpu")[] = [];
  const set = (resource: "memory" | "cpu", files: Record<string, string>) => {
    const root = roots[resource];
    const folder = root && join(root, prefix + name);
    try {
      if (!folder) throw new Error("no such controller");
      mkdirSync(folder, { recursive: true });
      folders.add(folder);
      for (const [file, value] of Object.entries(files)) writeFileSync(join(folder, file), value);
    } catch {
      unenforced.push(resource);
    }
  };
  const { memoryLimitBytes, cpuLimitMillis } = limits;
  if (memoryLimitBytes !== undefined)
    set("memory", {
      [roots.version === 2 ? "memory.max" : "memory.limit_in_bytes"]: String(Math.round(memoryLimitBytes)),
    });
  if (cpuLimitMillis !== undefined) {
    const quota = Math.max(1000, Math.round((cpuLimitMillis * periodUs) / 1000));
    set("cpu", roots.version === 2 ? { "cpu.max": `${quota} ${periodUs}` } : { "cpu.cfs_quota_us": String(quota) });
  }
  const hadOomKill = () => {
    const events = roots.version === 2 ? "memory.events" : "memory.oom_control";
    return (
      memoryLimitBytes !== undefined && /^oom_kill [1-9]/m.test(textOf(join(roots.memory ?? "", prefix + name, events)))
    );
  };
  return { folders: [...folders], unenforced, hadOomKill, remove: () => [...folders].forEach(removeEmpty) };
}

function textOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // Still populated, or gone: the next sweep sees.
  }
}

/** Removes groups whose name starts with `name` and that hold no process: a killed testbed's. */
export function sweepCgroups(roots: CgroupRoots, name = ""): void {
  for (const root of new Set([roots.memory, roots.cpu]))
    for (const entry of root ? readdirSync(root) : [])
      if (entry.startsWith(prefix + name)) removeEmpty(join(root!, entry));
}
