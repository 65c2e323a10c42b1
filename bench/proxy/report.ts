// The benchmark's output: one section per case with an aligned table, in the terminal and in bench/results/proxy.md.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release } from "node:os";
import type { Case, Options, Row } from "./types.ts";

const columns = ["case", "metric", "subject", "value", "meshbed ÷ it", "target", "met"] as const;

const numeric = new Set<string>(["value", "meshbed ÷ it"]);

/** Three significant digits, whole numbers from 100 on. */
function format(value: number): string {
  if (!Number.isFinite(value)) return "-";
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

const cells = (name: string, { subject, metric, value, ratio, target }: Row): string[] => [
  name,
  metric,
  subject,
  format(value),
  ratio === undefined ? "" : ratio.toFixed(2),
  target?.text ?? "",
  target ? (target.met ? "yes" : "no") : "",
];

/** A Markdown table whose columns line up as plain text too. */
export function tableOf(name: string, rows: readonly Row[]): string {
  const lines = [[...columns], ...rows.map((row) => cells(name, row))];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  const text = lines.map((line) =>
    line.map((cell, i) => (numeric.has(columns[i]!) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))).join(" | "),
  );
  const rule = widths.map((width) => "-".repeat(width)).join(" | ");
  return [text[0]!, rule, ...text.slice(1)].map((line) => `| ${line} |`).join("\n");
}

function version(command: string, flag: string): string {
  try {
    const { stdout, stderr } = Bun.spawnSync([command, flag]);
    return /\d+\.\d+[\w.+~-]*/.exec(`${stdout}${stderr}`)?.[0] ?? "?";
  } catch {
    return "missing";
  }
}

/** What the figures were taken on. */
export function machine(which: (command: string) => string | null): string {
  const [first] = cpus();
  const tools = ["nginx", "haproxy", "wrk"].map((name) => `${name} ${version(which(name) ?? name, "-v")}`);
  return `${cpus().length} × ${first?.model.trim()}, Linux ${release()}, Bun ${Bun.version}, ${tools.join(", ")}`;
}

/** Where and how a section's figures were taken. Other work on the machine shows in the load average, of which the bench makes 2. */
export function sectionOf(entry: Case, rows: readonly Row[], options: Options, today: string, where: string): string {
  const rounds = `median of ${options.rounds} interleaved rounds${options.quick ? ", quick run" : ""}`;
  const busy = `load average ${loadavg()[0]!.toFixed(1)}`;
  return `## ${entry.name}\n\n${entry.what}\n\n${tableOf(entry.name, rows)}\n\n${today}; ${rounds}; ${where}; ${busy}.\n`;
}

const preface = `# The data plane beside nginx and HAProxy

Written by \`npx bun bench/proxy.ts\`. The subjects share core 0 and take turns; load and backend have core 1. CPU is the sum over all
threads of the subject's processes. Absolute figures depend on the machine; the ratios are of neighbours in the same run. A load average
well above 2 says that other work disturbed the run: rates and p99 are worth little then.
`;

/** Replaces the sections of these cases in the file, keeps the others, in the order of \`names\`. */
export function updateResults(file: string, sections: ReadonlyMap<string, string>, names: readonly string[]): void {
  const known = new Map<string, string>();
  if (existsSync(file))
    for (const text of readFileSync(file, "utf8")
      .split(/^(?=## )/m)
      .slice(1))
      known.set(/^## (.*)/.exec(text)![1]!, `${text.trimEnd()}\n`);
  const kept = names.flatMap((name) => sections.get(name) ?? known.get(name) ?? []);
  writeFileSync(file, [preface, ...kept].join("\n"));
}
