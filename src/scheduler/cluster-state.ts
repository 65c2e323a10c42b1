// What the scheduler knows of the cluster: nodes with what their pods use, kept current pod by pod.

import { keyOf } from "../api/object.ts";
import { quantityMilli, quantityValue } from "../api/quantity.ts";
import type { Node, Pod } from "../api/types.ts";

/** CPU in thousandths of a core, memory in bytes, other resources (extended, ephemeral storage) in their own unit. */
export interface Requests {
  cpuMilli: number;
  memoryBytes: number;
  other: ReadonlyMap<string, number>;
}

export interface HostPort {
  protocol: string;
  /** "0.0.0.0" stands for all addresses. */
  ip: string;
  port: number;
}

/** A pod placed on a node, with what was computed once from its spec. */
export interface PlacedPod {
  pod: Pod;
  requests: Requests;
  ports: readonly HostPort[];
}

export interface NodeState {
  node: Node;
  pods: Map<string, PlacedPod>;
  usedCpuMilli: number;
  usedMemoryBytes: number;
  usedOther: Map<string, number>;
}

type Container = NonNullable<Pod["spec"]>["containers"][number];

/** A pod's requests: the larger of all containers together and the largest init container, plus sidecars and overhead. */
export function requestsOf(pod: Pod): Requests {
  const { containers = [], initContainers = [], overhead = {} } = pod.spec ?? {};
  const total = new Map<string, number>();
  const add = (name: string, value: number) => total.set(name, (total.get(name) ?? 0) + value);
  for (const container of containers) for (const [name, value] of requested(container)) add(name, value);
  const sidecars = new Map<string, number>();
  const peaks = new Map<string, number>();
  for (const container of initContainers) {
    const isSidecar = container.restartPolicy === "Always";
    for (const [name, value] of requested(container)) {
      const running = sidecars.get(name) ?? 0;
      peaks.set(name, Math.max(peaks.get(name) ?? 0, running + value));
      if (isSidecar) sidecars.set(name, running + value);
    }
  }
  for (const [name, value] of sidecars) add(name, value);
  for (const [name, peak] of peaks) total.set(name, Math.max(total.get(name) ?? 0, peak));
  for (const [name, text] of Object.entries(overhead)) add(name, amount(name, text));
  const cpuMilli = total.get("cpu") ?? 0;
  const memoryBytes = total.get("memory") ?? 0;
  total.delete("cpu");
  total.delete("memory");
  return { cpuMilli, memoryBytes, other: total };
}

const requested = (container: Container): [string, number][] =>
  Object.entries({ ...container.resources?.limits, ...container.resources?.requests }).map(([name, text]) => [
    name,
    amount(name, text),
  ]);

export const amount = (name: string, text: string | number): number =>
  name === "cpu" ? quantityMilli(text) : quantityValue(text);

export function hostPortsOf(pod: Pod): HostPort[] {
  const ports: HostPort[] = [];
  for (const container of [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])])
    for (const { hostPort, containerPort, protocol, hostIP } of container.ports ?? []) {
      const port = hostPort || (pod.spec?.hostNetwork === true ? containerPort : 0);
      if (port) ports.push({ protocol: protocol ?? "TCP", ip: hostIP || "0.0.0.0", port });
    }
  return ports;
}

/** Finished pods hold nothing any more; terminating ones still do. */
const holdsResources = (pod: Pod) => pod.status?.phase !== "Succeeded" && pod.status?.phase !== "Failed";

/** Bounded by the caches it is fed from. */
export class ClusterState {
  readonly #nodes = new Map<string, NodeState>();
  /** Where a pod is, by key: bound, or assumed while its binding is on the way. */
  readonly #places = new Map<string, string>();
  /** Pods on nodes that are not known (yet), by node. */
  readonly #strays = new Map<string, Map<string, PlacedPod>>();

  get nodes(): readonly NodeState[] {
    return [...this.#nodes.values()];
  }
  /** Every placed pod of the cluster. */
  *placed(): Iterable<PlacedPod & { node: Node }> {
    for (const { node, pods } of this.#nodes.values()) for (const placed of pods.values()) yield { ...placed, node };
  }

  setNode(node: Node): void {
    const { name } = node.metadata;
    const state = this.#nodes.get(name);
    if (state !== undefined) {
      state.node = node;
      return;
    }
    const fresh: NodeState = { node, pods: new Map(), usedCpuMilli: 0, usedMemoryBytes: 0, usedOther: new Map() };
    this.#nodes.set(name, fresh);
    for (const [key, placed] of this.#strays.get(name) ?? []) occupy(fresh, key, placed, 1);
    this.#strays.delete(name);
  }

  removeNode(name: string): void {
    const state = this.#nodes.get(name);
    if (state === undefined) return;
    this.#nodes.delete(name);
    if (state.pods.size > 0) this.#strays.set(name, new Map(state.pods));
  }

  isPlaced(key: string): boolean {
    return this.#places.has(key);
  }

  /** The pod is, or is assumed to be, on this node. */
  place(pod: Pod, nodeName: string): void {
    const key = keyOf(pod);
    this.remove(key);
    if (!holdsResources(pod)) return;
    const placed = { pod, requests: requestsOf(pod), ports: hostPortsOf(pod) };
    this.#places.set(key, nodeName);
    const state = this.#nodes.get(nodeName);
    if (state !== undefined) occupy(state, key, placed, 1);
    else {
      const strays = this.#strays.get(nodeName) ?? new Map<string, PlacedPod>();
      this.#strays.set(nodeName, strays.set(key, placed));
    }
  }

  remove(key: string): void {
    const nodeName = this.#places.get(key);
    if (nodeName === undefined) return;
    this.#places.delete(key);
    const state = this.#nodes.get(nodeName);
    const placed = state?.pods.get(key);
    if (state !== undefined && placed !== undefined) occupy(state, key, placed, -1);
    const strays = this.#strays.get(nodeName);
    strays?.delete(key);
    if (strays?.size === 0) this.#strays.delete(nodeName);
  }
}

function occupy(state: NodeState, key: string, placed: PlacedPod, sign: 1 | -1): void {
  if (sign > 0) state.pods.set(key, placed);
  else state.pods.delete(key);
  state.usedCpuMilli += sign * placed.requests.cpuMilli;
  state.usedMemoryBytes += sign * placed.requests.memoryBytes;
  for (const [name, value] of placed.requests.other)
    state.usedOther.set(name, (state.usedOther.get(name) ?? 0) + sign * value);
}
