// ports mode: the free ports a pod gets, the annotations that publish them, and what its containers see of them.

import type { Pod, Service } from "../api/types.ts";
import type { ServiceAddress } from "./service-env.ts";

export const portAnnotations = {
  ports: "meshbed.io/ports",
  tunnelPort: "meshbed.io/tunnel-port",
  servicePorts: "meshbed.io/service-ports",
} as const;

export interface PodPorts {
  /** Container port → the port the process was given. */
  ports: Record<string, number>;
  tunnelPort: number;
  /** "namespace/service:port" → listener of this pod's virtual sidecar. */
  servicePorts: Record<string, number>;
}

const loopback = "127.0.0.1";

const servicePortKey = (service: Service, port: number): string =>
  `${service.metadata.namespace}/${service.metadata.name}:${port}`;

/** Adds what is missing to `known` and keeps what it has: a restarted container finds its ports again. */
export async function allocatePorts(
  pod: Pod,
  services: readonly Service[],
  known: PodPorts | undefined,
  freePort: () => Promise<number>,
): Promise<PodPorts> {
  const ports = { ...known?.ports };
  for (const container of pod.spec?.containers ?? [])
    for (const { containerPort } of container.ports ?? []) ports[containerPort] ??= await freePort();
  const servicePorts = { ...known?.servicePorts };
  for (const service of services)
    for (const { port } of service.spec?.ports ?? []) servicePorts[servicePortKey(service, port)] ??= await freePort();
  return { ports, servicePorts, tunnelPort: known?.tunnelPort ?? (await freePort()) };
}

export const annotationsOf = ({ ports, tunnelPort, servicePorts }: PodPorts): Record<string, string> => ({
  [portAnnotations.ports]: JSON.stringify(ports),
  [portAnnotations.tunnelPort]: String(tunnelPort),
  [portAnnotations.servicePorts]: JSON.stringify(servicePorts),
});

export function listenerAddress({ servicePorts }: PodPorts): ServiceAddress {
  return (service, port) => ({ host: loopback, port: servicePorts[servicePortKey(service, port)] ?? port });
}

/** $PORT: the container's own first port, or the pod's when it declares none. */
export function portOfContainer(
  container: { ports?: { containerPort: number }[] },
  { ports }: PodPorts,
): number | undefined {
  const first = container.ports?.[0]?.containerPort;
  return first === undefined ? Object.values(ports)[0] : ports[first];
}

/** Probes and hooks name a container port by number or by name. */
export function resolvePort(pod: Pod, port: number | string, ports: PodPorts | undefined): number {
  let number = Number(port);
  if (!Number.isInteger(number)) {
    const declared = (pod.spec?.containers ?? [])
      .flatMap((container) => container.ports ?? [])
      .find((candidate) => candidate.name === port);
    if (declared === undefined) throw new Error(`couldn't find port: ${port}`);
    number = declared.containerPort;
  }
  return ports?.ports[number] ?? number;
}
