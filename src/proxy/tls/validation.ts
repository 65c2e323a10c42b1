// CertificateValidationContext → how a peer's certificate is judged once the TLS library has checked its chain.

import { createHash, type X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { createSecureContext, rootCertificates } from "node:tls";
import {
  type CertificateValidationContext,
  SubjectAltNameMatcher_SanType as SanType,
  CertificateValidationContext_TrustChainVerification as TrustChain,
} from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { MeshbedError, messageOf } from "../../kernel/errors.ts";
import { dataText } from "../compile/data_source.ts";
import { compileString, type TextTest } from "../routing/match.ts";
import { type AltName, altNamesOf, dnsNameFits } from "./alt_names.ts";
import type { Refusal } from "./refusals.ts";

export interface Validation {
  /** PEM; undefined: the chain is not looked at. */
  ca: string | undefined;
  crl: string | undefined;
  /** One of them must hold for one of the certificate's alternative names; empty: any will do. */
  names: readonly ((name: AltName) => boolean)[];
  /** SHA-256 of the certificate (hex) or of its public key (base64), one of which must fit; both empty: any will do. */
  hashes: ReadonlySet<string>;
  publicKeys: ReadonlySet<string>;
  /** ACCEPT_UNTRUSTED: let in whoever it is, but do not call them authenticated. */
  acceptsUntrusted: boolean;
}

export function compileValidation(message: CertificateValidationContext, at: string): Validation {
  if (message.customValidatorConfig || message.caCertificateProviderInstance)
    throw new MeshbedError(
      "TLS_UNSUPPORTED",
      `${at}: certificate validators and providers of extensions are not supported`,
    );
  // The TLS library tells one fault of a chain: behind an expiry there may be a worse one.
  if (message.allowExpiredCertificate)
    throw new MeshbedError("TLS_UNSUPPORTED", `${at}: allow_expired_certificate is not supported`);
  const hashes = message.verifyCertificateHash.map((text) => text.replaceAll(":", "").toLowerCase());
  const wrong = hashes.find((text) => !/^[0-9a-f]{64}$/.test(text));
  if (wrong !== undefined)
    throw new MeshbedError("TLS_INVALID", `${at}: verify_certificate_hash ${wrong} is not a SHA-256 in hex`);
  const validation: Validation = {
    ca: message.systemRootCerts
      ? rootCertificates.join("\n")
      : message.trustedCa && dataText(message.trustedCa, `${at}, trusted_ca`),
    crl: message.crl && dataText(message.crl, `${at}, crl`),
    names: [
      ...message.matchTypedSubjectAltNames.map(({ sanType, matcher }) => {
        if (!matcher) throw new MeshbedError("TLS_INVALID", `${at}: match_typed_subject_alt_names without a matcher`);
        const types = typesOf[sanType] ?? [];
        const test = sanType === SanType.DNS && matcher.matchPattern.case === "exact" ? dnsTest : compileString;
        const fits = test(matcher);
        return ({ type, value }: AltName) => types.includes(type) && fits(value);
      }),
      ...message.matchSubjectAltNames.map((matcher) => {
        const fits = compileString(matcher);
        const fitsDns = matcher.matchPattern.case === "exact" ? dnsTest(matcher) : fits;
        return ({ type, value }: AltName) => (type === "DNS" ? fitsDns(value) : fits(value));
      }),
    ],
    hashes: new Set(hashes),
    publicKeys: new Set(message.verifyCertificateSpki),
    acceptsUntrusted: message.trustChainVerification === TrustChain.ACCEPT_UNTRUSTED,
  };
  if (validation.crl !== undefined && validation.ca === undefined)
    throw new MeshbedError("TLS_INVALID", `${at}: crl without trusted_ca`);
  try {
    if (validation.ca !== undefined)
      createSecureContext({ ca: validation.ca, ...(validation.crl !== undefined && { crl: validation.crl }) });
  } catch (cause) {
    throw new MeshbedError("TLS_INVALID", `${at}: trusted_ca or crl cannot be used: ${messageOf(cause)}`, { cause });
  }
  return validation;
}

/** combined_validation_context: what the secret says, and of the default what it leaves open. */
export function addDefaults(own: Validation, defaults: Validation): Validation {
  return {
    ca: own.ca ?? defaults.ca,
    crl: own.crl ?? defaults.crl,
    names: [...defaults.names, ...own.names],
    hashes: own.hashes.union(defaults.hashes),
    publicKeys: own.publicKeys.union(defaults.publicKeys),
    acceptsUntrusted: own.acceptsUntrusted || defaults.acceptsUntrusted,
  };
}

const typesOf: Partial<Record<SanType, readonly AltName["type"][]>> = {
  [SanType.DNS]: ["DNS"],
  [SanType.URI]: ["URI"],
  [SanType.EMAIL]: ["email"],
  [SanType.IP_ADDRESS]: ["IP Address"],
  [SanType.OTHER_NAME]: ["other"],
};

/** An exact DNS matcher also fits a wildcard of the certificate (RFC 6125 §6.4.3). */
function dnsTest({ matchPattern }: { matchPattern: { case: string | undefined; value?: unknown } }): TextTest {
  const want = String(matchPattern.value).toLowerCase();
  return (value) => dnsNameFits(value.toLowerCase(), want);
}

/** For auto_san_validation: the host as it is in the request. */
export function hostTest(host: string): (name: AltName) => boolean {
  const isAddress = isIP(host) !== 0;
  return ({ type, value }) =>
    isAddress
      ? type === "IP Address" && sameAddress(value, host)
      : type === "DNS" && dnsNameFits(value.toLowerCase(), host);
}

/** IPv6 has many spellings; a URL parser knows one. */
function sameAddress(a: string, b: string): boolean {
  const canonical = (text: string): string => (isIP(text) === 6 ? new URL(`http://[${text}]`).hostname : text);
  return canonical(a) === canonical(b);
}

export type Judgement = { accepted: true; verified: boolean } | ({ accepted: false } & Refusal);

/**
 * `chainError`: what the TLS library thinks of the chain. Envoy's order: the chain, then names, then hashes.
 * A missing certificate is the caller's business.
 */
export function judge(validation: Validation, certificate: X509Certificate, chainError: Error | null): Judgement {
  const refusal = objection(validation, certificate, chainError);
  if (refusal === undefined) return { accepted: true, verified: true };
  return validation.acceptsUntrusted ? { accepted: true, verified: false } : { accepted: false, ...refusal };
}

function objection(
  { ca, names, hashes, publicKeys }: Validation,
  certificate: X509Certificate,
  chainError: Error | null,
): Refusal | undefined {
  const code = (chainError as { code?: string } | null)?.code;
  // The library's own check of the host's name comes after a good chain; names are our business.
  if (ca !== undefined && chainError !== null && code !== "ERR_TLS_CERT_ALTNAME_INVALID")
    return { kind: "fail_verify_error", reason: chainError.message };
  if (names.length > 0 && !altNamesFit(certificate, names))
    return { kind: "fail_verify_san", reason: `certificate is for ${certificate.subjectAltName ?? "no name"}` };
  if (hashes.size + publicKeys.size > 0)
    return hashes.has(certificateHash(certificate)) || publicKeys.has(publicKeyHash(certificate))
      ? undefined
      : { kind: "fail_verify_cert_hash", reason: "certificate is not one of those listed" };
  // Without roots, names or hashes nothing has been verified.
  return ca === undefined
    ? { kind: "fail_verify_error", reason: "there is nothing to verify the certificate with" }
    : undefined;
}

export function altNamesFit(certificate: X509Certificate, tests: Validation["names"]): boolean {
  const presented = altNamesOf(certificate.subjectAltName);
  return tests.some((fits) => presented.some(fits));
}

/** Lower-case hex, without colons. */
export const certificateHash = (certificate: X509Certificate): string =>
  certificate.fingerprint256.replaceAll(":", "").toLowerCase();

const publicKeyHash = (certificate: X509Certificate): string =>
  createHash("sha256")
    .update(certificate.publicKey.export({ type: "spki", format: "der" }))
    .digest("base64");
