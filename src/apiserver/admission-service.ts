// Admission of Services: assigns cluster IPs and node ports, keeps them on update, gives them back.

import type { FieldError } from "../api/kind.ts";
import type { KubeObject } from "../api/object.ts";
import { keyOf } from "../api/object.ts";
import { invalid } from "./failure.ts";
import { isServiceIp, nodePortRange, type ServiceAddresses, serviceRange } from "./service-addresses.ts";
import type { AdmissionRequest, CoreDeps } from "./types.ts";

interface ServicePort {
  port: number;
  protocol?: string;
  nodePort?: number;
}
interface ServiceSpec {
  type?: string;
  clusterIP?: string;
  clusterIPs?: string[];
  ipFamilies?: string[];
  ipFamilyPolicy?: string;
  ports?: ServicePort[];
}

const specOf = (service: KubeObject): ServiceSpec => (service["spec"] ?? {}) as ServiceSpec;

/** Throws 422 for an address outside the range or in use, 500 when a range is exhausted. */
export function assignServiceAddresses(deps: CoreDeps, request: AdmissionRequest): void {
  const { kind, object, old } = request;
  if (kind.group !== "" || kind.kind !== "Service") return;
  const errors = [...assignClusterIp(deps.addresses, request), ...assignNodePorts(deps.addresses, request)];
  if (errors.length > 0) throw invalid(kind, object.metadata.name, errors);
  if (old !== undefined) request.done.push(() => releaseDropped(deps.addresses, old, object));
}

function assignClusterIp({ ips }: ServiceAddresses, { object, old, undo }: AdmissionRequest): FieldError[] {
  const spec = specOf(object);
  if (spec.type === "ExternalName") {
    delete spec.clusterIP;
    delete spec.clusterIPs;
    return [];
  }
  const before = old && specOf(old);
  spec.clusterIP ||= spec.clusterIPs?.[0] || (before?.type === "ExternalName" ? undefined : before?.clusterIP);
  const owner = keyOf(object);
  if (!spec.clusterIP) {
    const ip = ips.next(owner);
    if (ip === undefined) throw new Error(`no free service IP in ${serviceRange.text}`);
    undo.push(() => ips.release(ip, owner));
    spec.clusterIP = ip;
  } else if (spec.clusterIP !== "None" && spec.clusterIP !== before?.clusterIP) {
    const ip = spec.clusterIP;
    const problem = !isServiceIp(ip)
      ? `the provided IP is not in the valid range. The range of valid IPs is ${serviceRange.text}`
      : ips.take(ip, owner)
        ? undefined
        : "provided IP is already allocated";
    if (problem !== undefined)
      return [
        {
          field: "spec.clusterIPs",
          reason: "FieldValueInvalid",
          message: `Invalid value: ["${ip}"]: failed to allocate IP ${ip}: ${problem}`,
        },
      ];
    undo.push(() => ips.release(ip, owner));
  }
  spec.clusterIPs = [spec.clusterIP];
  spec.ipFamilies ??= ["IPv4"];
  spec.ipFamilyPolicy ??= "SingleStack";
  return [];
}

const hasNodePorts = (spec: ServiceSpec | undefined): boolean =>
  spec?.type === "NodePort" || spec?.type === "LoadBalancer";

const nodePortsOf = (spec: ServiceSpec | undefined): number[] =>
  (spec?.ports ?? []).flatMap((port) => (port.nodePort ? [port.nodePort] : []));

function assignNodePorts({ nodePorts }: ServiceAddresses, { object, old, undo }: AdmissionRequest): FieldError[] {
  const spec = specOf(object);
  const before = old && specOf(old);
  const ports = spec.ports ?? [];
  if (!hasNodePorts(spec)) {
    // A Service that no longer is a NodePort gives its ports up, unless the update itself names some (which is invalid).
    if (hasNodePorts(before)) {
      const held = nodePortsOf(before);
      for (const port of ports) if (port.nodePort && held.includes(port.nodePort)) delete port.nodePort;
    }
    return [];
  }
  const owner = keyOf(object);
  const mine = new Set(hasNodePorts(before) ? nodePortsOf(before) : []);
  const errors: FieldError[] = [];
  const refuse = (i: number, value: number, problem: string) =>
    errors.push({
      field: `spec.ports[${i}].nodePort`,
      reason: "FieldValueInvalid",
      message: `Invalid value: ${value}: ${problem}`,
    });
  // An update that leaves a node port out keeps the one that port had.
  for (const port of ports)
    if (!port.nodePort) {
      const kept = before?.ports?.find((each) => each.port === port.port && each.protocol === port.protocol)?.nodePort;
      if (kept && mine.has(kept) && !nodePortsOf(spec).includes(kept)) port.nodePort = kept;
    }
  ports.forEach((port, i) => {
    const { nodePort } = port;
    if (!nodePort || mine.has(nodePort)) return;
    if (nodePort < nodePortRange.first || nodePort > nodePortRange.last)
      refuse(
        i,
        nodePort,
        `provided port is not in the valid range. The range of valid ports is ${nodePortRange.first}-${nodePortRange.last}`,
      );
    else if (!nodePorts.take(nodePort, owner)) refuse(i, nodePort, "provided port is already allocated");
    else undo.push(() => nodePorts.release(nodePort, owner));
  });
  for (const port of ports)
    if (!port.nodePort) {
      const free = nodePorts.next(owner);
      if (free === undefined) throw new Error("no free node port");
      undo.push(() => nodePorts.release(free, owner));
      port.nodePort = free;
    }
  return errors;
}

function releaseDropped(addresses: ServiceAddresses, old: KubeObject, current: KubeObject): void {
  const [before, after] = [specOf(old), specOf(current)];
  const owner = keyOf(old);
  if (before.clusterIP && before.clusterIP !== after.clusterIP) addresses.ips.release(before.clusterIP, owner);
  const kept = new Set(nodePortsOf(after));
  for (const port of nodePortsOf(before)) if (!kept.has(port)) addresses.nodePorts.release(port, owner);
}

/** A Service is gone. */
export function releaseServiceAddresses(addresses: ServiceAddresses, service: KubeObject): void {
  const spec = specOf(service);
  const owner = keyOf(service);
  if (spec.clusterIP) addresses.ips.release(spec.clusterIP, owner);
  for (const port of nodePortsOf(spec)) addresses.nodePorts.release(port, owner);
}

/** A Service that was stored before this process started. */
export function adoptServiceAddresses(addresses: ServiceAddresses, service: KubeObject): void {
  const spec = specOf(service);
  const owner = keyOf(service);
  if (spec.clusterIP && spec.clusterIP !== "None") addresses.ips.take(spec.clusterIP, owner);
  for (const port of nodePortsOf(spec)) addresses.nodePorts.take(port, owner);
}
