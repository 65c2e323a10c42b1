// One node's pods without namespaces: plain processes on 127.0.0.1. Needs no privilege and no Linux.

import { mkdirSync, statSync } from "node:fs";
import { createServer } from "node:net";
import type { Clock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { Random } from "../kernel/random.ts";
import { openContainerLog } from "./container-log.ts";
import { runCommand, startProcess } from "./process.ts";
import type { ContainerProcess, ContainerSpec, PodNetworkSpec, PodSandbox, Runtime } from "./types.ts";

export interface PortsRuntimeOptions {
  clock: Clock;
  log: Log;
  random: Random;
}

/** Below every system's ephemeral ports, so that no outgoing connection takes one between choice and use. */
const portMin = 18_000;
const portMax = 30_000;
/** Ports handed out lately are not handed out again at once: their process may not listen yet. */
const recentPortsMax = 4096;

const loopback = "127.0.0.1";

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: loopback, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** Finds free ports from a random start, so that several nodes' kubelets seldom meet. */
export function createPortFinder(random: Random): () => Promise<number> {
  const recent: number[] = [];
  let next = portMin + random.below(portMax - portMin);
  return async () => {
    for (let tries = portMax - portMin; tries > 0; tries--) {
      const port = next;
      next = next + 1 === portMax ? portMin : next + 1;
      if (recent.includes(port) || !(await isFree(port))) continue;
      recent.push(port);
      if (recent.length > recentPortsMax) recent.shift();
      return port;
    }
    throw new MeshbedError("NO_FREE_PORT", `no port from ${portMin} to ${portMax - 1} is free on ${loopback}`);
  };
}

function checkMounts({ mounts }: ContainerSpec): void {
  for (const { source, target } of mounts)
    if (!statSync(source, { throwIfNoEntry: false }))
      throw new MeshbedError("CONTAINER_START_FAILED", `${source}, meant for ${target}, does not exist`);
}

function startContainer(options: PortsRuntimeOptions, spec: ContainerSpec): ContainerProcess {
  checkMounts(spec);
  const { clock } = options;
  const log = openContainerLog(spec.logPath, clock);
  const { workingDir } = spec;
  try {
    if (workingDir !== undefined) mkdirSync(workingDir, { recursive: true });
    const child = startProcess(
      {
        argv: spec.argv,
        env: spec.env,
        output: log.write,
        dieWithParent: "group",
        ...(workingDir !== undefined && { cwd: workingDir }),
      },
      clock,
    );
    const exited = child.outputEnded.then(() => {
      log.close();
      return child.exited;
    });
    return { pid: child.pid, startedAtMs: child.startedAtMs, exited, kill: child.kill };
  } catch (error) {
    log.close();
    const message = error instanceof Error ? error.message : String(error);
    throw new MeshbedError("CONTAINER_START_FAILED", message, { cause: error });
  }
}

function createPod(options: PortsRuntimeOptions, _spec: PodNetworkSpec): PodSandbox {
  const running = new Map<string, { process: ContainerProcess; spec: ContainerSpec }>();
  return {
    async start(spec) {
      const process = startContainer(options, spec);
      running.set(spec.id, { process, spec });
      void process.exited.then(() => running.delete(spec.id));
      return process;
    },
    async exec(containerId, argv, timeoutMs) {
      const target = running.get(containerId);
      if (!target) throw new MeshbedError("CONTAINER_NOT_RUNNING", `container ${containerId} is not running`);
      const { env, workingDir } = target.spec;
      return runCommand(argv, {
        clock: options.clock,
        timeoutMs,
        env,
        ...(workingDir !== undefined && { cwd: workingDir }),
      });
    },
    async remove() {
      const all = [...running.values()];
      for (const { process } of all) process.kill("SIGKILL");
      await Promise.all(all.map(({ process }) => process.exited));
    },
  };
}

/**
 * Nothing outlives the kubelet, so there is nothing to clean up: each container's group is killed when this process
 * ends. Limits and mounts do not exist here; the kubelet names the volumes' real paths instead.
 */
export function createPortsRuntime(options: PortsRuntimeOptions): Runtime {
  options.log.info("memory and cpu limits are not enforced in ports mode");
  return {
    mode: "ports",
    createPod: async (spec) => createPod(options, spec),
    freePort: createPortFinder(options.random),
    cleanUp: async () => {},
  };
}
