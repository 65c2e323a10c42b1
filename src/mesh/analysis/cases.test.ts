import { expect, test } from "bun:test";
import { caseNames, expectedOf, renderCase } from "./cases.ts";
import { messages, notSaid } from "./messages.ts";

const names = caseNames();

for (const name of names)
  test(`${name}: findings are as its text file says (renew with: bun src/mesh/analysis/cases.ts --update), and gone when mended`, () => {
    const { code, findings, text, afterwards } = renderCase(name);
    expect(text).toBe(expectedOf(name));
    expect(findings.map((finding) => finding.code) as string[]).toContain(code);
    expect(afterwards.filter((finding) => finding.code === code)).toEqual([]);
  });

/** Said where no manifest can make it: a bug in a check, a text that is no manifest (sources.test.ts), keys that fit (analyze.test.ts). */
const elsewhere = ["IST0001", "MB0001", "IST0138"];

test("every code has a case, and is not also among those that are never said", () => {
  const covered = new Set([...names.map((name) => name.replace(/-.*$/, "")), ...elsewhere]);
  expect(Object.keys(messages).filter((code) => !covered.has(code))).toEqual([]);
  expect(Object.keys(notSaid).filter((code) => code in messages)).toEqual([]);
});

test("every case's mended half is a manifest", () => {
  for (const name of names)
    expect([name, renderCase(name).afterwards.filter(({ code }) => code === "IST0106")]).toEqual([name, []]);
});
