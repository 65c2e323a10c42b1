// What kubectl logs gets from a log file, also while it grows and is rotated.

import { afterAll, expect, test } from "bun:test";
import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { realClock as clock } from "../kernel/clock.ts";
import { type LogOptions, readLog } from "./log-reader.ts";

const folder = mkdtempSync("/tmp/meshbed-logs-test-");
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const fileOf = (text: string): string => {
  const path = join(folder, `${count++}.log`);
  writeFileSync(path, text);
  return path;
};
const line = (second: number, text: string, tag = "F", stream = "stdout") =>
  `2026-01-01T00:00:0${second}.000000000Z ${stream} ${tag} ${text}\n`;
const plain: LogOptions = {
  follow: false,
  timestamps: false,
  tailLines: undefined,
  sinceMs: undefined,
  limitBytes: undefined,
};

async function read(path: string, options: Partial<LogOptions> = {}, isOver = () => true): Promise<string> {
  let text = "";
  for await (const chunk of readLog(path, { ...plain, ...options }, isOver, clock)) text += chunk;
  return text;
}

const three = line(1, "one") + line(2, "two", "F", "stderr") + line(3, "");

const cases: [string, string, Partial<LogOptions>, string][] = [
  ["both streams, in order", three, {}, "one\ntwo\n\n"],
  ["no log", "", { tailLines: 5 }, ""],
  ["the last lines", three, { tailLines: 2 }, "two\n\n"],
  ["more last lines than there are", three, { tailLines: 50 }, "one\ntwo\n\n"],
  ["no line at all", three, { tailLines: 0 }, ""],
  ["lines since a moment", three, { sinceMs: Date.UTC(2026, 0, 1, 0, 0, 2) }, "two\n\n"],
  ["time stamps", line(1, "one"), { timestamps: true }, "2026-01-01T00:00:01.000000000Z one\n"],
  ["at most so many bytes", three, { limitBytes: 5 }, "one\nt"],
  ["long lines put together again", line(1, "ab", "P") + line(1, "cd", "P") + line(1, "e"), {}, "abcde\n"],
  [
    "one time stamp for a long line",
    line(1, "ab", "P") + line(1, "c"),
    { timestamps: true },
    "2026-01-01T00:00:01.000000000Z abc\n",
  ],
];
for (const [what, text, options, expected] of cases)
  test(`gives ${what}`, async () => {
    expect(await read(fileOf(text), options)).toBe(expected);
  });

test("a tail that begins in an earlier block of a large file is found", async () => {
  const lines = Array.from({ length: 5_000 }, (_, i) => line(1, `number ${i} ${"x".repeat(40)}`));
  const tail = await read(fileOf(lines.join("")), { tailLines: 3_000 });
  expect(tail.split("\n").length).toBe(3_001);
  expect(tail.startsWith("number 2000 ")).toBe(true);
});

test("a followed log goes on over a rotation, loses nothing, and ends with its container", async () => {
  const path = fileOf(line(1, "a"));
  let over = false;
  const reading = read(path, { follow: true }, () => over);
  await clock.sleep(80);
  appendFileSync(path, line(2, "b"));
  renameSync(path, `${path}.1`);
  writeFileSync(path, line(3, "c"));
  await clock.sleep(80);
  appendFileSync(path, line(4, "d"));
  over = true;
  expect(await reading).toBe("a\nb\nc\nd\n");
});

test("characters cut by a block's end stay whole", async () => {
  const text = "ä".repeat(40_000);
  expect(await read(fileOf(line(1, `x${text}`)))).toBe(`x${text}\n`);
});
