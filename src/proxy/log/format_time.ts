// strftime for %START_TIME(…)%: the specifiers of C plus Envoy's %3f, %6f, %9f; compiled once. Times are UTC.

import { MeshbedError } from "../../kernel/errors.ts";

type Part = (date: Date) => string;

const two = (value: number): string => String(value).padStart(2, "0");
const three = (value: number): string => String(value).padStart(3, "0");
const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = [
  ...["January", "February", "March", "April", "May", "June"],
  ...["July", "August", "September", "October", "November", "December"],
];
const dayOfYear = (date: Date): number =>
  Math.floor((Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()) - startOfYear(date)) / 86_400_000);
const startOfYear = (date: Date): number => Date.UTC(date.getUTCFullYear(), 0, 1);
const time = (date: Date): string => date.toISOString().slice(11, 19);

const specifiers: Readonly<Record<string, Part>> = {
  "%": () => "%",
  Y: (date) => String(date.getUTCFullYear()),
  y: (date) => two(date.getUTCFullYear() % 100),
  m: (date) => two(date.getUTCMonth() + 1),
  d: (date) => two(date.getUTCDate()),
  e: (date) => String(date.getUTCDate()).padStart(2, " "),
  H: (date) => two(date.getUTCHours()),
  I: (date) => two(date.getUTCHours() % 12 || 12),
  p: (date) => (date.getUTCHours() < 12 ? "AM" : "PM"),
  M: (date) => two(date.getUTCMinutes()),
  S: (date) => two(date.getUTCSeconds()),
  s: (date) => String(Math.floor(date.getTime() / 1000)),
  f: (date) => `${three(date.getUTCMilliseconds())}000000`,
  "3f": (date) => three(date.getUTCMilliseconds()),
  "6f": (date) => `${three(date.getUTCMilliseconds())}000`,
  "9f": (date) => `${three(date.getUTCMilliseconds())}000000`,
  a: (date) => days[date.getUTCDay()]!.slice(0, 3),
  A: (date) => days[date.getUTCDay()]!,
  b: (date) => months[date.getUTCMonth()]!.slice(0, 3),
  B: (date) => months[date.getUTCMonth()]!,
  j: (date) => three(dayOfYear(date) + 1),
  u: (date) => String(date.getUTCDay() || 7),
  F: (date) => date.toISOString().slice(0, 10),
  T: time,
  R: (date) => time(date).slice(0, 5),
  z: () => "+0000",
  Z: () => "UTC",
};

/** Milliseconds since the epoch → text. An empty format is Envoy's default, ISO 8601 with milliseconds. */
export function compileTime(format: string): (timeMs: number) => string {
  if (format === "") return (timeMs) => new Date(timeMs).toISOString();
  const parts: (string | Part)[] = format.split(/(%(?:[369]f|[\s\S]))/).map((text) => {
    if (!text.startsWith("%") || text.length < 2) return text;
    const part = specifiers[text.slice(1)];
    if (!part) throw new MeshbedError("FORMAT_INVALID", `time format ${JSON.stringify(format)}: unknown ${text}`);
    return part;
  });
  return (timeMs) => {
    const date = new Date(timeMs);
    let text = "";
    for (const part of parts) text += typeof part === "string" ? part : part(date);
    return text;
  };
}
