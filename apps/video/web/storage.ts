// Files on the shared volume: media/, thumbs/ and tmp/. A file appears under its final name complete and on disk, or not at all.

import {
  constants,
  copyFile,
  type FileHandle,
  mkdir,
  open,
  readdir,
  rename,
  stat,
  statfs,
  unlink,
} from "node:fs/promises";
import { join } from "node:path";

export type Shelf = "media" | "thumbs";

/** Free space that uploads leave for the database and thumbnails. */
const reserveBytes = 4 * 1024 * 1024;
/** Leftovers of killed uploads, and files without a video, are removed when older than this. */
const orphanAgeMs = 60 * 60 * 1000;

export class DiskFullError extends Error {
  override name = "DiskFullError";
  constructor() {
    super("the volume is full");
  }
}

export interface Draft {
  write(chunk: Uint8Array): Promise<void>;
  /** fsync, rename into place, fsync of the folder. */
  publish(shelf: Shelf, name: string): Promise<void>;
  /** Removes the temporary file; harmless after publish. */
  discard(): Promise<void>;
}

export interface Storage {
  path(shelf: Shelf, name: string): string;
  draft(): Promise<Draft>;
  /** Copies a file from outside, atomically as above. */
  importFile(source: string, shelf: Shelf, name: string): Promise<void>;
  remove(shelf: Shelf, name: string): Promise<void>;
  freeBytes(): Promise<number>;
  /** Removes old leftovers; `known` are the names that videos refer to. Returns how many went. */
  sweep(known: ReadonlySet<string>, nowMs: number): Promise<number>;
}

export async function openStorage(dataDir: string): Promise<Storage> {
  const folders = { media: join(dataDir, "media"), thumbs: join(dataDir, "thumbs"), tmp: join(dataDir, "tmp") };
  for (const folder of Object.values(folders)) await mkdir(folder, { recursive: true });

  async function publish(handle: FileHandle, from: string, shelf: Shelf, name: string): Promise<void> {
    await handle.sync();
    await handle.close();
    await rename(from, join(folders[shelf], name));
    const folder = await open(folders[shelf], constants.O_RDONLY);
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }

  async function sweepFolder(folder: string, keep: ReadonlySet<string>, beforeMs: number): Promise<number> {
    let removed = 0;
    for (const name of await readdir(folder)) {
      if (keep.has(name)) continue;
      const path = join(folder, name);
      // Another replica may sweep at the same time: a file that is gone is no failure.
      const found = await stat(path).catch(() => undefined);
      if (found === undefined || found.mtimeMs > beforeMs) continue;
      await unlink(path).catch(() => undefined);
      removed += 1;
    }
    return removed;
  }

  return {
    path: (shelf, name) => join(folders[shelf], name),
    async draft() {
      const path = join(folders.tmp, `${crypto.randomUUID()}.part`);
      const handle = await translateFull(() => open(path, "wx", 0o644));
      let open_ = true;
      return {
        write: (chunk) => translateFull(() => writeAll(handle, chunk)),
        async publish(shelf, name) {
          open_ = false;
          await translateFull(() => publish(handle, path, shelf, name));
        },
        async discard() {
          if (open_) await handle.close().catch(() => undefined);
          open_ = false;
          await unlink(path).catch(() => undefined);
        },
      };
    },
    async importFile(source, shelf, name) {
      const path = join(folders.tmp, `${crypto.randomUUID()}.part`);
      await translateFull(async () => {
        await copyFile(source, path);
        await publish(await open(path, "r+"), path, shelf, name);
      });
    },
    async remove(shelf, name) {
      await unlink(join(folders[shelf], name)).catch(() => undefined);
    },
    async freeBytes() {
      const found = await statfs(dataDir);
      return Math.max(0, found.bavail * found.bsize - reserveBytes);
    },
    async sweep(known, nowMs) {
      const beforeMs = nowMs - orphanAgeMs;
      return (
        (await sweepFolder(folders.tmp, new Set(), beforeMs)) +
        (await sweepFolder(folders.media, known, beforeMs)) +
        (await sweepFolder(folders.thumbs, known, beforeMs))
      );
    },
  };
}

async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  let offset = 0;
  while (offset < chunk.length) {
    const { bytesWritten } = await handle.write(chunk, offset, chunk.length - offset);
    offset += bytesWritten;
  }
}

async function translateFull<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code === "ENOSPC" || code === "EDQUOT") throw new DiskFullError();
    throw error;
  }
}
