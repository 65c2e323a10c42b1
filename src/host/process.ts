// Starts processes and sees them to their end: output, exit status, grace before the kill, death with the parent.

import { closeSync, openSync } from "node:fs";
import type { FileSink, Subprocess } from "bun";
import type { Clock } from "../kernel/clock.ts";
import { MeshbedError, messageOf } from "../kernel/errors.ts";
import type { ExitStatus } from "./types.ts";

export type StopSignal = "SIGTERM" | "SIGKILL" | "SIGINT" | "SIGQUIT" | "SIGHUP" | "SIGUSR1" | "SIGUSR2";
export type Output = (chunk: Uint8Array, stream: "stdout" | "stderr") => void;

export interface ProcessSpec {
  argv: readonly string[];
  /** The whole environment; the parent's when absent. */
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  /** A path (appended to), a callback for each chunk, or "inherit". */
  output: string | Output | "inherit" | "ignore";
  /** "pipe": the child may take its end of file as the parent's death. */
  stdin?: "ignore" | "pipe";
  /**
   * What is killed with SIGKILL when this process ends in any way: the child, by the kernel ("process", the default),
   * or its whole process group, by a small shell that watches a pipe ("group"; takes standard input away).
   */
  dieWithParent?: "process" | "group" | "never";
}

export interface RunningProcess {
  readonly pid: number;
  readonly startedAtMs: number;
  readonly exited: Promise<ExitStatus>;
  /** Resolves when all output has been handed to the callback, at most shortly after `exited`. */
  readonly outputEnded: Promise<void>;
  /** SIGKILL goes to the whole process group, anything else to the process alone. Harmless after its end. */
  kill(signal: StopSignal): void;
  /** SIGTERM, and SIGKILL to the whole group when `graceMs` have passed. */
  stop(graceMs: number): Promise<ExitStatus>;
  /** Ends a piped standard input. */
  closeStdin(): void;
}

/** System tools answer at once or are stuck. */
const toolTimeoutMs = 20_000;

/** iproute2 and friends live in sbin, which ordinary users often have not in their PATH. */
const searchPath = `${process.env["PATH"] ?? "/usr/bin:/bin"}:/usr/local/sbin:/usr/sbin:/sbin`;
const found = new Map<string, string | null>();

/** Absolute path of a system tool, or null when it is not installed. */
export function findTool(name: string): string | null {
  let path = found.get(name);
  if (path === undefined) {
    path = Bun.which(name, { PATH: searchPath });
    found.set(name, path);
  }
  return path;
}

/** Absolute path of a system tool. Throws TOOL_MISSING. */
export function toolPath(name: string): string {
  const path = findTool(name);
  if (path) return path;
  throw new MeshbedError("TOOL_MISSING", `the command '${name}' is not installed`, {
    fix: "install util-linux and iproute2, or use `--mode ports`",
  });
}

/** The environment for shell scripts of this room. */
export const toolEnv: Readonly<Record<string, string>> = { PATH: searchPath, LC_ALL: "C" };

/** Kills the process group when standard input ends. */
const watcher = 'exec 3<&0 </dev/null; { read _ <&3; kill -KILL 0; } & exec 3<&-; exec "$@"';

/** The command to spawn and what its standard input must be. */
function commandOf(spec: ProcessSpec): { argv: readonly string[]; stdin: "pipe" | "ignore" } {
  const stdin = spec.stdin ?? "ignore";
  const bound = spec.dieWithParent ?? "process";
  const setpriv = process.platform === "linux" ? findTool("setpriv") : null;
  if (bound === "never") return { argv: spec.argv, stdin };
  if (bound === "process" && setpriv) return { argv: [setpriv, "--pdeathsig", "KILL", "--", ...spec.argv], stdin };
  // Whoever asked for a pipe watches it itself.
  if (stdin === "pipe") return { argv: spec.argv, stdin };
  return { argv: ["/bin/sh", "-c", watcher, "sh", ...spec.argv], stdin: "pipe" };
}

export const signalNumbers: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGABRT: 6,
  SIGBUS: process.platform === "linux" ? 7 : 10,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: process.platform === "linux" ? 10 : 30,
  SIGSEGV: 11,
  SIGUSR2: process.platform === "linux" ? 12 : 31,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
};

/** The exit status as a shell would give it. */
export function exitStatus(code: number | null, signal: string | number | null, finishedAtMs: number): ExitStatus {
  if (signal === null) return { code: code ?? 255, finishedAtMs };
  const name =
    typeof signal === "string" ? signal : Object.keys(signalNumbers).find((n) => signalNumbers[n] === signal);
  const number = typeof signal === "number" ? signal : (signalNumbers[signal] ?? 127);
  return { code: 128 + number, ...(name !== undefined && { signal: name }), finishedAtMs };
}

/** Sends `signal`; a process or group (negative pid) that is gone is no error (macOS says EPERM for a group of zombies). */
export function signalProcess(pid: number, signal: StopSignal): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!["ESRCH", "EPERM"].includes((error as { code?: string }).code ?? "")) throw error;
  }
}

/** A process that left its group may keep the streams open for good; nobody waits longer for it. */
const outputGraceMs = 250;

/** Hands each chunk of the process's output on; resolves when both streams have ended, or soon after the process. */
export async function pumpOutput(child: Subprocess, output: Output, clock: Clock): Promise<void> {
  const pump = async (stream: ReadableStream<Uint8Array>, name: "stdout" | "stderr") => {
    for await (const chunk of stream) output(chunk, name);
  };
  const ended = Promise.allSettled([
    pump(child.stdout as ReadableStream<Uint8Array>, "stdout"),
    pump(child.stderr as ReadableStream<Uint8Array>, "stderr"),
  ]);
  const abort = new AbortController();
  await Promise.race([ended, child.exited.then(() => clock.sleep(outputGraceMs, abort.signal))]);
  abort.abort();
}

/**
 * Starts a process as leader of a session of its own (Ctrl-C at the terminal is the parent's to pass on).
 * What is left of the session's first group is killed when the leader ends.
 * Throws PROCESS_START_FAILED when the program or `cwd` does not exist.
 */
export function startProcess(spec: ProcessSpec, clock: Clock): RunningProcess {
  const program = spec.argv[0] ?? "";
  const fail = (why: string, cause?: unknown) =>
    new MeshbedError("PROCESS_START_FAILED", `cannot start ${program}: ${why}`, { cause });
  if (!Bun.which(program, { PATH: spec.env?.["PATH"] ?? searchPath, ...(spec.cwd !== undefined && { cwd: spec.cwd }) }))
    throw fail("no such program");
  const { argv, stdin } = commandOf(spec);
  const { output } = spec;
  const toCallback = typeof output === "function";
  const logFile = !toCallback && output !== "inherit" && output !== "ignore" ? openSync(output, "a") : undefined;
  const sink = toCallback ? "pipe" : (logFile ?? (output as "inherit" | "ignore"));
  const { promise: exited, resolve } = Promise.withResolvers<ExitStatus>();
  let alive = true;
  let child: Subprocess;
  try {
    child = Bun.spawn([...argv], {
      stdin,
      stdout: sink,
      stderr: sink,
      detached: true,
      ...(spec.env && { env: spec.env }),
      ...(spec.cwd !== undefined && { cwd: spec.cwd }),
      onExit(ended, code, signal) {
        alive = false;
        signalProcess(-ended.pid, "SIGKILL");
        resolve(exitStatus(code, signal, clock.now()));
      },
    });
  } catch (error) {
    throw fail(messageOf(error), error);
  } finally {
    if (logFile !== undefined) closeSync(logFile);
  }
  const { pid } = child;
  const outputEnded = toCallback ? pumpOutput(child, output, clock) : exited.then(() => {});
  const kill = (signal: StopSignal) => {
    if (alive) signalProcess(signal === "SIGKILL" ? -pid : pid, signal);
  };
  return {
    pid,
    startedAtMs: clock.now(),
    exited,
    outputEnded,
    kill,
    closeStdin: () => void (child.stdin as FileSink | undefined)?.end(),
    async stop(graceMs) {
      kill("SIGTERM");
      const cancel = clock.after(graceMs, () => kill("SIGKILL"));
      const status = await exited;
      cancel();
      return status;
    },
  };
}

export interface CommandResult {
  code: number;
  /** Both streams, cut at 64 KiB. */
  output: string;
  timedOut: boolean;
}

export interface CommandOptions {
  clock: Clock;
  /** On standard input. */
  input?: string;
  /** The whole environment; a plain one with a full PATH when absent. */
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  timeoutMs?: number;
}

const commandOutputBytesMax = 64 * 1024;

function spawnCommand(argv: readonly string[], { input, env, cwd }: CommandOptions): Subprocess | string {
  try {
    return Bun.spawn([...argv], {
      stdin: input === undefined ? "ignore" : new Blob([input]),
      stdout: "pipe",
      stderr: "pipe",
      detached: true,
      env: env ?? toolEnv,
      ...(cwd !== undefined && { cwd }),
    });
  } catch (error) {
    return messageOf(error);
  }
}

/** Runs a command to its end; past `timeoutMs` its whole group is killed. A program that does not exist gives code 127. */
export async function runCommand(argv: readonly string[], options: CommandOptions): Promise<CommandResult> {
  const { clock, timeoutMs } = options;
  const child = spawnCommand(argv, options);
  if (typeof child === "string") return { code: 127, output: child, timedOut: false };
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  let timedOut = false;
  const keep = (chunk: Uint8Array) => {
    const kept = chunk.subarray(0, Math.max(0, commandOutputBytesMax - sizeBytes));
    sizeBytes += kept.length;
    if (kept.length > 0) chunks.push(kept);
  };
  const ended = pumpOutput(child, keep, clock);
  const timeOut = () => {
    timedOut = true;
    signalProcess(-child.pid, "SIGKILL");
  };
  const cancel = timeoutMs === undefined ? undefined : clock.after(timeoutMs, timeOut);
  const code = await child.exited;
  cancel?.();
  signalProcess(-child.pid, "SIGKILL");
  await ended;
  return { code, output: Buffer.concat(chunks).toString(), timedOut };
}

/** Runs a command of this room; throws `code` with the command's own words when it fails. */
export async function mustRun(
  argv: readonly string[],
  errorCode: string,
  clock: Clock,
  input?: string,
): Promise<string> {
  const result = await runCommand(argv, { clock, timeoutMs: toolTimeoutMs, ...(input !== undefined && { input }) });
  if (result.code === 0) return result.output;
  const why = result.timedOut
    ? `no answer within ${toolTimeoutMs} ms`
    : result.output.trim() || `exit code ${result.code}`;
  throw new MeshbedError(errorCode, why);
}
