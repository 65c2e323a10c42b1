// Path normalisation before matching and authorization, so that no two parsers see different paths (RFC 3986 §6.2.2; CVE-2021-31920).

/** Envoy's path_with_escaped_slashes_action. */
export type EscapedSlashes = "keep" | "reject" | "redirect" | "forward";

const escapedSlash = /%(?:2f|5c)/i;

/** %2F or %5C before the query. */
export function hasEscapedSlash(pathAndQuery: string): boolean {
  return escapedSlash.test(pathAndQuery.split("?", 1)[0]!);
}
export function unescapeSlashes(pathAndQuery: string): string {
  const question = pathAndQuery.indexOf("?");
  const path = question < 0 ? pathAndQuery : pathAndQuery.slice(0, question);
  return path.replace(/%(?:2f|5c)/gi, "/") + pathAndQuery.slice(path.length);
}

/** A cheap test that lets ordinary paths through untouched. */
export function mayNeedNormalising(path: string): boolean {
  return path.includes("%") || path.includes("//") || path.includes("/.") || path.includes("\\");
}

/**
 * Decodes percent-encoded unreserved characters, merges slashes, resolves dot segments; the query is left alone.
 * Undefined when an escape is malformed, hides a NUL, or the path climbs above its root.
 */
export function normalisePath(pathAndQuery: string): string | undefined {
  const question = pathAndQuery.indexOf("?");
  const query = question < 0 ? "" : pathAndQuery.slice(question);
  const raw = question < 0 ? pathAndQuery : pathAndQuery.slice(0, question);
  const decoded = decodeUnreserved(raw.replaceAll("\\", "/"));
  if (decoded === undefined) return undefined;
  const out: string[] = [];
  const segments = decoded.replace(/\/{2,}/g, "/").split("/");
  for (let i = 1; i < segments.length; i++) {
    const segment = segments[i]!;
    const last = i === segments.length - 1;
    if (segment === "." || segment === "..") {
      if (segment === ".." && out.pop() === undefined) return undefined;
      if (last) out.push("");
    } else out.push(segment);
  }
  return `/${out.join("/")}${query}`;
}

function decodeUnreserved(path: string): string | undefined {
  if (!path.includes("%")) return path;
  let valid = true;
  const decoded = path.replace(/%(.{0,2})/g, (whole, digits: string) => {
    if (!/^[0-9A-Fa-f]{2}$/.test(digits) || digits === "00") {
      valid = false;
      return whole;
    }
    const character = String.fromCharCode(Number.parseInt(digits, 16));
    return /[A-Za-z0-9\-._~]/.test(character) ? character : `%${digits.toUpperCase()}`;
  });
  return valid ? decoded : undefined;
}
