// Starts the platform's real processes for tests, on loopback ports and temporary folders, and ends them.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const startTimeoutMs = 20_000;
const stopTimeoutMs = 10_000;

export interface Running {
  url: string;
  pid: number;
  /** All log lines so far. */
  output(): string;
  /** The signal's effect is awaited; the exit code is returned. */
  stop(signal?: NodeJS.Signals): Promise<number>;
}

const running = new Set<Running>();
const folders: string[] = [];

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "meshbed-video-"));
  folders.push(folder);
  return folder;
}

/** `program` is "web" or "cache". The port is chosen by the kernel and read from the log. */
export async function start(
  program: "web" | "cache",
  env: Record<string, string>,
  /** A command that ends in running its arguments. */
  wrapper: readonly string[] = [],
): Promise<Running> {
  const child = Bun.spawn([...wrapper, process.execPath, join(import.meta.dir, program, "main.ts")], {
    env: { PATH: process.env["PATH"] ?? "", HOST: "127.0.0.1", PORT: "0", DRAIN_DELAY_MS: "50", ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  let text = "";
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) text += decoder.decode(chunk, { stream: true });
  })();
  const hasEnded = async (): Promise<void> => {
    if (child.exitCode === null) return;
    await reading;
    throw new Error(`${program} ended with ${child.exitCode}: ${text}`);
  };
  const port = await waitFor(`${program} to listen`, async () => {
    await hasEnded();
    return /"msg":"listening".*"port":(\d+)/.exec(text)?.[1];
  });
  const url = `http://127.0.0.1:${port}`;
  const self: Running = {
    url,
    pid: child.pid,
    output: () => text,
    async stop(signal = "SIGTERM") {
      running.delete(self);
      child.kill(signal);
      const timer = setTimeout(() => child.kill("SIGKILL"), stopTimeoutMs);
      await child.exited;
      clearTimeout(timer);
      await reading;
      return child.exitCode ?? -1;
    },
  };
  running.add(self);
  const ready = program === "web" ? "/readyz" : "/-/readyz";
  await waitFor(`${program} to be ready`, async () => {
    await hasEnded();
    const response = await fetch(url + ready).catch(() => undefined);
    return response?.ok ? true : undefined;
  });
  return self;
}

export async function waitFor<T>(what: string, probe: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const deadline = Date.now() + startTimeoutMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await Bun.sleep(10);
  }
}

/** For afterAll: ends what is still running and removes the folders. */
export async function cleanUp(): Promise<void> {
  await Promise.all([...running].map((one) => one.stop("SIGKILL")));
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
}
