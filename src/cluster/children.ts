// Keeps meshbed's own processes running: starts each, restarts it when it ends, replaces it on demand, says so, and stops all at the end.

import { appendFileSync } from "node:fs";
import { type RunningProcess, startProcess } from "../host/process.ts";
import type { Clock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { type ClusterConfig, logFile } from "./config.ts";
import { type ClusterEvent, EventReader } from "./events.ts";

export interface ChildSpec {
  /** "control-plane", "kubelet-worker1": also the name of its log. */
  name: string;
  argv: readonly string[];
  /** Beside the environment of this process, where that has not set them already. */
  env?: Readonly<Record<string, string>>;
  /** For every start but the first. */
  restartArgv?: readonly string[];
  /** For a successor that starts beside the running one, says "serving" when the other may go, and takes its place. */
  takeOverArgv?: readonly string[];
  /** Wait before a restart. */
  restartMs: number;
}

/** A process that ends again this soon waits longer each time, up to backOffMaxMs. */
const stableAfterMs = 5_000;
const backOffBaseMs = 100;
const backOffMaxMs = 10_000;
const stopGraceMs = 4_000;
/** A successor that does not serve by then is given up; the old process stays. */
const takeOverMaxMs = 20_000;

export interface Replacement {
  component: string;
  /** From the start of the successor until it served. */
  tookMs: number;
}

export class Children {
  readonly #config: ClusterConfig;
  readonly #clock: Clock;
  readonly #onEvent: (event: ClusterEvent) => void;
  readonly #specs = new Map<string, ChildSpec>();
  readonly #running = new Map<string, RunningProcess>();
  /** Starting to take over, or draining after they were replaced. */
  readonly #beside = new Map<string, RunningProcess>();
  #stopping = false;

  constructor(config: ClusterConfig, clock: Clock, onEvent: (event: ClusterEvent) => void) {
    this.#config = config;
    this.#clock = clock;
    this.#onEvent = onEvent;
  }

  start(spec: ChildSpec): void {
    this.#specs.set(spec.name, spec);
    this.#supervise(spec, this.#spawn(spec, spec.argv), 0);
  }

  /** Names of the processes that can be replaced while they serve. */
  get replaceable(): string[] {
    return [...this.#specs.values()].filter(({ takeOverArgv }) => takeOverArgv !== undefined).map(({ name }) => name);
  }

  #spawn({ name, env }: ChildSpec, argv: readonly string[], onServing?: () => void): RunningProcess {
    const log = logFile(this.#config, name);
    const events = new EventReader(
      (event) => (event.type === "serving" ? onServing?.() : this.#onEvent(event)),
      (line) => appendFileSync(log, `${line}\n`),
    );
    return startProcess(
      {
        argv,
        cwd: this.#config.stateDir,
        ...(env && { env: { ...env, ...(process.env as Record<string, string>) } }),
        stdin: "pipe",
        output: (chunk, stream) => (stream === "stdout" ? events.push(chunk) : appendFileSync(log, chunk)),
      },
      this.#clock,
    );
  }

  #supervise(spec: ChildSpec, child: RunningProcess, failures: number): void {
    const startedMs = this.#clock.monotonicMs();
    this.#running.set(spec.name, child);
    void child.exited.then((status) => {
      // Replaced: its end is as it should be.
      if (this.#running.get(spec.name) !== child) return;
      this.#running.delete(spec.name);
      if (this.#stopping) return;
      const again = this.#clock.monotonicMs() - startedMs < stableAfterMs ? failures + 1 : 0;
      const backOffMs = again > 1 ? Math.min(backOffMaxMs, backOffBaseMs * 2 ** (again - 1)) : 0;
      const afterMs = Math.max(spec.restartMs, backOffMs);
      const reason = status.signal ?? `exit code ${status.code}`;
      this.#onEvent({ type: "restarted", component: spec.name, reason, afterMs });
      this.#clock.after(afterMs, () => {
        // A successor may have come meanwhile.
        if (this.#stopping || this.#running.has(spec.name)) return;
        this.#supervise(spec, this.#spawn(spec, spec.restartArgv ?? spec.argv), again);
      });
    });
  }

  /**
   * Hot restart: a successor starts beside the running process; once it serves, the old one is told to drain (SIGTERM) and ends by
   * itself. Throws COMPONENT_UNKNOWN, RESTART_BUSY, or RESTART_FAILED, and then the old process goes on as if nothing had been.
   */
  async replace(name: string): Promise<Replacement> {
    const spec = this.#specs.get(name);
    const old = this.#running.get(name);
    if (spec?.takeOverArgv === undefined || old === undefined)
      throw new MeshbedError("COMPONENT_UNKNOWN", `'${name}' cannot be restarted while it serves`, {
        fix: `choose one of ${this.replaceable.join(", ")}; a gateway is a pod: kubectl rollout restart`,
      });
    if (this.#beside.has(name))
      throw new MeshbedError("RESTART_BUSY", `the process that ${name} replaced last has not ended yet`, {
        fix: "try again when it has drained, at most 45 seconds after its restart",
      });
    const startedMs = this.#clock.monotonicMs();
    const serving = Promise.withResolvers<undefined>();
    const successor = this.#spawn(spec, spec.takeOverArgv, () => serving.resolve(undefined));
    this.#beside.set(name, successor);
    const cancel = this.#clock.after(takeOverMaxMs, () => successor.kill("SIGKILL"));
    const ended = await Promise.race([serving.promise, successor.exited]);
    cancel();
    this.#beside.delete(name);
    if (ended !== undefined || this.#stopping) {
      successor.kill("SIGKILL");
      const why = ended
        ? `its successor ended (${ended.signal ?? `exit code ${ended.code}`})`
        : "the testbed is stopping";
      throw new MeshbedError("RESTART_FAILED", `${name} was not restarted: ${why}`, {
        fix: `the old process still serves; read \`meshbed logs ${name}\``,
      });
    }
    this.#drain(name, this.#running.get(name));
    this.#supervise(spec, successor, 0);
    return { component: name, tookMs: this.#clock.monotonicMs() - startedMs };
  }

  /** The old process may have died while its successor started. */
  #drain(name: string, old: RunningProcess | undefined): void {
    if (old === undefined) return;
    this.#beside.set(name, old);
    old.kill("SIGTERM");
    void old.exited.then(() => this.#beside.delete(name));
  }

  /** SIGTERM and the end of standard input to all, SIGKILL after the grace. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const all = [...this.#running.values(), ...this.#beside.values()];
    await Promise.all(
      all.map((child) => {
        child.closeStdin();
        return child.stop(stopGraceMs);
      }),
    );
  }
}
