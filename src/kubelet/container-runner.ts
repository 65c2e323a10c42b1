// Runs one container process: start, postStart, probes, stop with grace. Reports events; decides nothing about restarts.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { ContainerProcess, ContainerSpec, ExitStatus, PodSandbox } from "../host/types.ts";
import type { Cancel, Clock } from "../kernel/clock.ts";
import type { Container } from "./container-spec.ts";
import type { Exit } from "./container-state.ts";
import { type HandlerTarget, runHook } from "./handlers.ts";
import type { KubeletMetrics } from "./kubelet-metrics.ts";
import { startProber } from "./prober.ts";
import type { PodEvents } from "./types.ts";

export interface RunnerReports {
  started(startedAtMs: number): void;
  startupSucceeded(): void;
  readiness(ready: boolean): void;
  /** A liveness or startup probe or the postStart hook failed for good: the container has to be stopped. */
  unfit(reason: string, graceSeconds: number | undefined): void;
  exited(exit: Exit): void;
}

export interface RunnerDeps {
  sandbox: PodSandbox;
  spec: ContainerSpec;
  container: Container;
  /** "<pod uid>/web-0" */
  containerId: string;
  target: HandlerTarget;
  reports: RunnerReports;
  events: PodEvents;
  metrics: KubeletMetrics;
  clock: Clock;
}

/** postStart has no timeout of its own in Kubernetes; a hook stuck longer than this counts as failed. */
const postStartTimeoutMs = 60_000;
/** After preStop a container has at least this long for SIGTERM, as the kubelet gives. */
const graceMsMin = 2_000;

export class ContainerRunner {
  readonly #deps: RunnerDeps;
  readonly #target: HandlerTarget;
  #process: ContainerProcess | undefined;
  #probers: Cancel[] = [];
  #exited = false;
  #stopDeadlineMs = Number.POSITIVE_INFINITY;
  #cancelKill: Cancel = () => {};
  #killed = false;

  constructor(deps: RunnerDeps) {
    this.#deps = deps;
    this.#target = deps.target;
  }

  /** Throws what the runtime throws when the process cannot be started. */
  async start(): Promise<void> {
    const { sandbox, spec, container, reports, events, metrics } = this.#deps;
    const process = await sandbox.start(spec);
    this.#process = process;
    metrics.startedContainers.value++;
    events("Normal", "Started", `Started container ${container.name}`, container.name);
    reports.started(process.startedAtMs);
    void process.exited.then((status) => this.#onExit(process, status));
    const { postStart } = container.lifecycle ?? {};
    if (postStart) {
      const result = await runHook(postStart, this.#target, postStartTimeoutMs);
      if (this.#exited) return;
      if (!result.ok) {
        events("Warning", "FailedPostStartHook", `PostStartHook failed: ${result.message}`, container.name);
        reports.unfit("FailedPostStartHook", undefined);
        return;
      }
      if (container.startupProbe === undefined && container.readinessProbe === undefined) reports.readiness(true);
    }
    if (!this.#exited) this.#startProbes();
  }

  #startProbes(): void {
    const { container, reports } = this.#deps;
    if (this.#stopDeadlineMs !== Number.POSITIVE_INFINITY) return;
    if (container.startupProbe === undefined) return this.#startLaterProbes();
    this.#probe("startup", container.startupProbe, (ok) => {
      if (ok) {
        reports.startupSucceeded();
        this.#startLaterProbes();
      } else reports.unfit("failed startup probe", container.startupProbe?.terminationGracePeriodSeconds);
    });
  }

  #startLaterProbes(): void {
    const { container, reports } = this.#deps;
    if (container.readinessProbe !== undefined) this.#probe("readiness", container.readinessProbe, reports.readiness);
    if (container.livenessProbe !== undefined)
      this.#probe("liveness", container.livenessProbe, (ok) => {
        if (!ok) reports.unfit("failed liveness probe", container.livenessProbe?.terminationGracePeriodSeconds);
      });
  }

  #probe(
    kind: "startup" | "readiness" | "liveness",
    probe: NonNullable<Container["readinessProbe"]>,
    verdict: (ok: boolean) => void,
  ): void {
    const { events, container, metrics } = this.#deps;
    const title = kind[0]!.toUpperCase() + kind.slice(1);
    const cancel = startProber(kind, probe, this.#target, {
      verdict: (result) => verdict(result === "success"),
      result: (ok) => metrics.probes[kind][ok ? "successful" : "failed"].value++,
      unhealthy: (message) => events("Warning", "Unhealthy", `${title} probe failed: ${message}`, container.name),
    });
    this.#probers.push(cancel);
  }

  #endProbes(): void {
    for (const cancel of this.#probers.splice(0)) cancel();
  }

  /** preStop, SIGTERM, SIGKILL at the deadline. A later call with a nearer deadline shortens it. */
  stop(graceMs: number): void {
    const { clock, container, events } = this.#deps;
    const process = this.#process;
    if (process === undefined || this.#exited) return;
    this.#endProbes();
    const deadlineMs = clock.now() + graceMs;
    const first = this.#stopDeadlineMs === Number.POSITIVE_INFINITY;
    if (deadlineMs >= this.#stopDeadlineMs) return;
    this.#stopDeadlineMs = deadlineMs;
    const preStop = graceMs > 0 ? container.lifecycle?.preStop : undefined;
    this.#killAt(process, first && preStop ? graceMs + graceMsMin : graceMs);
    if (!first) return;
    if (preStop === undefined) {
      process.kill("SIGTERM");
      return;
    }
    void runHook(preStop, this.#target, graceMs).then((result) => {
      if (this.#exited) return;
      if (!result.ok) events("Warning", "FailedPreStopHook", `PreStopHook failed: ${result.message}`, container.name);
      if (this.#stopDeadlineMs - clock.now() < graceMsMin) {
        this.#stopDeadlineMs = clock.now() + graceMsMin;
        this.#killAt(process, graceMsMin);
      }
      process.kill("SIGTERM");
    });
  }

  #killAt(process: ContainerProcess, delayMs: number): void {
    this.#cancelKill();
    const kill = () => {
      this.#killed = true;
      process.kill("SIGKILL");
    };
    if (delayMs <= 0) kill();
    else this.#cancelKill = this.#deps.clock.after(delayMs, kill);
  }

  #onExit(process: ContainerProcess, status: ExitStatus): void {
    this.#exited = true;
    this.#cancelKill();
    this.#endProbes();
    const { spec, container, containerId, reports } = this.#deps;
    const outOfMemory = status.signal === "SIGKILL" && !this.#killed && spec.memoryLimitBytes !== undefined;
    const message =
      status.code !== 0 && container.terminationMessagePolicy === "FallbackToLogsOnError" ? logTail(spec.logPath) : "";
    reports.exited({
      code: status.code,
      reason: status.code === 0 ? "Completed" : outOfMemory ? "OOMKilled" : "Error",
      ...(message === "" ? {} : { message }),
      startedAtMs: process.startedAtMs,
      finishedAtMs: status.finishedAtMs,
      containerId,
    });
  }
}

/** The last 80 lines or 2048 bytes, as the kubelet takes them. */
function logTail(path: string): string {
  if (!existsSync(path)) return "";
  const lines = readFileSync(path, "utf8").trimEnd().split("\n").slice(-80);
  return lines
    .map((line) => line.split(" ").slice(3).join(" "))
    .join("\n")
    .slice(-2048);
}

export const logPathOf = (logDir: string, container: string, attempt: number): string =>
  join(logDir, container, `${attempt}.log`);

/** Number of the next run, after what an earlier kubelet left; keeps the logs of the last run only. */
export function nextAttempt(logDir: string, container: string): number {
  let next = 0;
  try {
    for (const name of readdirSync(join(logDir, container))) {
      const number = Number.parseInt(name, 10);
      if (Number.isInteger(number)) next = Math.max(next, number + 1);
    }
  } catch {
    // No run yet.
  }
  return next;
}

/** Makes room for the log of run `attempt`: the run before stays for `kubectl logs --previous`, older ones go. */
export function prepareLog(logDir: string, container: string, attempt: number): string {
  const folder = join(logDir, container);
  mkdirSync(folder, { recursive: true });
  for (const name of readdirSync(folder)) if (Number.parseInt(name, 10) < attempt - 1) rmSync(join(folder, name));
  return logPathOf(logDir, container, attempt);
}
