// What the DNS zone needs of the API: services always, endpoint slices only once a headless service exists.

import { endpointSlices } from "../api/resources.ts";
import type { EndpointSlice, Service } from "../api/types.ts";
import { createInformer, type InformerDeps } from "../client/informer.ts";
import type { IndexedInformer } from "../client/types.ts";
import { endpointHostname, type ZoneData } from "./dns-zone.ts";

const serviceNameLabel = "kubernetes.io/service-name";

/** Indexes the services informer must have. */
export const serviceIndexes = {
  ip: (service: Service): string[] => {
    const ip = service.spec?.clusterIP;
    return ip && ip !== "None" ? [ip] : [];
  },
  namespace: (service: Service): string[] => [service.metadata.namespace ?? ""],
};

const sliceIndexes = {
  service: (slice: EndpointSlice): string[] => [
    `${slice.metadata.namespace}/${slice.metadata.labels?.[serviceNameLabel] ?? ""}`,
  ],
  address: (slice: EndpointSlice): string[] => (slice.endpoints ?? []).flatMap((endpoint) => endpoint.addresses),
};

export interface LiveZone extends ZoneData {
  stop(): void;
}

export function createZoneData(services: IndexedInformer<Service>, deps: InformerDeps): LiveZone {
  let slices: IndexedInformer<EndpointSlice> | undefined;
  const isHeadless = (service: Service | undefined) => service?.spec?.clusterIP === "None";
  const unsubscribe = services.onChange((current) => {
    if (slices === undefined && isHeadless(current)) slices = createInformer(deps, endpointSlices, {}, sliceIndexes);
  });
  return {
    service: (namespace, name) => services.get(`${namespace}/${name}`),
    slices: (namespace, name) => slices?.by("service", `${namespace}/${name}`) ?? [],
    serviceByIp: (ip) => services.by("ip", ip)[0],
    hasNamespace: (namespace) => services.by("namespace", namespace).length > 0,
    endpointByIp(ip) {
      for (const slice of slices?.by("address", ip) ?? []) {
        const { namespace = "", labels } = slice.metadata;
        const service = labels?.[serviceNameLabel] ?? "";
        if (!isHeadless(services.get(`${namespace}/${service}`))) continue;
        const endpoint = slice.endpoints?.find((e) => e.addresses.includes(ip) && e.conditions?.ready !== false);
        if (endpoint !== undefined) return { service, namespace, hostname: endpointHostname(endpoint.hostname, ip) };
      }
      return undefined;
    },
    stop() {
      unsubscribe();
      slices?.stop();
    },
  };
}
