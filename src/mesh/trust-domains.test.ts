// Principals of policies in all trust domains of the mesh.
import { expect, test } from "bun:test";
import { trustDomainsOf, withAliases } from "./trust-domains.ts";

const domains = ["td.example", "old.example"];
const cases: [what: string, principal: string, becomes: string[]][] = [
  ["its own domain", "td.example/ns/a/sa/b", ["td.example/ns/a/sa/b", "old.example/ns/a/sa/b"]],
  ["an alias", "old.example/ns/a/sa/b", ["td.example/ns/a/sa/b", "old.example/ns/a/sa/b"]],
  ["cluster.local", "cluster.local/ns/a/sa/*", ["td.example/ns/a/sa/*", "old.example/ns/a/sa/*"]],
  ["a domain with a star that fits both", "*.example/ns/a/sa/b", ["*.example/ns/a/sa/b"]],
  ["a domain with a star that fits one", "*d.example/ns/a/sa/b", ["*d.example/ns/a/sa/b"]],
  [
    "a domain with a star that fits the first",
    "*td.example/ns/a/sa/b",
    ["*td.example/ns/a/sa/b", "old.example/ns/a/sa/b"],
  ],
  ["another mesh", "else.example/ns/a/sa/b", ["else.example/ns/a/sa/b"]],
  ["everybody", "*", ["*"]],
  ["an end only", "*/sa/b", ["*/sa/b"]],
];
for (const [what, principal, becomes] of cases)
  test(`${what}: ${principal}`, () => expect(withAliases([principal], domains)).toEqual(becomes));

test("the mesh's own domain comes first, and once", () => {
  const config = { trustDomain: "td.example" } as never;
  expect(trustDomainsOf({ config, settings: { trustDomainAliases: ["old.example", "td.example"] } })).toEqual(domains);
});
