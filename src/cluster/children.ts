// Keeps meshbed's own processes running: starts each, restarts it when it ends, says so, and stops all at the end.

import { appendFileSync } from "node:fs";
import { type RunningProcess, startProcess } from "../host/process.ts";
import type { Clock } from "../kernel/clock.ts";
import { type ClusterConfig, logFile } from "./config.ts";
import { type ClusterEvent, EventReader } from "./events.ts";

export interface ChildSpec {
  /** "control-plane", "kubelet-worker1": also the name of its log. */
  name: string;
  argv: readonly string[];
  /** For every start but the first. */
  restartArgv?: readonly string[];
  /** Wait before a restart. */
  restartMs: number;
}

/** A process that ends again this soon waits longer each time, up to backOffMaxMs. */
const stableAfterMs = 5_000;
const backOffBaseMs = 100;
const backOffMaxMs = 10_000;
const stopGraceMs = 4_000;

export class Children {
  readonly #config: ClusterConfig;
  readonly #clock: Clock;
  readonly #onEvent: (event: ClusterEvent) => void;
  readonly #running = new Map<string, RunningProcess>();
  #stopping = false;

  constructor(config: ClusterConfig, clock: Clock, onEvent: (event: ClusterEvent) => void) {
    this.#config = config;
    this.#clock = clock;
    this.#onEvent = onEvent;
  }

  start(spec: ChildSpec): void {
    this.#run(spec, spec.argv, 0);
  }

  #run(spec: ChildSpec, argv: readonly string[], failures: number): void {
    const log = logFile(this.#config, spec.name);
    const events = new EventReader(this.#onEvent, (line) => appendFileSync(log, `${line}\n`));
    const startedMs = this.#clock.monotonicMs();
    const child = startProcess(
      {
        argv,
        cwd: this.#config.stateDir,
        stdin: "pipe",
        output: (chunk, stream) => (stream === "stdout" ? events.push(chunk) : appendFileSync(log, chunk)),
      },
      this.#clock,
    );
    this.#running.set(spec.name, child);
    void child.exited.then((status) => {
      this.#running.delete(spec.name);
      if (this.#stopping) return;
      const again = this.#clock.monotonicMs() - startedMs < stableAfterMs ? failures + 1 : 0;
      const backOffMs = again > 1 ? Math.min(backOffMaxMs, backOffBaseMs * 2 ** (again - 1)) : 0;
      const afterMs = Math.max(spec.restartMs, backOffMs);
      const reason = status.signal ?? `exit code ${status.code}`;
      this.#onEvent({ type: "restarted", component: spec.name, reason, afterMs });
      this.#clock.after(afterMs, () => {
        if (!this.#stopping) this.#run(spec, spec.restartArgv ?? spec.argv, again);
      });
    });
  }

  /** SIGTERM to all, SIGKILL after the grace. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all([...this.#running.values()].map((child) => child.stop(stopGraceMs)));
  }
}
