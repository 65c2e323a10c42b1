// The store on disk: bounds, eviction order, and what a killed process leaves behind.

import { afterAll, expect, test } from "bun:test";
import { readdirSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cleanUp, temporaryFolder, waitFor } from "../testing.ts";
import { openDisk } from "./disk.ts";
import type { Meta } from "./types.ts";

afterAll(cleanUp);

let clockMs = 1;
const metaOf = (key: string, bodyBytes: number): Meta => ({
  key,
  status: 200,
  headers: [["content-type", "text/plain"]],
  etag: '"a"',
  lastModified: undefined,
  vary: [],
  slice: undefined,
  bodyBytes,
  storedAtMs: clockMs++,
  initialAgeMs: 0,
  freshMs: 1000,
  staleWhileRevalidateMs: 0,
  staleIfErrorMs: 0,
});
const filesIn = (dir: string): string[] =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((file) => file.isFile() && file.name !== "boot-id")
    .map((file) => join(file.parentPath, file.name));
const bodyOf = (path: string, offset: number) => Bun.file(path).slice(offset).text();

test("least recently used responses go first, and the folder stays within its bound", async () => {
  const dir = temporaryFolder();
  const disk = openDisk(dir, 50_000, 1000);
  for (const key of ["/a", "/b", "/c", "/d"]) await disk.put(metaOf(key, 10_000), new Uint8Array(10_000));
  disk.get("/a");
  await disk.put(metaOf("/e", 10_000), new Uint8Array(10_000));
  expect(disk.peek("/a")).toBeDefined();
  expect(disk.peek("/b")).toBeUndefined();
  expect(disk.bytes).toBeLessThanOrEqual(50_000);
  await waitFor("the evicted file to go", () => (filesIn(dir).length === 4 ? true : undefined));
  expect(filesIn(dir).reduce((sum, file) => sum + statSync(file).size, 0)).toBe(disk.bytes);
});

test("the number of entries is bounded too", async () => {
  const disk = openDisk(temporaryFolder(), 1_000_000, 16);
  for (let i = 0; i < 100; i += 1) await disk.put(metaOf(`/${i}`, 1), new Uint8Array(1));
  expect(disk.entries).toBe(16);
  expect(disk.peek("/99")).toBeDefined();
  expect(disk.peek("/83")).toBeUndefined();
});

test("a new process finds whole files and removes damaged ones", async () => {
  const dir = temporaryFolder();
  const first = openDisk(dir, 1_000_000, 1000);
  const kept = await first.put(metaOf("/kept", 5), new TextEncoder().encode("hello"));
  const cut = await first.put(metaOf("/cut", 500), new Uint8Array(500));
  truncateSync(cut?.path ?? "", 300);
  writeFileSync(join(dir, "tmp", "half"), "half a file");
  const garbage = join(kept?.path ?? "", "..", "garbage");
  writeFileSync(garbage, "no such format");

  const second = openDisk(dir, 1_000_000, 1000);
  expect(await second.load(() => undefined)).toBe(1);
  const entry = second.get("/kept");
  expect(await bodyOf(entry?.path ?? "", entry?.bodyOffset ?? 0)).toBe("hello");
  expect(second.get("/cut")).toBeUndefined();
  expect(filesIn(dir)).toEqual([entry?.path ?? ""]);
});

test("of two files for one key the newer one counts, and what came in while loading wins over both", async () => {
  const dir = temporaryFolder();
  const first = openDisk(dir, 1_000_000, 1000);
  await first.put(metaOf("/x", 3), new TextEncoder().encode("old"));
  const second = openDisk(dir, 1_000_000, 1000);
  const loading = second.load(() => undefined);
  await second.put(metaOf("/x", 3), new TextEncoder().encode("new"));
  await loading;
  const entry = second.get("/x");
  expect(await bodyOf(entry?.path ?? "", entry?.bodyOffset ?? 0)).toBe("new");
  expect(second.entries).toBe(1);
});

test("files of another boot are not trusted", async () => {
  const dir = temporaryFolder();
  await openDisk(dir, 1_000_000, 1000).put(metaOf("/x", 3), new TextEncoder().encode("old"));
  writeFileSync(join(dir, "boot-id"), "another boot");
  expect(await openDisk(dir, 1_000_000, 1000).load(() => undefined)).toBe(0);
});

test("a resource goes with its slices and variants, and nothing else", async () => {
  const disk = openDisk(temporaryFolder(), 1_000_000, 1000);
  for (const key of ["/m", "/m#0", "/m#1", "/m\naccept:x", "/m2", "/m?q#0"])
    await disk.put(metaOf(key, 1), new Uint8Array(1));
  disk.removeResource("/m");
  expect(disk.entries).toBe(2);
  expect(disk.peek("/m2")).toBeDefined();
  expect(disk.peek("/m?q#0")).toBeDefined();
});

test("a full or missing disk is no failure: the response is simply not kept", async () => {
  const disk = openDisk(temporaryFolder(), 1000, 1000);
  expect(await disk.put(metaOf("/big", 5000), new Uint8Array(5000))).toBeUndefined();
  expect(disk.entries).toBe(0);
});
