// Reads container logs in CRI format as `kubectl logs` asks for them: tail, since, timestamps, limit, and following across rotation.

import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import type { Clock } from "../kernel/clock.ts";

/** corev1.PodLogOptions. */
export interface LogOptions {
  follow: boolean;
  timestamps: boolean;
  tailLines: number | undefined;
  /** Lines before this moment are left out. */
  sinceMs: number | undefined;
  limitBytes: number | undefined;
}

const chunkBytes = 64 * 1024;
/** A line longer than this is passed on in pieces. */
const lineBytesMax = 256 * 1024;
const followEveryMs = 50;

export interface LogLine {
  /** As written: RFC 3339 with nanoseconds. */
  time: string;
  /** True when the text goes on in the next line of the file (tag P). */
  partial: boolean;
  text: string;
}

/** "<time> stdout F <text>"; undefined when it is not such a line. */
export function parseLogLine(line: string): LogLine | undefined {
  const match = /^(\S+) (?:stdout|stderr) ([FP]\S*) ?/.exec(line);
  if (match === null) return undefined;
  return { time: match[1]!, partial: match[2]!.startsWith("P"), text: line.slice(match[0].length) };
}

/** Offset where the last `lines` lines of the file begin. Reads backwards: the file may be large. */
function tailOffset(file: number, lines: number): number {
  let at = fstatSync(file).size;
  if (lines === 0) return at;
  const buffer = Buffer.alloc(chunkBytes);
  let newlines = 0;
  let first = true;
  while (at > 0) {
    const length = Math.min(chunkBytes, at);
    at -= length;
    readSync(file, buffer, 0, length, at);
    for (let i = length - 1; i >= 0; i--) {
      if (buffer[i] !== 0x0a) {
        first = false;
        continue;
      }
      if (first) {
        first = false; // the newline that ends the last line
        continue;
      }
      if (++newlines === lines) return at + i + 1;
    }
  }
  return 0;
}

/**
 * Yields formatted text. With `follow` it goes on until `isOver` says the container will write no more (and all was read) or the
 * consumer stops. Throws when the log cannot be opened.
 */
export async function* readLog(
  path: string,
  options: LogOptions,
  isOver: () => boolean,
  clock: Clock,
): AsyncGenerator<string, void, void> {
  let file = openSync(path, "r");
  let left = options.limitBytes ?? Number.POSITIVE_INFINITY;
  const emit = formatter(options);
  try {
    let at = options.tailLines === undefined ? 0 : tailOffset(file, options.tailLines);
    let rest = "";
    const buffer = Buffer.alloc(chunkBytes);
    const decoder = new TextDecoder();
    for (;;) {
      const over = isOver(); // asked before reading: what was written before the end is read below
      const length = readSync(file, buffer, 0, chunkBytes, at);
      if (length > 0) {
        at += length;
        const lines = (rest + decoder.decode(buffer.subarray(0, length), { stream: true })).split("\n");
        rest = lines.pop()!;
        if (rest.length > lineBytesMax) {
          lines.push(rest);
          rest = "";
        }
        const text = lines.map(emit).join("");
        if (text === "") continue;
        const bytes = Buffer.from(text);
        if (bytes.length >= left) {
          yield bytes.subarray(0, left).toString();
          return;
        }
        left -= bytes.length;
        yield text;
        continue;
      }
      const next = reopened(path, file, at);
      if (next !== undefined) {
        closeSync(file);
        file = next;
        at = 0;
        continue;
      }
      if (!options.follow || over) return;
      await clock.sleep(followEveryMs);
    }
  } finally {
    closeSync(file);
  }
}

/** The file now at `path`, when it is another one (rotated) or was cut. */
function reopened(path: string, file: number, at: number): number | undefined {
  try {
    const now = statSync(path);
    const open = fstatSync(file);
    if (now.ino === open.ino && now.size >= at) return undefined;
    return openSync(path, "r");
  } catch {
    return undefined; // between rename and creation
  }
}

function formatter({ timestamps, sinceMs }: LogOptions): (line: string) => string {
  let continued = false;
  return (line) => {
    const parsed = parseLogLine(line);
    if (parsed === undefined) return line === "" ? "" : `${line}\n`;
    if (sinceMs !== undefined && Date.parse(parsed.time) < sinceMs) return "";
    const prefix = timestamps && !continued ? `${parsed.time} ` : "";
    continued = parsed.partial;
    return `${prefix}${parsed.text}${parsed.partial ? "" : "\n"}`;
  };
}
