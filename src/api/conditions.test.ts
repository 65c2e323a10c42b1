// Conditions keep their transition time as long as the status stays.

import { expect, test } from "bun:test";
import { type Condition, isConditionTrue, withCondition } from "./conditions.ts";

const ready: Condition = { type: "Ready", status: "True", reason: "Up", lastTransitionTime: "2026-01-01T00:00:00Z" };

test("a condition whose status stays keeps its transition time", () => {
  const next = withCondition([ready], { type: "Ready", status: "True", reason: "Better" }, "2026-02-01T00:00:00Z");
  expect(next).toEqual([{ ...ready, reason: "Better" }]);
});

test("a condition whose status changes gets a new transition time and keeps its place", () => {
  const other: Condition = { type: "Other", status: "True" };
  const next = withCondition([ready, other], { type: "Ready", status: "False" }, "2026-02-01T00:00:00Z");
  expect(next.map((condition) => [condition.type, condition.lastTransitionTime])).toEqual([
    ["Ready", "2026-02-01T00:00:00Z"],
    ["Other", undefined],
  ]);
  expect(isConditionTrue(next, "Ready")).toBe(false);
  expect(isConditionTrue(next, "Other")).toBe(true);
});

test("nothing changed answers the same list", () => {
  const list = [ready];
  expect(withCondition(list, { type: "Ready", status: "True", reason: "Up" }, "2026-02-01T00:00:00Z")).toBe(list);
});
