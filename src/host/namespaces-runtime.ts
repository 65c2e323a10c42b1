// One node's pods as namespaces: a network per pod; mounts, processes, host name and IPC per container.
// Runs in the node's network namespace, inside the sandbox. Containers end with this process, however it ends.

import { mkdirSync, rmSync } from "node:fs";
import type { Clock } from "../kernel/clock.ts";
import { MeshbedError, messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import { type Cgroup, createCgroup, findCgroups, sweepCgroups } from "./cgroups.ts";
import { type ContainerLog, openContainerLog } from "./container-log.ts";
import { prepareContainer, readyMark } from "./container-setup.ts";
import { addPodNetwork, podNamespace, removeAllPodNetworks, removePodNetwork } from "./pod-network.ts";
import { planRoot, readMounts } from "./pod-root.ts";
import {
  exitStatus,
  pumpOutput,
  runCommand,
  type StopSignal,
  signalNumbers,
  signalProcess,
  toolPath,
} from "./process.ts";
import { runDir } from "./sandbox.ts";
import { inNetworkNamespace } from "./topology.ts";
import type { ContainerProcess, ContainerSpec, ExitStatus, PodNetworkSpec, PodSandbox, Runtime } from "./types.ts";

export interface NamespacesRuntimeOptions {
  node: { name: string; ip: string };
  rootless: boolean;
  /** Folders of the machine that containers see even where they have a folder of their own (/tmp): the project, its programs. */
  sharedPaths: readonly string[];
  clock: Clock;
  log: Log;
}

const startTimeoutMs = 20_000;
const setupErrorBytesMax = 4096;

interface Running {
  initPid: number;
  env: Readonly<Record<string, string>>;
  process: ContainerProcess;
}

interface Context extends NamespacesRuntimeOptions {
  mounts: ReturnType<typeof readMounts>;
  plan: ReturnType<typeof planRoot>;
  cgroups: ReturnType<typeof findCgroups>;
  warned: Set<string>;
}

const podFolder = (node: string, podId: string) => `${runDir}/pods/${node}/${podId}`;

/** Names a shell cannot hold would be lost on the way to the program; env(1) brings them there. */
function withOddNames(env: Readonly<Record<string, string>>, argv: readonly string[]): readonly string[] {
  const odd = Object.entries(env).filter(([name]) => !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name));
  return odd.length === 0 ? argv : [toolPath("env"), ...odd.map(([name, value]) => `${name}=${value}`), ...argv];
}

function containerArgv(network: string | undefined, script: string, argv: readonly string[]): string[] {
  const inside = [
    toolPath("unshare"),
    "--mount",
    "--uts",
    "--ipc",
    "--pid",
    "--fork",
    "--kill-child",
    "/bin/sh",
    "-c",
    script,
    "sh",
    ...argv,
  ];
  const entered = network === undefined ? inside : inNetworkNamespace(network, inside);
  return [toolPath("setpriv"), "--pdeathsig", "KILL", "--", ...entered];
}

/** Splits the set-up's own words from the program's: resolves with the pids, or with the words when it fails. */
function readinessReader(log: ContainerLog) {
  const { promise, resolve } = Promise.withResolvers<{ initPid: number; pid: number } | string>();
  let head: Uint8Array | undefined = new Uint8Array();
  return {
    ready: promise,
    output(chunk: Uint8Array, stream: "stdout" | "stderr") {
      if (stream === "stdout" || !head) return log.write(chunk, stream);
      head = Buffer.concat([head, chunk]);
      const mark = head.indexOf(readyMark);
      const end = mark === -1 ? -1 : head.indexOf(0x0a, mark);
      if (end === -1) {
        if (mark === -1 && head.length > setupErrorBytesMax) head = head.slice(0, setupErrorBytesMax);
        return;
      }
      const [initPid, pid] = Buffer.from(head.subarray(mark + 1, end))
        .toString()
        .split(" ")
        .map(Number);
      const rest = head.subarray(end + 1);
      head = undefined;
      if (rest.length > 0) log.write(rest, "stderr");
      resolve({ initPid: initPid!, pid: pid! });
    },
    ended: () =>
      resolve(
        Buffer.from(head ?? [])
          .toString()
          .trim(),
      ),
  };
}

/** The shell that is init tells a signal only by 128 + its number. */
function statusOf(code: number | null, signal: string | number | null, finishedAtMs: number): ExitStatus {
  const name = Object.keys(signalNumbers).find((known) => 128 + signalNumbers[known]! === code);
  return name === undefined ? exitStatus(code, signal, finishedAtMs) : { code: code!, signal: name, finishedAtMs };
}

function limit(context: Context, podId: string, { id, memoryLimitBytes, cpuLimitMillis }: ContainerSpec): Cgroup {
  const name = `${context.node.name}.${podId}.${id}`;
  const group = createCgroup(context.cgroups, name, { memoryLimitBytes, cpuLimitMillis });
  for (const resource of group.unenforced)
    if (!context.warned.has(resource)) {
      context.warned.add(resource);
      context.log.warn(`${resource} limits are not enforced: this machine offers no writable control group for them`);
    }
  return group;
}

async function startContainer(context: Context, pod: PodNetworkSpec, spec: ContainerSpec): Promise<Running> {
  const { clock, node } = context;
  const failed = (why: string) => new MeshbedError("CONTAINER_START_FAILED", why);
  const folder = `${podFolder(node.name, pod.podId)}/${spec.id}`;
  const network = pod.hostNetwork ? undefined : podNamespace(node.name, pod.podId);
  const group = limit(context, pod.podId, spec);
  const discard = () => {
    group.remove();
    rmSync(folder, { recursive: true, force: true });
  };
  let child: Bun.Subprocess;
  const { promise: ended, resolve } = Promise.withResolvers<ExitStatus>();
  const log = openContainerLog(spec.logPath, clock);
  const reader = readinessReader(log);
  try {
    const script = prepareContainer({ ...context, folder, container: spec, pod, cgroups: group.folders });
    child = Bun.spawn(containerArgv(network, script, withOddNames(spec.env, spec.argv)), {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      detached: true,
      cwd: "/",
      env: spec.env,
      onExit: (_child, code, signal) => resolve(statusOf(code, signal, clock.now())),
    });
  } catch (error) {
    log.close();
    discard();
    throw error instanceof MeshbedError ? error : failed(messageOf(error));
  }
  // Every process of the container is gone when its init is, so the streams end too.
  const exited = Promise.all([ended, pumpOutput(child, reader.output, clock)]).then(([status]) => {
    reader.ended();
    log.close();
    const oomKilled = group.hadOomKill();
    discard();
    return oomKilled ? { ...status, oomKilled } : status;
  });
  const cancel = clock.after(startTimeoutMs, () => signalProcess(child.pid, "SIGKILL"));
  const ready = await reader.ready;
  cancel();
  if (typeof ready === "string") {
    const { code } = await exited;
    throw failed(ready || `the container's set-up ended with exit code ${code}`);
  }
  let alive = true;
  void exited.then(() => {
    alive = false;
  });
  // Init ends with the program, and the kernel ends everything else with init, so SIGKILL needs no other target.
  const kill = (signal: StopSignal) => {
    if (alive) signalProcess(ready.pid, signal);
  };
  return { initPid: ready.initPid, env: spec.env, process: { pid: ready.pid, startedAtMs: clock.now(), exited, kill } };
}

async function createPod(context: Context, spec: PodNetworkSpec): Promise<PodSandbox> {
  const { node, clock } = context;
  const network = podNamespace(node.name, spec.podId);
  const folder = podFolder(node.name, spec.podId);
  if (!/^[A-Za-z0-9.-]{1,128}$/.test(spec.podId))
    throw new MeshbedError("POD_INVALID", `'${spec.podId}' cannot name a pod`);
  mkdirSync(folder, { recursive: true });
  if (!spec.hostNetwork) await addPodNetwork(network, spec.ip, node.ip, clock);
  const running = new Map<string, Running>();
  return {
    async start(container) {
      const started = await startContainer(context, spec, container);
      running.set(container.id, started);
      void started.process.exited.then(() => running.delete(container.id));
      return started.process;
    },
    async exec(containerId, argv, timeoutMs) {
      const target = running.get(containerId);
      if (!target) throw new MeshbedError("CONTAINER_NOT_RUNNING", `container ${containerId} is not running`);
      return runCommand(execArgv(target.initPid, withOddNames(target.env, argv)), {
        clock,
        timeoutMs,
        env: target.env,
      });
    },
    async remove() {
      const all = [...running.values()];
      for (const { process } of all) process.kill("SIGKILL");
      await Promise.all(all.map(({ process }) => process.exited));
      if (!spec.hostNetwork) await removePodNetwork(network, spec.ip, clock);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Enters the namespaces of a container's init; the working folder is the container's root. */
function execArgv(initPid: number, argv: readonly string[]): string[] {
  const enter = ["--target", String(initPid), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"];
  return [toolPath("nsenter"), ...enter, "--", ...argv];
}

export function createNamespacesRuntime(options: NamespacesRuntimeOptions): Runtime {
  const mounts = readMounts();
  const plan = planRoot(options.rootless, mounts);
  const context: Context = { ...options, mounts, plan, cgroups: findCgroups(), warned: new Set() };
  return {
    mode: "namespaces",
    createPod: (spec) => createPod(context, spec),
    async freePort() {
      throw new MeshbedError("PORTS_MODE_ONLY", "with namespaces every pod has all ports of its own address");
    },
    async cleanUp() {
      await removeAllPodNetworks(options.node.name, options.clock);
      rmSync(`${runDir}/pods/${options.node.name}`, { recursive: true, force: true });
      sweepCgroups(context.cgroups, `${options.node.name}.`);
    },
  };
}
