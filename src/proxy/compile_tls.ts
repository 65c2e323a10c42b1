// DownstreamTlsContext → what a server connection needs: versions, suites, certificate by name, client certificates.

import type { TransportSocket } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import {
  TlsParameters_TlsProtocol as Protocol,
  type TlsParameters,
} from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import {
  type CommonTlsContext,
  DownstreamTlsContextSchema,
} from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { MeshbedError } from "../kernel/errors.ts";
import { unpack } from "./any.ts";
import { type ContextSettings, dataText, defaultCiphers, type KeyPair, type SecretStore } from "./secrets.ts";

export interface ServerTls {
  /** Undefined while a secret has not arrived: the connection is refused. */
  context(): object | undefined;
  requestCert: boolean;
  rejectUnauthorized: boolean;
  /** In the wire format ALPN uses; empty: none offered. */
  alpn: Buffer;
  secretNames: readonly string[];
}

const versions: Record<Protocol, ContextSettings["minVersion"] | undefined> = {
  [Protocol.TLS_AUTO]: undefined,
  [Protocol.TLSv1_0]: "TLSv1",
  [Protocol.TLSv1_1]: "TLSv1.1",
  [Protocol.TLSv1_2]: "TLSv1.2",
  [Protocol.TLSv1_3]: "TLSv1.3",
};

export function compileServerTls(socket: TransportSocket, at: string, secrets: SecretStore): ServerTls {
  const config = socket.configType;
  const message = config.case === "typedConfig" ? unpack(config.value, DownstreamTlsContextSchema) : undefined;
  if (!message) throw new MeshbedError("TLS_UNSUPPORTED", `${at}: transport socket ${socket.name} is not supported`);
  const common = message.commonTlsContext;
  const certificate = certificateOf(common, at);
  const roots = rootsOf(common, at);
  const required = message.requireClientCertificate === true;
  const requestCert = required || roots !== undefined;
  const settings: ContextSettings = {
    certificate,
    roots,
    minVersion: versions[common?.tlsParams?.tlsMinimumProtocolVersion ?? Protocol.TLS_AUTO] ?? "TLSv1.2",
    maxVersion: versions[common?.tlsParams?.tlsMaximumProtocolVersion ?? Protocol.TLS_AUTO] ?? "TLSv1.3",
    ciphers: ciphersOf(common?.tlsParams),
    requestCert,
    rejectUnauthorized: required,
  };
  const names = [certificate, roots].filter((name) => typeof name === "string");
  const protocols = (common?.alpnProtocols ?? []).filter((protocol) => protocol.startsWith("http/1"));
  return {
    context: secrets.context(settings),
    requestCert,
    rejectUnauthorized: required,
    alpn: Buffer.concat(protocols.map((text) => Buffer.from(`${String.fromCharCode(text.length)}${text}`, "latin1"))),
    secretNames: names,
  };
}

/** "[A|B]" groups suites of equal preference in BoringSSL; OpenSSL's list separates all by colons. */
function ciphersOf(params: TlsParameters | undefined): string {
  const suites = (params?.cipherSuites ?? []).flatMap((entry) => entry.replace(/^\[|\]$/g, "").split("|"));
  return suites.length === 0 ? defaultCiphers : suites.join(":");
}

function certificateOf(common: CommonTlsContext | undefined, at: string): string | KeyPair {
  const bySds = common?.tlsCertificateSdsSecretConfigs[0]?.name;
  if (bySds !== undefined) return bySds;
  const inline = common?.tlsCertificates[0];
  if (!inline) throw new MeshbedError("TLS_INVALID", `${at}: no certificate`);
  return { certPem: dataText(inline.certificateChain, at), keyPem: dataText(inline.privateKey, at) };
}

function rootsOf(common: CommonTlsContext | undefined, at: string): ContextSettings["roots"] {
  const validation = common?.validationContextType;
  switch (validation?.case) {
    case "validationContextSdsSecretConfig":
      return validation.value.name;
    case "combinedValidationContext":
      return validation.value.validationContextSdsSecretConfig?.name;
    case "validationContext":
      return validation.value.trustedCa ? { caPem: dataText(validation.value.trustedCa, at) } : undefined;
    default:
      return undefined;
  }
}
