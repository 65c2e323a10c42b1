// Decides what a container's root folder is made of: the machine's own files, writable but private. Pure but for plan input.

import { accessSync, constants, lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";

/** A line of /proc/self/mountinfo (proc(5)). */
export interface MountPoint {
  path: string;
  type: string;
  /** Flags an unprivileged remount has to repeat: nosuid, nodev, noexec. */
  flags: readonly string[];
}

export interface RootPlan {
  /** Folders overlaid with a private writable layer, outermost first. */
  overlays: readonly string[];
  /** Folders shown as they are: they hold mounts an unprivileged overlay may not cover. */
  binds: readonly string[];
  /** Symbolic links and empty folders to make in a root that is not itself an overlay. */
  links: readonly { path: string; to: string }[];
  folders: readonly string[];
}

/** Each container has its own of these. */
const privateFolders = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/** File systems that hold files worth showing to a pod. */
const realTypes = new Set([
  "ext2",
  "ext3",
  "ext4",
  "xfs",
  "btrfs",
  "zfs",
  "f2fs",
  "nfs",
  "nfs4",
  "9p",
  "virtiofs",
  "bcachefs",
]);

const unescapeOctal = (text: string) =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

export function parseMountInfo(text: string): MountPoint[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const fields = line.split(" ");
      const type = fields[fields.indexOf("-") + 1] ?? "";
      const flags = fields[5]!.split(",").filter((flag) => ["nosuid", "nodev", "noexec"].includes(flag));
      return { path: unescapeOctal(fields[4]!), type, flags };
    });
}

export const readMounts = (): MountPoint[] => parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8"));

export const isWithin = (path: string, folder: string) =>
  path === folder || folder === "/" || path.startsWith(`${folder}/`);

/** Flags of the mount that `path` lies on; a read-only bind mount without privilege has to keep them. */
export function mountFlags(path: string, mounts: readonly MountPoint[]): readonly string[] {
  let best: MountPoint | undefined;
  for (const mount of mounts)
    if (isWithin(path, mount.path) && mount.path.length >= (best?.path.length ?? 0)) best = mount;
  return best?.flags ?? [];
}

/** True when a container does not see this path of the machine by itself. */
export function isHidden(path: string, plan: RootPlan, mounts: readonly MountPoint[]): boolean {
  if (privateFolders.some((folder) => isWithin(path, folder))) return true;
  if (![...plan.overlays, ...plan.binds].some((folder) => isWithin(path, folder))) return true;
  const shown = (mount: MountPoint) =>
    plan.overlays.includes(mount.path) || plan.binds.some((folder) => isWithin(mount.path, folder));
  return mounts.some((mount) => mount.path !== "/" && isWithin(path, mount.path) && !shown(mount));
}

export interface Entry {
  name: string;
  kind: "folder" | "link" | "other";
  /** Of a link. */
  to?: string;
  readable: boolean;
}

/** With privilege: one overlay over "/" and one over each further real file system. */
function planAsRoot(mounts: readonly MountPoint[], isFolder: (path: string) => boolean): RootPlan {
  const further = mounts
    .filter(({ path, type }) => path !== "/" && realTypes.has(type) && isFolder(path))
    .map(({ path }) => path)
    .filter((path) => !privateFolders.some((folder) => isWithin(path, folder)));
  return { overlays: ["/", ...[...new Set(further)].sort()], binds: [], links: [], folders: [] };
}

/**
 * Without privilege the kernel lets no overlay cover a mount it shows to the user namespace, "/" least of all:
 * each top folder gets an overlay of its own, or is shown as it is when it has mounts inside.
 */
function planRootless(mounts: readonly MountPoint[], top: readonly Entry[]): RootPlan {
  const overlays: string[] = [];
  const binds: string[] = [];
  const links: { path: string; to: string }[] = [];
  const folders: string[] = [...privateFolders];
  for (const { name, kind, to, readable } of top) {
    const path = `/${name}`;
    if (kind === "link") links.push({ path, to: to! });
    if (kind !== "folder" || privateFolders.includes(path)) continue;
    folders.push(path);
    if (!readable || /[,:\\]/.test(name)) continue;
    const hasMounts = mounts.some((mount) => mount.path !== path && isWithin(mount.path, path));
    (hasMounts ? binds : overlays).push(path);
  }
  return { overlays, binds, links, folders };
}

function topEntries(): Entry[] {
  return readdirSync("/", { withFileTypes: true }).map((entry) => {
    const path = join("/", entry.name);
    const kind = entry.isDirectory() ? "folder" : entry.isSymbolicLink() ? "link" : "other";
    let readable = true;
    try {
      accessSync(path, constants.R_OK | constants.X_OK);
    } catch {
      readable = false;
    }
    return { name: entry.name, kind, readable, ...(kind === "link" && { to: readlinkSync(path) }) };
  });
}

function isFolder(path: string): boolean {
  try {
    return lstatSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** The plan for this machine. */
export function planRoot(rootless: boolean, mounts: readonly MountPoint[], top = topEntries): RootPlan {
  return rootless ? planRootless(mounts, top()) : planAsRoot(mounts, isFolder);
}
