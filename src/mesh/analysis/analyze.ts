// The analysis: objects in, findings out, those on given objects only, suppressed ones left out. Pure.

import type { KubeObject } from "../../api/object.ts";
import { completeCluster, type Manifested } from "../offline.ts";
import { checks } from "./checks.ts";
import { buildCluster, idOf } from "./cluster.ts";
import { messages } from "./messages.ts";
import { checkSchema } from "./schema.ts";
import { type Finding, levels, type Report } from "./types.ts";

export const suppressAnnotation = "galley.istio.io/analyze-suppress";

/** Past this many the rest is not said. */
export const findingsMax = 10_000;

export interface AnalyzeInput {
  /** Looked at, and reported on. */
  objects: readonly Manifested[];
  /** Known to be there (of a running testbed), not reported on. */
  around?: readonly KubeObject[];
  /** "CODE=Kind name.namespace", with * for anything, as istioctl's --suppress. */
  suppress?: readonly string[];
}

/** Ordered: errors first, then by object and field. */
export function analyze({ objects, around = [], suppress = [] }: AnalyzeInput): Finding[] {
  const findings: Finding[] = [];
  const seen = new Set<string>();
  const given = new Set<string>();
  const report: Report = (code, subject, field, message, fix) => {
    const key = `${code} ${idOf(subject)} ${field} ${message}`;
    if (!given.has(idOf(subject)) || seen.has(key) || findings.length >= findingsMax) return;
    seen.add(key);
    findings.push({ code, subject, field, message, fix });
  };
  const { usable, all } = checkSchema(objects, given, report);
  const own = new Set(all.map((object) => idOf(object)));
  const others = around.filter((object) => !own.has(idOf(object)));
  const cluster = buildCluster(completeCluster([...others, ...usable]), given);
  for (const [name, check] of Object.entries(checks))
    try {
      check(cluster, report);
    } catch (error) {
      const subject = all[0];
      const text = error instanceof Error ? error.message : String(error);
      if (subject !== undefined) report("IST0001", subject, "", `check ${name} failed: ${text}`);
    }
  const isSuppressed = suppression(suppress);
  return findings.filter((finding) => !isSuppressed(finding)).sort(compare);
}

function compare(a: Finding, b: Finding): number {
  const order = levels[messages[b.code].level] - levels[messages[a.code].level];
  if (order !== 0) return order;
  const [x, y] = [`${idOf(a.subject)} ${a.code} ${a.field}`, `${idOf(b.subject)} ${b.code} ${b.field}`];
  return x < y ? -1 : x > y ? 1 : 0;
}

/** By the objects' annotation and by the rules given. */
function suppression(rules: readonly string[]): (finding: Finding) => boolean {
  const parsed = rules.map((rule) => {
    const [code = "", pattern = "*"] = rule.split("=", 2);
    const source = pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
    return { code, pattern: new RegExp(`^${source}$`) };
  });
  return ({ code, subject }) => {
    const listed = subject.metadata.annotations?.[suppressAnnotation]?.split(",").map((each) => each.trim());
    if (listed?.includes("*") || listed?.includes(code)) return true;
    const { name, namespace } = subject.metadata;
    // istioctl writes "Kind name.namespace"; its newer form is "Kind namespace/name".
    const names = namespace === undefined ? [name] : [`${name}.${namespace}`, `${namespace}/${name}`];
    return parsed.some(
      (rule) => rule.code === code && names.some((each) => rule.pattern.test(`${subject.kind} ${each}`)),
    );
  };
}
