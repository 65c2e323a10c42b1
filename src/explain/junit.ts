// Results as JUnit XML, for CI systems.

import type { CaseResult } from "./test_types.ts";

const escaped = (text: string): string =>
  text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "")
    .replace(/[&<>"]/g, (each) => `&#${each.charCodeAt(0)};`);
const seconds = (ms: number): string => (ms / 1000).toFixed(3);

export function junit(results: readonly CaseResult[]): string {
  const suites = [...Map.groupBy(results, ({ file }) => file)].map(([file, cases]) => {
    const failed = cases.filter(({ failures }) => failures.length > 0).length;
    const lines = cases.map(({ name, failures, durationMs }) => {
      const open = `    <testcase name="${escaped(name)}" classname="${escaped(file)}" time="${seconds(durationMs)}"`;
      return failures.length === 0
        ? `${open}/>`
        : `${open}>\n      <failure message="${escaped(failures[0]!)}">${escaped(failures.join("\n"))}</failure>\n    </testcase>`;
    });
    return `  <testsuite name="${escaped(file)}" tests="${cases.length}" failures="${failed}">\n${lines.join("\n")}\n  </testsuite>`;
  });
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n${suites.join("\n")}\n</testsuites>\n`;
}
