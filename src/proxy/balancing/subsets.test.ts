// Subsets: which endpoints a request may go to, by what its route asks and how the cluster falls back.
import { describe, expect, test } from "bun:test";
import type { JsonObject } from "@bufbuild/protobuf";
import { seededRandom } from "../../kernel/random.ts";
import type { Endpoint } from "../clusters/cluster.ts";
import { pick } from "./balance.ts";
import { endpointsOf, hosts, roundRobin, slotOf } from "./fixture.ts";
import { criteriaOf, noCriteria, type SubsetSettings, subsetHosts } from "./subsets.ts";

/** Endpoint "n" has the n-th metadata. */
function withMetadata(list: readonly JsonObject[]): Endpoint[] {
  const endpoints = endpointsOf(hosts(list.length));
  for (const [index, metadata] of list.entries()) endpoints[index]!.metadata = { "envoy.lb": metadata };
  return endpoints;
}
const all = withMetadata([
  { version: "v1", stage: "prod" },
  { version: "v2", stage: "prod" },
  { version: "v2", stage: "dev" },
  {},
]);
const settings = (more: Partial<SubsetSettings>): SubsetSettings => ({
  fallback: "none",
  defaultSubset: noCriteria,
  selectors: [
    { keys: ["version"], fallback: undefined },
    { keys: ["stage", "version"], fallback: { keys: ["version"] } },
  ],
  localityWeighted: false,
  ...more,
});

describe("hosts", () => {
  const cases: [string, Partial<SubsetSettings>, JsonObject | undefined, string][] = [
    ["those with the value", {}, { version: "v2" }, "12"],
    ["those with both values, whatever the order", {}, { version: "v2", stage: "dev" }, "2"],
    ["nobody for keys without a selector", {}, { stage: "dev" }, ""],
    ["nobody for a value nobody has", {}, { version: "v3" }, ""],
    ["everybody instead, where that is the fallback", { fallback: "any" }, { version: "v3" }, "0123"],
    [
      "the default subset instead",
      { fallback: "default", defaultSubset: criteriaOf({ stage: "prod" })! },
      { version: "v3" },
      "01",
    ],
    ["a default subset of nothing is everybody", { fallback: "default" }, { version: "v3" }, "0123"],
    ["fewer keys, where the selector says so", {}, { version: "v1", stage: "dev" }, "0"],
    ["a selector's own fallback", { selectors: [{ keys: ["version"], fallback: "any" }] }, { version: "v3" }, "0123"],
    ["the cluster's fallback for a route that asks nothing", { fallback: "any" }, undefined, "0123"],
    ["nobody for a route that asks nothing, without fallback", {}, undefined, ""],
    ["values are compared with their types", {}, { version: 2 }, ""],
  ];
  for (const [name, more, asked, want] of cases)
    test(name, () =>
      expect(
        subsetHosts(all, settings(more), criteriaOf(asked))
          .map(({ address }) => address)
          .join(""),
      ).toBe(want),
    );
});

test("what a weighted cluster asks wins over its route", () => {
  expect(criteriaOf({ version: "v1", stage: "dev" }, { version: "v2" })?.id).toBe(
    criteriaOf({ stage: "dev" }, { version: "v2" })!.id,
  );
  expect(criteriaOf(undefined, {})).toBeUndefined();
});

test("each subset is balanced by itself, and follows the health of its hosts", () => {
  const slot = slotOf([], { balancing: roundRobin, panicThresholdPercent: 0, subsets: settings({}) });
  slot.setEndpoints(all);
  const random = seededRandom(1);
  const take = (asked: JsonObject): string | undefined =>
    pick(slot, random, undefined, undefined, criteriaOf(asked))?.address;
  const turns = Array.from({ length: 6 }, () => take({ version: "v2" }))
    .sort()
    .join("");
  expect([turns, take({ version: "v1" })]).toEqual(["111222", "0"]);
  slot.all[1]!.failedActiveCheck = true;
  slot.reselect();
  expect([take({ version: "v2" }), take({ version: "v2" })]).toEqual(["2", "2"]);
  slot.all[1]!.failedActiveCheck = false;
});
