// Writes a container's output in the CRI log format, with bounded size. Never holds more than one unfinished line a stream.

import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import type { Clock } from "../kernel/clock.ts";

/** As the kubelet's containerLogMaxSize. Past it the file becomes "<path>.1", replacing the one before. */
export const logSizeBytesMax = 10 * 1024 * 1024;
/** As containerd's max_container_log_line_size: longer lines are written in parts, all but the last tagged P. */
export const logLineBytesMax = 16 * 1024;

const newline = 0x0a;

export interface ContainerLog {
  write(chunk: Uint8Array, stream: "stdout" | "stderr"): void;
  /** Writes what is left without a newline, and closes the file. */
  close(): void;
}

/** Appends to `path`, creating folders as needed. Lines are "<RFC3339Nano> stdout|stderr F|P <text>". */
export function openContainerLog(path: string, clock: Clock, sizeBytesMax = logSizeBytesMax): ContainerLog {
  mkdirSync(dirname(path), { recursive: true });
  let file = openSync(path, "a");
  let sizeBytes = fstatSync(file).size;
  const unfinished: Record<string, Uint8Array> = {};

  const append = (bytes: Uint8Array) => {
    if (sizeBytes > 0 && sizeBytes + bytes.length > sizeBytesMax) {
      closeSync(file);
      renameSync(path, `${path}.1`);
      file = openSync(path, "a");
      sizeBytes = 0;
    }
    for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
    sizeBytes += bytes.length;
  };
  const stamp = () => `${new Date(clock.now()).toISOString().slice(0, -1)}000000Z`;
  const lineBreak = Buffer.from("\n");

  return {
    write(chunk, stream) {
      const rest = unfinished[stream];
      const data = rest?.length ? Buffer.concat([rest, chunk]) : chunk;
      const full = Buffer.from(`${stamp()} ${stream} F `);
      const partial = Buffer.from(`${stamp()} ${stream} P `);
      const parts: Uint8Array[] = [];
      let start = 0;
      while (start < data.length) {
        const end = data.indexOf(newline, start);
        const length = (end === -1 ? data.length : end) - start;
        if (length > logLineBytesMax) {
          parts.push(partial, data.subarray(start, start + logLineBytesMax), lineBreak);
          start += logLineBytesMax;
        } else if (end === -1) break;
        else {
          parts.push(full, data.subarray(start, end + 1));
          start = end + 1;
        }
      }
      unfinished[stream] = data.slice(start);
      if (parts.length > 0) append(Buffer.concat(parts));
    },
    close() {
      for (const [stream, rest] of Object.entries(unfinished))
        if (rest.length > 0) append(Buffer.concat([Buffer.from(`${stamp()} ${stream} F `), rest, lineBreak]));
      closeSync(file);
    },
  };
}
