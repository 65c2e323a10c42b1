// Starts a whole testbed for black-box tests, as a person would: `meshbed up -d`, kubectl, requests through localhost.

import { chmodSync, chownSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const root = join(import.meta.dir, "..");
export const isRoot = process.geteuid?.() === 0;
const commandTimeoutMs = 60_000;

export interface Output {
  code: number;
  stdout: string;
  stderr: string;
}

export async function run(
  argv: string[],
  options: { env?: Record<string, string>; input?: string; timeoutMs?: number; cwd?: string } = {},
): Promise<Output> {
  const child = Bun.spawn(argv, {
    cwd: options.cwd ?? tmpdir(),
    env: { ...process.env, NO_COLOR: "1", ...options.env },
    stdin: options.input === undefined ? "ignore" : new Blob([options.input]),
    stdout: "pipe",
    stderr: "pipe",
    timeout: options.timeoutMs ?? commandTimeoutMs,
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
}

function freePort(): number {
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = probe;
  probe.stop(true);
  return port;
}

export interface Testbed {
  state: string;
  /** http://localhost:<port> of the gateway. */
  url: string;
  tlsUrl: string;
  /** What `up` printed. */
  output: string;
  /** Throws with the output when the exit code is not 0. */
  kubectl(...args: string[]): Promise<string>;
  kubectlWith(env: Record<string, string>, ...args: string[]): Promise<string>;
  apply(yaml: string): Promise<string>;
  meshbed(verb: string, ...args: string[]): Promise<Output>;
  supervisorPid(): number;
  down(): Promise<void>;
}

export interface TestbedOptions {
  args?: string[];
  /** Where meshbed.yaml is looked for. */
  cwd?: string;
  /** Prefix that changes the user: ["setpriv", "--reuid=…"]. */
  as?: { argv: string[]; uid: number };
  /** State of an earlier testbed. */
  state?: string;
}

export async function startTestbed(options: TestbedOptions = {}): Promise<Testbed> {
  const state = options.state ?? mkdtempSync(join(tmpdir(), "meshbed-"));
  chmodSync(state, 0o755);
  if (options.as) chownSync(state, options.as.uid, options.as.uid);
  const prefix = options.as?.argv ?? [];
  const ports = { http: freePort(), https: freePort(), api: freePort() };
  const meshbed = (verb: string, ...args: string[]) =>
    run([...prefix, process.execPath, join(root, "src/main.ts"), verb, "--state", state, ...args], {
      ...(options.cwd !== undefined && { cwd: options.cwd }),
    });
  const portArgs = Object.entries(ports).flatMap(([name, port]) => [`--${name}-port`, String(port)]);
  const up = await meshbed("up", "-d", ...portArgs, ...(options.args ?? []));
  if (up.code !== 0) {
    const logs = await meshbed("logs", "-n", "20");
    throw new Error(`meshbed up failed (${up.code})\n${up.stdout}${up.stderr}\n${logs.stdout}`);
  }
  const kubeconfig = join(state, "kubeconfig");
  const kubectl = async (args: string[], extra: { input?: string; env?: Record<string, string> } = {}) => {
    const result = await run(["kubectl", "--kubeconfig", kubeconfig, ...args], extra);
    if (result.code !== 0)
      throw new Error(`kubectl ${args.join(" ")} (${result.code})\n${result.stdout}${result.stderr}`);
    return result.stdout;
  };
  return {
    state,
    url: `http://localhost:${ports.http}`,
    tlsUrl: `https://localhost:${ports.https}`,
    output: up.stdout,
    kubectl: (...args) => kubectl(args),
    kubectlWith: (env, ...args) => kubectl(args, { env }),
    apply: (yaml) => kubectl(["apply", "-f", "-"], { input: yaml }),
    meshbed,
    supervisorPid: () => JSON.parse(readFileSync(join(state, "run/supervisor.json"), "utf8")).supervisorPid,
    async down() {
      await meshbed("down");
      rmSync(state, { recursive: true, force: true });
    },
  };
}

/** Polls until `check` answers something other than undefined or false; throws what it last saw after `timeoutMs`. */
export async function until<T>(
  what: string,
  timeoutMs: number,
  check: () => Promise<T | undefined | false>,
): Promise<T> {
  const started = performance.now();
  let last: unknown;
  while (performance.now() - started < timeoutMs) {
    try {
      const value = await check();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      last = error;
    }
    await Bun.sleep(20);
  }
  throw new Error(`${what}: not within ${timeoutMs} ms${last ? ` (${last})` : ""}`);
}

/** Ids of living processes whose command line or environment names `text`. */
export function processesNaming(text: string): number[] {
  const pids: number[] = [];
  for (const name of new Bun.Glob("[0-9]*/cmdline").scanSync({ cwd: "/proc", onlyFiles: false })) {
    try {
      if (readFileSync(`/proc/${name}`, "utf8").includes(text)) pids.push(Number.parseInt(name, 10));
    } catch {
      // Ended meanwhile.
    }
  }
  return pids.filter((pid) => pid !== process.pid);
}

/** A steady stream of GETs in the background, bounded; counts what failed. */
export class Load {
  sent = 0;
  readonly failures: string[] = [];
  readonly #abort = new AbortController();
  readonly #workers: Promise<void>[];

  constructor(
    url: string,
    options: { workers: number; pauseMs: number; requestsMax: number; headers?: Record<string, string> },
  ) {
    const loop = async () => {
      while (!this.#abort.signal.aborted && this.sent < options.requestsMax) {
        this.sent++;
        try {
          const response = await fetch(url, {
            signal: AbortSignal.timeout(10_000),
            ...(options.headers && { headers: options.headers }),
          });
          const body = await response.text();
          if (response.status !== 200) this.failures.push(`${response.status} ${body.slice(0, 120)}`);
        } catch (error) {
          this.failures.push(String(error));
        }
        await Bun.sleep(options.pauseMs);
      }
    };
    this.#workers = Array.from({ length: options.workers }, loop);
  }

  async stop(): Promise<{ sent: number; failures: string[] }> {
    this.#abort.abort();
    await Promise.all(this.#workers);
    return { sent: this.sent, failures: this.failures };
  }
}

/** The port of a load balancer's address: where another program of this machine holds it, the relay says which one it took. */
export function balancerPort({ state }: Testbed, address: string, port: number): number {
  const log = join(state, "logs/sandbox.log");
  const said = existsSync(log) ? readFileSync(log, "utf8") : "";
  return Number(new RegExp(`${address}:${port} is reached at port (\\d+)`).exec(said)?.[1] ?? port);
}
