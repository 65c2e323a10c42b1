// What is wrong with a Service (pkg/apis/core/validation ValidateService).

import { child, duplicate, forbidden, immutable, inRange, invalid, oneOf, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { dnsLabelProblem, dnsSubdomainProblem, portNameProblem } from "../names.ts";
import type { Service } from "../types.ts";
import { validateLabels } from "./metadata.ts";

type Spec = NonNullable<Service["spec"]>;

/** Node ports of a cluster, as Kubernetes' default --service-node-port-range. */
const nodePortMin = 30_000;
const nodePortMax = 32_767;

function isAddress(text: string): boolean {
  if (text.includes(":")) return /^[0-9a-fA-F:.]+$/.test(text);
  return /^(\d{1,3})(\.\d{1,3}){3}$/.test(text) && text.split(".").every((part) => Number(part) <= 255);
}

function validateTargetPort(target: string | number | undefined, path: string): FieldError[] {
  if (target === undefined) return [];
  if (typeof target === "number")
    return target >= 1 && target <= 65535 ? [] : [invalid(path, target, "must be between 1 and 65535, inclusive")];
  const problem = portNameProblem(target);
  return problem === undefined ? [] : [invalid(path, target, problem)];
}

function validatePorts(spec: Spec): FieldError[] {
  const errors: FieldError[] = [];
  const ports = spec.ports ?? [];
  const isHeadless = spec.clusterIP === "None";
  if (ports.length === 0 && !isHeadless && spec.type !== "ExternalName") errors.push(required("spec.ports"));
  const names = new Set<string>();
  const numbers = new Set<string>();
  const nodePorts = new Set<string>();
  ports.forEach((port, i) => {
    const path = child("spec.ports", i);
    if (!port.name) {
      if (ports.length > 1) errors.push(required(child(path, "name")));
    } else {
      const problem = dnsLabelProblem(port.name);
      if (problem !== undefined) errors.push(invalid(child(path, "name"), port.name, problem));
      if (names.has(port.name)) errors.push(duplicate(child(path, "name"), port.name));
      names.add(port.name);
    }
    errors.push(...inRange(child(path, "port"), port.port ?? 0, 1, 65535));
    errors.push(...oneOf(child(path, "protocol"), port.protocol, ["SCTP", "TCP", "UDP"], true));
    errors.push(...validateTargetPort(port.targetPort, child(path, "targetPort")));
    const key = `${port.protocol}/${port.port}`;
    if (numbers.has(key)) errors.push(duplicate(path, { protocol: port.protocol, port: port.port }));
    numbers.add(key);
    if (!port.nodePort) return;
    const at = child(path, "nodePort");
    if (spec.type !== "NodePort" && spec.type !== "LoadBalancer")
      errors.push(forbidden(at, "may not be used when `type` is 'ClusterIP'"));
    else if (port.nodePort < nodePortMin || port.nodePort > nodePortMax)
      errors.push(
        invalid(
          at,
          port.nodePort,
          `provided port is not in the valid range. The range of valid ports is ${nodePortMin}-${nodePortMax}`,
        ),
      );
    const nodeKey = `${port.protocol}/${port.nodePort}`;
    if (nodePorts.has(nodeKey)) errors.push(duplicate(at, port.nodePort));
    nodePorts.add(nodeKey);
  });
  return errors;
}

function validateAddresses(spec: Spec, old: Spec | undefined): FieldError[] {
  const errors: FieldError[] = [];
  if (spec.type === "ExternalName") {
    // An address from before is given up with the type; only a new one is a mistake.
    if (spec.clusterIP && spec.clusterIP !== old?.clusterIP)
      errors.push(forbidden("spec.clusterIPs", "may not be set for ExternalName services"));
    const name = (spec.externalName ?? "").replace(/\.$/, "");
    if (name === "") errors.push(required("spec.externalName"));
    else {
      const problem = dnsSubdomainProblem(name);
      if (problem !== undefined) errors.push(invalid("spec.externalName", spec.externalName, problem));
    }
    return errors;
  }
  if (spec.clusterIP === "None" && spec.type !== "ClusterIP")
    errors.push(invalid("spec.clusterIPs[0]", "None", `may not be set to 'None' for ${spec.type} services`));
  if (spec.clusterIP && spec.clusterIP !== "None" && !isAddress(spec.clusterIP))
    errors.push(
      invalid("spec.clusterIPs[0]", spec.clusterIP, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
    );
  if (spec.clusterIP && spec.clusterIPs?.length && spec.clusterIPs[0] !== spec.clusterIP)
    errors.push(invalid("spec.clusterIPs", spec.clusterIPs, "first value must match `clusterIP`"));
  spec.externalIPs?.forEach((address, i) => {
    if (!isAddress(address))
      errors.push(
        invalid(child("spec.externalIPs", i), address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
      );
  });
  return errors;
}

/** The cluster has IPv4 addresses only, and says it as Kubernetes does. */
function validateFamilies({ ipFamilies = [], ipFamilyPolicy }: Spec): FieldError[] {
  const path = "spec.ipFamilyPolicy";
  const errors = oneOf(path, ipFamilyPolicy, ["PreferDualStack", "RequireDualStack", "SingleStack"]);
  if (ipFamilyPolicy === "RequireDualStack")
    errors.push(invalid(path, ipFamilyPolicy, "this cluster is not configured for dual-stack services"));
  ipFamilies.forEach((family, i) => {
    const at = child("spec.ipFamilies", i);
    if (family === "IPv6") errors.push(invalid(at, family, "not configured on this cluster"));
    else errors.push(...oneOf(at, family, ["IPv4", "IPv6"]));
  });
  return errors;
}

export function validateService(service: Service, old?: Service): FieldError[] {
  const { spec } = service;
  if (spec === undefined) return [required("spec")];
  const errors = oneOf("spec.type", spec.type, ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], true);
  errors.push(...validatePorts(spec), ...validateAddresses(spec, old?.spec), ...validateFamilies(spec));
  errors.push(...validateLabels(spec.selector, "spec.selector"));
  errors.push(...oneOf("spec.sessionAffinity", spec.sessionAffinity, ["ClientIP", "None"], true));
  if (spec.sessionAffinity === "None" && spec.sessionAffinityConfig !== undefined)
    errors.push(forbidden("spec.sessionAffinityConfig", "must not be set when session affinity is None"));
  errors.push(
    ...inRange(
      "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
      spec.sessionAffinityConfig?.clientIP?.timeoutSeconds,
      1,
      86_400,
    ),
  );
  errors.push(...oneOf("spec.internalTrafficPolicy", spec.internalTrafficPolicy, ["Cluster", "Local"]));
  errors.push(...oneOf("spec.externalTrafficPolicy", spec.externalTrafficPolicy, ["Cluster", "Local"]));
  if (
    spec.externalTrafficPolicy &&
    spec.type !== "NodePort" &&
    spec.type !== "LoadBalancer" &&
    !spec.externalIPs?.length
  )
    errors.push(
      invalid(
        "spec.externalTrafficPolicy",
        spec.externalTrafficPolicy,
        "may only be set for externally-accessible services",
      ),
    );
  // Left out, the assigned address is kept; named, it must be that one, unless the service turns from or to ExternalName.
  if (spec.clusterIP && old?.spec?.clusterIP && old.spec.type !== "ExternalName" && spec.type !== "ExternalName")
    errors.push(...immutable("spec.clusterIPs[0]", spec.clusterIP, old.spec.clusterIP));
  return errors;
}
