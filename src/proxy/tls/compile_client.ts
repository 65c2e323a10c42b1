// UpstreamTlsContext → TLS towards servers: origination for clusters, and the mesh's tunnels, which check a SPIFFE id.

import type { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import type { Cluster as ClusterMessage } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { UpstreamTlsContextSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { HttpProtocolOptionsSchema } from "#gen/xds/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { unpack } from "../compile/any.ts";
import { spiffeIdOf } from "./alt_names.ts";
import { compileTlsParams } from "./params.ts";
import { keyPairSources, type SecretStore, secretNamesOf, validationSource } from "./secrets.ts";
import { altNamesFit, hostTest, judge, type Validation } from "./validation.ts";

/** TLS towards a server. */
export interface ClientTls {
  /** A node:tls SecureContext's native part, read for each new connection so that a rotated certificate is used at once; undefined while a secret is missing. */
  context(): object | undefined;
  /** SNI; empty: none. */
  serverName: string;
  /** Tells settings apart: endpoints reached with other settings are other endpoints. */
  key: string;
  /** The one SPIFFE id the server may have, if it is known beforehand. */
  spiffeId: string | undefined;
  /** Why the server is not who it should be; undefined when it is. `chainError`: what the TLS library thinks of its chain. */
  refusal(certificate: X509Certificate | undefined, chainError: Error | null): string | undefined;
  /** Settings follow the request's host (auto_sni, auto_san_validation). */
  forHost: ((host: string) => ClientTls) | undefined;
}

export interface CompiledClientTls {
  tls: ClientTls | undefined;
  /** SDS secrets it needs. */
  secretNames: string[];
}

const none: CompiledClientTls = { tls: undefined, secretNames: [] };

export function compileClientTls(message: ClusterMessage, secrets: SecretStore): CompiledClientTls {
  const socket = message.transportSocket;
  const config = socket?.configType.case === "typedConfig" ? socket.configType.value : undefined;
  const context = config && unpack(config, UpstreamTlsContextSchema);
  const at = `cluster ${message.name}`;
  if (context === undefined) {
    if (socket === undefined || /(^|\.)raw_buffer$/.test(socket.name)) return none;
    throw new MeshbedError("TLS_UNSUPPORTED", `${at}: transport socket ${socket.name} is not supported`);
  }
  if (context.sni.length > 255) throw new MeshbedError("TLS_INVALID", `${at}: sni is longer than 255 bytes`);
  const common = context.commonTlsContext;
  const [certificate, ...more] = keyPairSources(common, at);
  if (more.length > 0) throw new MeshbedError("TLS_INVALID", `${at}: more than one client certificate`);
  const roots = validationSource(common, at);
  const validation = roots && secrets.validation(roots);
  const tls: ClientTls = {
    context: secrets.clientContext(certificate, roots, compileTlsParams(common?.tlsParams, at)),
    serverName: context.sni,
    spiffeId: undefined,
    // The message whole: any difference in it is a difference in how the server is reached.
    key: JSON.stringify([context.sni, Bun.hash(config!.value).toString(36)]),
    refusal: (presented, chainError) => refusalBy(validation, presented, chainError),
    forHost: undefined,
  };
  tls.forHost = hostSettings(message, tls, at);
  return { tls, secretNames: secretNamesOf(certificate === undefined ? [] : [certificate], roots) };
}

function refusalBy(
  validationOf: (() => Validation | undefined) | undefined,
  certificate: X509Certificate | undefined,
  chainError: Error | null,
): string | undefined {
  // No TLS session came about at all, whatever is thought of certificates.
  if ((chainError as { code?: string } | null)?.code === "EPROTO") return `TLS: ${chainError!.message}`;
  // As Envoy: without a validation context the server may be anybody.
  if (validationOf === undefined) return undefined;
  const validation = validationOf();
  if (validation === undefined) return "TLS: what to check the server by has not arrived";
  if (certificate === undefined) return "TLS: the server has no certificate";
  const judgement = judge(validation, certificate, chainError);
  return judgement.accepted ? undefined : `TLS: ${judgement.reason}`;
}

const protocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

function hostSettings(message: ClusterMessage, tls: ClientTls, at: string): ClientTls["forHost"] {
  const any = message.typedExtensionProtocolOptions[protocolOptions];
  const options =
    (any && unpack(any, HttpProtocolOptionsSchema)?.upstreamHttpProtocolOptions) ?? message.upstreamHttpProtocolOptions;
  if (options?.overrideAutoSniHeader)
    throw new MeshbedError("TLS_UNSUPPORTED", `${at}: override_auto_sni_header is not supported`);
  if (!options?.autoSni && !options?.autoSanValidation) return undefined;
  const { autoSni, autoSanValidation } = options;
  return (host) => {
    const fits = hostTest(host);
    return {
      ...tls,
      // An address is not a server name (RFC 6066 §3); as Envoy, the configured one stays then.
      serverName: autoSni && isIP(host) === 0 ? host : tls.serverName,
      key: `${tls.key} ${host}`,
      refusal(certificate, chainError) {
        const refusal = tls.refusal(certificate, chainError);
        if (refusal !== undefined || !autoSanValidation) return refusal;
        return certificate && altNamesFit(certificate, [fits]) ? undefined : `TLS: certificate is not for ${host}`;
      },
      forHost: undefined,
    };
  };
}

/** Mutual TLS to the proxy of the workload that is `identity`, or by another name of its trust domain one of `aliases`. */
export const tunnelTls = (
  identity: string,
  aliases: readonly unknown[],
  context: () => object | undefined,
): ClientTls => ({
  context,
  serverName: "",
  key: identity,
  spiffeId: identity,
  refusal(certificate, chainError) {
    const code = (chainError as { code?: string } | null)?.code;
    if (chainError !== null && code !== "ERR_TLS_CERT_ALTNAME_INVALID") return `TLS: ${chainError.message}`;
    const id = spiffeIdOf(certificate?.subjectAltName);
    return id === identity || aliases.includes(id) ? undefined : `TLS: peer is ${id ?? "nobody"}, not ${identity}`;
  },
  forHost: undefined,
});
