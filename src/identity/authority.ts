// The certificate authority: creates or loads a CA and issues certificates as PEM strings. Never touches files.

import type * as x509Types from "@peculiar/x509";
import { assert } from "../kernel/assert.ts";
import type { Clock } from "../kernel/clock.ts";
import { MeshbedError, messageOf } from "../kernel/errors.ts";

/** What a certificate may be used for (RFC 5280 section 4.2.1.12). */
export type Usage = "server" | "client";

export interface CertificateRequest {
  /** Subject CN. A subject without name is an empty sequence and makes the subject alternative name critical. */
  commonName?: string;
  /** Subject O, one per entry; Kubernetes reads them as groups. */
  organizations?: readonly string[];
  dnsNames?: readonly string[];
  ipAddresses?: readonly string[];
  uris?: readonly string[];
  lifetimeMs: number;
  usages: readonly Usage[];
}

export interface Certificate {
  certPem: string;
  /** PKCS #8. */
  keyPem: string;
  notAfterMs: number;
}

export interface Authority {
  /** The root certificate: what peers must trust. */
  readonly certPem: string;
  readonly keyPem: string;
  readonly notAfterMs: number;
  /** A fresh key and a certificate for it. Throws MeshbedError CERTIFICATE_REQUEST_INVALID. */
  issue(request: CertificateRequest): Promise<Certificate>;
}

const dayMs = 24 * 60 * 60 * 1000;
const authorityLifetimeMs = 10 * 365 * dayMs;
/** Certificates start in the past by this much, so that clocks may differ a little. */
const backdateMs = 60_000;
const keyAlgorithm = { name: "ECDSA", namedCurve: "P-256" } as const;
const signingAlgorithm = { name: "ECDSA", hash: "SHA-256" } as const;

/** Loaded on first use: the library costs about 100 ms at start, and most processes only read certificates. */
let library: Promise<typeof x509Types> | undefined;
function x509(): Promise<typeof x509Types> {
  library ??= (async () => {
    await import("reflect-metadata");
    const module = await import("@peculiar/x509");
    module.cryptoProvider.set(crypto);
    return module;
  })();
  return library;
}

/** Starts loading the library, for a caller that will need it soon and now waits for something else. */
export function preloadAuthority(): void {
  // Whoever uses it is told of a failure.
  x509().catch(() => {});
}

/** A new self-signed CA, ECDSA P-256, valid for ten years. */
export async function createAuthority(options: { commonName: string; clock: Clock }): Promise<Authority> {
  const lib = await x509();
  const keys = await crypto.subtle.generateKey(keyAlgorithm, true, ["sign", "verify"]);
  const nowMs = options.clock.now();
  const cert = await lib.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: new lib.Name([{ CN: [options.commonName] }]),
    notBefore: new Date(nowMs - backdateMs),
    notAfter: new Date(nowMs + authorityLifetimeMs),
    signingAlgorithm,
    keys,
    extensions: [
      new lib.BasicConstraintsExtension(true, undefined, true),
      new lib.KeyUsagesExtension(lib.KeyUsageFlags.keyCertSign | lib.KeyUsageFlags.cRLSign, true),
      await lib.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return authorityOf(lib, cert, keys.privateKey, await privateKeyPem(lib, keys.privateKey), options.clock);
}

/** The CA whose PEM strings an earlier createAuthority gave. Throws MeshbedError AUTHORITY_INVALID. */
export async function loadAuthority(options: { certPem: string; keyPem: string; clock: Clock }): Promise<Authority> {
  const lib = await x509();
  try {
    const cert = new lib.X509Certificate(options.certPem);
    const raw = lib.PemConverter.decodeFirst(options.keyPem);
    const key = await crypto.subtle.importKey("pkcs8", raw, keyAlgorithm, true, ["sign"]);
    const probe = new TextEncoder().encode("meshbed");
    const signature = await crypto.subtle.sign(signingAlgorithm, key, probe);
    const publicKey = await cert.publicKey.export(keyAlgorithm, ["verify"]);
    if (!(await crypto.subtle.verify(signingAlgorithm, publicKey, signature, probe)))
      throw new Error("the key does not belong to the certificate");
    return authorityOf(lib, cert, key, options.keyPem, options.clock);
  } catch (error) {
    throw new MeshbedError("AUTHORITY_INVALID", `the certificate authority cannot be loaded: ${messageOf(error)}`, {
      fix: "remove the pki folder to have a new authority made",
      cause: error,
    });
  }
}

/** A self-signed server certificate (its own root), for HTTPS where no client knows our CA. ECDSA P-256. */
export async function createSelfSigned(options: {
  commonName: string;
  dnsNames?: readonly string[];
  ipAddresses?: readonly string[];
  lifetimeMs: number;
  clock: Clock;
}): Promise<Certificate> {
  const lib = await x509();
  const keys = await crypto.subtle.generateKey(keyAlgorithm, true, ["sign", "verify"]);
  const nowMs = options.clock.now();
  const notAfterMs = wholeSeconds(nowMs + options.lifetimeMs);
  const cert = await lib.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: new lib.Name([{ CN: [options.commonName] }]),
    notBefore: new Date(nowMs - backdateMs),
    notAfter: new Date(notAfterMs),
    signingAlgorithm,
    keys,
    extensions: leafExtensions(lib, {
      commonName: options.commonName,
      dnsNames: options.dnsNames ?? [],
      ipAddresses: options.ipAddresses ?? [],
      lifetimeMs: options.lifetimeMs,
      usages: ["server"],
    }),
  });
  return { certPem: cert.toString("pem"), keyPem: await privateKeyPem(lib, keys.privateKey), notAfterMs };
}

function authorityOf(
  lib: typeof x509Types,
  cert: x509Types.X509Certificate,
  key: CryptoKey,
  keyPem: string,
  clock: Clock,
): Authority {
  const notAfterMs = cert.notAfter.getTime();
  return {
    certPem: cert.toString("pem"),
    keyPem,
    notAfterMs,
    async issue(request) {
      check(request);
      const nowMs = clock.now();
      const endMs = wholeSeconds(Math.min(nowMs + request.lifetimeMs, notAfterMs));
      const keys = await crypto.subtle.generateKey(keyAlgorithm, true, ["sign", "verify"]);
      const issued = await lib.X509CertificateGenerator.create({
        serialNumber: serialNumber(),
        subject: subjectOf(lib, request),
        issuer: cert.subjectName,
        notBefore: new Date(nowMs - backdateMs),
        notAfter: new Date(endMs),
        publicKey: keys.publicKey,
        signingKey: key,
        signingAlgorithm,
        extensions: [...leafExtensions(lib, request), await lib.AuthorityKeyIdentifierExtension.create(cert.publicKey)],
      });
      return {
        certPem: issued.toString("pem"),
        keyPem: await privateKeyPem(lib, keys.privateKey),
        notAfterMs: endMs,
      };
    },
  };
}

function check(request: CertificateRequest): void {
  const names = (request.dnsNames?.length ?? 0) + (request.ipAddresses?.length ?? 0) + (request.uris?.length ?? 0);
  if (request.commonName === undefined && names === 0)
    throw new MeshbedError("CERTIFICATE_REQUEST_INVALID", "a certificate needs a common name or an alternative name");
  if (!(request.lifetimeMs > 0))
    throw new MeshbedError("CERTIFICATE_REQUEST_INVALID", `lifetimeMs must be positive, not ${request.lifetimeMs}`);
  if (request.usages.length === 0)
    throw new MeshbedError("CERTIFICATE_REQUEST_INVALID", "a certificate needs at least one usage");
}

function subjectOf(lib: typeof x509Types, request: CertificateRequest): x509Types.Name {
  const parts: Record<string, string[]>[] = [];
  for (const organization of request.organizations ?? []) parts.push({ O: [organization] });
  if (request.commonName !== undefined) parts.push({ CN: [request.commonName] });
  return new lib.Name(parts);
}

function leafExtensions(lib: typeof x509Types, request: CertificateRequest): x509Types.Extension[] {
  const names: { type: "dns" | "ip" | "url"; value: string }[] = [];
  for (const value of request.dnsNames ?? []) names.push({ type: "dns", value });
  for (const value of request.ipAddresses ?? []) names.push({ type: "ip", value });
  for (const value of request.uris ?? []) names.push({ type: "url", value });
  const purposes = request.usages.map((usage) =>
    usage === "server" ? lib.ExtendedKeyUsage.serverAuth : lib.ExtendedKeyUsage.clientAuth,
  );
  const extensions: x509Types.Extension[] = [
    new lib.BasicConstraintsExtension(false, undefined, true),
    new lib.KeyUsagesExtension(lib.KeyUsageFlags.digitalSignature, true),
    new lib.ExtendedKeyUsageExtension(purposes),
  ];
  // RFC 5280 section 4.2.1.6: critical when the subject is empty.
  if (names.length > 0)
    extensions.push(new lib.SubjectAlternativeNameExtension(names, request.commonName === undefined));
  return extensions;
}

/** Positive, 127 bits (RFC 5280 section 4.1.2.2 allows 20 octets). */
function serialNumber(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes.toHex();
}

const wholeSeconds = (timeMs: number): number => Math.floor(timeMs / 1000) * 1000;

async function privateKeyPem(lib: typeof x509Types, key: CryptoKey): Promise<string> {
  const pem = lib.PemConverter.encode(await crypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
  assert(pem.startsWith("-----BEGIN PRIVATE KEY-----"), "a PKCS #8 key is written as PRIVATE KEY");
  return `${pem}\n`;
}
