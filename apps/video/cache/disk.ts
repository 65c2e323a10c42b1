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
import { mkdir, rename, unlink, writeFile } from "node:fs/promises";
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
  // Half-written files of a killed process.
  rmSync(join(dir, "tmp"), { recursive: true, force: true });
  mkdirSync(join(dir, "tmp"));
  const index = createIndex(bytesMax, entriesMax);
  let sequence = 0;
  return {
    get: index.get,
    peek: index.peek,
    remove: index.drop,
    async put(meta, body) {
      sequence += 1;
      const entry = await writeEntry(dir, meta, body, bytesMax, sequence);
      if (entry !== undefined) index.add(entry);
      return entry;
    },
    removeResource(target) {
      for (const key of index.keys()) {
        if (key === target || key.startsWith(`${target}#`) || key.startsWith(`${target}\n`)) index.drop(key);
      }
    },
    async load(onFound) {
      // What comes in while this runs is not to be found, and younger than all that is.
      const found = await readEntries(dir, (path) => index.hasPath(path));
      const meanwhile = index.all();
      for (const entry of found) {
        onFound(entry.meta);
        index.add(entry);
      }
      for (const entry of meanwhile) index.add(entry);
      return found.length;
    },
    get bytes() {
      return index.bytes;
    },
    get entries() {
      return index.size;
    },
  };
}

interface Index {
  get(key: string): Entry | undefined;
  peek(key: string): Entry | undefined;
  add(entry: Entry): void;
  drop(key: string): void;
  keys(): Iterable<string>;
  all(): Entry[];
  hasPath(path: string): boolean;
  readonly bytes: number;
  readonly size: number;
}

/** Least recently used out first: a Map iterates in order of insertion, and using an entry moves it to the end. */
function createIndex(bytesMax: number, entriesMax: number): Index {
  const entries = new Map<string, Entry>();
  let bytes = 0;
  let hotBytes = 0;

  function drop(key: string, replacement?: Entry): void {
    const entry = entries.get(key);
    if (entry === undefined) return;
    entries.delete(key);
    bytes -= entry.bodyOffset + entry.meta.bodyBytes;
    hotBytes -= entry.hot?.length ?? 0;
    if (replacement?.path === entry.path) return;
    setTimeout(() => void unlink(entry.path).catch(() => undefined), removeAfterMs).unref();
  }

  return {
    get(key) {
      const entry = entries.get(key);
      if (entry !== undefined) {
        entries.delete(key);
        entries.set(key, entry);
      }
      return entry;
    },
    peek: (key) => entries.get(key),
    add(entry) {
      drop(entry.meta.key, entry);
      entries.set(entry.meta.key, entry);
      bytes += entry.bodyOffset + entry.meta.bodyBytes;
      hotBytes += entry.hot?.length ?? 0;
      for (const key of entries.keys()) {
        if (bytes <= bytesMax && entries.size <= entriesMax) break;
        drop(key);
      }
      if (hotBytes <= hotBytesMax) return;
      for (const old of entries.values()) {
        hotBytes -= old.hot?.length ?? 0;
        old.hot = undefined;
        if (hotBytes <= hotBytesMax / 2) break;
      }
    },
    drop: (key) => drop(key),
    keys: () => [...entries.keys()],
    all: () => [...entries.values()],
    hasPath: (path) => entries.values().some((entry) => entry.path === path),
    get bytes() {
      return bytes;
    },
    get size() {
      return entries.size;
    },
  };
}

/** Undefined when it is too large or the disk does not take it. */
async function writeEntry(
  dir: string,
  meta: Meta,
  body: Uint8Array<ArrayBuffer>,
  bytesMax: number,
  sequence: number,
): Promise<Entry | undefined> {
  const head = Buffer.from(JSON.stringify(meta));
  if (head.length > metaBytesMax || 4 + head.length + body.length > bytesMax) return undefined;
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32BE(head.length);
  // Never the name of an older file: that one may be on its way to a client.
  const name = `${Bun.hash(meta.key).toString(16).padStart(16, "0")}-${Date.now().toString(36)}-${sequence.toString(36)}`;
  const partial = join(dir, "tmp", name);
  const path = join(dir, name.slice(0, 2), name);
  try {
    await mkdir(join(dir, name.slice(0, 2)), { recursive: true });
    await writeFile(partial, Buffer.concat([prefix, head, body]));
    await rename(partial, path);
  } catch {
    await unlink(partial).catch(() => undefined);
    return undefined;
  }
  return { meta, path, bodyOffset: 4 + head.length, hot: body.length <= hotBodyBytesMax ? body : undefined };
}

/** All whole files, oldest first; the others are removed. */
async function readEntries(dir: string, isKnown: (path: string) => boolean): Promise<Entry[]> {
  const found: Entry[] = [];
  let seen = 0;
  for (const folder of readdirSync(dir)) {
    if (!/^[0-9a-f]{2}$/.test(folder)) continue;
    for (const name of readdirSync(join(dir, folder))) {
      const path = join(dir, folder, name);
      if (isKnown(path)) continue;
      const entry = readEntry(path);
      if (entry === undefined) await unlink(path).catch(() => undefined);
      else found.push(entry);
      seen += 1;
      if (seen % loadBatch === 0) await Bun.sleep(0);
    }
  }
  return found.sort((a, b) => a.meta.storedAtMs - b.meta.storedAtMs);
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
