// ServiceEntries as services of the registry, one per host, and the endpoints that they and WorkloadEntries give. Pure.

import { isIP } from "node:net";
import { matchesMap } from "../api/selectors.ts";
import type { Service, ServiceEntry, WorkloadEntry } from "../api/types.ts";
import { exportSet } from "./hosts.ts";
import { sameItems } from "./memo.ts";
import type { Endpoint } from "./translate-endpoints.ts";
import type { Locality } from "./translate-locality.ts";
import { peerModeOf, peerModesOf } from "./translate-security.ts";
import type { EntryPart, Model, PortModel, Protocol, ServiceModel, Workload } from "./types.ts";

type Spec = NonNullable<ServiceEntry["spec"]>;
/** A WorkloadEntry's spec has the same fields. */
export type EntryEndpoint = NonNullable<Spec["endpoints"]>[number];

/** What the hosts of one entry stand for, without what others add to them. */
type Draft = Omit<ServiceModel, "slices" | "selected"> & { entry: EntryPart };

/** Keeps what is derived as long as the objects it is derived from. */
export interface EntryServices {
  /** Oldest entry first. */
  of(
    entries: readonly ServiceEntry[],
    workloadEntries: readonly WorkloadEntry[],
    workloads: readonly Workload[],
  ): ServiceModel[];
}

export function createEntryServices(): EntryServices {
  const drafts = new WeakMap<ServiceEntry, readonly Draft[]>();
  const known = new Map<string, { parts: readonly Draft[]; model: ServiceModel }>();
  const draftsOfEntry = (entry: ServiceEntry): readonly Draft[] => {
    let made = drafts.get(entry);
    if (made === undefined) {
      made = draftsOf(entry);
      drafts.set(entry, made);
    }
    return made;
  };
  return {
    of(entries, workloadEntries, workloads) {
      const byHost = Map.groupBy(entries.flatMap(draftsOfEntry), ({ host, namespace }) => `${namespace}/${host}`);
      for (const key of known.keys()) if (!byHost.has(key)) known.delete(key);
      return [...byHost].map(([key, parts]) => {
        const before = known.get(key);
        const merged = before && sameItems(before.parts, parts) ? before.model : mergeDrafts(parts);
        const selected = selectedBy(parts, workloadEntries, workloads);
        const model = merged.selected && sameItems(merged.selected, selected) ? merged : { ...merged, selected };
        known.set(key, { parts, model });
        return model;
      });
    },
  };
}

const protocols: Readonly<Record<string, Protocol>> = {
  HTTP: "http",
  "GRPC-WEB": "http",
  HTTP2: "http2",
  GRPC: "grpc",
  HTTPS: "tls",
  TLS: "tls",
  UDP: "udp",
};

/** As entries, Gateways and Sidecars name it, in any case. */
export const protocolNamed = (name: string | undefined): Protocol => protocols[name?.toUpperCase() ?? ""] ?? "tcp";

function draftsOf(entry: ServiceEntry): Draft[] {
  const { spec } = entry;
  const namespace = entry.metadata.namespace ?? "default";
  const ports = (spec?.ports ?? []).map(
    ({ name, number, protocol, targetPort }): PortModel => ({
      name,
      port: number,
      targetPort: targetPort || number,
      protocol: protocolNamed(protocol),
      nodePort: undefined,
    }),
  );
  const resolution = spec?.resolution ?? "NONE";
  return (spec?.hosts ?? []).map((text) => {
    const host = text.toLowerCase();
    return {
      // Its own object per host: what is remembered by a service must not be taken for another host's.
      service: standIn(entry),
      namespace,
      name: host,
      host,
      addresses: addressesOf(entry, host),
      ports,
      exportTo: exportSet(spec?.exportTo, namespace),
      entry: {
        isExternal: spec?.location !== "MESH_INTERNAL",
        resolution: resolution === "DYNAMIC_DNS" ? "NONE" : resolution,
        endpoints: (spec?.endpoints ?? []).filter(({ address }) => address?.startsWith("unix:") !== true),
        subjectAltNames: spec?.subjectAltNames ?? [],
      },
    };
  });
}

/** The entry in a Service's shape: its selector leads inbound traffic to the pods it selects, as a Service's does. */
function standIn({ apiVersion, metadata, spec }: ServiceEntry): Service {
  const selector = spec?.workloadSelector?.labels;
  const shape = { apiVersion, kind: "ServiceEntry", metadata, spec: selector ? { selector } : {} };
  return shape as unknown as Service;
}

/** status.addresses: allocated by the control plane (Istio 1.25); older ones name no host. */
interface Allocated {
  addresses?: { host?: string; value?: string }[];
}

export const isWildcard = (host: string): boolean => host.startsWith("*");

/** Its own virtual addresses, or the one that was allocated for the host. */
function addressesOf({ spec, status }: ServiceEntry, host: string): string[] {
  const own = (spec?.addresses ?? []).map((address) => address.replace(/\/32$/, ""));
  if (own.length > 0 || spec?.resolution === undefined || spec.resolution === "NONE" || isWildcard(host)) return own;
  const allocated = (status as Allocated | undefined)?.addresses ?? [];
  return allocated.flatMap(({ host: of, value }) => (value && (of === undefined || of === host) ? value : []));
}

/** Entries of one namespace for one host are one service if they agree on what it is; the oldest says (Istio: canMerge). */
function mergeDrafts(parts: readonly Draft[]): ServiceModel {
  const [first, ...others] = parts;
  const { isExternal, resolution } = first!.entry;
  const alike = [
    first!,
    ...others.filter(({ entry }) => entry.isExternal === isExternal && entry.resolution === resolution),
  ];
  const ports = new Map<number, PortModel>();
  for (const port of alike.flatMap((part) => part.ports)) if (!ports.has(port.port)) ports.set(port.port, port);
  return {
    ...first!,
    addresses: [...new Set(alike.flatMap(({ addresses }) => addresses))],
    ports: [...ports.values()],
    entry: {
      ...first!.entry,
      endpoints: alike.flatMap(({ entry }) => entry.endpoints),
      subjectAltNames: [...new Set(alike.flatMap(({ entry }) => entry.subjectAltNames))],
    },
    // Another merge is another service to whoever remembers by it.
    service: alike.length === 1 ? first!.service : { ...first!.service },
    slices: [],
    selected: [],
  };
}

/** Pods and WorkloadEntries of the entry's namespace with the labels it asks for. */
function selectedBy(
  parts: readonly Draft[],
  workloadEntries: readonly WorkloadEntry[],
  workloads: readonly Workload[],
): (Workload | WorkloadEntry)[] {
  const found = new Set<Workload | WorkloadEntry>();
  for (const { namespace, service } of parts) {
    const selector = service.spec?.selector;
    if (selector === undefined || Object.keys(selector).length === 0) continue;
    for (const workload of workloads)
      if (workload.namespace === namespace && matchesMap(selector, workload.labels)) found.add(workload);
    for (const entry of workloadEntries)
      if (entry.metadata.namespace === namespace && matchesMap(selector, labelsOf(entry))) found.add(entry);
  }
  return [...found];
}

/** WorkloadEntries that a Service's selector finds are endpoints of it beside its pods (Istio). */
export function selectedEntries(
  { service, namespace }: Pick<ServiceModel, "service" | "namespace">,
  workloadEntries: readonly WorkloadEntry[],
): WorkloadEntry[] {
  const selector = service.spec?.selector;
  if (selector === undefined || Object.keys(selector).length === 0) return [];
  return workloadEntries.filter(
    (entry) => entry.metadata.namespace === namespace && matchesMap(selector, labelsOf(entry)),
  );
}

const labelsOf = ({ metadata, spec }: WorkloadEntry): Record<string, string> => ({
  ...metadata.labels,
  ...spec?.labels,
});

const isWorkload = (one: Workload | WorkloadEntry): one is Workload => "ip" in one;

/** Addresses that the service's entries and WorkloadEntries give for a port. Names only where DNS resolves them. */
export function givenEndpoints(model: Model, service: ServiceModel, port: PortModel): Endpoint[] {
  const { entry, selected = [], host } = service;
  const found: Endpoint[] = [];
  const named = entry?.resolution === "DNS" || entry?.resolution === "DNS_ROUND_ROBIN";
  for (const given of entry?.endpoints ?? []) found.push(...endpointOf(given, given.labels, port));
  for (const one of selected)
    if (!isWorkload(one)) found.push(...endpointOf(one.spec ?? {}, labelsOf(one), port));
    else if (entry !== undefined) found.push(podEndpoint(model, one, port));
  if (found.length === 0 && named && selected.length === 0 && !isWildcard(host))
    found.push(...endpointOf({ address: host }, undefined, port));
  return named ? found : found.filter(({ address }) => isIP(address) !== 0);
}

function endpointOf(given: EntryEndpoint, labels: EntryEndpoint["labels"], port: PortModel): Endpoint[] {
  const { address, ports, weight, locality } = given;
  if (!address) return [];
  const target = typeof port.targetPort === "number" ? port.targetPort : ports?.[port.targetPort];
  return [
    {
      address,
      port: ports?.[port.name] || target || port.port,
      draining: false,
      workload: undefined,
      nodeName: "",
      peers: "DISABLE",
      labels,
      weight,
      locality: locality === undefined ? undefined : parseLocality(locality),
    },
  ];
}

function podEndpoint(model: Model, workload: Workload, { targetPort }: PortModel): Endpoint {
  const containerPort = Number(targetPort);
  const port = workload.ports[containerPort] ?? containerPort;
  const { ip: address, nodeName, labels } = workload;
  const peers = workload.injected ? peerModeOf(peerModesOf(model, workload), containerPort) : "DISABLE";
  return { address, port, draining: false, workload, nodeName, peers, labels };
}

/** "region/zone/sub-zone" */
function parseLocality(text: string): Locality {
  const [region = "", zone = "", subZone = ""] = text.split("/");
  return { region, zone, subZone };
}
