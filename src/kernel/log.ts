// Structured log lines (logfmt) on standard error; the reader of a process decides where they go.

export type Level = "debug" | "info" | "warn" | "error";
export type Fields = Record<string, string | number | boolean | undefined>;

export interface Log {
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
  /** A log whose lines all carry `fields`. */
  with(fields: Fields): Log;
}

const order: Record<Level, number> = { debug: 0, info: 1, warn: 2, error: 3 };

function format(value: string | number | boolean): string {
  const text = String(value);
  return /^[\w.:/@|,%+-]+$/.test(text) ? text : JSON.stringify(text);
}

/** A level that may be changed while the log is in use. */
export interface LogLevel {
  level: Level;
}

/** Writes lines at `level` and above through `write`, one call a line, without the newline. */
export function createLog(write: (line: string) => void, level: Level | LogLevel = "info", base: Fields = {}): Log {
  const threshold = typeof level === "string" ? { level } : level;
  const emit =
    (at: Level) =>
    (message: string, fields: Fields = {}) => {
      if (order[at] < order[threshold.level]) return;
      let line = `${new Date().toISOString()} ${at} ${JSON.stringify(message)}`;
      for (const [key, value] of Object.entries({ ...base, ...fields }))
        if (value !== undefined) line += ` ${key}=${format(value)}`;
      write(line);
    };
  return {
    debug: emit("debug"),
    info: emit("info"),
    warn: emit("warn"),
    error: emit("error"),
    with: (fields) => createLog(write, threshold, { ...base, ...fields }),
  };
}

export const stderrLog = (level: Level | LogLevel = "info", base: Fields = {}): Log =>
  createLog((line) => process.stderr.write(`${line}\n`), level, base);

export const silentLog: Log = createLog(() => {}, "error");
