// Brings up what a pod needs before its first container: address, ports, volumes, sandbox.

import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pods } from "../api/resources.ts";
import type { Pod, Service } from "../api/types.ts";
import type { Informer } from "../client/types.ts";
import type { PodSandbox } from "../host/types.ts";
import { MeshbedError, messageOf } from "../kernel/errors.ts";
import type { AddressPool } from "./addresses.ts";
import type { ConfigLease, ConfigObjects } from "./config-objects.ts";
import type { KubeletMetrics } from "./kubelet-metrics.ts";
import { type DnsSetting, podHostname, podHosts, podResolvConf } from "./network-files.ts";
import type { PodFacts } from "./pod-fields.ts";
import { allocatePorts, annotationsOf, type PodPorts } from "./ports.ts";
import { visibleServices } from "./service-env.ts";
import type { StatusWriter } from "./status-writer.ts";
import type { KubeletOptions, PodEvents } from "./types.ts";
import { type PreparedVolumes, prepareVolumes } from "./volumes.ts";

/** What all pods of a node share. */
export interface NodeContext {
  options: KubeletOptions;
  addresses: AddressPool;
  config: ConfigObjects;
  services: Informer<Service>;
  status: StatusWriter;
  events(pod: Pod): PodEvents;
  machineDns: DnsSetting;
  metrics: KubeletMetrics;
  allocatable: PodFacts["allocatable"];
}

export interface PodSetup {
  sandbox: PodSandbox;
  ip: string;
  volumes: PreparedVolumes;
  ports: PodPorts | undefined;
}

export const podDir = (context: NodeContext, pod: Pod): string =>
  join(context.options.stateDir, "volumes", pod.metadata.uid);

/** As the kubelet lays logs out, so that log collectors find them: <ns>_<pod>_<uid>/<container>/<n>.log */
export const podLogDir = (context: NodeContext, pod: Pod): string =>
  join(context.options.stateDir, "logs", "pods", `${pod.metadata.namespace}_${pod.metadata.name}_${pod.metadata.uid}`);

export function factsOf(context: NodeContext, pod: Pod, podIp: string): PodFacts {
  const { nodeIp, nodeName } = context.options;
  return { pod, podIp, hostIp: nodeIp, nodeName, allocatable: context.allocatable };
}

/** The address this pod has or gets: the node's own for host network and in ports mode. Throws ADDRESSES_EXHAUSTED. */
export function addressOf(context: NodeContext, pod: Pod): string {
  const { runtime, nodeIp } = context.options;
  if (pod.spec?.hostNetwork || runtime.mode === "ports") return nodeIp;
  const isGateway = pod.spec?.containers.some(({ image }) => image === "auto") ?? false;
  return context.addresses.assign(pod.metadata.uid, pod.status?.podIP, isGateway);
}

/** Throws MeshbedError MOUNT for volumes, ADDRESSES_EXHAUSTED, and what the runtime throws. */
export async function setUpPod(
  context: NodeContext,
  pod: Pod,
  lease: ConfigLease,
  ports: PodPorts | undefined,
): Promise<PodSetup> {
  const { options } = context;
  await Promise.all([lease.synced, context.services.synced]);
  const ip = addressOf(context, pod);
  const allocated = options.runtime.mode === "ports" ? await publishPorts(context, pod, ports) : undefined;
  const podVolumesDir = podDir(context, pod);
  mkdirSync(podVolumesDir, { recursive: true });
  const volumes = await prepareVolumes(factsOf(context, pod, ip), {
    client: options.client,
    podVolumesDir,
    volumesDir: options.volumesDir,
    source: lease,
    nowMs: options.clock.now(),
  });
  const hostname = podHostname(pod, options.nodeName);
  const sandbox = await options.runtime
    .createPod({
      podId: pod.metadata.uid,
      hostname,
      ip,
      hostNetwork: pod.spec?.hostNetwork ?? false,
      resolvConf: podResolvConf(pod, options.dns?.address, options.clusterDomain, context.machineDns),
      hosts: podHosts(pod, ip, hostname, options.clusterDomain),
    })
    .catch((error) => {
      throw new MeshbedError("SANDBOX", `Failed to create pod sandbox: ${messageOf(error)}`, { cause: error });
    });
  return { sandbox, ip, volumes, ports: allocated };
}

const servicesOf = (context: NodeContext, pod: Pod): Service[] =>
  visibleServices(context.services.list(), pod.metadata.namespace ?? "default", pod.spec?.enableServiceLinks !== false);

/** Completes the pod's ports by what is new (a service created since) and tells the API server in the background. */
export async function publishPorts(context: NodeContext, pod: Pod, known: PodPorts | undefined): Promise<PodPorts> {
  const { options } = context;
  const ports = await allocatePorts(pod, servicesOf(context, pod), known, () => options.runtime.freePort());
  const annotations = annotationsOf(ports);
  if (known === undefined || JSON.stringify(annotationsOf(known)) !== JSON.stringify(annotations))
    void annotate(context, pod, annotations);
  return ports;
}

const annotateRetryMs = 200;
const annotateTriesMax = 50;

async function annotate(context: NodeContext, pod: Pod, annotations: Record<string, string>): Promise<void> {
  const { client, clock, log } = context.options;
  const { namespace, name, uid } = pod.metadata;
  for (let i = 0; i < annotateTriesMax; i++) {
    try {
      await client.patch(pods, namespace, name, { metadata: { uid, annotations } });
      return;
    } catch (error) {
      if ((error as { status?: number }).status !== undefined) return; // refused: deleted or replaced
      log.debug("ports not published", { pod: name, error: messageOf(error) });
      await clock.sleep(annotateRetryMs);
    }
  }
}

/** Removes what the pod had on disk. */
export function forgetPod(context: NodeContext, pod: Pod): void {
  context.addresses.release(pod.metadata.uid);
  rmSync(podDir(context, pod), { recursive: true, force: true });
  rmSync(podLogDir(context, pod), { recursive: true, force: true });
}
