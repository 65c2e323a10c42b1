// The shell script that is process 1 of a container: builds its root, enters it, runs the program and reaps orphans.

import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { MeshbedError } from "../kernel/errors.ts";
import { isHidden, isWithin, type MountPoint, mountFlags, type RootPlan } from "./pod-root.ts";
import { toolPath } from "./process.ts";
import { runDir } from "./sandbox.ts";
import type { ContainerSpec, Mount, PodNetworkSpec } from "./types.ts";

export interface Setup {
  /** The container's scratch folder, in memory; made here. */
  folder: string;
  container: ContainerSpec;
  pod: PodNetworkSpec;
  plan: RootPlan;
  mounts: readonly MountPoint[];
  /** Folders of the machine every container sees, also below /tmp. */
  sharedPaths: readonly string[];
  rootless: boolean;
  /** Control groups the container joins. */
  cgroups: readonly string[];
}

/** Standard error up to here is the set-up's; then follow the pids of init and program: "\x1e<init> <program>\n". */
export const readyMark = 0x1e;

const shellQuote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** fstab(5) separates fields by blanks and writes those inside a field in octal. */
const field = (text: string) =>
  text.replace(/[\s\\#]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, "0")}`);

const line = (source: string, target: string, type: string, options: string) =>
  `${field(source)} ${field(target)} ${type} ${options} 0 0\n`;

/** Everything that stands before the old root is left behind. */
export function rootTable(folder: string, plan: RootPlan, rootless: boolean): string {
  const root = `${folder}/root`;
  const at = (path: string) => (path === "/" ? root : `${root}${path}`);
  const overlay = (path: string, i: number) =>
    line(
      "overlay",
      at(path),
      "overlay",
      `lowerdir=${field(path)},upperdir=${folder}/upper${i},workdir=${folder}/work${i}${rootless ? ",userxattr" : ""}`,
    );
  return [
    plan.overlays[0] === "/" ? "" : line(root, root, "none", "bind"),
    ...plan.overlays.map(overlay),
    ...plan.binds.map((path) => line(path, at(path), "none", "rbind")),
    line("proc", at("/proc"), "proc", "nosuid,nodev,noexec"),
    line("/sys", at("/sys"), "none", "rbind"),
    line(`${runDir}/dev`, at("/dev"), "none", "rbind,ro"),
    line("devpts", at("/dev/pts"), "devpts", "newinstance,ptmxmode=0666,mode=0620"),
    line("tmpfs", at("/dev/shm"), "tmpfs", "nosuid,nodev"),
    line("tmpfs", at("/run"), "tmpfs", "mode=755"),
    line("tmpfs", at("/tmp"), "tmpfs", "mode=1777"),
  ].join("");
}

/** Makes the folders and files the table and the pod's identity need. */
function makeFolders(setup: Setup): void {
  const { folder, plan, pod } = setup;
  mkdirSync(`${folder}/root`, { recursive: true });
  for (const i of hiddenPaths(setup).keys()) {
    mkdirSync(`${folder}/shared${i}`);
    mkdirSync(`${folder}/sharedwork${i}`);
  }
  for (const i of plan.overlays.keys()) {
    mkdirSync(`${folder}/upper${i}`);
    mkdirSync(`${folder}/work${i}`);
  }
  for (const path of plan.folders) mkdirSync(`${folder}/root${path}`, { recursive: true });
  const rootLayer = plan.overlays[0] === "/" ? `${folder}/upper0` : `${folder}/root`;
  mkdirSync(`${rootLayer}/.old`);
  const etc = plan.overlays.indexOf("/etc");
  const etcLayer =
    plan.overlays[0] === "/" ? `${folder}/upper0/etc` : `${folder}/${etc === -1 ? "etc" : `upper${etc}`}`;
  mkdirSync(etcLayer, { recursive: true });
  writeFileSync(`${etcLayer}/resolv.conf`, pod.resolvConf);
  writeFileSync(`${etcLayer}/hosts`, pod.hosts);
  writeFileSync(`${etcLayer}/hostname`, `${pod.hostname}\n`);
}

/** Symbolic links of a root that is not an overlay itself; the shell makes them, for Bun would resolve none. */
const linkCommands = (folder: string, plan: RootPlan) =>
  plan.links.map(({ path, to }) => `ln -s ${shellQuote(to)} ${shellQuote(`${folder}/root${path}`)}`);

function isFolder(mount: Mount): boolean {
  try {
    return statSync(mount.source).isDirectory();
  } catch {
    throw new MeshbedError(
      "CONTAINER_START_FAILED",
      `${mount.source}, to be mounted at ${mount.target}, does not exist`,
    );
  }
}

/** Shared folders the container would not see by itself; one inside another comes with it. */
export function hiddenPaths({ container, plan, mounts, sharedPaths }: Setup): string[] {
  const wanted = [...sharedPaths, ...(container.workingDir === undefined ? [] : [container.workingDir])];
  const hidden = wanted.filter(
    (path) => isHidden(path, plan, mounts) && statSync(path, { throwIfNoEntry: false })?.isDirectory(),
  );
  return [...new Set(hidden)].filter((path) => !hidden.some((other) => other !== path && isWithin(path, other)));
}

/** Private and writable like the rest of the root. */
function hiddenTable(setup: Setup, paths: readonly string[]): string {
  const folder = `/.old${setup.folder}`;
  const more = setup.rootless ? ",userxattr" : "";
  return paths
    .map((path, i) => {
      const layers = `lowerdir=/.old${field(path)},upperdir=${folder}/shared${i},workdir=${folder}/sharedwork${i}`;
      return line("overlay", path, "overlay", `${layers}${more},X-mount.mkdir`);
    })
    .join("");
}

/** What is mounted from inside the new root, where links in target paths mean what they say. Parents come first. */
export function volumeTable(setup: Setup): { table: string; commands: string[] } {
  const { container, plan, mounts, folder } = setup;
  const etcShown = !plan.overlays.includes("/etc") && plan.overlays[0] !== "/";
  const identity = etcShown
    ? ["resolv.conf", "hosts", "hostname"].map((name) => ({
        source: `${folder}/etc/${name}`,
        target: `/etc/${name}`,
        readOnly: false,
      }))
    : [];
  const all = [...identity, ...container.mounts.toSorted((a, b) => a.target.length - b.target.length)];
  const commands: string[] = [];
  let table = hiddenTable(setup, hiddenPaths(setup));
  for (const mount of all) {
    const options = ["rbind", ...(mount.readOnly ? ["ro", ...mountFlags(mount.source, mounts)] : [])];
    if (isFolder(mount)) options.push("X-mount.mkdir");
    else {
      const target = shellQuote(mount.target);
      commands.push(`[ -e ${target} ] || { mkdir -p ${shellQuote(dirname(mount.target))}; : > ${target}; }`);
    }
    table += line(`/.old${mount.source}`, mount.target, "none", options.join(","));
  }
  return { table, commands };
}

/** Writes the container's tables and returns the script that uses them. Throws CONTAINER_START_FAILED. */
export function prepareContainer(setup: Setup): string {
  const { folder, container, pod, plan, rootless, cgroups } = setup;
  makeFolders(setup);
  writeFileSync(join(folder, "root.fstab"), rootTable(folder, plan, rootless));
  const volumes = volumeTable(setup);
  writeFileSync(join(folder, "volumes.fstab"), volumes.table);
  const mount = toolPath("mount");
  const hostname = shellQuote(pod.hostname);
  const workingDir = shellQuote(container.workingDir ?? "/");
  // Own variable names: a plain one might be the program's and exported.
  // The shell that waits writes nothing: its "Terminated" is not the program's.
  return `exec 9>&2 2>/dev/null
read -r _meshbed_init _meshbed_rest </proc/self/stat
(
exec 2>&9 9>&-
set -e
read -r _meshbed_pid _meshbed_rest </proc/self/stat
${cgroups.map((path) => `echo 0 > ${shellQuote(path)}/cgroup.procs\n`).join("")}${linkCommands(folder, plan).join("\n")}
${mount} -a -T ${folder}/root.fstab
cd ${folder}/root
${toolPath("pivot_root")} . .old
cd /
${volumes.commands.join("\n")}
${volumes.table === "" ? "" : `${mount} -a -T /.old${folder}/volumes.fstab`}
${toolPath("umount")} -l /.old
rmdir /.old
{ echo ${hostname} > /proc/sys/kernel/hostname || hostname ${hostname}; } 2>/dev/null || :
[ -d ${workingDir} ] || mkdir -p ${workingDir}
cd ${workingDir}
unset OLDPWD
case "$1" in
*/*) [ -x "$1" ] || { echo "exec: \\"$1\\": no such file, or not executable" >&2; exit 127; } ;;
*) command -v "$1" >/dev/null || { echo "exec: \\"$1\\": executable file not found in \\$PATH" >&2; exit 127; } ;;
esac
printf '\\036%s %s\\n' $_meshbed_init $_meshbed_pid >&2
exec "$@"
)
exit $?`;
}
