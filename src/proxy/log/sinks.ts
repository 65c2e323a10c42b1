// Where log lines go: one bounded queue per file, written in batches off the event loop, files reopened on demand (log rotation).

import { closeSync, openSync, write, writeSync } from "node:fs";
import type { Cancel, Clock } from "../../kernel/clock.ts";
import { MeshbedError, messageOf } from "../../kernel/errors.ts";
import type { Log } from "../../kernel/log.ts";
import type { Counter, Metrics } from "../../kernel/metrics.ts";

/** Characters waiting for one file; lines past this are dropped and counted. */
const waitingCharsMax = 4 * 1024 * 1024;
/** Lines are written when there are this many characters of them, or the first has waited this long. A write costs more than a line. */
const batchChars = 16 * 1024;
const batchAgeMs = 100;
/** Wait before a full pipe is tried again. */
const pipeFullMs = 10;

export interface LogSinkDeps {
  log: Log;
  metrics: Metrics;
  clock: Clock;
}

export interface LogSink {
  /** `line` ends with a newline, if it should. */
  write(line: string): void;
}

/** Opens a file at most once. */
export interface LogSinks {
  open(path: string): LogSink;
}

const standard: Readonly<Record<string, number>> = { "/dev/stdout": 1, "/dev/stderr": 2 };

class FileSink implements LogSink {
  readonly #path: string;
  readonly #deps: LogSinkDeps;
  readonly #dropped: Counter;
  #fd: number;
  /** Replaced by `reopen` while a write to it was under way. */
  #former: number | undefined;
  #waiting = "";
  #timer: Cancel | undefined;
  #due = false;
  /** Bytes on their way to the file. */
  #writing: Buffer | undefined;

  constructor(path: string, deps: LogSinkDeps, dropped: Counter) {
    this.#path = path;
    this.#deps = deps;
    this.#dropped = dropped;
    this.#fd = standard[path] ?? openSync(path, "a", 0o644);
  }

  write(line: string): void {
    if (this.#waiting.length >= waitingCharsMax) {
      this.#dropped.value++;
      return;
    }
    this.#waiting += line;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#writing !== undefined || this.#due || this.#waiting === "") return;
    if (this.#waiting.length < batchChars) {
      this.#timer ??= this.#deps.clock.after(batchAgeMs, () => this.#start());
      return;
    }
    this.#due = true;
    // All lines of this turn go together.
    setImmediate(() => this.#start());
  }

  #start(): void {
    this.#timer?.();
    this.#timer = undefined;
    this.#due = false;
    if (this.#writing !== undefined || this.#waiting === "") return;
    this.#writing = Buffer.from(this.#waiting);
    this.#waiting = "";
    this.#go(this.#fd);
  }
  /** A pipe may take less than it was given, or nothing for now. */
  #go(fd: number): void {
    write(fd, this.#writing!, (error, count) => {
      if (error?.code === "EAGAIN") {
        this.#deps.clock.after(pipeFullMs, () => this.#go(fd));
        return;
      }
      if (error) {
        this.#dropped.value++;
        this.#deps.log.warn("access log not written", { path: this.#path, error: error.message });
      } else if (count < this.#writing!.length) {
        this.#writing = this.#writing!.subarray(count);
        this.#go(fd);
        return;
      }
      this.#writing = undefined;
      if (this.#former !== undefined) closeSync(this.#former);
      this.#former = undefined;
      this.#schedule();
    });
  }

  /** After the file was renamed: goes on in a new one of the old name. */
  reopen(): void {
    if (standard[this.#path] !== undefined || this.#former !== undefined) return;
    try {
      const next = openSync(this.#path, "a", 0o644);
      if (this.#writing === undefined) closeSync(this.#fd);
      else this.#former = this.#fd;
      this.#fd = next;
    } catch (error) {
      this.#deps.log.warn("access log not reopened", { path: this.#path, error: messageOf(error) });
    }
  }

  /** Writes what waits, at once. */
  close(): void {
    this.#timer?.();
    this.#timer = undefined;
    const rest = this.#waiting;
    this.#waiting = "";
    try {
      if (rest !== "") writeSync(this.#fd, rest);
    } catch {
      this.#dropped.value++;
    }
  }
}

/** The files of one proxy process. */
export class LogFiles implements LogSinks {
  readonly #files = new Map<string, FileSink>();
  readonly #deps: LogSinkDeps;

  constructor(deps: LogSinkDeps) {
    this.#deps = deps;
  }

  /** Opened once, kept for the life of the process: configurations come and go. */
  open(path: string): LogSink {
    let sink = this.#files.get(path);
    if (sink === undefined) {
      const { metrics } = this.#deps;
      const help = "Access log lines not written.";
      const dropped = metrics.counter("meshbed_access_log_dropped_lines_total", help, { path });
      try {
        sink = new FileSink(path, this.#deps, dropped);
      } catch (cause) {
        throw new MeshbedError("ACCESS_LOG_UNWRITABLE", `access log ${path}: ${messageOf(cause)}`, { cause });
      }
      this.#files.set(path, sink);
    }
    return sink;
  }
  reopen(): void {
    for (const sink of this.#files.values()) sink.reopen();
  }
  close(): void {
    for (const sink of this.#files.values()) sink.close();
  }
}
