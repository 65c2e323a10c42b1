// What is wrong with a ServiceEntry, a WorkloadEntry or a WorkloadGroup (Istio pkg/config/validation).

import { child, duplicate, forbidden, inRange, invalid, notNegative, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { ServiceEntry, WorkloadEntry, WorkloadGroup } from "../types.ts";
import {
  fqdnProblem,
  isAddress,
  isSubnet,
  unixPrefix,
  validateExportTo,
  validateHeaderName,
  validateHost,
  validatePortName,
  validateProtocol,
  validateRequired,
  validateSelectorLabels,
  validateUnixPath,
} from "./istio-rules.ts";
import { validateLabels } from "./metadata.ts";

type Spec = NonNullable<ServiceEntry["spec"]>;
type Entry = Partial<NonNullable<WorkloadEntry["spec"]>>;

interface EndpointRules {
  /** Names of the service's ports; undefined: any. */
  ports: readonly string[] | undefined;
  /** Host names are for DNS. */
  namesAllowed: boolean;
}

function validateEntry(entry: Entry, path: string, { ports, namesAllowed }: EndpointRules): FieldError[] {
  const { address = "" } = entry;
  const at = child(path, "address");
  const errors: FieldError[] = [];
  if (address === "") {
    if (!entry.network) return [required(at, "address is required")];
  } else if (address.startsWith(unixPrefix)) {
    errors.push(...validateUnixPath(address, at));
    if (Object.keys(entry.ports ?? {}).length > 0)
      errors.push(forbidden(child(path, "ports"), `unix endpoint ${address} must not include ports`));
    if (ports !== undefined && ports.length !== 1)
      errors.push(invalid(at, address, "exactly 1 service port required for unix endpoints"));
  } else if (!isAddress(address)) {
    if (!namesAllowed) errors.push(invalid(at, address, "is not a valid IP address"));
    else if (fqdnProblem(address) !== undefined)
      errors.push(invalid(at, address, "is not a valid FQDN or an IP address"));
  }
  for (const [name, port] of Object.entries(entry.ports ?? {})) {
    const here = `${child(path, "ports")}[${name}]`;
    if (ports !== undefined && !ports.includes(name))
      errors.push(invalid(here, port, "endpoint port is not defined by the service entry"));
    errors.push(...validatePortName(name, here), ...inRange(here, port, 1, 65535));
  }
  return errors.concat(validateLabels(entry.labels, child(path, "labels")));
}

function validatePorts(spec: Spec): FieldError[] {
  const errors: FieldError[] = [];
  const names = new Set<string>();
  const numbers = new Set<number>();
  spec.ports?.forEach(({ name, number, protocol, targetPort }, i) => {
    const path = child("spec.ports", i);
    if (names.has(name)) errors.push(duplicate(child(path, "name"), name));
    if (numbers.has(number)) errors.push(duplicate(child(path, "number"), number));
    names.add(name);
    numbers.add(number);
    errors.push(
      ...validatePortName(name, child(path, "name")),
      ...validateProtocol(protocol, child(path, "protocol")),
      ...inRange(child(path, "number"), number, 1, 65535),
    );
    if (targetPort) errors.push(...inRange(child(path, "targetPort"), targetPort, 1, 65535));
  });
  return errors;
}

const distinguishesHosts = /^(HTTP|HTTP2|HTTP_PROXY|GRPC|GRPC-WEB|HTTPS|TLS)$/i;

function validateResolution(spec: Spec): FieldError[] {
  const errors: FieldError[] = [];
  const { resolution = "NONE", endpoints = [], hosts, ports = [] } = spec;
  const rules = { ports: ports.map(({ name }) => name), namesAllowed: resolution !== "STATIC" };
  const isDns = resolution === "DNS" || resolution === "DNS_ROUND_ROBIN";
  if (resolution === "NONE" && endpoints.length > 0)
    errors.push(forbidden("spec.endpoints", "no endpoints should be provided for resolution type none"));
  else
    endpoints.forEach((endpoint, i) => {
      errors.push(...validateEntry(endpoint, child("spec.endpoints", i), rules));
    });
  if (isDns && endpoints.length === 0)
    hosts.forEach((host, i) => {
      if (fqdnProblem(host) !== undefined)
        errors.push(
          invalid(
            child("spec.hosts", i),
            host,
            `hosts must be FQDN if no endpoints are provided for resolution mode ${resolution}`,
          ),
        );
    });
  if (resolution === "DNS_ROUND_ROBIN" && endpoints.length > 1)
    errors.push(forbidden("spec.endpoints", `there must only be 0 or 1 endpoint for resolution mode ${resolution}`));
  // For plain TCP nothing tells the hosts apart; without resolution they do not matter.
  const plain = ports.findIndex(({ protocol = "" }) => !distinguishesHosts.test(protocol));
  if (resolution !== "NONE" && hosts.length > 1 && plain >= 0)
    errors.push(forbidden(child("spec.ports", plain), "multiple hosts provided with non-HTTP, non-TLS ports"));
  return errors;
}

export function validateServiceEntry(object: ServiceEntry): FieldError[] {
  const missing = validateRequired(object, "io.istio.networking.v1.ServiceEntry");
  if (missing.length > 0) return missing;
  const spec = object.spec!;
  const errors = validateSelectorLabels(spec.workloadSelector?.labels, "spec.workloadSelector.labels");
  if (spec.workloadSelector !== undefined && spec.endpoints !== undefined)
    errors.push(forbidden("spec.endpoints", "only one of WorkloadSelector or Endpoints is allowed in Service Entry"));
  if (spec.hosts.length === 0) errors.push(required("spec.hosts", "service entry must have at least one host"));
  spec.hosts.forEach((host, i) => {
    const path = child("spec.hosts", i);
    errors.push(...(host === "*" ? [invalid(path, host, "invalid host *")] : validateHost(host, path)));
  });
  spec.addresses?.forEach((address, i) => {
    const path = child("spec.addresses", i);
    if (!isSubnet(address)) errors.push(invalid(path, address, "is not a valid CIDR block or IP address"));
    else if (address.includes("/") && !["NONE", "STATIC"].includes(spec.resolution ?? "NONE"))
      errors.push(invalid(path, address, "CIDR addresses are allowed only for NONE/STATIC resolution types"));
  });
  return errors.concat(
    validatePorts(spec),
    validateResolution(spec),
    validateExportTo(spec.exportTo, { namespace: object.metadata.namespace, allowNone: true }),
  );
}

export function validateWorkloadEntry(object: WorkloadEntry): FieldError[] {
  const missing = validateRequired(object, "io.istio.networking.v1.WorkloadEntry");
  if (missing.length > 0) return missing;
  return validateEntry(object.spec!, "spec", { ports: undefined, namesAllowed: true });
}

interface Probe {
  initialDelaySeconds?: number;
  timeoutSeconds?: number;
  periodSeconds?: number;
  successThreshold?: number;
  failureThreshold?: number;
  httpGet?: { port?: number; scheme?: string; httpHeaders?: { name?: string }[] };
  tcpSocket?: { port?: number };
  grpc?: { port?: number };
  exec?: { command?: string[] };
}

function validateProbe(probe: Probe): FieldError[] {
  const path = "spec.probe";
  const errors: FieldError[] = [];
  for (const field of [
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
  ] as const)
    errors.push(...notNegative(child(path, field), probe[field]));
  const { httpGet, tcpSocket, grpc, exec } = probe;
  for (const [name, method] of Object.entries({ httpGet, tcpSocket, grpc }))
    if (method !== undefined) errors.push(...inRange(child(path, name, "port"), method.port ?? 0, 1, 65535));
  if (httpGet?.scheme && !["HTTP", "HTTPS"].includes(httpGet.scheme))
    errors.push(invalid(child(path, "httpGet", "scheme"), httpGet.scheme, 'must be one of "HTTPS", "HTTP"'));
  httpGet?.httpHeaders?.forEach(({ name }, i) => {
    errors.push(...validateHeaderName(name ?? "", child(path, "httpGet", "httpHeaders", i, "name")));
  });
  if (exec !== undefined && !exec.command?.length)
    errors.push(required(child(path, "exec", "command"), "exec.command is required"));
  if (!httpGet && !tcpSocket && !grpc && !exec) errors.push(required(path, "a health check method is required"));
  return errors;
}

export function validateWorkloadGroup(object: WorkloadGroup): FieldError[] {
  const missing = validateRequired(object, "io.istio.networking.v1.WorkloadGroup");
  if (missing.length > 0) return missing;
  const { template, metadata, probe } = object.spec!;
  if (template === undefined) return [required("spec.template", "template is required")];
  const errors = validateLabels(metadata?.labels, "spec.metadata.labels");
  return probe === undefined ? errors : errors.concat(validateProbe(probe as Probe));
}
