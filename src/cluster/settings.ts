// Reads meshbed.yaml: the user's own settings, checked with file, line and fix before anything starts.

import { existsSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { isMap, isNode, LineCounter, parseDocument } from "yaml";
import { MeshbedError } from "../kernel/errors.ts";
import type { ImageCatalogue, ImageEntry } from "./config.ts";

export interface Settings {
  nodes?: number;
  clients?: number;
  link?: string;
  mode?: "namespaces" | "ports";
  ports?: { http?: number; https?: number; api?: number };
  manifests?: string[];
  images?: ImageCatalogue;
}

export const nodesMax = 50;
export const clientsMax = 20;

type Check = (value: unknown) => string | undefined;

const integer =
  (min: number, max: number): Check =>
  (value) =>
    Number.isInteger(value) && (value as number) >= min && (value as number) <= max
      ? undefined
      : `must be a whole number from ${min} to ${max}`;
const text: Check = (value) => (typeof value === "string" && value !== "" ? undefined : "must be a non-empty string");
const textList: Check = (value) =>
  Array.isArray(value) && value.every((item) => typeof item === "string") ? undefined : "must be a list of strings";
const oneOf =
  (...values: string[]): Check =>
  (value) =>
    values.includes(value as string) ? undefined : `must be one of: ${values.join(", ")}`;
const textMap: Check = (value) =>
  typeof value === "object" && value !== null && Object.values(value).every((item) => typeof item === "string")
    ? undefined
    : "must map names to strings (quote numbers)";
const command: Check = (value) =>
  text(value) === undefined || (textList(value) === undefined && (value as string[]).length > 0)
    ? undefined
    : "must be a command line or a list of strings";

interface Shape {
  [key: string]: Check | Shape;
}
const shape: Shape = {
  nodes: integer(1, nodesMax),
  clients: integer(0, clientsMax),
  link: (value) =>
    typeof value === "string" && parseRate(value) !== undefined
      ? undefined
      : 'must be a rate such as "1gbit" or "100mbit"',
  mode: oneOf("namespaces", "ports"),
  ports: { http: integer(1, 65535), https: integer(1, 65535), api: integer(1, 65535) },
  manifests: textList,
  images: { "*": { command, args: textList, env: textMap, workingDir: text } },
};

/** Bits per second of tc's notation: 1gbit, 100mbit, 64kbit, or 10mbps for megabytes. Undefined when it is none. */
export function parseRate(rate: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(k|m|g|t)?(bit|bps)$/i.exec(rate.trim());
  if (!match) return undefined;
  const scale = { k: 1e3, m: 1e6, g: 1e9, t: 1e12 }[match[2]?.toLowerCase() as "k"] ?? 1;
  const bits = Number(match[1]) * scale * (match[3]!.toLowerCase() === "bps" ? 8 : 1);
  return bits > 0 ? bits : undefined;
}

interface Problem {
  path: string[];
  message: string;
}

function problemsOf(value: unknown, expected: Check | Shape, path: string[]): Problem[] {
  if (typeof expected === "function") {
    const message = expected(value);
    return message === undefined ? [] : [{ path, message }];
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [{ path, message: "must be a map" }];
  return Object.entries(value).flatMap(([key, item]) => {
    const next = expected[key] ?? expected["*"];
    const known = Object.keys(expected).join(", ");
    return next === undefined
      ? [{ path: [...path, key], message: `is not a setting; known here: ${known}` }]
      : problemsOf(item, next, [...path, key]);
  });
}

function commandLine(value: string | string[]): string[] {
  return typeof value === "string" ? ["/bin/sh", "-c", value] : value;
}

/** Relative folders in an image entry are meant from the settings file. */
function resolveImage(entry: ImageEntry & { command: string | string[] }, folder: string): ImageEntry {
  const workingDir = resolve(folder, entry.workingDir ?? ".");
  return { ...entry, command: commandLine(entry.command), workingDir };
}

/** Settings from `text`; `file` is for messages and for relative paths. Throws SETTINGS_INVALID naming file, line, field and fix. */
export function parseSettings(source: string, file: string): Settings {
  const lines = new LineCounter();
  const document = parseDocument(source, { lineCounter: lines });
  const fail = (offset: number | undefined, message: string): never => {
    const where = offset === undefined ? file : `${file}:${lines.linePos(offset).line}`;
    throw new MeshbedError("SETTINGS_INVALID", `${where}: ${message}`, {
      fix: "see docs/settings.md for every setting with an example",
    });
  };
  const broken = document.errors[0];
  if (broken) fail(broken.pos[0], broken.message.split("\n")[0]!);
  if (document.contents === null) return {};
  const value: unknown = document.toJS();
  const problem = problemsOf(value, shape, [])[0];
  if (problem) {
    let offset: number | undefined;
    for (let depth = problem.path.length; depth > 0 && offset === undefined; depth--) {
      const parent = document.getIn(problem.path.slice(0, depth - 1), true) ?? document.contents;
      const pair = isMap(parent)
        ? parent.items.find((item) => String(item.key) === problem.path[depth - 1])
        : undefined;
      offset = isNode(pair?.key) ? pair.key.range?.[0] : undefined;
    }
    fail(offset, `'${problem.path.join(".")}' ${problem.message}`);
  }
  const settings = value as Settings;
  const folder = dirname(resolve(file));
  for (const [name, entry] of Object.entries(settings.images ?? {})) {
    if (entry.command === undefined) fail(undefined, `'images.${name}.command' is missing`);
    settings.images![name] = resolveImage(entry, folder);
  }
  if (settings.manifests) settings.manifests = settings.manifests.map((path) => resolve(folder, path));
  return settings;
}

/** meshbed.yaml of `folder`, or no settings when there is none. */
export function readSettings(folder: string): Settings {
  const file = resolve(folder, "meshbed.yaml");
  return existsSync(file) ? parseSettings(readFileSync(file, "utf8"), file) : {};
}
