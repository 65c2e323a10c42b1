// What a testbed consists of: machines, addresses, ports, images, manifests. Built once by `meshbed up`, read by every process of it.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Isolation } from "../host/types.ts";

/** An image's stand-in on this machine. Pod `command` replaces `command`, pod `args` replace `args`. */
export interface ImageEntry {
  command: string[];
  args?: string[];
  env?: Record<string, string>;
  workingDir?: string;
}
export type ImageCatalogue = Record<string, ImageEntry>;

export interface NodeConfig {
  name: string;
  /** 0 is the master. */
  index: number;
  ip: string;
  role: "control-plane" | "worker";
  /** Of the node proxy's admin server. */
  adminPort: number;
}

export interface ClusterConfig {
  /** Absolute paths. */
  projectRoot: string;
  /** What inner processes are started from: the bundle, or src/main.ts. */
  main: string;
  stateDir: string;
  isolation: Isolation;
  nodes: NodeConfig[];
  /** Machines outside the cluster that load is sent from. */
  clients: { name: string; ip: string }[];
  linkBitsPerSecond: number | undefined;
  /** On the host's 127.0.0.1. */
  hostPorts: { http: number; https: number; api: number };
  /** Inside: where the API server and the xDS server listen on the master. */
  apiPort: number;
  adsPort: number;
  /** Of xDS without TLS, for gRPC clients that are their own proxy (Istio: 15010). */
  adsPlainPort: number;
  images: ImageCatalogue;
  /** Files applied when the cluster comes up, in order. */
  manifests: string[];
  /** True when `manifests` is the bundled video platform. */
  bundledApplication: boolean;
}

export const clusterDomain = "cluster.local";
export const dnsAddress = "10.96.0.10";
export const apiServiceAddress = "10.96.0.1";
export const rootNamespace = "istio-system";
/** A lease older than this makes its node NotReady; real Kubernetes takes 40 s, a testbed cannot wait that long. */
export const nodeGraceMs = 3_000;
/** From NotReady to eviction; real Kubernetes takes 300 s. */
export const evictionDelayMs = 500;
/** Kubernetes' packages let systemd restart a killed kubelet after 10 s (RestartSec=10); so do we. */
export const kubeletRestartMs = 10_000;

export const statePaths = (stateDir: string) => ({
  kubeconfig: join(stateDir, "kubeconfig"),
  pki: join(stateDir, "pki"),
  database: join(stateDir, "state.db"),
  run: join(stateDir, "run"),
  logs: join(stateDir, "logs"),
  volumes: join(stateDir, "volumes"),
  config: join(stateDir, "run", "cluster.json"),
  supervisor: join(stateDir, "run", "supervisor.json"),
  node: (name: string) => join(stateDir, "nodes", name),
});

/** Relative to the state folder, whose path may be too long for a socket address (108 bytes). */
export const relaySocket = (name: "http" | "https" | "api"): string => join("run", `${name}.sock`);

/** Where the process inside takes orders; relative for the same reason. */
export const controlSocket = join("run", "control.sock");
/** Where the control plane answers questions about its proxies. */
export const meshSocket = join("run", "mesh.sock");

export const logFile = (config: ClusterConfig, component: string): string =>
  join(statePaths(config.stateDir).logs, `${component}.log`);

/** How a process of meshbed itself is started. */
export const mainCommand = (config: ClusterConfig): string[] => [process.execPath, config.main];

export const masterOf = (config: ClusterConfig): NodeConfig => config.nodes[0]!;

export function nodeOf(config: ClusterConfig, name: string): NodeConfig {
  const node = config.nodes.find((candidate) => candidate.name === name);
  if (!node) throw new Error(`no node ${name} in this cluster`);
  return node;
}

export function saveConfig(config: ClusterConfig): void {
  writeFileSync(statePaths(config.stateDir).config, JSON.stringify(config, null, 1), { mode: 0o600 });
}

export function loadConfig(stateDir: string): ClusterConfig {
  return JSON.parse(readFileSync(statePaths(stateDir).config, "utf8")) as ClusterConfig;
}
