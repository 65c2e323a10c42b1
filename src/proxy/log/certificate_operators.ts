// Command operators about the downstream TLS connection and its certificates; read from the session only when a format asks.

import type { X509Certificate } from "node:crypto";
import { altNamesOf } from "../tls/alt_names.ts";
import type { Operator } from "./operators.ts";
import type { StreamInfo } from "./stream_info.ts";

const versions: Readonly<Record<string, string>> = { "TLSv1.2": "TLSv1.2", "TLSv1.3": "TLSv1.3" };

/** RFC 2253: most specific attribute first, joined by commas. node:crypto prints one attribute a line, the other way round. */
const distinguishedName = (text: string): string | undefined =>
  text === "" ? undefined : text.split("\n").reverse().join(",");
const hex = (fingerprint: string): string => fingerprint.replaceAll(":", "").toLowerCase();
const date = (text: string): string => new Date(text).toISOString().replace(/\.\d+Z$/, ".000Z");
const names = (type: "DNS" | "URI") => (certificate: X509Certificate) =>
  altNamesOf(certificate.subjectAltName)
    .filter((name) => name.type === type)
    .map(({ value }) => value)
    .join(",") || undefined;

const readings: Readonly<Record<string, (certificate: X509Certificate) => string | undefined>> = {
  SUBJECT: ({ subject }) => distinguishedName(subject),
  ISSUER: ({ issuer }) => distinguishedName(issuer),
  SERIAL: ({ serialNumber }) => serialNumber.toLowerCase(),
  FINGERPRINT_256: ({ fingerprint256 }) => hex(fingerprint256),
  FINGERPRINT_1: ({ fingerprint }) => hex(fingerprint),
  URI_SAN: names("URI"),
  DNS_SAN: names("DNS"),
  CERT: (certificate) => encodeURIComponent(certificate.toString()),
  CERT_V_START: ({ validFrom }) => date(validFrom),
  CERT_V_END: ({ validTo }) => date(validTo),
};

const peer = ({ connection }: StreamInfo): X509Certificate | undefined =>
  connection.session?.getPeerX509Certificate() ?? undefined;
const local = ({ connection }: StreamInfo): X509Certificate | undefined =>
  connection.session?.getX509Certificate() ?? undefined;

export const certificateOperators: Record<string, Operator> = {
  DOWNSTREAM_TLS_VERSION: ({ connection }) => {
    const version = connection.session?.getTLSVersion();
    return version === undefined ? undefined : versions[version];
  },
  DOWNSTREAM_TLS_CIPHER: ({ connection }) => connection.session?.getCipher()?.name,
  DOWNSTREAM_TLS_SESSION_ID: () => undefined,
};
for (const [name, read] of Object.entries(readings)) {
  for (const [side, certificate] of [["PEER", peer] as const, ["LOCAL", local] as const])
    certificateOperators[`DOWNSTREAM_${side}_${name}`] = (info) => {
      const found = certificate(info);
      return found && read(found);
    };
}
