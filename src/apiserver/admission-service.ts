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
  externalTrafficPolicy?: string;
}

const specOf = (service: KubeObject): ServiceSpec => (service["spec"] ?? {}) as ServiceSpec;

const isService = ({ kind }: AdmissionRequest) => kind.group === "" && kind.kind === "Service";

/** Before validation: what an update leaves out stays as assigned, what its new type has no use for goes. */
export function keepServiceFields(_: CoreDeps, request: AdmissionRequest): void {
  const { object, old } = request;
  if (!isService(request) || old === undefined) return;
  const [before, spec] = [specOf(old), specOf(object)];
  if (spec.type === "ExternalName") {
    if (spec.clusterIP === before.clusterIP) {
      delete spec.clusterIP;
      delete spec.clusterIPs;
    }
  } else if (before.type !== "ExternalName") {
    spec.clusterIP ||= spec.clusterIPs?.[0] || before.clusterIP || "";
    spec.clusterIPs ??= before.clusterIPs ?? [];
  }
  if (hasNodePorts(spec)) return keepNodePorts(before, spec);
  if (!hasNodePorts(before)) return;
  const held = nodePortsOf(before);
  for (const port of spec.ports ?? []) if (port.nodePort && held.includes(port.nodePort)) delete port.nodePort;
  if (spec.externalTrafficPolicy === before.externalTrafficPolicy) delete spec.externalTrafficPolicy;
}

/** A port keeps its node port unless the update names another or gives it to another port. */
function keepNodePorts(before: ServiceSpec, spec: ServiceSpec): void {
  if (!hasNodePorts(before)) return;
  for (const port of spec.ports ?? []) {
    if (port.nodePort) continue;
    const same = before.ports?.find((each) => each.port === port.port && each.protocol === port.protocol);
    if (same?.nodePort && !nodePortsOf(spec).includes(same.nodePort)) port.nodePort = same.nodePort;
  }
}

/** After validation. Throws 422 for an address outside the range or in use, 500 when a range is exhausted. */
export function assignServiceAddresses(deps: CoreDeps, request: AdmissionRequest): void {
  if (!isService(request)) return;
  const { kind, object, old } = request;
  const errors = [...assignClusterIp(deps.addresses, request), ...assignNodePorts(deps.addresses, request)];
  if (errors.length > 0) throw invalid(kind, object.metadata.name, errors);
  if (old !== undefined) request.done.push(() => releaseDropped(deps.addresses, old, object));
}

function assignClusterIp({ ips }: ServiceAddresses, { object, old, undo }: AdmissionRequest): FieldError[] {
  const spec = specOf(object);
  if (spec.type === "ExternalName") return [];
  spec.clusterIP ||= spec.clusterIPs?.[0] || "";
  const owner = keyOf(object);
  if (spec.clusterIP === "") {
    const ip = ips.next(owner);
    if (ip === undefined) throw new Error(`no free service IP in ${serviceRange.text}`);
    undo.push(() => ips.release(ip, owner));
    spec.clusterIP = ip;
  } else if (spec.clusterIP !== "None" && spec.clusterIP !== (old && specOf(old).clusterIP)) {
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
  if (!hasNodePorts(spec)) return [];
  const owner = keyOf(object);
  const mine = new Set(old === undefined ? [] : nodePortsOf(specOf(old)));
  const errors: FieldError[] = [];
  const ports = spec.ports ?? [];
  // Named ports first, so that no free one handed out is a port that comes later in the list.
  ports.forEach(({ nodePort }, i) => {
    if (!nodePort || mine.has(nodePort)) return;
    if (nodePorts.take(nodePort, owner)) undo.push(() => nodePorts.release(nodePort, owner));
    else
      errors.push({
        field: `spec.ports[${i}].nodePort`,
        reason: "FieldValueInvalid",
        message: `Invalid value: ${nodePort}: provided port is already allocated`,
      });
  });
  for (const port of ports) {
    if (port.nodePort) continue;
    const free = nodePorts.next(owner);
    if (free === undefined) throw new Error(`no free node port in ${nodePortRange.first}-${nodePortRange.last}`);
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
