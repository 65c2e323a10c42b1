// The rules of the Gateway API's own validation (patterns, limits and CEL) for all kinds but routes.

import { child, duplicate, forbidden, immutable, invalid, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { missingFields, schemaNamed } from "../schema.ts";
import type { BackendTLSPolicy, GatewayClass, KubernetesGateway, ReferenceGrant } from "../types.ts";
import { tooMany, validateScalars } from "./gateway-api-scalars.ts";
import { isAddress } from "./istio-rules.ts";

/** What the schema asks for: required fields, and scalars of the right form. */
export function validateShape(spec: object | undefined, schemaName: string): FieldError[] {
  const schema = schemaNamed(schemaName).properties?.["spec"];
  if (schema === undefined) return [];
  if (spec === undefined) return [required("spec")];
  const missing = missingFields(spec, schema, "spec");
  return missing.length > 0 ? missing : validateScalars(spec, schema, "spec");
}

const schemaOf = (kind: string, version = "v1") => `io.k8s.sigs.gateway-api.apis.${version}.${kind}`;
const descriptionMax = 64;

export function validateGatewayClass(object: GatewayClass, old?: GatewayClass): FieldError[] {
  const errors = validateShape(object.spec, schemaOf("GatewayClass"));
  const { controllerName, description } = object.spec ?? {};
  if (old !== undefined) errors.push(...immutable("spec.controllerName", controllerName, old.spec?.controllerName));
  if ((description?.length ?? 0) > descriptionMax)
    errors.push(invalid("spec.description", description, `may not be longer than ${descriptionMax}`));
  return errors;
}

interface Listener {
  name: string;
  hostname?: string;
  port: number;
  protocol: string;
  tls?: { mode?: string; certificateRefs?: unknown[]; options?: object };
  allowedRoutes?: { kinds?: unknown[]; namespaces?: { from?: string; selector?: object } };
}

const protocolPattern = /^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?|[a-z0-9.-]+\/[A-Za-z0-9]+)$/;

function validateListener(listener: Listener, path: string): FieldError[] {
  const { protocol, hostname, tls, allowedRoutes } = listener;
  const errors: FieldError[] = [];
  if (!protocolPattern.test(protocol))
    errors.push(invalid(child(path, "protocol"), protocol, "must be a protocol such as HTTP or example.com/own"));
  const at = child(path, "tls");
  if (tls !== undefined && ["HTTP", "TCP", "UDP"].includes(protocol))
    errors.push(forbidden(at, "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']"));
  if (protocol === "HTTPS" && tls?.mode !== undefined && tls.mode !== "Terminate")
    errors.push(invalid(child(at, "mode"), tls.mode, "tls mode must be Terminate for protocol HTTPS"));
  // Its mode is Terminate unless said.
  if (protocol === "TLS" && tls === undefined) errors.push(required(at, "tls mode must be set for protocol TLS"));
  if (hostname && ["TCP", "UDP"].includes(protocol))
    errors.push(forbidden(child(path, "hostname"), "hostname must not be specified for protocols ['TCP', 'UDP']"));
  const terminates = (tls?.mode ?? "Terminate") === "Terminate";
  if (tls !== undefined && terminates && !tls.certificateRefs?.length && !Object.keys(tls.options ?? {}).length)
    errors.push(
      required(child(at, "certificateRefs"), "certificateRefs or options must be specified when mode is Terminate"),
    );
  return errors.concat(
    tooMany(tls?.certificateRefs, child(at, "certificateRefs"), 64),
    tooMany(allowedRoutes?.kinds, child(path, "allowedRoutes", "kinds"), 8),
  );
}

interface Address {
  type?: string;
  value?: string;
}

function validateAddresses(addresses: readonly Address[]): FieldError[] {
  const errors = tooMany(addresses, "spec.addresses", 16);
  const seen = new Set<string>();
  addresses.forEach(({ type = "IPAddress", value = "" }, i) => {
    const path = child("spec.addresses", i, "value");
    if (value === "") return;
    const key = `${type} ${value}`;
    if (seen.has(key)) errors.push(duplicate(path, value));
    seen.add(key);
    if (type === "IPAddress" && !isAddress(value)) errors.push(invalid(path, value, "must be an IP address"));
    if (type === "Hostname" && !/^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(value))
      errors.push(invalid(path, value, "Hostname value must be empty or contain only valid characters (a DNS name)"));
  });
  return errors;
}

export function validateKubernetesGateway(object: KubernetesGateway): FieldError[] {
  const shape = validateShape(object.spec, schemaOf("Gateway"));
  if (shape.length > 0) return shape;
  const listeners = (object.spec?.listeners ?? []) as readonly Listener[];
  const errors = tooMany(listeners, "spec.listeners", 64);
  if (listeners.length === 0) errors.push(required("spec.listeners", "must have at least 1 item"));
  const names = new Set<string>();
  const places = new Set<string>();
  listeners.forEach((listener, i) => {
    const path = child("spec.listeners", i);
    errors.push(...validateListener(listener, path));
    const place = `${listener.port} ${listener.protocol} ${listener.hostname ?? ""}`;
    if (names.has(listener.name)) errors.push(duplicate(child(path, "name"), listener.name));
    else if (places.has(place))
      errors.push(invalid(path, place, "Combination of port, protocol and hostname must be unique for each listener"));
    names.add(listener.name);
    places.add(place);
  });
  errors.push(...validateAddresses((object.spec?.addresses ?? []) as readonly Address[]));
  const infrastructure = object.spec?.infrastructure;
  for (const field of ["labels", "annotations"] as const)
    errors.push(...tooMany(Object.keys(infrastructure?.[field] ?? {}), child("spec.infrastructure", field), 8));
  return errors;
}

export function validateReferenceGrant(object: ReferenceGrant): FieldError[] {
  const errors = validateShape(object.spec, schemaOf("ReferenceGrant"));
  for (const field of ["from", "to"] as const) {
    const list = object.spec?.[field];
    const path = child("spec", field);
    if (list?.length === 0) errors.push(required(path, "must have at least 1 item"));
    errors.push(...tooMany(list, path, 16));
  }
  return errors;
}

interface Target {
  group?: string;
  kind?: string;
  name: string;
  sectionName?: string;
}

export function validateBackendTlsPolicy(object: BackendTLSPolicy): FieldError[] {
  const shape = validateShape(object.spec, schemaOf("BackendTLSPolicy"));
  if (shape.length > 0) return shape;
  const { targetRefs = [], validation } = (object.spec ?? {}) as {
    targetRefs?: Target[];
    validation?: {
      caCertificateRefs?: unknown[];
      wellKnownCACertificates?: string;
      subjectAltNames?: { type: string; hostname?: string; uri?: string }[];
    };
  };
  const errors = tooMany(targetRefs, "spec.targetRefs", 16);
  if (targetRefs.length === 0) errors.push(required("spec.targetRefs", "must have at least 1 item"));
  const byTarget = Map.groupBy(targetRefs, ({ group, kind, name }) => `${group}/${kind}/${name}`);
  targetRefs.forEach((target, i) => {
    const same = byTarget.get(`${target.group}/${target.kind}/${target.name}`)!;
    const path = child("spec.targetRefs", i, "sectionName");
    if (same.length > 1 && !target.sectionName)
      errors.push(
        required(
          path,
          "sectionName must be specified when targetRefs includes 2 or more references to the same target",
        ),
      );
    else if (same.findIndex((each) => each.sectionName === target.sectionName) !== same.indexOf(target))
      errors.push(duplicate(path, target.sectionName));
  });
  const { caCertificateRefs, wellKnownCACertificates, subjectAltNames } = validation ?? {};
  const at = "spec.validation";
  if (caCertificateRefs?.length && wellKnownCACertificates)
    errors.push(
      forbidden(
        child(at, "wellKnownCACertificates"),
        "must not contain both CACertificateRefs and WellKnownCACertificates",
      ),
    );
  if (!caCertificateRefs?.length && !wellKnownCACertificates)
    errors.push(required(at, "must specify either CACertificateRefs or WellKnownCACertificates"));
  errors.push(
    ...tooMany(caCertificateRefs, child(at, "caCertificateRefs"), 8),
    ...tooMany(subjectAltNames, child(at, "subjectAltNames"), 5),
  );
  subjectAltNames?.forEach(({ type, hostname, uri }, i) => {
    const path = child(at, "subjectAltNames", i);
    if (type === "Hostname" && !hostname) errors.push(required(child(path, "hostname"), "type is Hostname"));
    if (type === "URI" && !uri) errors.push(required(child(path, "uri"), "type is URI"));
    if (type === "Hostname" && uri) errors.push(forbidden(child(path, "uri"), "type is Hostname"));
    if (type === "URI" && hostname) errors.push(forbidden(child(path, "hostname"), "type is URI"));
  });
  return errors;
}
