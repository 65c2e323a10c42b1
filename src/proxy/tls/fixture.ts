// Certificates, TLS settings and TLS clients for this room's tests. Nothing at run time imports it.

import { connect, type PeerCertificate, type TLSSocket } from "node:tls";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { type Authority, createAuthority } from "../../identity/authority.ts";
import { realClock } from "../../kernel/clock.ts";
import { inline, pack } from "../fixture.ts";

export const hourMs = 3_600_000;

export const serverTlsOf = (init: MessageInitShape<typeof DownstreamTlsContextSchema>) =>
  ({
    name: "envoy.transport_sockets.tls",
    configType: { case: "typedConfig", value: pack(DownstreamTlsContextSchema, init) },
  }) as const;

export const clientTlsOf = (init: MessageInitShape<typeof UpstreamTlsContextSchema>) =>
  ({
    name: "envoy.transport_sockets.tls",
    configType: { case: "typedConfig", value: pack(UpstreamTlsContextSchema, init) },
  }) as const;

export interface Pair {
  certPem: string;
  keyPem: string;
}
export const tlsCertificate = ({ certPem, keyPem }: Pair) => ({
  certificateChain: inline(certPem),
  privateKey: inline(keyPem),
});

/** A certificate authority that also makes what the product's own does not: RSA keys, revocation lists. */
export interface TestAuthority extends Authority {
  rsa(name: string): Promise<Pair>;
  revoke(certPems: readonly string[]): Promise<string>;
}

export async function testAuthority(commonName: string): Promise<TestAuthority> {
  const authority = await createAuthority({ commonName, clock: realClock });
  const x509 = await import("@peculiar/x509");
  const ecdsa = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const rsa = {
    name: "RSASSA-PKCS1-v1_5",
    hash: "SHA-256",
    publicExponent: Uint8Array.of(1, 0, 1),
    modulusLength: 2048,
  };
  const root = new x509.X509Certificate(authority.certPem);
  const raw = x509.PemConverter.decodeFirst(authority.keyPem);
  const signingKey = await crypto.subtle.importKey("pkcs8", raw, ecdsa, true, ["sign"]);
  const nowMs = realClock.now();
  return {
    ...authority,
    async rsa(name) {
      const keys = await crypto.subtle.generateKey(rsa, true, ["sign", "verify"]);
      const certificate = await x509.X509CertificateGenerator.create({
        serialNumber: "0a",
        subject: `CN=${name}`,
        issuer: root.subjectName,
        notBefore: new Date(nowMs - 60_000),
        notAfter: new Date(nowMs + hourMs),
        publicKey: keys.publicKey,
        signingKey,
        signingAlgorithm: ecdsa,
        extensions: [new x509.SubjectAlternativeNameExtension([{ type: "dns", value: name }])],
      });
      const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
      return { certPem: certificate.toString("pem"), keyPem: x509.PemConverter.encode(key, "PRIVATE KEY") };
    },
    async revoke(certPems) {
      const list = await x509.X509CrlGenerator.create({
        issuer: root.subjectName,
        thisUpdate: new Date(nowMs - 60_000),
        nextUpdate: new Date(nowMs + hourMs),
        entries: certPems.map((pem) => ({
          serialNumber: new x509.X509Certificate(pem).serialNumber,
          revocationDate: new Date(nowMs - 60_000),
          // Without one the library writes an empty list of extensions, which is not DER.
          reason: x509.X509CrlReason.keyCompromise,
        })),
        signingAlgorithm: ecdsa,
        signingKey,
      });
      // RFC 7468 §6 has another label.
      return list.toString("pem").replaceAll(" CRL-", " X509 CRL-");
    },
  };
}

export interface TlsAnswer {
  /** The server's certificate; undefined when the handshake failed. */
  subject: string | undefined;
  protocol: string | null;
  cipher: string;
  certificate: PeerCertificate | undefined;
  reused: boolean;
  session: Buffer | undefined;
  /** Everything the server sent; empty: it refused. */
  text: string;
}

/** One GET over TLS. The server's certificate is looked at, not judged. */
export function getOverTls(port: number, serverName: string, more: object = {}): Promise<TlsAnswer> {
  const { promise, resolve } = Promise.withResolvers<TlsAnswer>();
  const answer: TlsAnswer = {
    subject: undefined,
    protocol: null,
    cipher: "",
    certificate: undefined,
    reused: false,
    session: undefined,
    text: "",
  };
  const options = { host: "127.0.0.1", port, servername: serverName, rejectUnauthorized: false, ...more };
  const socket: TLSSocket = connect(options, () => {
    const certificate = socket.getPeerCertificate();
    answer.certificate = certificate;
    answer.subject = certificate.subject?.CN as string | undefined;
    answer.protocol = socket.getProtocol();
    answer.cipher = socket.getCipher().name;
    answer.reused = socket.isSessionReused();
    socket.write(`GET / HTTP/1.1\r\nhost: ${serverName || "none.test"}\r\nconnection: close\r\n\r\n`);
  });
  socket.on("session", (session) => {
    answer.session = session;
  });
  socket.on("data", (chunk) => {
    answer.text += chunk;
  });
  socket.on("error", () => resolve(answer));
  socket.on("close", () => resolve(answer));
  return promise;
}
