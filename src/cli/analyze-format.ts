// How findings look: for people with the line quoted, as JSON and YAML like istioctl's, as SARIF, as GitHub's annotations.

import { keyOf } from "../api/object.ts";
import { type Code, documentationUrl, messages, notSaid } from "../mesh/analysis/messages.ts";
import type { Position } from "../mesh/analysis/sources.ts";
import type { Finding, Level } from "../mesh/analysis/types.ts";
import { paint, table } from "./terminal.ts";

/** A finding with its place; undefined for an object that came from the testbed. */
export interface Placed extends Finding {
  position: Position | undefined;
}

export const formats = ["text", "json", "yaml", "sarif", "github"] as const;
export type Format = (typeof formats)[number];

export const levelOf = ({ code }: Finding): Level => messages[code].level;
const originOf = ({ subject }: Finding): string => `${subject.kind} ${keyOf(subject)}`;

const levelColour = { Error: paint.red, Warning: paint.yellow, Info: paint.cyan } as const;
const symbol = { Error: "✗", Warning: "!", Info: "i" } as const;

/** Longer lines are cut around the place. */
const columnsMax = 120;

function quote({ line, column, length, text }: Position): string[] {
  const from = Math.max(0, column - 1 - columnsMax / 2);
  const shown = text.slice(from, from + columnsMax).replaceAll("\t", " ");
  const number = String(line).padStart(5);
  const caret = "^".repeat(Math.max(1, Math.min(length, shown.length - (column - 1 - from))));
  return [
    paint.dim(`${number} │ `) + shown,
    paint.dim(`${" ".repeat(5)} │ `) + " ".repeat(column - 1 - from) + paint.red(caret),
  ];
}

export function formatText(findings: readonly Placed[]): string[] {
  return findings.flatMap((finding) => {
    const { code, field, fix, message, position } = finding;
    const level = levelOf(finding);
    const colour = levelColour[level];
    const lines = [`${colour(`${symbol[level]} ${level}`)} ${paint.bold(code)} ${originOf(finding)}: ${message}`];
    const where = position && `${position.file}:${position.line}:${position.column}`;
    const place = [where && paint.cyan(where), field && paint.dim(field)].filter(Boolean).join("  ");
    if (place !== "") lines.push(`  ${place}`);
    if (position !== undefined) lines.push(...quote(position));
    if (fix !== undefined) lines.push(`  ${paint.green("fix:")} ${fix}`);
    return [...lines, ""];
  });
}

/** "1 error, 2 warnings, 0 info" */
export function countText(findings: readonly Finding[]): string {
  const texts = (["Error", "Warning", "Info"] as const).map((level) => {
    const count = findings.filter((finding) => levelOf(finding) === level).length;
    return `${count} ${level.toLowerCase()}${count === 1 || level === "Info" ? "" : "s"}`;
  });
  return texts.join(", ");
}

/** istioctl's fields, and the field, line, column and fix it does not have. */
export function toJson(finding: Placed): Record<string, unknown> {
  const { code, field, fix, message, position } = finding;
  return {
    code,
    name: messages[code].name,
    level: levelOf(finding),
    message,
    origin: originOf(finding),
    ...(position && { reference: `${position.file}:${position.line}` }),
    ...(field !== "" && { field }),
    ...(position && { file: position.file, line: position.line, column: position.column }),
    ...(fix !== undefined && { fix }),
    documentationUrl: documentationUrl(code),
  };
}

const sarifLevel = { Error: "error", Warning: "warning", Info: "note" } as const;

export function toSarif(findings: readonly Placed[]): unknown {
  const codes = [...new Set(findings.map(({ code }) => code))].sort();
  return {
    $schema: "https://json.schemastore.org/sarif-2.1.0.json",
    version: "2.1.0",
    runs: [
      {
        tool: { driver: { name: "meshbed analyze", rules: codes.map(sarifRule) } },
        results: findings.map((finding) => ({
          ruleId: finding.code,
          level: sarifLevel[levelOf(finding)],
          message: { text: withFix(`${originOf(finding)}: ${finding.message}`, finding.fix) },
          ...(finding.position && { locations: [sarifLocation(finding.position)] }),
        })),
      },
    ],
  };
}

const withFix = (message: string, fix: string | undefined): string =>
  fix === undefined ? message : `${message} (${fix})`;

function sarifRule(code: Code) {
  const { name, level, description } = messages[code];
  const helpUri = documentationUrl(code);
  return {
    id: code,
    name,
    shortDescription: { text: description },
    defaultConfiguration: { level: sarifLevel[level] },
    ...(helpUri.startsWith("https:") && { helpUri }),
  };
}

const sarifLocation = ({ file, line, column, length }: Position) => ({
  physicalLocation: {
    artifactLocation: { uri: file },
    region: { startLine: line, startColumn: column, endColumn: column + length },
  },
});

const githubLevel = { Error: "error", Warning: "warning", Info: "notice" } as const;
const githubEscape = (text: string): string =>
  text.replaceAll("%", "%25").replaceAll("\r", "%0D").replaceAll("\n", "%0A");
const githubProperty = (text: string): string => githubEscape(text).replaceAll(":", "%3A").replaceAll(",", "%2C");

/** Workflow commands: annotations in a pull request. */
export function toGithub(finding: Placed): string {
  const { code, fix, message, position } = finding;
  const place = position ? `file=${githubProperty(position.file)},line=${position.line},col=${position.column},` : "";
  const text = githubEscape(withFix(`${originOf(finding)}: ${message}`, fix));
  return `::${githubLevel[levelOf(finding)]} ${place}title=${code} ${messages[code].name}::${text}`;
}

/** Every code there is, and those that cannot apply with why. */
export function formatList(): string[] {
  const rows = Object.entries(messages).map(([code, { name, level, description }]) => [
    paint.bold(code),
    levelColour[level](level),
    name,
    paint.dim(description),
  ]);
  const others = Object.entries(notSaid).map(([code, [name, why]]) => [paint.bold(code), name, paint.dim(why)]);
  return [...table(rows), "", "Istio's codes that are never said here:", ...table(others)];
}
