// The secrets of one xDS node (SDS) and the TLS contexts made of them. A context is built once per secret version, not per connection.

import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import type { DataSource } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import type { Secret } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { MeshbedError } from "../kernel/errors.ts";
import { spiffeIdOf } from "./spiffe.ts";

export interface KeyPair {
  certPem: string;
  keyPem: string;
}

/** TLS 1.2 suites: forward secrecy and AEAD only (Bun's defaults offer CBC). TLS 1.3 has its own, all good. */
export const defaultCiphers = [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");

export interface ContextSettings {
  /** Secret with our certificate; undefined for a client without one. */
  certificate: string | KeyPair | undefined;
  /** Secret with the roots the peer is checked against. */
  roots: string | { caPem: string } | undefined;
  minVersion: "TLSv1" | "TLSv1.1" | "TLSv1.2" | "TLSv1.3";
  maxVersion: "TLSv1" | "TLSv1.1" | "TLSv1.2" | "TLSv1.3";
  ciphers: string;
  /** A server that asks for a client certificate. */
  requestCert: boolean;
  rejectUnauthorized: boolean;
}

export const clientContextDefaults = {
  minVersion: "TLSv1.2",
  maxVersion: "TLSv1.3",
  ciphers: defaultCiphers,
  requestCert: false,
  rejectUnauthorized: false,
} as const;

export class SecretStore {
  readonly #pairs = new Map<string, KeyPair>();
  readonly #roots = new Map<string, string>();
  version = 0;

  /** Takes the current set; a secret that cannot be read throws (NACK) and changes nothing. */
  replace(secrets: readonly Secret[]): void {
    const pairs: [string, KeyPair][] = [];
    const roots: [string, string][] = [];
    for (const secret of secrets) {
      const { type, name } = secret;
      if (type.case === "tlsCertificate") {
        const pair = {
          certPem: dataText(type.value.certificateChain, name),
          keyPem: dataText(type.value.privateKey, name),
        };
        createSecureContext({ cert: pair.certPem, key: pair.keyPem });
        pairs.push([name, pair]);
      } else if (type.case === "validationContext") roots.push([name, dataText(type.value.trustedCa, name)]);
      else throw new MeshbedError("SECRET_UNSUPPORTED", `secret ${name}: "${type.case ?? "empty"}" is not supported`);
    }
    this.#pairs.clear();
    this.#roots.clear();
    for (const [name, pair] of pairs) this.#pairs.set(name, pair);
    for (const [name, pem] of roots) this.#roots.set(name, pem);
    this.version++;
  }

  /** SPIFFE id of a certificate held here. */
  spiffeId(name: string): string | undefined {
    const pair = this.#pairs.get(name);
    return pair && spiffeIdOf(new X509Certificate(pair.certPem).subjectAltName);
  }

  /** A function giving the newest context, or undefined while a secret it needs is missing. */
  context(settings: ContextSettings): () => object | undefined {
    let builtVersion = -1;
    let built: object | undefined;
    return () => {
      if (builtVersion !== this.version) {
        builtVersion = this.version;
        built = this.#build(settings);
      }
      return built;
    };
  }

  #build(settings: ContextSettings): object | undefined {
    const { certificate, roots, minVersion, maxVersion, ciphers, requestCert, rejectUnauthorized } = settings;
    const pair = typeof certificate === "string" ? this.#pairs.get(certificate) : certificate;
    const ca = typeof roots === "string" ? this.#roots.get(roots) : roots?.caPem;
    if ((certificate !== undefined && pair === undefined) || (roots !== undefined && ca === undefined))
      return undefined;
    const made = createSecureContext({
      ...(pair && { cert: pair.certPem, key: pair.keyPem }),
      ...(ca !== undefined && { ca }),
      minVersion,
      maxVersion,
      ciphers,
      requestCert,
      rejectUnauthorized,
    } as Parameters<typeof createSecureContext>[0]);
    return (made as unknown as { context: object }).context;
  }
}

/** PEM text of an inline data source. */
export function dataText(source: DataSource | undefined, owner: string): string {
  const specifier = source?.specifier;
  if (specifier?.case === "inlineString") return specifier.value;
  if (specifier?.case === "inlineBytes") return Buffer.from(specifier.value).toString();
  throw new MeshbedError("DATA_SOURCE_UNSUPPORTED", `${owner}: only inline data is supported`);
}
