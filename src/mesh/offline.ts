// Plain manifests → what a cluster that runs them would hold: namespaces, a node, pods of workloads, service IPs, endpoint slices. Pure.

import { type KubeObject, keyOf, type ObjectMeta } from "../api/object.ts";
import { labelSelectorOf, matchesLabels, matchesMap } from "../api/selectors.ts";

/** Of one workload as many pods are made up, however many replicas it wants. */
const podsPerWorkloadMax = 16;
/** Made-up addresses, 10.244.100.2 and up, have room for these. */
const podsMax = 38_000;

/** A manifest may lack what the API server fills in. */
export interface Manifested {
  apiVersion: string;
  kind: string;
  metadata: Partial<ObjectMeta> & { name: string };
  [field: string]: unknown;
}

interface Template {
  metadata?: Partial<ObjectMeta>;
  spec?: PodSpec;
}
interface PodSpec {
  hostNetwork?: boolean;
  nodeName?: string;
  containers?: { name?: string; image?: string; ports?: { name?: string; containerPort: number }[] }[];
}
interface WorkloadSpec {
  replicas?: number;
  selector?: Parameters<typeof labelSelectorOf>[0];
  template?: Template;
}
interface ServiceSpec {
  type?: string;
  clusterIP?: string;
  selector?: Record<string, string>;
  ports?: { name?: string; port: number; targetPort?: number | string; protocol?: string }[];
}

const workloadKinds = new Set(["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"]);
const clusterScoped = new Set(["Namespace", "Node", "PersistentVolume", "StorageClass", "GatewayClass"]);
const nodeName = "node1";

/** What the objects would be in a cluster: every object with uid and age, and those that controllers make from them. */
export function completeCluster(manifests: readonly Manifested[]): KubeObject[] {
  const objects = manifests.map(stored);
  const has = (kind: string, key: string): boolean => known.has(`${kind}/${key}`);
  const known = new Set(objects.map((object) => `${object.kind}/${keyOf(object)}`));
  const made: KubeObject[] = [];
  const add = (object: Manifested): KubeObject => {
    const complete = stored(object);
    made.push(complete);
    known.add(`${complete.kind}/${keyOf(complete)}`);
    return complete;
  };
  for (const name of new Set(["default", ...objects.flatMap(({ metadata }) => metadata.namespace ?? [])]))
    if (!has("Namespace", name)) add({ apiVersion: "v1", kind: "Namespace", metadata: { name } });
  if (!objects.some(({ kind }) => kind === "Node"))
    add({ apiVersion: "v1", kind: "Node", metadata: { name: nodeName } });
  const pods = objects.filter(({ kind }) => kind === "Pod").map((pod, index) => running(pod, index));
  for (const owner of objects) if (workloadKinds.has(owner.kind)) for (const pod of podsOf(owner, pods)) pods.push(pod);
  const services = objects.filter(({ kind }) => kind === "Service").map(addressed);
  const podsByLabel = indexLabels(pods);
  const sliced = new Set(
    objects.flatMap(({ kind, metadata }) =>
      kind === "EndpointSlice" ? `${metadata.namespace}/${metadata.labels?.["kubernetes.io/service-name"]}` : [],
    ),
  );
  for (const service of services)
    if (!sliced.has(keyOf(service))) for (const slice of slicesOf(service, podsByLabel)) add(slice);
  const replaced = new Set(["Pod", "Service"]);
  return [...objects.filter(({ kind }) => !replaced.has(kind)), ...made, ...pods, ...services];
}

/** With uid, age and, where the kind has one, namespace; those given stay. */
export function stored(object: Manifested): KubeObject {
  const { metadata } = object;
  const namespace = clusterScoped.has(object.kind) ? undefined : (metadata.namespace ?? "default");
  const own = { ...metadata, ...(namespace !== undefined && { namespace }) };
  return {
    ...object,
    metadata: {
      uid: `${object.kind}/${namespace ?? ""}/${metadata.name}`,
      resourceVersion: "1",
      generation: 1,
      creationTimestamp: "2026-01-01T00:00:00Z",
      ...own,
    },
  } as KubeObject;
}

function running(pod: KubeObject, index: number): KubeObject {
  const status = pod["status"] as { podIP?: string } | undefined;
  if (status?.podIP) return pod;
  const spec: PodSpec = { nodeName, ...(pod["spec"] as object) };
  const network = spec.hostNetwork ? "172.20" : "10.244";
  const podIP = `${network}.${100 + Math.floor(index / 250)}.${(index % 250) + 2}`;
  return {
    ...pod,
    spec,
    status: { phase: "Running", podIP, podIPs: [{ ip: podIP }], conditions: [{ type: "Ready", status: "True" }] },
  };
}

/** Pods of a workload that has none yet. */
function podsOf(owner: KubeObject, pods: readonly KubeObject[]): KubeObject[] {
  const { replicas = 1, template, selector } = (owner["spec"] ?? {}) as WorkloadSpec;
  const labels = template?.metadata?.labels ?? {};
  const wanted = labelSelectorOf(selector) ?? [];
  const { namespace, name } = owner.metadata;
  const isOwn = (pod: KubeObject): boolean =>
    pod.metadata.namespace === namespace && wanted.length > 0 && matchesLabels(wanted, pod.metadata.labels ?? {});
  if (template === undefined || pods.length >= podsMax || pods.some(isOwn)) return [];
  const first = owner.kind === "StatefulSet" ? 0 : 1;
  // A Deployment's pods say so through the ReplicaSet between.
  const hash = Bun.hash(`${namespace}/${name}`).toString(36).slice(0, 8);
  const isDeployment = owner.kind === "Deployment";
  const controller = {
    apiVersion: "apps/v1",
    kind: isDeployment ? "ReplicaSet" : owner.kind,
    name: isDeployment ? `${name}-${hash}` : name,
    uid: owner.metadata.uid,
    controller: true,
  };
  return Array.from({ length: Math.min(replicas, podsPerWorkloadMax) }, (_, index) =>
    running(
      stored({
        apiVersion: "v1",
        kind: "Pod",
        metadata: {
          ...template.metadata,
          // Without the hash: people name these pods and read their names.
          name: `${name}-${first + index}`,
          ...(namespace !== undefined && { namespace }),
          labels: { ...labels, ...(isDeployment && { "pod-template-hash": hash }) },
          ownerReferences: [controller],
        },
        spec: template.spec ?? {},
      }),
      pods.length + index,
    ),
  );
}

function addressed(service: KubeObject, index: number): KubeObject {
  const spec = (service["spec"] ?? {}) as ServiceSpec;
  if (spec.clusterIP || spec.type === "ExternalName") return service;
  const clusterIP = `10.96.${100 + Math.floor(index / 250)}.${(index % 250) + 1}`;
  return { ...service, spec: { ...spec, clusterIP, clusterIPs: [clusterIP] } };
}

/** "shop app=cart" → pods */
function indexLabels(pods: readonly KubeObject[]): ReadonlyMap<string, KubeObject[]> {
  const index = new Map<string, KubeObject[]>();
  for (const pod of pods)
    for (const [name, value] of Object.entries(pod.metadata.labels ?? {})) {
      const key = `${pod.metadata.namespace} ${name}=${value}`;
      const list = index.get(key);
      if (list === undefined) index.set(key, [pod]);
      else list.push(pod);
    }
  return index;
}

/** One slice per set of pods with the same port numbers, as the endpointslice controller does for named target ports. */
function slicesOf(service: KubeObject, podsByLabel: ReadonlyMap<string, KubeObject[]>): Manifested[] {
  const { selector, ports = [] } = (service["spec"] ?? {}) as ServiceSpec;
  const [first] = Object.entries(selector ?? {});
  if (first === undefined) return [];
  const { namespace = "default", name } = service.metadata;
  const pods = podsByLabel.get(`${namespace} ${first[0]}=${first[1]}`) ?? [];
  const groups = new Map<string, { ports: object[]; endpoints: object[] }>();
  for (const pod of pods) {
    if (!matchesMap(selector, pod.metadata.labels ?? {})) continue;
    const own = ports.map((each) => ({
      name: each.name ?? "",
      protocol: each.protocol ?? "TCP",
      port: numberOf(pod, each.targetPort ?? each.port),
    }));
    const key = JSON.stringify(own);
    const group = groups.get(key) ?? { ports: own.filter(({ port }) => port !== undefined), endpoints: [] };
    groups.set(key, group);
    group.endpoints.push({
      addresses: [(pod["status"] as { podIP: string }).podIP],
      nodeName: (pod["spec"] as PodSpec).nodeName ?? nodeName,
      conditions: { ready: true, serving: true, terminating: false },
      targetRef: { kind: "Pod", name: pod.metadata.name, namespace, uid: pod.metadata.uid },
    });
  }
  return [...groups.values()].map((group, index) => ({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: `${name}-${index + 1}`, namespace, labels: { "kubernetes.io/service-name": name } },
    addressType: "IPv4",
    ...group,
  }));
}

function numberOf(pod: KubeObject, targetPort: number | string): number | undefined {
  if (typeof targetPort === "number") return targetPort;
  for (const { ports } of (pod["spec"] as PodSpec).containers ?? [])
    for (const { name, containerPort } of ports ?? []) if (name === targetPort) return containerPort;
  return /^\d+$/.test(targetPort) ? Number(targetPort) : undefined;
}
