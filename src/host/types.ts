// Contracts of the host room: what the kubelet needs of a machine. Implementations: namespaces (Linux) and ports (anywhere).

export type IsolationMode = "namespaces" | "ports";

/** Why and how this machine isolates pods; printed at start. */
export interface Isolation {
  mode: IsolationMode;
  /** Namespaces inside a user namespace of their own (not root). */
  rootless: boolean;
  /** One sentence for the person at the terminal. */
  reason: string;
}

export interface ExitStatus {
  /** Exit code; 128 + signal number when ended by a signal. */
  code: number;
  signal?: string;
  /** The kernel killed a process of the container for its memory limit. */
  oomKilled?: boolean;
  finishedAtMs: number;
}

/** In `ports` mode nothing is mounted: the kubelet puts `source` wherever `target` is named. */
export interface Mount {
  /** Absolute path outside the pod. */
  source: string;
  /** Absolute path inside the pod; created when missing. */
  target: string;
  readOnly: boolean;
}

export interface PodNetworkSpec {
  /** Unique and short: the pod's UID. */
  podId: string;
  hostname: string;
  /** The pod's address; the node's own for host network. */
  ip: string;
  hostNetwork: boolean;
  /** Contents of /etc/resolv.conf and /etc/hosts inside the pod. */
  resolvConf: string;
  hosts: string;
}

export interface ContainerSpec {
  /** Unique within the pod, also across restarts: "web-0", "web-1", … */
  id: string;
  argv: readonly string[];
  env: Readonly<Record<string, string>>;
  workingDir: string | undefined;
  mounts: readonly Mount[];
  /** Output (both streams) is appended here, one line each: "<RFC3339Nano> stdout|stderr F <text>" (CRI log format). */
  logPath: string;
  /** Limits, enforced where cgroups allow. */
  memoryLimitBytes: number | undefined;
  cpuLimitMillis: number | undefined;
}

export interface ContainerProcess {
  /** Of the container's main process, as the kubelet's own process namespace numbers it. */
  readonly pid: number;
  readonly startedAtMs: number;
  readonly exited: Promise<ExitStatus>;
  /** Signals the container's main process; harmless after its end. SIGKILL ends the whole tree. */
  kill(signal: "SIGTERM" | "SIGKILL" | "SIGINT" | "SIGQUIT"): void;
}

/** A pod's namespaces. */
export interface PodSandbox {
  /**
   * Resolves once the program is being executed. Throws CONTAINER_START_FAILED when mounts, working folder or program
   * are missing. Its processes end with the kubelet's process, however that ends.
   */
  start(container: ContainerSpec): Promise<ContainerProcess>;
  /** Runs a command inside to its end (exec probes, lifecycle hooks); output bounded to 64 KiB. */
  exec(
    containerId: string,
    argv: readonly string[],
    timeoutMs: number,
  ): Promise<{ code: number; output: string; timedOut: boolean }>;
  /** Kills what is left and removes network, mounts and scratch. */
  remove(): Promise<void>;
}

export interface Runtime {
  readonly mode: IsolationMode;
  createPod(spec: PodNetworkSpec): Promise<PodSandbox>;
  /** A port free on this address now (`ports` mode). */
  freePort(): Promise<number>;
  /** Removes whatever an earlier, killed kubelet of this node left behind. */
  cleanUp(): Promise<void>;
}
