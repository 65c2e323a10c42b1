// Answers for the cluster's names (Kubernetes DNS specification 1.1.0) from services and endpoint slices. Pure.

import type { EndpointSlice, Service } from "../api/types.ts";
import { type Answer, type RecordData, type ResourceRecord, rcodes, typeNumbers } from "./dns-codec.ts";

export interface ZoneData {
  service(namespace: string, name: string): Service | undefined;
  /** Endpoint slices of a service. */
  slices(namespace: string, name: string): EndpointSlice[];
  serviceByIp(ip: string): Service | undefined;
  /** A headless service with a ready endpoint of this address. */
  endpointByIp(ip: string): { service: string; namespace: string; hostname: string } | undefined;
  /** The namespace has a service, so its name exists. */
  hasNamespace(namespace: string): boolean;
}

/** CoreDNS' default. Short, since addresses of headless services change. */
const ttlSeconds = 5;
/** Cluster addresses: reverse look-ups in them are ours (10.96.0.0/12 and 10.244.0.0/16). */
const ownReverse = (ip: readonly number[]): boolean =>
  ip[0] === 10 && ((ip[1]! >= 96 && ip[1]! <= 111) || ip[1] === 244);

interface Endpoint {
  hostname: string;
  ip: string;
  ports: { name: string; protocol: string; port: number }[];
}

type Found = { records: RecordData[]; additional?: ResourceRecord[] } | undefined;

/** Undefined: not ours, ask elsewhere. `name` is lower case without a final dot. A CNAME may lead outside the zone. */
export function answerFromZone(data: ZoneData, zone: string, name: string, type: number): Answer | undefined {
  const reverse = reverseAddress(name);
  if (reverse !== undefined) {
    if (!ownReverse(reverse)) return undefined;
    return reply(zone, name, type, pointer(data, zone, reverse.join(".")));
  }
  if (name === zone) return reply(zone, name, type, { records: [soa(zone), nameserver(zone)] });
  if (!name.endsWith(`.${zone}`)) return undefined;
  return reply(zone, name, type, lookUp(data, zone, name.slice(0, -zone.length - 1).split(".")));
}

const soa = (zone: string): RecordData => ({
  type: "SOA",
  primary: `ns.dns.${zone}`,
  mailbox: `hostmaster.${zone}`,
  serial: 1,
  minimumSeconds: ttlSeconds,
});
const nameserver = (zone: string): RecordData => ({ type: "NS", target: `ns.dns.${zone}` });

function reply(zone: string, name: string, type: number, found: Found): Answer {
  const all = (found?.records ?? []).map((record): ResourceRecord => ({ ...record, name, ttlSeconds }));
  const alias = all.filter((record) => record.type === "CNAME");
  const fitting = all.filter((record) => type === typeNumbers.ANY || typeNumbers[record.type] === type);
  const answers = alias.length > 0 ? alias : fitting;
  const authority: ResourceRecord[] =
    answers.length > 0 ? [] : [{ ...soa(zone), name: zone, ttlSeconds } as ResourceRecord];
  return {
    rcode: found === undefined ? rcodes.nameError : rcodes.ok,
    authoritative: true,
    answers,
    authority,
    additional: answers.some((record) => record.type === "SRV") ? (found?.additional ?? []) : [],
  };
}

function lookUp(data: ZoneData, zone: string, labels: string[]): Found {
  const kind = labels.pop();
  if (kind === "dns-version" && labels.length === 0) return { records: [{ type: "TXT", text: "1.1.0" }] };
  if (kind === "dns") return labels.length <= 1 && (labels[0] ?? "ns") === "ns" ? { records: [] } : undefined;
  if (kind !== "svc" && kind !== "pod") return undefined;
  const namespace = labels.pop();
  if (namespace === undefined) return { records: [] };
  if (kind === "pod") return podRecord(data, namespace, labels);
  const name = labels.pop();
  if (name === undefined) return data.hasNamespace(namespace) ? { records: [] } : undefined;
  const service = data.service(namespace, name);
  if (service === undefined) return undefined;
  const full = `${name}.${namespace}.svc.${zone}`;
  if (service.spec?.type === "ExternalName") {
    const target = service.spec.externalName?.toLowerCase().replace(/\.$/, "");
    return labels.length === 0 && target ? { records: [{ type: "CNAME", target }] } : undefined;
  }
  const headless = service.spec?.clusterIP === "None" || !service.spec?.clusterIP;
  return headless
    ? headlessRecords(endpointsOf(data.slices(namespace, name)), full, labels)
    : clusterIpRecords(service, full, labels);
}

function podRecord(data: ZoneData, namespace: string, labels: string[]): Found {
  if (labels.length === 0) return data.hasNamespace(namespace) ? { records: [] } : undefined;
  const ip = labels.length === 1 ? labels[0]!.split("-").map(Number) : [];
  if (ip.length !== 4 || !ip.every((byte) => Number.isInteger(byte) && byte >= 0 && byte <= 255)) return undefined;
  return { records: [{ type: "A", address: ip.join(".") }] };
}

function clusterIpRecords(service: Service, full: string, labels: readonly string[]): Found {
  const { clusterIP = "", ports = [] } = service.spec ?? {};
  if (labels.length === 0) {
    const named = ports.filter((port) => port.name);
    return {
      records: [{ type: "A", address: clusterIP }, ...named.map((port) => srv(port.port, full))],
      additional: [{ type: "A", address: clusterIP, name: full, ttlSeconds }],
    };
  }
  const port = ports.find((p) => portLabels(p.name, p.protocol, labels));
  if (port !== undefined)
    return { records: [srv(port.port, full)], additional: [{ type: "A", address: clusterIP, name: full, ttlSeconds }] };
  // "_tcp.web.default.svc…" exists as long as something is below it.
  return labels.length === 1 && ports.some((p) => p.name && `_${(p.protocol ?? "TCP").toLowerCase()}` === labels[0])
    ? { records: [] }
    : undefined;
}

function headlessRecords(endpoints: readonly Endpoint[], full: string, labels: readonly string[]): Found {
  if (labels.length === 0) return { records: endpoints.map(({ ip }) => ({ type: "A", address: ip })) };
  if (labels.length === 1) {
    const named = endpoints.filter((endpoint) => endpoint.hostname === labels[0]);
    return named.length === 0 ? undefined : { records: named.map(({ ip }) => ({ type: "A", address: ip })) };
  }
  const records: RecordData[] = [];
  const additional: ResourceRecord[] = [];
  for (const { hostname, ip, ports } of endpoints)
    for (const { name, protocol, port } of ports) {
      if (!portLabels(name, protocol, labels)) continue;
      records.push(srv(port, `${hostname}.${full}`, Math.max(1, Math.floor(100 / endpoints.length))));
      additional.push({ type: "A", address: ip, name: `${hostname}.${full}`, ttlSeconds });
    }
  return records.length === 0 ? undefined : { records, additional };
}

const srv = (port: number, target: string, weight = 100): RecordData => ({
  type: "SRV",
  priority: 0,
  weight,
  port,
  target,
});

const portLabels = (name: string | undefined, protocol: string | undefined, labels: readonly string[]): boolean =>
  labels.length === 2 && labels[0] === `_${name}` && labels[1] === `_${(protocol ?? "TCP").toLowerCase()}`;

/** The hostname of an endpoint: its own, or its address with dashes, as CoreDNS names it. */
export const endpointHostname = (hostname: string | undefined, ip: string): string =>
  hostname || ip.replaceAll(".", "-");

function endpointsOf(slices: readonly EndpointSlice[]): Endpoint[] {
  const found = new Map<string, Endpoint>();
  for (const { endpoints, ports, addressType } of slices) {
    if (addressType !== "IPv4") continue;
    for (const { addresses, conditions, hostname } of endpoints ?? []) {
      if (conditions?.ready === false) continue;
      for (const ip of addresses) {
        const list = (ports ?? []).map((p) => ({
          name: p.name ?? "",
          protocol: p.protocol ?? "TCP",
          port: p.port ?? 0,
        }));
        const known = found.get(ip);
        if (known) known.ports.push(...list);
        else found.set(ip, { hostname: endpointHostname(hostname, ip), ip, ports: list });
      }
    }
  }
  return [...found.values()];
}

/** "5.1.244.10.in-addr.arpa" → [10, 244, 1, 5]. */
function reverseAddress(name: string): number[] | undefined {
  if (!name.endsWith(".in-addr.arpa")) return undefined;
  const bytes = name.slice(0, -".in-addr.arpa".length).split(".").map(Number).reverse();
  return bytes.length === 4 && bytes.every((byte) => Number.isInteger(byte) && byte >= 0 && byte <= 255)
    ? bytes
    : undefined;
}

function pointer(data: ZoneData, zone: string, ip: string): Found {
  const service = data.serviceByIp(ip);
  if (service !== undefined)
    return { records: [{ type: "PTR", target: `${service.metadata.name}.${service.metadata.namespace}.svc.${zone}` }] };
  const endpoint = data.endpointByIp(ip);
  if (endpoint === undefined) return undefined;
  const { hostname, service: name, namespace } = endpoint;
  return { records: [{ type: "PTR", target: `${hostname}.${name}.${namespace}.svc.${zone}` }] };
}
