// Go durations and the ages kubectl prints.

import { expect, test } from "bun:test";
import { ageOf, humanDuration, parseDurationMs } from "./duration.ts";

const s = 1000;
const m = 60 * s;
const h = 60 * m;
const d = 24 * h;

test.each([
  [0, "0s"],
  [119 * s, "119s"],
  [2 * m, "2m"],
  [9 * m + 59 * s, "9m59s"],
  [10 * m + 30 * s, "10m"],
  [3 * h - s, "179m"],
  [3 * h, "3h"],
  [7 * h + 59 * m, "7h59m"],
  [8 * h + 10 * m, "8h"],
  [47 * h, "47h"],
  [2 * d, "2d"],
  [7 * d + 23 * h, "7d23h"],
  [8 * d + h, "8d"],
  [729 * d, "729d"],
  [730 * d, "2y"],
  [800 * d, "2y70d"],
  [365 * 9 * d, "9y"],
  [-500, "0s"],
  [-5000, "<invalid>"],
])("%d ms is printed %s", (durationMs, expected) => {
  expect(humanDuration(durationMs)).toBe(expected);
});

test("an age without a timestamp is unknown", () => {
  expect(ageOf(undefined, 0)).toBe("<unknown>");
  expect(ageOf("2026-01-01T00:00:00Z", Date.UTC(2026, 0, 1, 0, 0, 42))).toBe("42s");
});

test.each([
  ["1s", 1000],
  ["1h30m", 5_400_000],
  ["250ms", 250],
  ["1.5s", 1500],
  ["0", 0],
  ["-2m", -120_000],
  ["100us", 0.1],
])("%s is %d ms", (text, expected) => {
  expect(parseDurationMs(text)).toBe(expected);
});

test.each(["", "1", "s", "1 s", "1d", "1s2", "one"])("%p is no duration", (text) => {
  expect(parseDurationMs(text)).toBeUndefined();
});
