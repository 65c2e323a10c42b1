// SPIFFE ids in certificates: read from the subject alternative name as the TLS library prints it.

/** The one URI SAN "spiffe://…" of a certificate; undefined when there is none or more than one (SPIFFE X.509-SVID §2). */
export function spiffeIdOf(subjectAltName: string | undefined): string | undefined {
  let found: string | undefined;
  for (const entry of (subjectAltName ?? "").split(", ")) {
    if (!entry.startsWith("URI:")) continue;
    if (found !== undefined) return undefined;
    found = entry.slice(4);
  }
  return found?.startsWith("spiffe://") ? found : undefined;
}
