// Which pods are endpoints of a Service, on which ports, in which condition: shared by EndpointSlices and Endpoints.

import { matchesMap } from "../api/selectors.ts";
import type { EndpointSlice, Node, Pod, Service } from "../api/types.ts";
import { isFinished, isReady } from "./pods.ts";

export type SlicePort = NonNullable<EndpointSlice["ports"]>[number];
export type SliceEndpoint = NonNullable<EndpointSlice["endpoints"]>[number];

/** In `ports` mode: container port → port the process really listens on. */
const portsAnnotation = "meshbed.io/ports";

/** Endpoints that share one set of ports. */
export interface PortGroup {
  ports: SlicePort[];
  members: { pod: Pod; ip: string; ready: boolean; serving: boolean; terminating: boolean }[];
}

/** Whether the endpoints of this Service are ours to manage: it selects pods and is not a mere DNS alias. */
export function hasManagedEndpoints(service: Service): boolean {
  const selector = service.spec?.selector;
  return service.spec?.type !== "ExternalName" && selector !== undefined && Object.keys(selector).length > 0;
}

/** A service port as this pod serves it, or undefined when the pod has no such (named) port. */
function podPort(pod: Pod, targetPort: string | number | undefined, port: number): number | undefined {
  let number: number | undefined;
  if (targetPort === undefined || targetPort === "") number = port;
  else if (typeof targetPort === "number" || /^\d+$/.test(targetPort)) number = Number(targetPort);
  else {
    const containers = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])];
    number = containers.flatMap((c) => c.ports ?? []).find((candidate) => candidate.name === targetPort)?.containerPort;
  }
  if (number === undefined) return undefined;
  return realPorts(pod)?.[String(number)] ?? number;
}

function realPorts(pod: Pod): Record<string, number> | undefined {
  const text = pod.metadata.annotations?.[portsAnnotation];
  if (text === undefined) return undefined;
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null ? (parsed as Record<string, number>) : undefined;
  } catch {
    return undefined; // the kubelet will write it again
  }
}

/** The pods behind a Service, grouped by the ports they serve it on, each group in the order of pod names. */
export function portGroups(service: Service, pods: readonly Pod[]): PortGroup[] {
  const groups = new Map<string, PortGroup>();
  const publish = service.spec?.publishNotReadyAddresses === true;
  const sorted = [...pods].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  for (const pod of sorted) {
    const ip = pod.status?.podIP;
    if (!ip || isFinished(pod) || !matchesMap(service.spec?.selector, pod.metadata.labels)) continue;
    const ports: SlicePort[] = [];
    for (const { name, port, protocol, targetPort, appProtocol } of service.spec?.ports ?? []) {
      const number = podPort(pod, targetPort, port);
      if (number === undefined) continue;
      ports.push({ name: name ?? "", port: number, protocol: protocol ?? "TCP", ...(appProtocol && { appProtocol }) });
    }
    const key = JSON.stringify(ports);
    const group = groups.get(key) ?? { ports, members: [] };
    groups.set(key, group);
    const serving = isReady(pod);
    const terminating = pod.metadata.deletionTimestamp !== undefined;
    group.members.push({ pod, ip, serving, terminating, ready: publish || (serving && !terminating) });
  }
  return [...groups.values()];
}

/** discovery.k8s.io/v1 Endpoint. */
export function endpointOf(member: PortGroup["members"][number], node: Node | undefined): SliceEndpoint {
  const { pod, ip, ready, serving, terminating } = member;
  const zone = node?.metadata.labels?.["topology.kubernetes.io/zone"];
  return {
    addresses: [ip],
    conditions: { ready, serving, terminating },
    ...(pod.spec?.hostname && pod.spec.subdomain && { hostname: pod.spec.hostname }),
    ...(pod.spec?.nodeName && { nodeName: pod.spec.nodeName }),
    ...(zone && { zone }),
    targetRef: { kind: "Pod", name: pod.metadata.name, namespace: pod.metadata.namespace!, uid: pod.metadata.uid },
  };
}
