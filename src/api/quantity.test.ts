// Quantities: value, canonical form, order, sum.

import { expect, test } from "bun:test";
import {
  addQuantities,
  canonicalQuantity,
  compareQuantities,
  isQuantity,
  quantityMilli,
  quantityValue,
} from "./quantity.ts";

test.each([
  ["1", 1, "1"],
  ["1000m", 1, "1"],
  ["0.5", 0.5, "500m"],
  ["1.5Gi", 1610612736, "1536Mi"],
  ["1024Mi", 1073741824, "1Gi"],
  ["1000Ki", 1024000, "1000Ki"],
  ["2e3", 2000, "2e3"],
  ["2E", 2e18, "2E"],
  ["100k", 100000, "100k"],
  ["1500", 1500, "1500"],
  ["0", 0, "0"],
  ["-1m", -0.001, "-1m"],
  [".5", 0.5, "500m"],
  ["1u", 1e-6, "1u"],
])("%s is %p units, canonically %s", (text, units, canonical) => {
  expect(quantityValue(text)).toBeCloseTo(units, 9);
  expect(canonicalQuantity(text)).toBe(canonical);
});

test.each(["", "abc", "1 Gi", "1GiB", "1.5.2", "++1", "1e", "Mi", "1e99"])("%p is refused", (text) => {
  expect(isQuantity(text)).toBe(false);
  expect(() => quantityValue(text)).toThrow("quantities must match");
});

test("millis round up and comparisons are exact", () => {
  expect(quantityMilli("1.2341")).toBe(1235);
  expect(quantityMilli("2")).toBe(2000);
  expect(compareQuantities("1000m", "1")).toBe(0);
  expect(compareQuantities("1Gi", "1G")).toBe(1);
  expect(compareQuantities("9007199254740993", "9007199254740992")).toBe(1);
});

test("a sum keeps the first non-zero format", () => {
  expect(addQuantities(["512Mi", "512Mi"])).toBe("1Gi");
  expect(addQuantities(["100m", "900m"])).toBe("1");
  expect(addQuantities([])).toBe("0");
});
