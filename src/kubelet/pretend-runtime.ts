// A Runtime without processes, for tests and simulations: containers do what a given behaviour says, in the time of the given clock.

import { appendFileSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import type {
  ContainerProcess,
  ContainerSpec,
  ExitStatus,
  IsolationMode,
  PodNetworkSpec,
  PodSandbox,
  Runtime,
} from "../host/types.ts";
import type { Clock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";

/** How a container behaves; what is left out means: runs until told to stop, ends at once with 143 on SIGTERM. */
export interface Behaviour {
  /** Ends by itself after this long, with this code. */
  exit?: { afterMs: number; code: number };
  /** SIGTERM is answered after this long, with this code; "ignore": not at all. */
  onTerm?: { afterMs: number; code: number } | "ignore";
  /** The runtime refuses to start it. */
  refuse?: string;
  /** Lines on its standard output. */
  output?: readonly string[];
  exec?(argv: readonly string[]): { code: number; output: string };
}

export interface PretendContainer {
  pod: PodNetworkSpec;
  spec: ContainerSpec;
  alive: boolean;
  signals: string[];
  /** Ends it now. */
  exit(code: number, signal?: string): void;
}

export interface PretendRuntime extends Runtime {
  /** Every container ever started, in order. */
  readonly containers: readonly PretendContainer[];
  readonly pods: ReadonlyMap<string, PodNetworkSpec>;
  /** As the kernel does when a kubelet is killed: everything ends, nobody is told. */
  crash(): void;
}

const signalCodes = { SIGTERM: 143, SIGKILL: 137, SIGINT: 130, SIGQUIT: 131 } as const;
/** Containers are remembered up to this number; a simulation that starts more fails loudly. */
const containersMax = 100_000;

export function createPretendRuntime(options: {
  mode: IsolationMode;
  clock: Clock;
  behaviour: (spec: ContainerSpec, pod: PodNetworkSpec) => Behaviour;
  /** First port that freePort answers. */
  firstPort?: number;
}): PretendRuntime {
  const { clock } = options;
  const containers: PretendContainer[] = [];
  const pods = new Map<string, PodNetworkSpec>();
  let nextPort = options.firstPort ?? 41_000;
  let generation = 0;

  const start = (pod: PodNetworkSpec, spec: ContainerSpec): ContainerProcess => {
    const behaviour = options.behaviour(spec, pod);
    if (behaviour.refuse !== undefined) throw new MeshbedError("CONTAINER_START_FAILED", behaviour.refuse);
    if (containers.length >= containersMax) throw new MeshbedError("PRETEND_FULL", `${containersMax} containers`);
    const { promise: exited, resolve } = Promise.withResolvers<ExitStatus>();
    const born = generation;
    const exit = (code: number, signal?: string) => {
      if (!container.alive || born !== generation) return;
      container.alive = false;
      resolve({ code, ...(signal === undefined ? {} : { signal }), finishedAtMs: clock.now() });
    };
    const container: PretendContainer = { pod, spec, alive: true, signals: [], exit };
    containers.push(container);
    writeOutput(spec.logPath, behaviour.output ?? [], clock);
    if (behaviour.exit) {
      const { afterMs, code } = behaviour.exit;
      clock.after(afterMs, () => exit(code));
    }
    const kill: ContainerProcess["kill"] = (signal) => {
      container.signals.push(signal);
      if (signal === "SIGKILL") exit(signalCodes.SIGKILL, signal);
      else if (behaviour.onTerm === undefined) exit(signalCodes[signal], signal);
      else if (behaviour.onTerm !== "ignore") {
        const { afterMs, code } = behaviour.onTerm;
        clock.after(afterMs, () => exit(code));
      }
    };
    return { pid: containers.length, startedAtMs: clock.now(), exited, kill };
  };

  const createPod = (pod: PodNetworkSpec): PodSandbox => {
    if (pods.has(pod.podId)) throw new MeshbedError("POD_EXISTS", `pod ${pod.podId} exists already`);
    pods.set(pod.podId, pod);
    const own = () => containers.filter((container) => container.pod === pod);
    return {
      start: async (spec) => start(pod, spec),
      async exec(containerId, argv) {
        const container = own().find(({ spec, alive }) => alive && spec.id === containerId);
        if (!container) throw new MeshbedError("CONTAINER_NOT_RUNNING", `container ${containerId} is not running`);
        const run = options.behaviour(container.spec, pod).exec;
        return { ...(run?.(argv) ?? { code: 0, output: "" }), timedOut: false };
      },
      async remove() {
        for (const container of own()) container.exit(signalCodes.SIGKILL, "SIGKILL");
        pods.delete(pod.podId);
      },
    };
  };

  return {
    mode: options.mode,
    containers,
    pods,
    createPod: async (pod) => createPod(pod),
    freePort: async () => nextPort++,
    async cleanUp() {
      pods.clear();
    },
    crash() {
      generation++;
      for (const container of containers) container.alive = false;
    },
  };
}

function writeOutput(path: string, lines: readonly string[], clock: Clock): void {
  if (lines.length === 0) return;
  mkdirSync(dirname(path), { recursive: true });
  const stamp = `${new Date(clock.now()).toISOString().slice(0, -1)}000000Z`;
  appendFileSync(path, lines.map((line) => `${stamp} stdout F ${line}\n`).join(""));
}
