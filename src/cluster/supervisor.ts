// The process in the host's namespaces: starts the sandbox, relays localhost ports into it, and says when the testbed is up.

import { appendFileSync, rmSync, writeFileSync } from "node:fs";
import { type RunningProcess, startProcess } from "../host/process.ts";
import { sandboxArgv } from "../host/sandbox.ts";
import { aborted } from "../kernel/abort.ts";
import type { Cancel, Clock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { outsideRelays } from "./balancers.ts";
import type { ClusterConfig } from "./config.ts";
import { logFile, mainCommand, relaySocket } from "./config.ts";
import { type ClusterEvent, EventReader } from "./events.ts";
import { startRelay } from "./relay.ts";
import { readyFile } from "./state.ts";
import { tunedEnvironment } from "./tuning.ts";

const probeEveryMs = 20;
const probeTimeoutMs = 2_000;
/** No pod came or changed for this long. */
const settledMs = 250;
const stopGraceMs = 8_000;

export interface SupervisorOptions {
  clock: Clock;
  /** Aborted: stop everything. */
  signal: AbortSignal;
  onEvent(event: ClusterEvent): void;
  /** With the process that holds the namespaces. */
  onStarted(sandboxPid: number): void;
}

/** Resolves when everything has ended. Throws START_FAILED when the sandbox ends by itself. */
export async function superviseCluster(config: ClusterConfig, options: SupervisorOptions): Promise<void> {
  const { clock, signal, onEvent } = options;
  // Socket files are addressed relative to it: the whole path may be longer than an address can be.
  process.chdir(config.stateDir);
  rmSync(readyFile(config.stateDir), { force: true });
  const log = logFile(config, "sandbox");
  const failed = Promise.withResolvers<MeshbedError>();
  const reach = new Reach(config, clock, signal, onEvent);
  const balancers = outsideRelays((message) => appendFileSync(log, `${message}\n`));
  const events = new EventReader(
    (event) => {
      if (event.type === "failed")
        failed.resolve(
          new MeshbedError("START_FAILED", event.message, event.fix === undefined ? {} : { fix: event.fix }),
        );
      else onEvent(event);
      reach.take(event);
      balancers.take(event);
    },
    (line) => appendFileSync(log, `${line}\n`),
  );
  const argv = [...mainCommand(config), "sandbox", config.stateDir];
  const sandbox = startProcess(
    {
      argv: config.isolation.mode === "namespaces" ? sandboxArgv(config.isolation, argv) : argv,
      cwd: config.stateDir,
      env: tunedEnvironment(),
      stdin: "pipe",
      output: (chunk, stream) => (stream === "stdout" ? events.push(chunk) : appendFileSync(log, chunk)),
    },
    clock,
  );
  options.onStarted(sandbox.pid);
  const relays = (["api", "http", "https"] as const).map((name) =>
    startRelay({ hostname: "127.0.0.1", port: config.hostPorts[name] }, () => ({ unix: relaySocket(name) })),
  );
  const outcome = await Promise.race([aborted(signal).then(() => "stop" as const), sandbox.exited, failed.promise]);
  for (const relay of relays) relay.stop();
  await stopSandbox(sandbox, clock);
  if (outcome instanceof MeshbedError) throw outcome;
  if (outcome !== "stop")
    throw new MeshbedError("START_FAILED", `the testbed's inner process ended (exit code ${outcome.code})`, {
      fix: `read ${log}`,
    });
}

/** Standard input is the sandbox's life line; signals do not get through `unshare`. */
async function stopSandbox(sandbox: RunningProcess, clock: Clock): Promise<void> {
  sandbox.closeStdin();
  const cancel = clock.after(stopGraceMs, () => sandbox.kill("SIGKILL"));
  await sandbox.exited;
  cancel();
}

/** Finds the moment the testbed can be used: the first answer through the gateway, or all pods ready where nothing is routed. */
class Reach {
  readonly #config: ClusterConfig;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #onEvent: (event: ClusterEvent) => void;
  #applied = false;
  #probing = false;
  #cancelSettled: Cancel | undefined;

  constructor(config: ClusterConfig, clock: Clock, signal: AbortSignal, onEvent: (event: ClusterEvent) => void) {
    this.#config = config;
    this.#clock = clock;
    this.#signal = signal;
    this.#onEvent = onEvent;
  }

  take(event: ClusterEvent): void {
    if (event.type === "manifests-applied") this.#applied = true;
    if (event.type !== "status") return;
    if (!this.#applied || this.#probing) return;
    if (this.#config.bundledApplication) {
      if (event.gateway.http.length === 0) return;
      this.#probing = true;
      void this.#probe();
      return;
    }
    // The user's own manifests may route nothing at "/": all pods being ready, and no new ones coming, is what can be waited for.
    this.#cancelSettled?.();
    if (event.pods.total > 0 && event.pods.ready === event.pods.total)
      this.#cancelSettled = this.#clock.after(settledMs, () => this.#reached());
  }

  #reached(): void {
    this.#probing = true;
    writeFileSync(readyFile(this.#config.stateDir), "");
    this.#onEvent({ type: "reached", url: this.#url });
  }

  get #url(): string {
    return `http://localhost:${this.#config.hostPorts.http}`;
  }

  async #probe(): Promise<void> {
    while (!this.#signal.aborted) {
      if ((await this.#request(this.#url)) === 200) return this.#reached();
      await this.#clock.sleep(probeEveryMs, this.#signal);
    }
  }

  async #request(url: string): Promise<number> {
    try {
      const response = await fetch(url, {
        signal: AbortSignal.timeout(probeTimeoutMs),
        redirect: "manual",
        keepalive: false,
      });
      await response.body?.cancel();
      return response.status;
    } catch {
      return 0;
    }
  }
}
