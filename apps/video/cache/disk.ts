// Stored responses on disk: one file each (length of meta, meta as JSON, body), an index in memory, least recently used out first.

import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { rename, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Entry, Meta } from "./types.ts";

/** Bodies up to this size are also kept in memory, all of them together up to the second bound. */
const hotBodyBytesMax = 64 * 1024;
const hotBytesMax = 16 * 1024 * 1024;
/** A file may have been handed to the server for sending but not opened yet; it is removed this much later. */
const removeAfterMs = 1000;
const metaBytesMax = 256 * 1024;
/** How many files are looked at between two turns of the event loop while loading. */
const loadBatch = 64;

export interface Disk {
  get(key: string): Entry | undefined;
  /** Without counting as a use. */
  peek(key: string): Entry | undefined;
  /** Undefined when the disk does not take it: the response is used all the same, but not kept. */
  put(meta: Meta, body: Uint8Array<ArrayBuffer>): Promise<Entry | undefined>;
  remove(key: string): void;
  /** Removes a resource with all slices and variants. */
  removeResource(target: string): void;
  /** Reads what an earlier process left. New entries win over old ones. */
  load(found: (meta: Meta) => void): Promise<number>;
  readonly bytes: number;
  readonly entries: number;
}

export function openDisk(dir: string, bytesMax: number, entriesMax: number): Disk {
  mkdirSync(dir, { recursive: true });
  forgetAfterReboot(dir);
  const temporary = join(dir, "tmp");
  // Half-written files of a killed process.
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary);
  // A Map iterates in order of insertion; using an entry moves it to the end.
  const index = new Map<string, Entry>();
  let bytes = 0;
  let hotBytes = 0;
  let sequence = 0;

  function drop(key: string): void {
    const entry = index.get(key);
    if (entry === undefined) return;
    index.delete(key);
    bytes -= entry.bodyOffset + entry.meta.bodyBytes;
    hotBytes -= entry.hot?.length ?? 0;
    setTimeout(() => void unlink(entry.path).catch(() => undefined), removeAfterMs).unref();
  }

  function add(entry: Entry): void {
    drop(entry.meta.key);
    index.set(entry.meta.key, entry);
    bytes += entry.bodyOffset + entry.meta.bodyBytes;
    hotBytes += entry.hot?.length ?? 0;
    for (const key of index.keys()) {
      if (bytes <= bytesMax && index.size <= entriesMax) break;
      drop(key);
    }
    for (const old of index.values()) {
      if (hotBytes <= hotBytesMax) break;
      hotBytes -= old.hot?.length ?? 0;
      old.hot = undefined;
    }
  }

  return {
    get(key) {
      const entry = index.get(key);
      if (entry !== undefined) {
        index.delete(key);
        index.set(key, entry);
      }
      return entry;
    },
    peek: (key) => index.get(key),
    async put(meta, body) {
      const head = Buffer.from(JSON.stringify(meta));
      if (head.length > metaBytesMax || head.length + body.length + 4 > bytesMax) return undefined;
      const prefix = Buffer.alloc(4);
      prefix.writeUInt32BE(head.length);
      sequence += 1;
      const name = `${Bun.hash(meta.key).toString(16).padStart(16, "0")}-${Date.now().toString(36)}-${sequence.toString(36)}`;
      const folder = join(dir, name.slice(0, 2));
      const path = join(folder, name);
      const partial = join(temporary, name);
      try {
        mkdirSync(folder, { recursive: true });
        await writeFile(partial, Buffer.concat([prefix, head, body]));
        await rename(partial, path);
      } catch {
        await unlink(partial).catch(() => undefined);
        return undefined;
      }
      const hot = body.length <= hotBodyBytesMax ? body : undefined;
      const entry: Entry = { meta, path, bodyOffset: 4 + head.length, hot };
      add(entry);
      return entry;
    },
    remove: drop,
    removeResource(target) {
      for (const key of index.keys()) {
        if (key === target || key.startsWith(`${target}#`) || key.startsWith(`${target}\n`)) drop(key);
      }
    },
    async load(onFound) {
      let loaded = 0;
      const found: Entry[] = [];
      for (const folder of readdirSync(dir)) {
        if (!/^[0-9a-f]{2}$/.test(folder)) continue;
        for (const name of readdirSync(join(dir, folder))) {
          const path = join(dir, folder, name);
          const entry = readEntry(path);
          if (entry === undefined) await unlink(path).catch(() => undefined);
          else found.push(entry);
          loaded += 1;
          if (loaded % loadBatch === 0) await Bun.sleep(0);
        }
      }
      found.sort((a, b) => a.meta.storedAtMs - b.meta.storedAtMs);
      const newer = [...index.values()];
      for (const entry of found) {
        onFound(entry.meta);
        if (!newer.some((other) => other.path === entry.path)) add(entry);
      }
      // What came in meanwhile is younger than all that was found: put it back to the end, in its own order.
      for (const entry of newer) {
        const current = index.get(entry.meta.key);
        if (current !== undefined && current !== entry && current.meta.storedAtMs < entry.meta.storedAtMs) add(entry);
      }
      return found.length;
    },
    get bytes() {
      return bytes;
    },
    get entries() {
      return index.size;
    },
  };
}

/** Undefined for a file that is not whole. */
function readEntry(path: string): Entry | undefined {
  let file: number | undefined;
  try {
    file = openSync(path, "r");
    const prefix = Buffer.alloc(4);
    if (readSync(file, prefix) !== 4) return undefined;
    const metaBytes = prefix.readUInt32BE();
    if (metaBytes > metaBytesMax) return undefined;
    const head = Buffer.alloc(metaBytes);
    if (readSync(file, head) !== metaBytes) return undefined;
    const meta = JSON.parse(head.toString()) as Meta;
    if (statSync(path).size !== 4 + metaBytes + meta.bodyBytes) return undefined;
    return { meta, path, bodyOffset: 4 + metaBytes, hot: undefined };
  } catch {
    return undefined;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Files are not synced, so that a power failure may leave holes in them: what another boot wrote is not trusted. */
function forgetAfterReboot(dir: string): void {
  const marker = join(dir, "boot-id");
  let boot = "unknown";
  try {
    boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    if (readFileSync(marker, "utf8") === boot) return;
  } catch {
    // No marker yet, or not Linux.
  }
  for (const name of readdirSync(dir)) {
    if (/^[0-9a-f]{2}$/.test(name)) rmSync(join(dir, name), { recursive: true, force: true });
  }
  writeFileSync(marker, boot);
}
