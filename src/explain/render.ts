// An explanation as a tree that a person reads from top to bottom. Plain text; the caller brings the colours.

import type { Explanation, Outcome, Step } from "./types.ts";

export interface Paint {
  bold(text: string): string;
  dim(text: string): string;
  green(text: string): string;
  red(text: string): string;
  yellow(text: string): string;
  cyan(text: string): string;
}

export const plain: Paint = {
  bold: (text) => text,
  dim: (text) => text,
  green: (text) => text,
  red: (text) => text,
  yellow: (text) => text,
  cyan: (text) => text,
};

export function render({ request, steps, outcomes, notes }: Explanation, paint: Paint): string[] {
  const headers = request.headers.map(([name, value]) => `${name}: ${value}`).join(", ");
  const lines = [
    `${paint.bold(`${request.method} ${request.url}`)} from ${request.from}${headers === "" ? "" : paint.dim(` with ${headers}`)}`,
    "",
    ...steps.flatMap((step) => stepLines(step, 0, paint)),
    "",
    ...outcomes.flatMap((outcome) => outcomeLines(outcome, paint)),
  ];
  if (notes.length > 0) lines.push("", ...notes.map((note) => paint.dim(`note: ${note}`)));
  return lines;
}

const marks = { yes: "✓", no: "✗", warning: "!" } as const;

function stepLines({ label, text, at, mark, steps = [] }: Step, depth: number, paint: Paint): string[] {
  const colour = { yes: paint.green, no: paint.red, warning: paint.yellow };
  const sign = mark === undefined ? paint.dim("·") : colour[mark](marks[mark]);
  const name = label === "" ? "" : `${paint.bold(label)}  `;
  const place = at === undefined ? "" : `  ${paint.cyan(at)}`;
  const line = `${"  ".repeat(depth)}${sign} ${name}${text}${place}`;
  return [line, ...steps.flatMap((step) => stepLines(step, depth + 1, paint))];
}

export const percentText = (percent: number): string => `${Number(percent.toFixed(percent < 1 ? 3 : 1))} %`;

/** "403 (UAEX)"; what an application answers is its own affair. */
export function statusText({ status, flag }: Pick<Outcome, "status" | "flag">): string {
  const text = status === undefined ? "the application's answer" : status === 0 ? "connection closed" : String(status);
  return flag === "-" || flag === "" ? text : `${text}, flag ${flag}`;
}

function outcomeLines(outcome: Outcome, paint: Paint): string[] {
  const { percent, status, reason, at, location, destination } = outcome;
  const good = status === undefined || (status > 0 && status < 400);
  const what = (good ? paint.green : paint.red)(statusText(outcome));
  const place = at === undefined ? "" : `  ${paint.cyan(at)}`;
  const lines = [`${paint.bold("=>")} ${percent === 100 ? "" : `${percentText(percent)}  `}${what}  ${reason}${place}`];
  if (location !== undefined) lines.push(`     location: ${location}`);
  if (destination && destination.method !== "")
    lines.push(paint.dim(`     as ${destination.method} ${destination.path}, host ${destination.authority}`));
  return lines;
}
