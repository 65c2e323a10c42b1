// A node's agent that only pretends: registers, renews its lease, reports pods running and gone. For simulations without processes.

import { keyOf } from "../api/object.ts";
import { leases, nodes, pods } from "../api/resources.ts";
import type { Pod } from "../api/types.ts";
import { createInformer } from "../client/informer.ts";
import { type Client, isAlreadyExists, isConflict, isNotFound } from "../client/types.ts";
import { type Cancel, type Clock, microTimestamp, timestamp } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import type { Random } from "../kernel/random.ts";

export interface PretendKubeletOptions {
  client: Client;
  clock: Clock;
  random: Random;
  log: Log;
  name: string;
  /** Of the node; pods get addresses below podPrefix. */
  ip: string;
  /** First three numbers of pod addresses: "10.244.1". */
  podPrefix: string;
  labels?: Record<string, string>;
  /** Time a pod takes to become ready, and to end after its deletion; each at random up to this. */
  readyMsMax: number;
  stopMsMax: number;
  /** An image with this name never becomes ready. */
  brokenImage?: string;
}

export interface PretendKubelet {
  readonly name: string;
  /** As kill -9: no more leases, no more reports. */
  kill(): void;
}

const leasePeriodMs = 1_000;

/** Registers the node, or takes over its registration. */
export async function startPretendKubelet(options: PretendKubeletOptions): Promise<PretendKubelet> {
  const { client, clock, random, log, name } = options;
  await register(options);
  let alive = true;
  let address = 1;
  const timers = new Map<string, Cancel>();
  const informer = createInformer({ client, clock, random, log }, pods, { fieldSelector: `spec.nodeName=${name}` });
  const stopLease = clock.every(leasePeriodMs, () => void renew(options).catch(() => {}));

  const arm = (pod: Pod, delayMsMax: number, act: (current: Pod) => Promise<unknown>) => {
    const key = `${pod.metadata.uid}/${pod.metadata.deletionTimestamp === undefined ? "start" : "stop"}`;
    if (timers.has(key)) return;
    const run = () => {
      timers.delete(key);
      const current = informer.get(keyOf(pod));
      if (!alive || current?.metadata.uid !== pod.metadata.uid) return;
      act(current).catch((error) => {
        if (isNotFound(error) || isConflict(error)) return;
        timers.set(key, clock.after(100, run));
      });
    };
    timers.set(key, clock.after(random.next() * delayMsMax, run));
  };
  const stop = ({ metadata: { namespace, name: podName, uid } }: Pod) =>
    client.delete(pods, namespace, podName, { uid, gracePeriodSeconds: 0 });
  const start = async ({ metadata: { namespace, name: podName, deletionTimestamp }, spec }: Pod) => {
    if (deletionTimestamp !== undefined || spec?.containers[0]?.image === options.brokenImage) return;
    address = (address % 250) + 2;
    const podIP = spec?.hostNetwork === true ? options.ip : `${options.podPrefix}.${address}`;
    const now = timestamp(clock);
    const conditions = ["Initialized", "PodScheduled", "ContainersReady", "Ready"].map((type) => ({
      type,
      status: "True",
      lastTransitionTime: now,
    }));
    const status = { phase: "Running", podIP, hostIP: options.ip, startTime: now, conditions };
    await client.patch(pods, namespace, podName, { status }, { subresource: "status" });
  };
  informer.onChange((current) => {
    if (!alive || current === undefined) return;
    const ready = current.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True");
    if (current.metadata.deletionTimestamp !== undefined) arm(current, options.stopMsMax, stop);
    else if (ready !== true) arm(current, options.readyMsMax, start);
  });
  await informer.synced;
  return {
    name,
    kill() {
      alive = false;
      stopLease();
      informer.stop();
      for (const cancel of timers.values()) cancel();
    },
  };
}

async function register(options: PretendKubeletOptions): Promise<void> {
  const { client, clock, name, ip } = options;
  const now = timestamp(clock);
  const capacity = { cpu: "4", memory: "8Gi", pods: "110" };
  const status = {
    capacity,
    allocatable: capacity,
    addresses: [{ type: "InternalIP", address: ip }],
    conditions: [
      {
        type: "Ready",
        status: "True",
        reason: "KubeletReady",
        message: "kubelet is posting ready status",
        lastTransitionTime: now,
      },
    ],
  };
  const labels = { "kubernetes.io/hostname": name, ...options.labels };
  try {
    await client.create(nodes, { apiVersion: "v1", kind: "Node", metadata: { name, labels }, status } as never);
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    await client.patch(nodes, undefined, name, { status }, { subresource: "status" });
  }
  await renew(options);
}

async function renew({ client, clock, name }: PretendKubeletOptions): Promise<void> {
  const spec = { holderIdentity: name, leaseDurationSeconds: 40, renewTime: microTimestamp(clock) };
  const namespace = "kube-node-lease";
  try {
    await client.patch(leases, namespace, name, { spec });
  } catch (error) {
    if (!isNotFound(error)) throw error;
    await client.create(leases, {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name, namespace },
      spec,
    });
  }
}
