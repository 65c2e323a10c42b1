// Cases of the analysis: manifests in, findings out as text. Shared by the test and by `bun src/mesh/analysis/cases.ts --update`.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stored } from "../offline.ts";
import { analyze } from "./analyze.ts";
import { idOf } from "./cluster.ts";
import { messages } from "./messages.ts";
import { readText } from "./sources.ts";
import type { Finding } from "./types.ts";

const folder = join(import.meta.dir, "cases");
/** Given to every case, not reported on. */
const baseFile = "base.yaml";
/** What stands below is the same without the mistake. */
const mendedLine = /^---\n# mended\n/m;

/** Named by the code they are about: IST0101.yaml, IST0101-gateways.yaml. */
export const caseNames = (): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".yaml") && name !== baseFile)
    .map((name) => name.replace(/\.yaml$/, ""))
    .sort();

export const expectedOf = (name: string): string => readFileSync(join(folder, `${name}.txt`), "utf8");

export interface Rendered {
  code: string;
  findings: readonly Finding[];
  text: string;
  /** Of the mended half. */
  afterwards: readonly Finding[];
}

export function renderCase(name: string): Rendered {
  const [wrong = "", mended = ""] = readFileSync(join(folder, `${name}.yaml`), "utf8").split(mendedLine);
  const base = readText(readFileSync(join(folder, baseFile), "utf8"), baseFile).sources;
  const around = base.map(({ object }) => stored(object));
  const sources = readText(wrong, `${name}.yaml`).sources;
  const findings = analyze({ objects: sources.map(({ object }) => object), around });
  const text = findings.map(({ code, subject, field, message, fix }) => {
    const { line, column } = sources.findLast(({ object }) => idOf(stored(object)) === idOf(subject))!.at(field);
    const { name: title, level } = messages[code];
    return `${line}:${column} ${level} ${code} ${title} ${subject.kind} ${subject.metadata.name}\n  ${field}\n  ${message}\n${fix === undefined ? "" : `  fix: ${fix}\n`}`;
  });
  const after = readText(mended, "mended.yaml").sources;
  return {
    code: name.replace(/-.*$/, ""),
    findings,
    text: text.join("\n"),
    afterwards: analyze({ objects: after.map(({ object }) => object), around }),
  };
}

if (import.meta.main && process.argv.includes("--update"))
  for (const name of caseNames()) {
    writeFileSync(join(folder, `${name}.txt`), renderCase(name).text);
    console.log(`written: ${join(folder, `${name}.txt`)}`);
  }
