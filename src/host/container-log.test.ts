// Tests of the log writer: format, split and long lines, rotation.

import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { VirtualClock } from "../kernel/clock.ts";
import { logLineBytesMax, openContainerLog } from "./container-log.ts";

const folder = mkdtempSync("/tmp/meshbed-log-test-");
afterAll(() => rmSync(folder, { recursive: true }));
let count = 0;
const freshPath = () => join(folder, `deep/${count++}/0.log`);
const bytes = (text: string) => Buffer.from(text);

test("lines carry time, stream and tag as the CRI format says", () => {
  const path = freshPath();
  const log = openContainerLog(path, new VirtualClock());
  log.write(bytes("one\ntwo\n"), "stdout");
  log.write(bytes("oops\n"), "stderr");
  log.close();
  expect(readFileSync(path, "utf8")).toBe(
    "2026-01-01T00:00:00.000000000Z stdout F one\n2026-01-01T00:00:00.000000000Z stdout F two\n2026-01-01T00:00:00.000000000Z stderr F oops\n",
  );
});

test("a line split between chunks is one line, and the streams do not mix", () => {
  const path = freshPath();
  const log = openContainerLog(path, new VirtualClock());
  log.write(bytes("he"), "stdout");
  log.write(bytes("err\nrest"), "stderr");
  log.write(bytes("llo\n"), "stdout");
  log.close();
  const lines = readFileSync(path, "utf8").trimEnd().split("\n");
  expect(lines.map((line) => line.slice(31))).toEqual(["stderr F err", "stdout F hello", "stderr F rest"]);
});

test("a long line is written in parts, and what waits for its end stays bounded", () => {
  const path = freshPath();
  const log = openContainerLog(path, new VirtualClock());
  for (let i = 0; i < 100; i++) log.write(bytes("x".repeat(1000)), "stdout");
  log.write(bytes("\n"), "stdout");
  log.close();
  const lines = readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => line.slice(31));
  expect(lines.slice(0, -1).every((line) => line.startsWith("stdout P ") && line.length === 9 + logLineBytesMax)).toBe(
    true,
  );
  expect(lines.at(-1)).toStartWith("stdout F ");
  expect(lines.reduce((sum, line) => sum + line.length - 9, 0)).toBe(100_000);
});

test("a full file is kept once beside the new one", () => {
  const path = freshPath();
  const log = openContainerLog(path, new VirtualClock(), 1000);
  for (let i = 0; i < 100; i++) log.write(bytes(`line ${i}\n`), "stdout");
  log.close();
  expect(statSync(path).size).toBeLessThanOrEqual(1000);
  expect(statSync(`${path}.1`).size).toBeLessThanOrEqual(1000);
  expect(existsSync(`${path}.2`)).toBe(false);
  expect(readFileSync(path, "utf8")).toEndWith("stdout F line 99\n");
});

test("a reopened log is appended to", () => {
  const path = freshPath();
  for (const word of ["a\n", "b\n"]) {
    const log = openContainerLog(path, new VirtualClock());
    log.write(bytes(word), "stdout");
    log.close();
  }
  expect(readFileSync(path, "utf8").trimEnd().split("\n").length).toBe(2);
});
