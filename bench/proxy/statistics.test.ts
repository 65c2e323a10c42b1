// From samples to rows: medians, ratios of pairs, slopes, targets; and what the results file keeps.

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tableOf, updateResults } from "./report.ts";
import { median, percentile, rowsOf, slope } from "./statistics.ts";

test("median, nearest-rank percentile and slope", () => {
  expect([median([3, 1, 2]), median([4, 1, 2, 3])]).toEqual([2, 2.5]);
  const hundred = Array.from({ length: 100 }, (_, i) => i + 1);
  expect([percentile(hundred, 0.5), percentile(hundred, 0.99), percentile([7], 0.99)]).toEqual([50, 99, 7]);
  const line = hundred.map((x) => [x, 12 * x + 5] as const);
  expect(slope(line)).toBeCloseTo(12, 9);
});

test("a ratio is the median of pairs taken in the same round, not the ratio of medians", () => {
  // A machine that was three times slower in the second round.
  const samples = new Map([
    ["meshbed", [{ micros: 10 }, { micros: 30 }, { micros: 12 }]],
    ["nginx", [{ micros: 20 }, { micros: 60 }, { micros: 8 }]],
  ]);
  const [own, nginx] = rowsOf([{ name: "micros", ratioTargets: { nginx: { atMost: 0.5 } } }], samples);
  expect(own).toEqual({ subject: "meshbed", metric: "micros", value: 12 });
  expect(nginx).toEqual({
    subject: "nginx",
    metric: "micros",
    value: 20,
    ratio: 0.5,
    target: { text: "meshbed ≤ 0.5 × nginx", met: true },
  });
});

test("a missed target says so, and a subject without the metric has no row", () => {
  const samples = new Map([
    ["meshbed", [{ added: 3 }]],
    ["direct", [{ added: Number.NaN }]],
  ]);
  const rows = rowsOf([{ name: "added", valueTargets: { meshbed: { atMost: 2 } } }], samples);
  expect(rows).toEqual([{ subject: "meshbed", metric: "added", value: 3, target: { text: "≤ 2", met: false } }]);
});

test("the table's columns line up and the verdict is a word", () => {
  const text = tableOf("a", [
    { subject: "meshbed", metric: "m", value: 1234.5 },
    { subject: "nginx", metric: "m", value: 0.012345, ratio: 2, target: { text: "≤ 1", met: false } },
  ]);
  const lines = text.split("\n");
  expect(new Set(lines.map((line) => line.length)).size).toBe(1);
  expect(
    lines.slice(2).map((line) =>
      line
        .split("|")
        .map((cell) => cell.trim())
        .slice(1, -1),
    ),
  ).toEqual([
    ["a", "m", "meshbed", "1235", "", "", ""],
    ["a", "m", "nginx", "0.0123", "2.00", "≤ 1", "no"],
  ]);
});

test("a run replaces the sections of its cases and keeps the others, in the order of the cases", () => {
  const folder = mkdtempSync(join(tmpdir(), "meshbed-report-"));
  const file = join(folder, "proxy.md");
  const headings = (): string[] => readFileSync(file, "utf8").match(/^## .*\n.*/gm) ?? [];
  try {
    updateResults(file, new Map([["b", "## b\nold\n"]]), ["a", "b"]);
    updateResults(file, new Map([["a", "## a\nfirst\n"]]), ["a", "b"]);
    expect(headings()).toEqual(["## a\nfirst", "## b\nold"]);
    updateResults(file, new Map([["b", "## b\nnew\n"]]), ["a", "b"]);
    expect(headings()).toEqual(["## a\nfirst", "## b\nnew"]);
    expect(readFileSync(file, "utf8").match(/^# /gm)).toHaveLength(1);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
