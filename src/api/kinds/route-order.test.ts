import { expect, test } from "bun:test";
import { type AnyMatch, covers, orderWarnings } from "./route-order.ts";

const cases: [earlier: AnyMatch, later: AnyMatch, covered: boolean][] = [
  [{}, { uri: { prefix: "/a" } }, true],
  [{ uri: { prefix: "/" } }, { uri: { regex: "/x.*" } }, true],
  [{ uri: { prefix: "/a" } }, { uri: { prefix: "/ab" } }, true],
  [{ uri: { prefix: "/ab" } }, { uri: { prefix: "/a" } }, false],
  [{ uri: { prefix: "/a" } }, { uri: { exact: "/a/b" } }, true],
  [{ uri: { exact: "/a" } }, { uri: { prefix: "/a" } }, false],
  [{ uri: { prefix: "/A" }, ignoreUriCase: true }, { uri: { exact: "/a/b" } }, true],
  [{ uri: { prefix: "/a" } }, { uri: { exact: "/a/b" }, ignoreUriCase: true }, false],
  [{ headers: { "x-user": {} } }, { headers: { "X-User": { exact: "ann" } } }, true],
  [{ headers: { "x-user": { exact: "ann" } } }, { headers: { "x-user": {} } }, false],
  [{ headers: { a: { exact: "1" } } }, { headers: { a: { exact: "1" }, b: {} }, uri: { exact: "/" } }, true],
  [{ withoutHeaders: { a: { exact: "1" } } }, { withoutHeaders: { a: {} } }, true],
  [{ withoutHeaders: { a: {} } }, { withoutHeaders: { a: { exact: "1" } } }, false],
  [{ sourceLabels: { app: "a" } }, { sourceLabels: { app: "a", version: "v1" } }, true],
  [{ gateways: ["mesh", "g"] }, { gateways: ["g"] }, true],
  [{ gateways: ["g"] }, {}, false],
  [{ port: 80 }, {}, false],
  [{ uri: { regex: ".*" } }, { uri: { exact: "/a" } }, true],
  [{ method: { exact: "GET" } }, { method: { exact: "GET" }, uri: { prefix: "/a" } }, true],
  [{ sniHosts: ["a.test", "b.test"] }, { sniHosts: ["a.test"] }, true],
];

test("an earlier match covers a later one when it asks for nothing more", () => {
  for (const [earlier, later, covered] of cases)
    expect({ earlier, later, covered: covers(earlier, later) }).toEqual({ earlier, later, covered });
});

test("names the rule that is never reached and the one before it", () => {
  const rules = [{ name: "all" }, { name: "special", match: [{ uri: { prefix: "/a" } }] }];
  expect(orderWarnings(rules, "spec.http")).toEqual([
    {
      field: "spec.http[1]",
      message:
        'VirtualService rule "special" not used (all matches used by prior rules): spec.http[0] (all) comes first and takes its requests',
      code: "IST0130",
    },
  ]);
});

test("tells a match without effect from a rule without effect, and lets pass what a delegate leaves", () => {
  const prefix = (text: string) => ({ uri: { prefix: text } });
  const warnings = orderWarnings([{ match: [prefix("/a")] }, { match: [prefix("/a/b"), prefix("/c")] }], "spec.http");
  expect(warnings.map(({ field, code }) => [field, code])).toEqual([["spec.http[1].match[0]", "IST0131"]]);
  expect(orderWarnings([{ match: [prefix("/a")], delegate: {} }, { match: [prefix("/a")] }], "spec.http")).toEqual([]);
});
