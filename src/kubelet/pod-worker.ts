// Owns one pod of this node from first sight to its removal: keeps its state, asks plan.ts what to do, and does it.

import { pods } from "../api/resources.ts";
import type { Pod } from "../api/types.ts";
import { ApiError, isNotFound } from "../client/types.ts";
import type { Cancel } from "../kernel/clock.ts";
import { type MeshbedError, messageOf } from "../kernel/errors.ts";
import { observe } from "../kernel/metrics.ts";
import type { ConfigLease } from "./config-objects.ts";
import { type ContainerRunner, logPathOf, nextAttempt, type RunnerReports } from "./container-runner.ts";
import type { Container } from "./container-spec.ts";
import { containerIdOf, prepareRun, type RunInput, startFailure } from "./container-start.ts";
import {
  type BackOffPolicy,
  backOffPolicy,
  type ContainerEvent,
  type ContainerRecord,
  isAlive,
  step,
} from "./container-state.ts";
import { type Action, outcomeOf, type PodView, plan, type SandboxState } from "./plan.ts";
import { factsOf, forgetPod, type NodeContext, type PodSetup, podLogDir, setUpPod } from "./pod-setup.ts";
import { initialRecords } from "./recover.ts";
import { type PodStatus, statusOf } from "./status.ts";
import type { PodEvents } from "./types.ts";
import { refreshVolumes } from "./volumes.ts";

/** A claim is bound a moment after its first pod was scheduled: the first tries follow quickly. */
const setUpRetryBaseMs = 50;
const setUpRetryMaxMs = 5_000;
const quietSetupFailures = 3;
const deleteRetryMs = 500;
/** When the API object is gone already, nobody waits for grace. */
const removedGraceMs = 2_000;

export class PodWorker {
  readonly uid: string;
  readonly #context: NodeContext;
  readonly #policy: BackOffPolicy;
  readonly #onDone: () => void;
  readonly #lease: ConfigLease;
  readonly #events: PodEvents;
  readonly #startTimeMs: number;
  readonly #seenAtMs: number;
  #pod: Pod;
  #records: ContainerRecord[];
  #runners = new Map<string, ContainerRunner>();
  #sandbox: SandboxState = { kind: "none" };
  #setup: PodSetup | undefined;
  #preparing: Promise<void> | undefined;
  #setupFailures = 0;
  #lastSetupError = "";
  /** Undefined: the pod is to live. */
  #graceMs: number | undefined;
  #gone = false;
  #deleting = false;
  #failure: { reason: string; message: string } | undefined;
  #status: PodStatus | undefined;
  #cancelWake: Cancel = () => {};
  #cancelDeadline: Cancel = () => {};
  #turnPending = false;
  #wasReady = false;
  #over = false;

  /** `onDone` is called once, when nothing of the pod is left on this machine and its API object is gone. */
  constructor(context: NodeContext, pod: Pod, onDone: () => void) {
    this.#context = context;
    this.#pod = pod;
    this.uid = pod.metadata.uid;
    this.#onDone = onDone;
    this.#policy = backOffPolicy(context.options.backOffInitialMs);
    this.#events = context.events(pod);
    const { clock } = context.options;
    this.#seenAtMs = clock.now();
    this.#startTimeMs = pod.status?.startTime === undefined ? clock.now() : Date.parse(pod.status.startTime);
    const recovered = initialRecords(pod, clock.now(), (name) => nextAttempt(podLogDir(context, pod), name));
    this.#records = recovered.records;
    if (recovered.ended) this.#sandbox = { kind: "removed" };
    this.#status = recovered.ended ? pod.status : undefined;
    this.#lease = context.config.lease(pod, () => this.#configChanged());
    this.#armDeadline();
    this.update(pod);
  }

  get pod(): Pod {
    return this.#pod;
  }
  get ip(): string | undefined {
    return this.#setup?.ip;
  }
  /** What the kubelet last decided, also when the API server could not be told yet. */
  get status(): PodStatus | undefined {
    return this.#status;
  }

  /** A newer version of the API object. */
  update(pod: Pod): void {
    const annotationsChanged = pod !== this.#pod;
    this.#pod = pod;
    if (pod.metadata.deletionTimestamp !== undefined)
      this.#end((pod.metadata.deletionGracePeriodSeconds ?? pod.spec?.terminationGracePeriodSeconds ?? 30) * 1000);
    else if (annotationsChanged) this.#refreshVolumes();
    this.#context.status.reassert(pod);
    this.#turn();
  }

  /** The API object is gone. */
  removed(): void {
    this.#gone = true;
    this.#end(Math.min(removedGraceMs, this.#graceMs ?? removedGraceMs));
    this.#turn();
  }

  /** The kubelet stops: as removed, but the API object and what is on disk stay. */
  async shutDown(graceMs: number): Promise<void> {
    this.#over = true;
    this.#cancelWake();
    this.#cancelDeadline();
    this.#lease.release();
    for (const runner of this.#runners.values()) runner.stop(graceMs);
    const { clock } = this.#context.options;
    const deadlineMs = clock.now() + graceMs;
    while (clock.now() < deadlineMs && this.#records.some((r) => isAlive(r.state))) await clock.sleep(10);
    await Promise.race([this.#preparing, clock.sleep(graceMs)]);
    await this.#setup?.sandbox.remove().catch((error) => this.#warn("pod not removed", error));
  }

  /** The log of the current (else the last) run, or of the run before; undefined when there is none. */
  logPath(container: string, previous: boolean): string | undefined {
    const record = this.#records.find((r) => r.name === container);
    if (record === undefined) return undefined;
    const { state, last } = record;
    let containerId = last?.containerId;
    if (!previous && state.kind === "running") containerId = state.containerId;
    else if (!previous && state.kind === "exited") containerId = state.exit.containerId;
    const attempt = containerId === undefined ? undefined : /-(\d+)$/.exec(containerId)?.[1];
    if (attempt === undefined) return undefined;
    return logPathOf(podLogDir(this.#context, this.#pod), container, Number(attempt));
  }

  hasContainer(container: string): boolean {
    return this.#records.some((record) => record.name === container);
  }

  /** True while the container may still write to its log. */
  isRunning(container: string): boolean {
    return this.#records.some((r) => r.name === container && isAlive(r.state));
  }

  #warn(message: string, error: unknown): void {
    this.#context.options.log.warn(message, { pod: this.#pod.metadata.name, error: messageOf(error) });
  }

  #view(): PodView {
    return {
      restartPolicy: this.#pod.spec?.restartPolicy ?? "Always",
      containers: this.#records,
      sandbox: this.#sandbox,
      ending: this.#graceMs !== undefined,
    };
  }

  /** The one place where a container's state changes. */
  #dispatch(name: string, event: ContainerEvent): void {
    const index = this.#records.findIndex((record) => record.name === name);
    const record = this.#records[index]!;
    const next = step(record, event);
    if (next === record) return;
    this.#records = this.#records.with(index, next);
    this.#turn();
  }

  /** Plans once after everything that happens in this turn of the event loop. */
  #turn(): void {
    if (this.#turnPending || this.#over) return;
    this.#turnPending = true;
    queueMicrotask(() => {
      this.#turnPending = false;
      if (!this.#over) this.#act();
    });
  }

  #act(): void {
    const { clock } = this.#context.options;
    this.#cancelWake();
    const { actions, wakeAtMs } = plan(this.#view(), this.#policy, clock.now());
    for (const action of actions) this.#perform(action);
    if (wakeAtMs !== undefined) this.#cancelWake = clock.after(Math.max(1, wakeAtMs - clock.now()), () => this.#turn());
    this.#publish();
    if (this.#sandbox.kind === "removed" && this.#graceMs !== undefined) this.#finish();
  }

  #publish(): void {
    if (this.#gone) return;
    const { options, status } = this.#context;
    // A pod that ended before this kubelet came stays as it was reported.
    if (this.#setup === undefined && this.#sandbox.kind === "removed" && this.#status !== undefined) return;
    this.#status = statusOf({
      pod: this.#pod,
      view: this.#view(),
      podIp: this.#setup?.ip,
      hostIp: options.nodeIp,
      startTimeMs: this.#startTimeMs,
      nowMs: options.clock.now(),
      previous: this.#status,
      failure: this.#failure,
    });
    status.set(this.#pod, this.#status);
    if (!this.#wasReady && this.#status.conditions?.some((c) => c.type === "Ready" && c.status === "True")) {
      this.#wasReady = true;
      observe(this.#context.metrics.podReady, (options.clock.now() - this.#seenAtMs) / 1000);
    }
  }

  #perform(action: Action): void {
    switch (action.kind) {
      case "prepare":
        this.#sandbox = { kind: "preparing" };
        this.#preparing = this.#prepare();
        break;
      case "start":
        this.#dispatch(action.container, { kind: "startRequested", backOffMs: action.backOffMs });
        void this.#start(action.container);
        break;
      case "backOff": {
        const { container, retryAtMs, backOffMs } = action;
        const waitMs = retryAtMs - this.#context.options.clock.now();
        const who = `container=${container} pod=${this.#title()}`;
        const message = `back-off ${formatSeconds(waitMs)} restarting failed ${who}`;
        this.#dispatch(container, { kind: "backedOff", message, retryAtMs, backOffMs });
        this.#events(
          "Warning",
          "BackOff",
          `Back-off restarting failed container ${container} in pod ${this.#title()}`,
          container,
        );
        break;
      }
      case "pullBackOff":
        this.#pullBackOff(action.container);
        break;
      case "stop":
        this.#stop(action.container, this.#graceMs ?? 0, `Stopping container ${action.container}`);
        break;
      case "removeSandbox":
        this.#sandbox = { kind: "removing" };
        void this.#removeSandbox();
        break;
    }
  }

  #title(): string {
    const { name, namespace, uid } = this.#pod.metadata;
    return `${name}_${namespace}(${uid})`;
  }

  async #prepare(): Promise<void> {
    try {
      this.#setup = await setUpPod(this.#context, this.#pod, this.#lease, this.#setup?.ports);
      this.#sandbox = { kind: "ready" };
      this.#setupFailures = 0;
    } catch (error) {
      const reason = (error as MeshbedError).code === "MOUNT" ? "FailedMount" : "FailedCreatePodSandBox";
      const retryMs = Math.min(setUpRetryMaxMs, setUpRetryBaseMs * 2 ** Math.min(this.#setupFailures++, 10));
      this.#sandbox = { kind: "failed", retryAtMs: this.#context.options.clock.now() + retryMs };
      const message = messageOf(error);
      // Users hear only of what does not pass by itself, and of each reason once.
      if (!this.#over && this.#setupFailures > quietSetupFailures && message !== this.#lastSetupError) {
        this.#lastSetupError = message;
        this.#events("Warning", reason, message);
      }
    }
    this.#turn();
  }

  #container(name: string): Container {
    const { containers = [], initContainers = [] } = this.#pod.spec ?? {};
    return [...containers, ...initContainers].find((container) => container.name === name)!;
  }

  #record(name: string): ContainerRecord {
    return this.#records.find((record) => record.name === name)!;
  }

  async #start(name: string): Promise<void> {
    const { clock } = this.#context.options;
    const container = this.#container(name);
    const { attempts, backOffMs } = this.#record(name);
    const input: RunInput = {
      context: this.#context,
      pod: this.#pod,
      container,
      attempt: attempts - 1,
      setup: this.#setup!,
      lease: this.#lease,
      events: this.#events,
    };
    const startedAtMs = clock.now();
    try {
      const runner = await prepareRun(input, this.#reports(container, input.attempt));
      if (this.#over) return;
      this.#runners.set(name, runner);
      await runner.start();
      if (this.#over) runner.stop(0);
    } catch (error) {
      this.#runners.delete(name);
      this.#dispatch(name, startFailure(input, error, startedAtMs, backOffMs));
    }
  }

  #reports(container: Container, attempt: number): RunnerReports {
    const { name } = container;
    const hasStartupProbe = container.startupProbe !== undefined;
    const hasReadinessProbe = container.readinessProbe !== undefined;
    // With a postStart hook the container runs but is not ready before the hook is done.
    const waitsForHook = container.lifecycle?.postStart !== undefined;
    return {
      started: (startedAtMs) =>
        this.#dispatch(name, {
          kind: "started",
          containerId: containerIdOf(this.#pod, name, attempt),
          startedAtMs,
          hasStartupProbe,
          hasReadinessProbe: hasReadinessProbe || waitsForHook,
        }),
      startupSucceeded: () => this.#dispatch(name, { kind: "startupSucceeded", hasReadinessProbe }),
      readiness: (ready) => this.#dispatch(name, { kind: "readiness", ready }),
      unfit: (reason, graceSeconds) => {
        const seconds = graceSeconds ?? this.#pod.spec?.terminationGracePeriodSeconds ?? 30;
        this.#stop(name, seconds * 1000, `Container ${name} ${reason}, will be restarted`);
      },
      exited: (exit) => {
        this.#runners.delete(name);
        this.#dispatch(name, { kind: "exited", exit });
      },
    };
  }

  #pullBackOff(name: string): void {
    const record = this.#record(name);
    const waitMs = record.backOffMs === 0 ? this.#policy.initialMs : record.backOffMs;
    const retryAtMs = this.#context.options.clock.now() + waitMs;
    const message = `Back-off pulling image "${this.#container(name).image}"`;
    const backOffMs = Math.min(this.#policy.maxMs, waitMs * 2);
    this.#dispatch(name, { kind: "pullBackedOff", message, retryAtMs, backOffMs });
    this.#events("Normal", "BackOff", message, name);
    this.#events("Warning", "Failed", "Error: ImagePullBackOff", name);
  }

  #stop(name: string, graceMs: number, why: string): void {
    const record = this.#record(name);
    if (record.state.kind !== "running") return;
    if (!record.state.stopping) this.#events("Normal", "Killing", why, name);
    this.#dispatch(name, { kind: "stopRequested" });
    this.#runners.get(name)?.stop(graceMs);
  }

  /** alive → ending; asked again with less grace, what is being stopped is hurried. */
  #end(graceMs: number): void {
    if (this.#graceMs !== undefined && graceMs >= this.#graceMs) return;
    const hurry = this.#graceMs !== undefined;
    this.#graceMs = graceMs;
    if (!hurry) return;
    for (const { name, state } of this.#records)
      if (state.kind === "running" && state.stopping) this.#runners.get(name)?.stop(graceMs);
  }

  #armDeadline(): void {
    const seconds = this.#pod.spec?.activeDeadlineSeconds;
    if (seconds === undefined || this.#sandbox.kind === "removed") return;
    const { clock } = this.#context.options;
    const delayMs = Math.max(0, this.#startTimeMs + seconds * 1000 - clock.now());
    this.#cancelDeadline = clock.after(delayMs, () => {
      if (outcomeOf(this.#view()) !== undefined || this.#graceMs !== undefined) return;
      const reason = "DeadlineExceeded";
      const message = "Pod was active on the node longer than the specified deadline";
      this.#failure = { reason, message };
      this.#events("Normal", reason, message);
      this.#end((this.#pod.spec?.terminationGracePeriodSeconds ?? 30) * 1000);
      this.#turn();
    });
  }

  #configChanged(): void {
    for (const { name } of this.#records) this.#dispatch(name, { kind: "configChanged" });
    if (this.#sandbox.kind === "failed") {
      this.#sandbox = { kind: "failed", retryAtMs: 0 };
      this.#turn();
    }
    this.#refreshVolumes();
  }

  #refreshVolumes(): void {
    if (this.#setup === undefined || this.#sandbox.kind !== "ready") return;
    const facts = factsOf(this.#context, this.#pod, this.#setup.ip);
    try {
      refreshVolumes(this.#setup.volumes, facts, this.#lease, this.#context.options.clock.now());
    } catch (error) {
      this.#warn("volumes not updated", error);
    }
  }

  async #removeSandbox(): Promise<void> {
    await this.#setup?.sandbox.remove().catch((error) => this.#warn("pod not removed", error));
    this.#sandbox = { kind: "removed" };
    this.#context.addresses.release(this.uid);
    this.#turn();
  }

  /** Nothing runs any more: the API object goes, then what is left on disk. */
  #finish(): void {
    if (this.#gone) {
      this.#over = true;
      this.#cancelDeadline();
      this.#cancelWake();
      this.#lease.release();
      this.#context.status.forget(this.uid);
      forgetPod(this.#context, this.#pod);
      this.#onDone();
    } else if (this.#pod.metadata.deletionTimestamp !== undefined && !this.#deleting) {
      this.#deleting = true;
      void this.#delete();
    }
  }

  async #delete(): Promise<void> {
    const { client, clock } = this.#context.options;
    const { namespace, name, uid } = this.#pod.metadata;
    await this.#context.status.flushed(uid);
    while (!this.#over && !this.#gone) {
      try {
        await client.delete(pods, namespace, name, { uid, gracePeriodSeconds: 0 });
        return; // the watch tells when it is gone; finalizers may hold it
      } catch (error) {
        if (isNotFound(error) || (error instanceof ApiError && error.status === 409)) return;
        await clock.sleep(deleteRetryMs);
      }
    }
  }
}

/** "10s", "1m20s", "5m0s": as Go prints durations. */
function formatSeconds(durationMs: number): string {
  const seconds = Math.max(0, Math.round(durationMs / 1000));
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}
