// Contract of the kubelet room: what it is started with, and the volume, image and event shapes its parts share.

import type { Client } from "../client/types.ts";
import type { Runtime } from "../host/types.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import type { Random } from "../kernel/random.ts";

/**
 * What an image name stands for. `command` is ENTRYPOINT, `args` is CMD: a container's own command replaces both, its own
 * args replace `args` alone. `$(VAR)` in all of them is expanded with the container's environment and, in the catalogue only,
 * POD_NAME, POD_NAMESPACE, POD_UID, POD_IP, NODE_NAME, HOST_IP, SERVICE_ACCOUNT and (ports mode) PORT, TUNNEL_PORT.
 */
export interface ImageEntry {
  command: readonly string[];
  args?: readonly string[];
  /** Below the container's own variables. */
  env?: Readonly<Record<string, string>>;
  workingDir?: string;
}

/** Image name as in manifests ("nginx", "nginx:1.25", "registry.example/team/web") → what runs. */
export type ImageCatalogue = Readonly<Record<string, ImageEntry>>;

export interface DnsOptions {
  /** Where the server listens and what resolv.conf names: 10.96.0.10. */
  address: string;
  /** 53 when absent. */
  port?: number;
  /** Resolvers for names outside the cluster; empty: such names fail at once. The machine's own when absent. */
  upstreams?: readonly string[];
}

export interface KubeletOptions {
  nodeName: string;
  nodeIndex: number;
  nodeIp: string;
  /** First three octets of the pods' /24: "10.244.1". */
  podCidrPrefix: string;
  /** node-role.kubernetes.io/<role> labels: "control-plane", "worker". */
  roles: readonly string[];
  client: Client;
  runtime: Runtime;
  images: ImageCatalogue;
  /** Private to this node: addresses, logs, per-pod volumes. Survives a restart. */
  stateDir: string;
  /** Base of PersistentVolume paths that are not absolute. */
  volumesDir: string;
  /** Absent: pods keep the machine's resolver and no server runs. */
  dns: DnsOptions | undefined;
  clusterDomain: string;
  /**
   * The kubelet's own HTTPS API: a client certificate of `clientCaPem` is required. Port 0: any free one; the node's status
   * tells which. Absent: it is not served.
   */
  server: { port: number; certPem: string; keyPem: string; clientCaPem: string } | undefined;
  /** First wait after a second crash or failed pull; Kubernetes' 10,000 when absent. Doubles up to 30 times this. */
  backOffInitialMs?: number;
  /** Of a node that registers for the first time; later they are the administrator's. */
  taints?: readonly { key: string; effect: "NoSchedule" | "PreferNoSchedule" | "NoExecute"; value?: string }[];
  /** Extra node labels. */
  labels?: Readonly<Record<string, string>>;
  clock: Clock;
  random: Random;
  log: Log;
}

export interface Kubelet {
  /** Port of the kubelet API; undefined when it is not served. */
  readonly port: number | undefined;
  /** Ends all pods of this node and everything the kubelet runs; leaves the API objects as they are. */
  stop(): Promise<void>;
}

/** Tells users what happened to a pod, as `kubectl describe` shows it. */
export type PodEvents = (type: "Normal" | "Warning", reason: string, message: string, container?: string) => void;
