// The secrets of one xDS node (SDS) and the TLS contexts made of them. A context is built once per change of its secrets, not per connection.

import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import { equals } from "@bufbuild/protobuf";
import {
  type CertificateValidationContext,
  CertificateValidationContextSchema,
  type TlsCertificate,
} from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import type { Secret } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { CommonTlsContext } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { MeshbedError, messageOf } from "../../kernel/errors.ts";
import { dataText } from "../compile/data_source.ts";
import { altNamesOf, spiffeIdOf } from "./alt_names.ts";
import type { TlsParams } from "./params.ts";
import { addDefaults, compileValidation, type Validation } from "./validation.ts";

export interface KeyPair {
  certPem: string;
  keyPem: string;
  /** What it is for: DNS names in lower case, or the common name of a certificate without any. */
  names: readonly string[];
  /** "rsa", "ec", … */
  keyType: string;
}

/** A secret's name, or what stands in the message itself. */
export type KeyPairSource = string | KeyPair;
export interface ValidationSource {
  /** combined_validation_context has both: the secret, and what is added to it. */
  secret: string | undefined;
  inline: Validation | undefined;
}

export interface ContextSettings extends TlsParams {
  /** A server that asks for a client certificate. */
  requestCert: boolean;
  rejectUnauthorized: boolean;
  /** Sessions may be resumed by tickets. */
  tickets: boolean;
}

/** SSL_OP_NO_TICKET, which TLS 1.3 honours as well. */
const noTickets = 0x4000;

/** Node:tls SecureContext's native part, which is what sockets take. Several key pairs: one per key type, by what the client can do. */
export function buildContext(
  pairs: readonly KeyPair[],
  validation: Validation | undefined,
  settings: ContextSettings,
): object {
  const { tickets, ...rest } = settings;
  const made = createSecureContext({
    ...rest,
    ...(pairs.length > 0 && { cert: pairs.map(({ certPem }) => certPem), key: pairs.map(({ keyPem }) => keyPem) }),
    ...(validation?.ca !== undefined && { ca: validation.ca }),
    ...(validation?.crl !== undefined && { crl: validation.crl }),
    honorCipherOrder: true,
    ...(!tickets && { secureOptions: noTickets }),
  } as Parameters<typeof createSecureContext>[0]);
  return (made as unknown as { context: object }).context;
}

export class SecretStore {
  readonly #pairs = new Map<string, KeyPair>();
  readonly #validations = new Map<string, { message: CertificateValidationContext; validation: Validation }>();
  /** Changes whenever a secret does. */
  version = 0;

  /** A secret that cannot be read throws (NACK) and changes nothing. What says the same as before keeps its identity. */
  take({ type, name }: Secret): void {
    const at = `secret ${name}`;
    if (type.case === "tlsCertificate") {
      const pair = compileKeyPair(type.value, at);
      const before = this.#pairs.get(name);
      if (before?.certPem === pair.certPem && before.keyPem === pair.keyPem) return;
      this.remove(name);
      this.#pairs.set(name, pair);
    } else if (type.case === "validationContext") {
      const message = type.value;
      const validation = compileValidation(message, at);
      const before = this.#validations.get(name);
      const same =
        before !== undefined &&
        before.validation.ca === validation.ca &&
        before.validation.crl === validation.crl &&
        equals(CertificateValidationContextSchema, before.message, message);
      if (same) return;
      this.remove(name);
      this.#validations.set(name, { message, validation });
    } else throw new MeshbedError("SECRET_UNSUPPORTED", `${at}: "${type.case ?? "empty"}" is not supported`);
  }

  remove(name: string): void {
    this.#pairs.delete(name);
    this.#validations.delete(name);
    this.version++;
  }

  /** Forgets what is not named. */
  keep(names: ReadonlySet<string>): void {
    for (const name of [...this.#pairs.keys(), ...this.#validations.keys()]) if (!names.has(name)) this.remove(name);
  }

  pair(source: KeyPairSource): KeyPair | undefined {
    return typeof source === "string" ? this.#pairs.get(source) : source;
  }

  /** A function giving the current one, the same object until it changes; undefined while its secret is missing. */
  validation({ secret, inline }: ValidationSource): () => Validation | undefined {
    let from: Validation | undefined;
    let merged: Validation | undefined;
    return () => {
      const own = secret === undefined ? inline : this.#validations.get(secret)?.validation;
      if (own === undefined || secret === undefined || inline === undefined) return own;
      if (from !== own) {
        from = own;
        merged = addDefaults(own, inline);
      }
      return merged;
    };
  }

  /** SPIFFE id of a certificate held here. */
  spiffeId(name: string): string | undefined {
    const pair = this.#pairs.get(name);
    return pair && spiffeIdOf(new X509Certificate(pair.certPem).subjectAltName);
  }

  /** For clients: a function giving the newest context, or undefined while a secret it needs is missing. */
  clientContext(
    certificate: KeyPairSource | undefined,
    roots: ValidationSource | undefined,
    params: TlsParams,
  ): () => object | undefined {
    const validationOf = roots && this.validation(roots);
    const settings = { ...params, requestCert: false, rejectUnauthorized: false, tickets: true };
    let checked = -1;
    let pair: KeyPair | undefined;
    let validation: Validation | undefined;
    let built: object | undefined;
    return () => {
      if (checked === this.version) return built;
      checked = this.version;
      const nextPair = certificate === undefined ? undefined : this.pair(certificate);
      const nextValidation = validationOf?.();
      const isMissing = (certificate !== undefined && !nextPair) || (validationOf !== undefined && !nextValidation);
      if (isMissing) built = undefined;
      else if (built === undefined || nextPair !== pair || nextValidation !== validation)
        built = buildContext(nextPair ? [nextPair] : [], nextValidation, settings);
      pair = nextPair;
      validation = nextValidation;
      return built;
    };
  }
}

/** Throws when certificate and key cannot be used together. */
function compileKeyPair(message: TlsCertificate, at: string): KeyPair {
  if (message.privateKeyProvider || message.pkcs12 || message.password)
    throw new MeshbedError("TLS_UNSUPPORTED", `${at}: key providers, PKCS #12 and encrypted keys are not supported`);
  const certPem = dataText(message.certificateChain, `${at}, certificate_chain`);
  const keyPem = dataText(message.privateKey, `${at}, private_key`);
  try {
    createSecureContext({ cert: certPem, key: keyPem });
    const certificate = new X509Certificate(certPem);
    const alternatives = altNamesOf(certificate.subjectAltName);
    const dns = alternatives.filter(({ type }) => type === "DNS").map(({ value }) => value.toLowerCase());
    const commonName = /^CN=(.+)$/m.exec(certificate.subject)?.[1]?.toLowerCase();
    return {
      certPem,
      keyPem,
      names: dns.length > 0 || commonName === undefined ? dns : [commonName],
      keyType: certificate.publicKey.asymmetricKeyType ?? "",
    };
  } catch (cause) {
    throw new MeshbedError("TLS_INVALID", `${at}: certificate and key cannot be used: ${messageOf(cause)}`, { cause });
  }
}

/** Where the certificates of a TLS context come from. */
export function keyPairSources(common: CommonTlsContext | undefined, at: string): KeyPairSource[] {
  return [
    ...(common?.tlsCertificateSdsSecretConfigs ?? []).map(({ name }) => name),
    ...(common?.tlsCertificates ?? []).map((message) => compileKeyPair(message, at)),
  ];
}

/** How the peer of a TLS context is judged; undefined: not at all. */
export function validationSource(common: CommonTlsContext | undefined, at: string): ValidationSource | undefined {
  const validation = common?.validationContextType;
  switch (validation?.case) {
    case "validationContext":
      return { secret: undefined, inline: compileValidation(validation.value, at) };
    case "validationContextSdsSecretConfig":
      return { secret: validation.value.name, inline: undefined };
    case "combinedValidationContext": {
      const { defaultValidationContext: inline, validationContextSdsSecretConfig: sds } = validation.value;
      return { secret: sds?.name, inline: inline && compileValidation(inline, at) };
    }
    case "validationContextCertificateProvider":
    case "validationContextCertificateProviderInstance":
      throw new MeshbedError("TLS_UNSUPPORTED", `${at}: ${validation.case} is not supported`);
    default:
      return undefined;
  }
}

/** The SDS names among them. */
export const secretNamesOf = (pairs: readonly KeyPairSource[], roots: ValidationSource | undefined): string[] =>
  [...pairs, roots?.secret].filter((name) => typeof name === "string");
