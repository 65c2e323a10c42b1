// Structured logs: one JSON object per line on standard output, written in batches so that a busy server does not wait for its log.

import { writeSync } from "node:fs";

export type LogFields = Record<string, string | number | boolean | undefined>;

export interface Log {
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** Writes what is waiting; call it before the process ends. */
  flush(): void;
}

const flushAfterMs = 100;
/** A batch that reaches this size is written at once. */
const batchCharsMax = 16 * 1024;
/** Lines waiting for a blocked pipe; beyond it the oldest are dropped and counted. */
const pendingCharsMax = 1024 * 1024;

/** `base` is part of every line (service, hostname, version). `write` returns how many bytes it took. */
export function createLog(base: LogFields, write: (text: string) => number = (text) => writeSync(1, text)): Log {
  let pending = "";
  let dropped = 0;
  let timer: Timer | undefined;

  function flush(): void {
    if (timer !== undefined) clearTimeout(timer);
    timer = undefined;
    while (pending !== "") {
      try {
        const taken = write(pending);
        const bytes = Buffer.from(pending);
        pending = taken >= bytes.length ? "" : bytes.subarray(taken).toString();
      } catch (error) {
        // EAGAIN: the reader of the pipe is behind; try again later. Anything else (reader gone): logging must not end the service.
        if ((error as { code?: string }).code !== "EAGAIN") pending = "";
        else if (pending.length > pendingCharsMax) {
          dropped += 1;
          pending = "";
        }
        break;
      }
    }
    if (pending !== "") timer = setTimeout(flush, flushAfterMs);
  }

  function line(level: string, message: string, fields: LogFields | undefined): void {
    const entry: LogFields = { ts: new Date().toISOString(), level, msg: message, ...base, ...fields };
    if (dropped > 0) {
      entry["dropped_batches"] = dropped;
      dropped = 0;
    }
    pending += `${JSON.stringify(entry)}\n`;
    if (pending.length >= batchCharsMax) flush();
    else timer ??= setTimeout(flush, flushAfterMs);
  }

  return {
    info: (message, fields) => line("info", message, fields),
    warn: (message, fields) => line("warn", message, fields),
    error: (message, fields) => line("error", message, fields),
    flush,
  };
}

/** The trace id of a W3C `traceparent` (https://www.w3.org/TR/trace-context/ §3.2), undefined when absent or malformed. */
export function traceIdOf(traceparent: string | null): string | undefined {
  const match = traceparent === null ? null : /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/.exec(traceparent);
  return match?.[1] === undefined || /^0+$/.test(match[1]) ? undefined : match[1];
}
