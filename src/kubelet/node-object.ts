// The Node object of this kubelet: what it is registered with and the status it reports. Pure but for reading the machine's facts.

import { readFileSync } from "node:fs";
import { arch, availableParallelism, platform, release, totalmem } from "node:os";
import type { Draft } from "../api/object.ts";
import type { Node } from "../api/types.ts";
import type { KubeletOptions } from "./types.ts";

export const kubeletVersion = "v1.32.0-meshbed";
const runtimeVersion = "meshbed://0.1.0";
/** As kubelet's default; the /24 would allow 253. */
export const podsMax = 110;

export interface MachineFacts {
  cpus: number;
  memoryKiB: number;
  kernel: string;
  osImage: string;
  os: string;
  arch: string;
  machineId: string;
  bootId: string;
}

const goArch: Record<string, string> = { x64: "amd64", ia32: "386" };

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}

export function machineFacts(): MachineFacts {
  const osName = /^PRETTY_NAME="?([^"\n]+)"?$/m.exec(readText("/etc/os-release"))?.[1];
  return {
    cpus: availableParallelism(),
    memoryKiB: Math.floor(totalmem() / 1024),
    kernel: release(),
    osImage: osName ?? platform(),
    os: platform(),
    arch: goArch[arch()] ?? arch(),
    machineId: readText("/etc/machine-id"),
    bootId: readText("/proc/sys/kernel/random/boot_id"),
  };
}

/** Every node may use the whole machine: nodes of one testbed share it, and requests are for the scheduler only. */
export const allocatableOf = (facts: MachineFacts) => ({
  cpu: String(facts.cpus),
  memory: `${facts.memoryKiB}Ki`,
  "ephemeral-storage": "100Gi",
});

export function nodeDraft(options: KubeletOptions, facts: MachineFacts): Draft<Node> {
  const { nodeName, podCidrPrefix, runtime } = options;
  const cidr = `${podCidrPrefix}.0/24`;
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: nodeName, labels: nodeLabels(options, facts) },
    spec: {
      providerID: `meshbed://${nodeName}`,
      ...(runtime.mode === "namespaces" ? { podCIDR: cidr, podCIDRs: [cidr] } : {}),
      ...(options.taints && { taints: [...options.taints] }),
    },
  };
}

export function nodeLabels(options: KubeletOptions, facts: MachineFacts): Record<string, string> {
  const labels: Record<string, string> = {
    "kubernetes.io/hostname": options.nodeName,
    "kubernetes.io/os": facts.os,
    "kubernetes.io/arch": facts.arch,
    "beta.kubernetes.io/os": facts.os,
    "beta.kubernetes.io/arch": facts.arch,
    ...options.labels,
  };
  for (const role of options.roles) labels[`node-role.kubernetes.io/${role}`] = "";
  return labels;
}

type NodeStatus = NonNullable<Node["status"]>;
type NodeCondition = NonNullable<NodeStatus["conditions"]>[number];

/** `previous` keeps transition times; `now` is RFC 3339. */
export function nodeStatus(
  options: KubeletOptions,
  facts: MachineFacts,
  kubeletPort: number | undefined,
  previous: NodeStatus | undefined,
  now: string,
): NodeStatus {
  const resources = { ...allocatableOf(facts), pods: String(podsMax) };
  const condition = (type: string, status: string, reason: string, message: string): NodeCondition => {
    const known = previous?.conditions?.find((c) => c.type === type && c.status === status);
    const lastTransitionTime = known?.lastTransitionTime ?? now;
    return { type, status, reason, message, lastHeartbeatTime: now, lastTransitionTime };
  };
  return {
    capacity: resources,
    allocatable: resources,
    conditions: [
      condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
      condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
      condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
      condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ],
    addresses: [
      { type: "InternalIP", address: options.nodeIp },
      { type: "Hostname", address: options.nodeName },
    ],
    ...(kubeletPort === undefined ? {} : { daemonEndpoints: { kubeletEndpoint: { Port: kubeletPort } } }),
    nodeInfo: {
      machineID: facts.machineId,
      systemUUID: facts.machineId,
      bootID: facts.bootId,
      kernelVersion: facts.kernel,
      osImage: facts.osImage,
      containerRuntimeVersion: runtimeVersion,
      kubeletVersion,
      kubeProxyVersion: kubeletVersion,
      operatingSystem: facts.os,
      architecture: facts.arch,
    },
  };
}
