// FOO_SERVICE_HOST, FOO_SERVICE_PORT and Docker's link variables for the services a pod sees (kubelet envvars.FromServices). Pure.

import type { Service } from "../api/types.ts";

/** Where a pod reaches a service port; ports mode answers its own listener. */
export type ServiceAddress = (service: Service, port: number) => { host: string; port: number };

export const clusterIpAddress: ServiceAddress = (service, port) => ({ host: service.spec?.clusterIP ?? "", port });

export const hasClusterIp = ({ spec }: Service): boolean =>
  spec?.type !== "ExternalName" && spec?.clusterIP !== undefined && spec.clusterIP !== "" && spec.clusterIP !== "None";

/**
 * The services whose variables a pod in `namespace` gets: those of its namespace (when enableServiceLinks) and always
 * default/kubernetes; a service of the same name in the pod's own namespace wins.
 */
export function visibleServices(services: readonly Service[], namespace: string, links: boolean): Service[] {
  const byName = new Map<string, Service>();
  for (const service of services) {
    const { name, namespace: home } = service.metadata;
    if (!hasClusterIp(service)) continue;
    const isMaster = home === "default" && name === "kubernetes";
    if (home === namespace && (links || isMaster)) byName.set(name, service);
    else if (isMaster && !byName.has(name)) byName.set(name, service);
  }
  return [...byName.values()].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}

const upper = (name: string): string => name.toUpperCase().replaceAll("-", "_");

export function serviceEnv(services: readonly Service[], addressOf: ServiceAddress): Record<string, string> {
  const env: Record<string, string> = {};
  for (const service of services) {
    const prefix = upper(service.metadata.name);
    const ports = service.spec?.ports ?? [];
    const first = ports[0];
    if (first === undefined) continue;
    const firstAddress = addressOf(service, first.port);
    env[`${prefix}_SERVICE_HOST`] = firstAddress.host;
    env[`${prefix}_SERVICE_PORT`] = String(firstAddress.port);
    for (const { name, port } of ports)
      if (name !== undefined && name !== "")
        env[`${prefix}_SERVICE_PORT_${upper(name)}`] = String(addressOf(service, port).port);
    env[`${prefix}_PORT`] = urlOf(first.protocol, firstAddress);
    for (const { port, protocol } of ports) {
      const address = addressOf(service, port);
      const link = `${prefix}_PORT_${port}_${(protocol ?? "TCP").toUpperCase()}`;
      env[link] = urlOf(protocol, address);
      env[`${link}_PROTO`] = (protocol ?? "TCP").toLowerCase();
      env[`${link}_PORT`] = String(address.port);
      env[`${link}_ADDR`] = address.host;
    }
  }
  return env;
}

const urlOf = (protocol: string | undefined, { host, port }: { host: string; port: number }): string =>
  `${(protocol ?? "TCP").toLowerCase()}://${host}:${port}`;
