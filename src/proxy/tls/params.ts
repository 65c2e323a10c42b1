// TlsParameters → versions, cipher suites and curves as the TLS library takes them, each refused by name when it is unknown.

import { createSecureContext } from "node:tls";
import {
  TlsParameters_TlsProtocol as Protocol,
  type TlsParameters,
} from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";

type Version = "TLSv1" | "TLSv1.1" | "TLSv1.2" | "TLSv1.3";

export interface TlsParams {
  minVersion: Version;
  maxVersion: Version;
  /** Of TLS 1.2; in "[A|B]" the client's preference decides. TLS 1.3 has its own, all good. */
  ciphers: string;
  ecdhCurve: string;
}

/** Forward secrecy and AEAD only (Bun's defaults offer CBC), in Envoy's order. */
const defaultCiphers = [
  "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]",
  "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
].join(":");
const defaultCurves = "X25519:P-256";

export const defaultTlsParams: TlsParams = {
  minVersion: "TLSv1.2",
  maxVersion: "TLSv1.3",
  ciphers: defaultCiphers,
  ecdhCurve: defaultCurves,
};

const versions: Record<Protocol, Version | undefined> = {
  [Protocol.TLS_AUTO]: undefined,
  [Protocol.TLSv1_0]: "TLSv1",
  [Protocol.TLSv1_1]: "TLSv1.1",
  [Protocol.TLSv1_2]: "TLSv1.2",
  [Protocol.TLSv1_3]: "TLSv1.3",
};

/** Suites and curves the TLS library has taken; asking costs a context each. */
const accepted = new Set<string>();

export function compileTlsParams(params: TlsParameters | undefined, at: string): TlsParams {
  if (params === undefined) return defaultTlsParams;
  if (params.signatureAlgorithms.length > 0)
    throw new MeshbedError("TLS_UNSUPPORTED", `${at}: signature_algorithms is not supported`);
  const { minVersion, maxVersion } = defaultTlsParams;
  const min = versions[params.tlsMinimumProtocolVersion] ?? minVersion;
  const max = versions[params.tlsMaximumProtocolVersion] ?? maxVersion;
  if (min > max) throw new MeshbedError("TLS_INVALID", `${at}: the minimum version ${min} is above the maximum ${max}`);
  const ciphers = params.cipherSuites.join(":") || defaultCiphers;
  const ecdhCurve = params.ecdhCurves.join(":") || defaultCurves;
  for (const suite of ciphers.split(/[[\]|:]/))
    if (suite !== "") probe({ ciphers: suite }, `cipher suite ${suite}`, at);
  for (const curve of ecdhCurve.split(":")) probe({ ecdhCurve: curve }, `curve ${curve}`, at);
  probe({ ciphers, ecdhCurve }, "the cipher suites and curves together", at);
  return { minVersion: min, maxVersion: max, ciphers, ecdhCurve };
}

/** In a list the library skips what it does not know; alone, it says so. */
function probe(options: { ciphers?: string; ecdhCurve?: string }, what: string, at: string): void {
  const key = JSON.stringify(options);
  if (accepted.has(key)) return;
  try {
    createSecureContext(options);
  } catch (cause) {
    throw new MeshbedError("TLS_INVALID", `${at}: ${what}: not known to the TLS library`, { cause });
  }
  accepted.add(key);
}

/** A list of protocols as ALPN writes it. */
export const wireAlpn = (protocols: readonly string[]): Buffer =>
  Buffer.concat(protocols.map((text) => Buffer.from(`${String.fromCharCode(text.length)}${text}`, "latin1")));
