// What is wrong with a Gateway (Istio pkg/config/validation ValidateGateway).

import { child, duplicate, forbidden, inRange, invalid, notSupported, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { dnsLabelProblem } from "../names.ts";
import type { Gateway } from "../types.ts";
import { isAddress, unixPrefix, validateHost, validateRequired, validateUnixPath } from "./istio-rules.ts";
import { validateLabels } from "./metadata.ts";

type Server = NonNullable<NonNullable<Gateway["spec"]>["servers"]>[number];
type Tls = NonNullable<Server["tls"]>;

const protocols = ["GRPC", "GRPC-WEB", "HTTP", "HTTP2", "HTTPS", "MONGO", "MYSQL", "REDIS", "TCP", "TLS"];
const httpProtocols = ["GRPC", "GRPC-WEB", "HTTP", "HTTP2"];
const tlsVersions = ["TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"];

/** "host", "namespace/host", "./host" or "* /host" (without the space). */
function validateServerHost(text: string, path: string): FieldError[] {
  const parts = text.split("/");
  if (parts.length > 2) return [invalid(path, text, "must be of form <namespace>/<host>")];
  if (parts.length === 1) return isAddress(text) ? [] : validateHost(text, path);
  const [namespace = "", host = ""] = parts;
  const errors = isAddress(host) ? [] : validateHost(host, path);
  if (namespace !== "*" && namespace !== "." && namespace !== "~") {
    const problem = dnsLabelProblem(namespace);
    if (problem !== undefined) errors.push(invalid(path, text, `namespace ${JSON.stringify(namespace)}: ${problem}`));
  }
  return errors;
}

/** The files or the secret a mode needs, and nothing that it would ignore. */
function validateCertificates(tls: Tls, path: string): FieldError[] {
  const mode = tls.mode ?? "PASSTHROUGH";
  const errors: FieldError[] = [];
  const given = (
    [
      "serverCertificate",
      "privateKey",
      "caCertificates",
      "credentialName",
      "credentialNames",
      "tlsCertificates",
    ] as const
  ).filter((field) => tls[field] !== undefined && tls[field] !== "");
  if (mode === "ISTIO_MUTUAL")
    for (const field of given) errors.push(forbidden(child(path, field), `${mode} TLS does not use ${field}`));
  // Passing through, they are ignored with a warning.
  if (mode === "ISTIO_MUTUAL" || mode === "PASSTHROUGH" || mode === "AUTO_PASSTHROUGH") return errors;
  const credentials = [tls.credentialName, ...(tls.credentialNames ?? [])].filter(Boolean);
  if (tls.credentialName && tls.credentialNames?.length)
    errors.push(forbidden(child(path, "credentialNames"), "may not be set together with credentialName"));
  if (tls.caCrl && credentials.length > 0)
    errors.push(
      forbidden(child(path, "caCrl"), "CRL is not supported with credentialName, it belongs into the Secret"),
    );
  if (credentials.length > 0) return errors;
  if (tls.caCrl && mode === "SIMPLE")
    errors.push(forbidden(child(path, "caCrl"), "CRL is not supported with SIMPLE TLS"));
  if (!tls.tlsCertificates?.length) {
    if (!tls.serverCertificate)
      errors.push(required(child(path, "serverCertificate"), `${mode} TLS requires a server certificate`));
    if (!tls.privateKey) errors.push(required(child(path, "privateKey"), `${mode} TLS requires a private key`));
  }
  if (mode !== "SIMPLE" && !tls.caCertificates && !tls.caCertCredentialName)
    errors.push(required(child(path, "caCertificates"), `${mode} TLS requires a client CA bundle`));
  return errors;
}

function validateTls(tls: Tls, path: string): FieldError[] {
  const errors = validateCertificates(tls, path);
  const min = tlsVersions.indexOf(tls.minProtocolVersion ?? "");
  const max = tlsVersions.indexOf(tls.maxProtocolVersion ?? "");
  if (min >= 0 && max >= 0 && min > max)
    errors.push(
      invalid(child(path, "minProtocolVersion"), tls.minProtocolVersion, "must not be above maxProtocolVersion"),
    );
  return errors;
}

function validateServer(server: Server, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (server.hosts.length === 0)
    errors.push(required(child(path, "hosts"), "server config must contain at least one host"));
  server.hosts.forEach((host, i) => {
    errors.push(...validateServerHost(host, child(path, "hosts", i)));
  });
  const { port } = server;
  const at = child(path, "port");
  const isUnix = server.bind?.startsWith(unixPrefix) ?? false;
  if (port.number > 0 || !isUnix) errors.push(...inRange(child(at, "number"), port.number, 1, 65535));
  if (port.targetPort) errors.push(forbidden(child(at, "targetPort"), "targetPort has no impact on Gateways"));
  if (!port.name) errors.push(required(child(at, "name"), "port name must be set"));
  const protocol = port.protocol.toUpperCase();
  if (!protocols.includes(protocol)) errors.push(notSupported(child(at, "protocol"), port.protocol, protocols));
  if (isUnix) {
    errors.push(...validateUnixPath(server.bind!, child(path, "bind")));
    if (port.number) errors.push(forbidden(child(at, "number"), "port number must be 0 for unix domain socket"));
  } else if (server.bind && !isAddress(server.bind))
    errors.push(invalid(child(path, "bind"), server.bind, "must be an IP address"));
  const isTls = protocol === "HTTPS" || protocol === "TLS";
  const { tls } = server;
  if (tls === undefined) {
    if (isTls) errors.push(required(child(path, "tls"), "server must have TLS settings for HTTPS/TLS protocols"));
    return errors;
  }
  const here = child(path, "tls");
  if (isTls) return errors.concat(validateTls(tls, here));
  if (!httpProtocols.includes(protocol))
    errors.push(forbidden(here, "server cannot have TLS settings for non HTTPS/TLS ports"));
  else if (Object.keys(tls).some((field) => field !== "httpsRedirect"))
    errors.push(forbidden(here, "server cannot have TLS settings for plain text HTTP ports, except httpsRedirect"));
  return errors;
}

export function validateGateway(object: Gateway): FieldError[] {
  const missing = validateRequired(object, "io.istio.networking.v1.Gateway");
  if (missing.length > 0) return missing;
  const spec = object.spec!;
  const errors = validateLabels(spec.selector, "spec.selector");
  const nameProblem = dnsLabelProblem(object.metadata.name ?? "");
  if (nameProblem !== undefined) errors.push(invalid("metadata.name", object.metadata.name, nameProblem));
  if (!spec.servers?.length) errors.push(required("spec.servers", "gateway must have at least one server"));
  const portNames = new Set<string>();
  const serverNames = new Set<string>();
  spec.servers?.forEach((server, i) => {
    const path = child("spec.servers", i);
    errors.push(...validateServer(server, path));
    if (portNames.has(server.port.name)) errors.push(duplicate(child(path, "port", "name"), server.port.name));
    portNames.add(server.port.name);
    if (server.name && serverNames.has(server.name)) errors.push(duplicate(child(path, "name"), server.name));
    serverNames.add(server.name ?? "");
  });
  return errors;
}
