// Loads of priorities: the example in Envoy's documentation, and the edges.
import { expect, test } from "bun:test";
import { localityLoad, type PriorityHosts, priorityLoads } from "./priority.ts";

const hosts = (total: number, healthy: number, degraded = 0): PriorityHosts => ({ total, healthy, degraded });
const text = (...args: Parameters<typeof priorityLoads>): string =>
  priorityLoads(...args)
    .map(({ healthy, degraded, panic }) => `${healthy}/${degraded}${panic ? "!" : ""}`)
    .join(" ");

const cases: [string, PriorityHosts[], number, number, string][] = [
  // name, priorities, panic threshold, overprovisioning, "healthy/degraded" of each
  [
    "Envoy's example: 10, 20, 10 % healthy and 20, 10, 0 % degraded",
    [hosts(10, 1, 2), hosts(10, 2, 1), hosts(10, 1)],
    0,
    100,
    "16/28 28/14 14/0",
  ],
  ["all healthy", [hosts(5, 5), hosts(5, 5)], 50, 140, "100/0 0/0"],
  ["71 % healthy lose one percent", [hosts(7, 5), hosts(5, 5)], 50, 140, "100/0 0/0"],
  ["70 % healthy lose two", [hosts(10, 7), hosts(5, 5)], 50, 140, "98/0 2/0"],
  ["a priority that is not enough panics alone", [hosts(10, 4), hosts(10, 2)], 30, 140, "67/0 33/0!"],
  ["enough in all means panic nowhere", [hosts(10, 4), hosts(10, 4)], 50, 140, "56/0 44/0"],
  ["everybody panics: load by number of hosts", [hosts(1, 0), hosts(2, 0)], 50, 140, "34/0! 66/0!"],
  ["nobody healthy and panic disabled", [hosts(2, 0)], 0, 140, "0/0"],
  ["no hosts at all", [], 50, 140, ""],
  ["a first priority without hosts", [hosts(0, 0), hosts(2, 2)], 50, 140, "0/0 100/0"],
  ["degraded hosts only", [hosts(2, 0, 2)], 50, 140, "0/100"],
];
for (const [name, priorities, threshold, overprovisioning, want] of cases)
  test(name, () => expect(text(priorities, threshold, overprovisioning)).toBe(want));

test("a locality keeps its weight until more than overprovisioning covers is gone", () => {
  expect([10, 8, 7, 5, 0].map((healthy) => Math.round(localityLoad(100, healthy, 10, 140)))).toEqual([
    100, 100, 98, 70, 0,
  ]);
});
