// Label and field selectors: syntax, matching, round trips.

import { expect, test } from "bun:test";
import {
  formatLabelSelector,
  matchesFields,
  matchesLabelSelectorSpec,
  matchesLabels,
  parseFieldSelector,
  parseLabelSelector,
} from "./selectors.ts";

const labels = { app: "web", tier: "front", "meshbed.io/rank": "7", empty: "" };

test.each([
  ["", true],
  ["app=web", true],
  ["app==web", true],
  ["app = web , tier=front", true],
  ["app=db", false],
  ["app!=db", true],
  ["missing!=x", true],
  ["app", true],
  ["!app", false],
  ["!missing", true],
  ["app in (web, db)", true],
  ["app in (db)", false],
  ["app notin (db,web)", false],
  ["missing notin (a)", true],
  ["meshbed.io/rank>6", true],
  ["meshbed.io/rank<7", false],
  ["empty=", true],
  ["empty in (,x)", true],
  ["app in (web),tier notin (back),!gone", true],
  ["toString", false],
])("%p matches: %p", (text, expected) => {
  expect(matchesLabels(parseLabelSelector(text), labels)).toBe(expected);
});

test.each(["a=b,", "=b", "a in b", "a in (b", "a b", "a=b=c", "a in (b c)", ",a", "a=!b", "-x=1", "a=b/c", "a>x"])(
  "%p is refused",
  (text) => {
    expect(() => parseLabelSelector(text)).toThrow("unable to parse requirement");
  },
);

test.each(["a=b", "a!=b", "a in (x,y)", "a notin (x,y)", "a", "!a", "a>3,b<4"])("%p survives a round trip", (text) => {
  expect(formatLabelSelector(parseLabelSelector(text))).toBe(text);
});

test("a selector in a spec selects nothing when absent and everything when empty", () => {
  expect(matchesLabelSelectorSpec(undefined, labels)).toBe(false);
  expect(matchesLabelSelectorSpec({}, labels)).toBe(true);
  expect(
    matchesLabelSelectorSpec(
      { matchLabels: { app: "web" }, matchExpressions: [{ key: "tier", operator: "NotIn", values: ["front"] }] },
      labels,
    ),
  ).toBe(false);
});

test.each([
  ["metadata.name=a", true],
  ["metadata.name==a,status.phase!=Failed", true],
  ["metadata.name!=a", false],
  ["spec.nodeName=", true],
  ["status.phase=Running\\,x", false],
])("field selector %p matches: %p", (text, expected) => {
  const object: Record<string, string> = { "metadata.name": "a", "status.phase": "Running" };
  expect(matchesFields(parseFieldSelector(text), (field) => object[field] ?? "")).toBe(expected);
});

test.each(["metadata.name", "=a", "!=b"])("field selector %p is refused", (text) => {
  expect(() => parseFieldSelector(text)).toThrow("invalid selector");
});
