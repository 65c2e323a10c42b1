// How meshbed looks in a terminal: steps, tables, a live status line; plain lines when the output is no terminal.

import picocolors from "picocolors";
import { MeshbedError, messageOf } from "../kernel/errors.ts";

const { bold, cyan, dim, green, red, yellow } = picocolors;
export const paint = { bold, cyan, dim, green, red, yellow };

export interface Terminal {
  line(text?: string): void;
  /** "✓ name  detail  12 ms" */
  step(name: string, detail: string, ms: number): void;
  /** Shown at the bottom and replaced by the next one; does nothing when the output is no terminal. */
  live(text: string): void;
  /** Removes the live line. */
  settle(): void;
}

export function formatMs(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 9950 ? 2 : 1)} s`;
}

/** "1h 02m", "3m 07s", "42s". */
export function formatUptime(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const pad = (value: number) => String(value).padStart(2, "0");
  if (seconds >= 3600) return `${Math.floor(seconds / 3600)}h ${pad(Math.floor(seconds / 60) % 60)}m`;
  return seconds >= 60 ? `${Math.floor(seconds / 60)}m ${pad(seconds % 60)}s` : `${seconds}s`;
}

export function createTerminal(out: NodeJS.WriteStream = process.stdout): Terminal {
  let shown = "";
  const clear = () => {
    if (shown !== "") out.write("\r\u001b[2K");
    shown = "";
  };
  const line = (text = "") => {
    const live = shown;
    clear();
    out.write(`${text}\n`);
    if (live !== "") show(live);
  };
  const show = (text: string) => {
    if (!out.isTTY || text === shown) return;
    clear();
    out.write(text);
    shown = text;
  };
  return {
    line,
    step: (name, detail, ms) =>
      line(`  ${green("✓")} ${name.padEnd(14)} ${detail.padEnd(44)} ${dim(formatMs(ms).padStart(8))}`),
    live: show,
    settle: clear,
  };
}

/** Columns aligned, first row as given; two spaces between. */
export function table(rows: readonly (readonly string[])[], indent = "  "): string[] {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, Bun.stringWidth(cell));
    });
  return rows.map((row) =>
    (
      indent + row.map((cell, column) => cell + " ".repeat(widths[column]! - Bun.stringWidth(cell))).join("  ")
    ).trimEnd(),
  );
}

/** Prints an error as every verb does: what happened, and what to do. */
export function printError(error: unknown): void {
  console.error(`${red("error:")} ${messageOf(error)}`);
  if (error instanceof MeshbedError && error.fix !== undefined) console.error(`  ${dim("fix:")} ${error.fix}`);
}
