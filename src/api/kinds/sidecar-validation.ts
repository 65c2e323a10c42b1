// What is wrong with a Sidecar (Istio pkg/config/validation ValidateSidecar).

import { child, duplicate, forbidden, inRange, invalid, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { dnsLabelProblem } from "../names.ts";
import type { Sidecar } from "../types.ts";
import { validatePool } from "./destination-rule-validation.ts";
import {
  isAddress,
  unixPrefix,
  validateHost,
  validatePortName,
  validateProtocol,
  validateRequired,
  validateSelectorLabels,
  validateUnixPath,
} from "./istio-rules.ts";

type Spec = NonNullable<Sidecar["spec"]>;
type Ingress = NonNullable<Spec["ingress"]>[number];
type Egress = NonNullable<Spec["egress"]>[number];
interface Port {
  name?: string;
  number?: number;
  protocol?: string;
  targetPort?: number;
}

function validatePort(port: Port, bind: string | undefined, path: string): FieldError[] {
  const errors = [
    ...(port.name ? validatePortName(port.name, child(path, "port", "name")) : []),
    ...validateProtocol(port.protocol, child(path, "port", "protocol")),
  ];
  if (port.targetPort)
    errors.push(forbidden(child(path, "port", "targetPort"), "targetPort has no impact on Sidecars"));
  if (port.number) {
    errors.push(...inRange(child(path, "port", "number"), port.number, 1, 65535));
    if (bind && !isAddress(bind)) errors.push(invalid(child(path, "bind"), bind, "must be an IP address"));
  }
  return errors;
}

/** 127.0.0.1:<port>, 0.0.0.0:<port>, [::1]:<port>, [::]:<port>, :<port> or unix:///path. */
function validateEndpoint(endpoint: string, path: string): FieldError[] {
  if (endpoint.startsWith(unixPrefix)) return validateUnixPath(endpoint, path);
  const parts = /^(127\.0\.0\.1|0\.0\.0\.0|\[::1\]|\[::\]|):(\d+)$/.exec(endpoint);
  if (parts === null)
    return [
      invalid(
        path,
        endpoint,
        "must be of form 127.0.0.1:<port>, 0.0.0.0:<port>, [::1]:<port>, [::]:<port>, unix://filepath or unset",
      ),
    ];
  return inRange(path, Number(parts[2]), 1, 65535);
}

function validateIngress(ingress: Ingress, path: string): FieldError[] {
  const { port, bind, defaultEndpoint, tls, connectionPool } = ingress;
  if (port === undefined) return [required(child(path, "port"), "port is required for ingress listeners")];
  const errors = validatePort(port, bind, path);
  if (!port.number) errors.push(...inRange(child(path, "port", "number"), 0, 1, 65535));
  if (defaultEndpoint) errors.push(...validateEndpoint(defaultEndpoint, child(path, "defaultEndpoint")));
  if (tls !== undefined) {
    const at = child(path, "tls");
    for (const field of ["subjectAltNames", "httpsRedirect", "credentialName"] as const)
      if (tls[field]) errors.push(forbidden(child(at, field), `${field} is not supported in ingress tls`));
    if (tls.mode === "ISTIO_MUTUAL" || tls.mode === "AUTO_PASSTHROUGH")
      errors.push(invalid(child(at, "mode"), tls.mode, `cannot set mode to ${tls.mode} in sidecar ingress tls`));
    if (tls.mode === "SIMPLE" || tls.mode === "MUTUAL") {
      for (const field of ["serverCertificate", "privateKey"] as const)
        if (!tls[field]) errors.push(required(child(at, field), `${tls.mode} TLS requires it`));
      if (tls.mode === "MUTUAL" && !tls.caCertificates)
        errors.push(required(child(at, "caCertificates"), "MUTUAL TLS requires a client CA bundle"));
    }
  }
  if (connectionPool !== undefined) errors.push(...validatePool(connectionPool, child(path, "connectionPool")));
  return errors;
}

/** "namespace/host", where both may be "*", the namespace "." or "~", and the host may begin with a wildcard. */
function validateEgressHost(text: string, path: string): FieldError[] {
  const parts = text.split("/");
  if (parts.length !== 2 || parts[0] === "" || parts[1] === "")
    return [invalid(path, text, "host must be of form namespace/dnsName")];
  const [namespace = "", host = ""] = parts;
  const problem = ["*", ".", "~"].includes(namespace) ? undefined : dnsLabelProblem(namespace);
  const errors =
    problem === undefined ? [] : [invalid(path, text, `namespace ${JSON.stringify(namespace)}: ${problem}`)];
  return host === "*" ? errors : errors.concat(validateHost(host, path));
}

function validateEgress(egress: Egress, path: string): FieldError[] {
  const { port, bind, captureMode, hosts } = egress;
  const errors = port === undefined ? [] : validatePort(port, bind, path);
  if (port !== undefined && !port.number) {
    const at = child(path, "bind");
    if (!bind?.startsWith(unixPrefix))
      errors.push(invalid(at, bind, "ports with 0 value must have a unix domain socket bind address"));
    else errors.push(...validateUnixPath(bind, at));
    if (captureMode !== undefined && captureMode !== "DEFAULT" && captureMode !== "NONE")
      errors.push(
        invalid(child(path, "captureMode"), captureMode, "must be DEFAULT/NONE for unix domain socket listeners"),
      );
  }
  if (!hosts?.length) errors.push(required(child(path, "hosts"), "egress listener must contain at least one host"));
  hosts?.forEach((host, i) => {
    errors.push(...validateEgressHost(host, child(path, "hosts", i)));
  });
  return errors;
}

function validateListeners(listeners: readonly { port?: Port; bind?: string }[], path: string): FieldError[] {
  const seen = new Set<number | string>();
  return listeners.flatMap(({ port, bind }, i) => {
    const key = port?.number || bind;
    if (port === undefined || key === undefined) return [];
    const errors = seen.has(key) ? [duplicate(child(path, i, port.number ? "port" : "bind"), key)] : [];
    seen.add(key);
    return errors;
  });
}

export function validateSidecar(object: Sidecar): FieldError[] {
  const missing = validateRequired(object, "io.istio.networking.v1.Sidecar");
  if (missing.length > 0) return missing;
  const spec = object.spec!;
  const { egress = [], ingress = [], outboundTrafficPolicy, inboundConnectionPool } = spec;
  const errors = validateSelectorLabels(spec.workloadSelector?.labels, "spec.workloadSelector.labels");
  if (!egress.length && !ingress.length && !outboundTrafficPolicy && !inboundConnectionPool)
    errors.push(required("spec", "empty configuration provided"));
  ingress.forEach((each, i) => {
    errors.push(...validateIngress(each, child("spec.ingress", i)));
  });
  egress.forEach((each, i) => {
    const path = child("spec.egress", i);
    errors.push(...validateEgress(each, path));
    if (each.port === undefined && i < egress.length - 1)
      errors.push(invalid(path, null, "the egress listener with empty port should be the last listener in the list"));
  });
  errors.push(...validateListeners(ingress, "spec.ingress"), ...validateListeners(egress, "spec.egress"));
  if (inboundConnectionPool !== undefined)
    errors.push(...validatePool(inboundConnectionPool, "spec.inboundConnectionPool"));
  const { egressProxy, mode } = (outboundTrafficPolicy ?? {}) as { egressProxy?: { host?: string }; mode?: string };
  if (egressProxy !== undefined && mode !== "ALLOW_ANY")
    errors.push(
      forbidden(
        "spec.outboundTrafficPolicy.egressProxy",
        "must be set only with ALLOW_ANY outbound_traffic_policy mode",
      ),
    );
  return errors;
}
