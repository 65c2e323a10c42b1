// Subject alternative names of certificates, read as node:crypto prints them, and how DNS names are compared. Pure.

export interface AltName {
  type: "DNS" | "URI" | "email" | "IP Address" | "other";
  value: string;
}

const known: Readonly<Record<string, AltName["type"]>> = {
  DNS: "DNS",
  URI: "URI",
  email: "email",
  "IP Address": "IP Address",
};
/** A value with odd characters in it is printed as a JSON string, so that it cannot pass for two names. */
const entry = /([^:,]+):("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)/g;

/** "DNS:a.test, URI:spiffe://…" */
export function altNamesOf(text: string | undefined): AltName[] {
  const names: AltName[] = [];
  for (const [, type, value] of (text ?? "").matchAll(entry))
    names.push({
      type: known[type!] ?? "other",
      value: value!.startsWith('"') ? (JSON.parse(value!) as string) : value!,
    });
  return names;
}

/** `pattern` is the certificate's: a leading "*." stands for exactly one label (RFC 6125 §6.4.3). Lower case. */
export function dnsNameFits(pattern: string, name: string): boolean {
  if (!pattern.startsWith("*.")) return pattern === name;
  const dot = name.indexOf(".");
  return dot > 0 && name.slice(dot) === pattern.slice(1) && pattern.includes(".", 2);
}

/** What a verified certificate calls its holder, as Envoy's RBAC reads it: its URI SANs, else its DNS SANs, else its subject (RFC 2253). */
export function holderNames(certificate: {
  subjectAltName: string | undefined;
  subject: string | undefined;
}): string[] {
  const names = altNamesOf(certificate.subjectAltName);
  const of = (wanted: AltName["type"]): string[] =>
    names.filter(({ type }) => type === wanted).map(({ value }) => value);
  const found = [of("URI"), of("DNS")].find((list) => list.length > 0);
  return found ?? (certificate.subject ? [certificate.subject.split("\n").reverse().join(",")] : []);
}

/** The one URI SAN "spiffe://…" of a certificate; undefined when there is none or more than one URI (SPIFFE X.509-SVID §2). */
export function spiffeIdOf(subjectAltName: string | undefined): string | undefined {
  const uris = altNamesOf(subjectAltName).filter(({ type }) => type === "URI");
  const only = uris.length === 1 ? uris[0]!.value : undefined;
  return only?.startsWith("spiffe://") ? only : undefined;
}
