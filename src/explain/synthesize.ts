// What a cluster would make of plain manifests: namespaces, addresses, pods of workloads, endpoints of services, a gateway to enter by.

import { deploymentName, gatewayNameLabel, isDeployed, isOurs } from "../api/gateway-classes.ts";
import type { KubeObject } from "../api/object.ts";
import { matchesMap } from "../api/selectors.ts";
import type { EndpointSlice, Gateway, GatewayClass, KubernetesGateway, Pod, Service } from "../api/types.ts";

/** Pods made up for one workload, whatever its replicas say. */
const podsMax = 20;
const someTime = "2026-01-01T00:00:00Z";
const rootNamespace = "istio-system";

interface PodTemplate {
  metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
  spec?: Pod["spec"];
}
interface WorkloadObject extends KubeObject {
  spec?: { replicas?: number; template?: PodTemplate };
}

const workloadKinds: ReadonlySet<string> = new Set(["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"]);

export function synthesize(given: readonly KubeObject[]): { objects: KubeObject[]; notes: string[] } {
  const notes: string[] = [];
  const of = <T extends KubeObject>(kind: string): T[] => given.filter((object) => object.kind === kind) as T[];
  const services = of<Service & KubeObject>("Service");
  addressServices(services);
  const workloads = given.filter(({ kind }) => workloadKinds.has(kind)) as WorkloadObject[];
  const pods = [...of<Pod & KubeObject>("Pod"), ...workloads.flatMap(podsOf)];
  const gateways = of<Gateway & KubeObject>("Gateway").filter(({ apiVersion }) =>
    apiVersion.startsWith("networking.istio.io"),
  );
  pods.push(...gatewayPods(gateways, pods, notes));
  const deployed = deployedGateways(of<KubernetesGateway & KubeObject>("Gateway"), of("GatewayClass"), pods);
  pods.push(...deployed.pods);
  addressServices(deployed.services);
  services.push(...deployed.services);
  addressPods(pods);
  const endpoints = of<EndpointSlice & KubeObject>("EndpointSlice");
  const slices = services.flatMap((service) =>
    endpoints.some((slice) => isOf(slice, service)) ? [] : (sliceOf(service, pods) ?? []),
  );
  const others = given.filter(({ kind }) => kind !== "Pod");
  const objects = [...others, ...deployed.services, ...pods, ...slices] as KubeObject[];
  return { objects: [...objects, ...namespacesOf(objects)], notes };
}

const isOf = ({ metadata }: EndpointSlice, service: Service): boolean =>
  metadata.namespace === service.metadata.namespace &&
  metadata.labels?.["kubernetes.io/service-name"] === service.metadata.name;

/** Mentioned, but not among the files: they carry no labels. */
function namespacesOf(objects: readonly KubeObject[]): KubeObject[] {
  const known = new Set(objects.filter(({ kind }) => kind === "Namespace").map(({ metadata }) => metadata.name));
  const used = new Set([rootNamespace, "default", ...objects.flatMap(({ metadata }) => metadata.namespace ?? [])]);
  return [...used].filter((name) => !known.has(name)).map((name) => objectOf("v1", "Namespace", undefined, name, {}));
}

function objectOf(
  apiVersion: string,
  kind: string,
  namespace: string | undefined,
  name: string,
  fields: Record<string, unknown>,
): KubeObject {
  const metadata = { name, uid: `${kind}/${namespace}/${name}`, creationTimestamp: someTime, resourceVersion: "1" };
  const { metadata: more, ...rest } = fields as { metadata?: object };
  return {
    apiVersion,
    kind,
    metadata: { ...metadata, ...(namespace !== undefined && { namespace }), ...more },
    ...rest,
  };
}

function addressServices(services: readonly Service[]): void {
  const taken = new Set(services.map(({ spec }) => spec?.clusterIP));
  let next = 20;
  for (const { spec } of services) {
    if (spec === undefined || spec.type === "ExternalName" || spec.clusterIP) continue;
    let address: string;
    do address = `10.96.${next >> 8}.${next++ & 255}`;
    while (taken.has(address));
    spec.clusterIP = address;
    spec.clusterIPs = [address];
  }
}

function addressPods(pods: readonly Pod[]): void {
  let next = 2;
  for (const pod of pods) {
    if (pod.status?.podIP) continue;
    const address = pod.spec?.hostNetwork ? `172.20.${next >> 8}.${next & 255}` : `10.244.${next >> 8}.${next & 255}`;
    next++;
    pod.status = { ...pod.status, phase: "Running", podIP: address };
  }
}

/** "web" → pods web-1, web-2, …: as many as it asks for. */
function podsOf(workload: WorkloadObject): (Pod & KubeObject)[] {
  const { metadata, spec, kind, apiVersion } = workload;
  const template = spec?.template;
  const count = Math.min(kind === "DaemonSet" ? 1 : (spec?.replicas ?? 1), podsMax);
  const first = kind === "StatefulSet" ? 0 : 1;
  return Array.from({ length: count }, (_, index) => {
    const owner = { apiVersion, kind, name: metadata.name, uid: metadata.uid, controller: true };
    return objectOf("v1", "Pod", metadata.namespace, `${metadata.name}-${first + index}`, {
      metadata: {
        labels: template?.metadata?.labels ?? {},
        annotations: template?.metadata?.annotations ?? {},
        ownerReferences: [owner],
      },
      spec: { ...template?.spec, containers: template?.spec?.containers ?? [] },
    }) as Pod & KubeObject;
  });
}

/** A Gateway whose selector fits no pod gets one: whoever explains routes need not have the gateway's Deployment at hand. */
function gatewayPods(gateways: readonly Gateway[], pods: readonly Pod[], notes: string[]): (Pod & KubeObject)[] {
  const made: (Pod & KubeObject)[] = [];
  for (const gateway of gateways) {
    const labels = gateway.spec?.selector;
    if (labels === undefined || Object.keys(labels).length === 0) continue;
    if ([...pods, ...made].some(({ metadata }) => matchesMap(labels, metadata.labels ?? {}))) continue;
    const name = Object.values(labels)[0]!;
    notes.push(
      `no pod carries the labels of Gateway ${gateway.metadata.namespace}/${gateway.metadata.name}; a gateway pod "${name}" is assumed`,
    );
    made.push(
      objectOf("v1", "Pod", rootNamespace, name, {
        metadata: { labels },
        spec: { hostNetwork: true, serviceAccountName: name, containers: [{ name: "istio-proxy", image: "auto" }] },
      }) as Pod & KubeObject,
    );
  }
  return made;
}

/** What the controller of the Gateway API would deploy for each Gateway. */
function deployedGateways(
  gateways: readonly KubernetesGateway[],
  classes: readonly GatewayClass[],
  pods: readonly Pod[],
): { pods: (Pod & KubeObject)[]; services: (Service & KubeObject)[] } {
  const made = { pods: [] as (Pod & KubeObject)[], services: [] as (Service & KubeObject)[] };
  for (const gateway of gateways) {
    if (!gateway.apiVersion.startsWith("gateway.networking.k8s.io/") || !isOurs(gateway, classes)) continue;
    const { namespace, name } = gateway.metadata;
    const labels = { ...gateway.metadata.labels, [gatewayNameLabel]: name };
    const isThere = pods.some(
      (pod) => pod.metadata.namespace === namespace && matchesMap(labels, pod.metadata.labels ?? {}),
    );
    if (isThere || !isDeployed(gateway)) continue;
    const own = deploymentName(gateway);
    const containers = [{ name: "istio-proxy", image: "auto" }];
    const numbers = [...new Set(gateway.spec.listeners.map(({ port }) => port))];
    const ports = numbers.map((port) => ({ name: `port-${port}`, port, targetPort: port }));
    const selector = { [gatewayNameLabel]: name };
    const pod = { metadata: { labels }, spec: { serviceAccountName: own, containers } };
    made.pods.push(objectOf("v1", "Pod", namespace, own, pod) as Pod & KubeObject);
    const service = { metadata: { labels }, spec: { type: "LoadBalancer", selector, ports } };
    made.services.push(objectOf("v1", "Service", namespace, own, service) as Service & KubeObject);
  }
  return made;
}

function sliceOf(service: Service, pods: readonly Pod[]): (EndpointSlice & KubeObject) | undefined {
  const { selector, ports = [] } = service.spec ?? {};
  const { name, namespace } = service.metadata;
  if (selector === undefined || Object.keys(selector).length === 0) return undefined;
  const members = pods.filter(
    ({ metadata }) => metadata.namespace === namespace && matchesMap(selector, metadata.labels ?? {}),
  );
  const numbers = ports.map(({ targetPort, port }) => {
    if (typeof targetPort !== "string") return targetPort ?? port;
    const containers = members.flatMap(({ spec }) => spec?.containers ?? []);
    return containers.flatMap((one) => one.ports ?? []).find((one) => one.name === targetPort)?.containerPort;
  });
  return objectOf("discovery.k8s.io/v1", "EndpointSlice", namespace, `${name}-1`, {
    metadata: { labels: { "kubernetes.io/service-name": name } },
    addressType: "IPv4",
    ports: ports.flatMap(({ name: portName = "" }, index) =>
      numbers[index] === undefined ? [] : [{ name: portName, port: numbers[index], protocol: "TCP" }],
    ),
    endpoints: members.map((pod) => ({
      addresses: [pod.status!.podIP!],
      conditions: { ready: true },
      targetRef: { kind: "Pod", name: pod.metadata.name, namespace },
      ...(pod.spec?.nodeName && { nodeName: pod.spec.nodeName }),
    })),
  }) as EndpointSlice & KubeObject;
}
