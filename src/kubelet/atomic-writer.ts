// Puts a set of files on disk so that a reader sees either all old or all new ones (kubelet AtomicWriter): files are symbolic
// links through "..data", itself a link to a timestamped folder that one rename replaces.

import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { VolumeFiles } from "./volume-files.ts";

const dataLink = "..data";
let serial = 0;

/** Two sets with equal keys hold the same bytes and modes. */
export function sameFiles(a: VolumeFiles, b: VolumeFiles): boolean {
  if (a.size !== b.size) return false;
  for (const [path, { content, mode }] of a) {
    const other = b.get(path);
    if (other === undefined || other.mode !== mode || !Buffer.from(content).equals(other.content)) return false;
  }
  return true;
}

/** `nowMs` names the folder. Throws the file system's error; the old content then stays. */
export function writeAtomically(folder: string, files: VolumeFiles, nowMs: number): void {
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const stamp = new Date(nowMs).toISOString().replace(/[-:TZ]/g, "_");
  const version = `..${stamp}${process.pid}.${serial++}`;
  const versionPath = join(folder, version);
  mkdirSync(versionPath, { mode: 0o755 });
  for (const [path, { content, mode }] of files) {
    const target = join(versionPath, path);
    mkdirSync(dirname(target), { recursive: true, mode: 0o755 });
    writeFileSync(target, content, { mode });
    chmodSync(target, mode); // the umask took bits away
  }
  const linkPath = join(folder, dataLink);
  const old = linkTarget(linkPath);
  const newLink = join(folder, "..data_tmp");
  rmSync(newLink, { force: true });
  symlinkSync(version, newLink);
  renameSync(newLink, linkPath);
  const wanted = new Set([...files.keys()].map((path) => path.split("/", 1)[0]!));
  for (const name of wanted)
    if (linkTarget(join(folder, name)) === undefined) symlinkSync(`${dataLink}/${name}`, join(folder, name));
  for (const name of readdirSync(folder)) if (!name.startsWith("..") && !wanted.has(name)) rmSync(join(folder, name));
  if (old !== undefined) rmSync(join(folder, old), { recursive: true, force: true });
}

function linkTarget(path: string): string | undefined {
  try {
    return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined;
  } catch {
    return undefined;
  }
}
