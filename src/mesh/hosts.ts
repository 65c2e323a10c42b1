// Host names as Istio reads them: short names, wildcards, which of two is the more specific, who may see what.

/** A name without a dot is of the given namespace (Istio: ResolveShortnameToFQDN); "*" and anything with a dot stand as they are. */
export function resolveHost(host: string, namespace: string, clusterDomain: string): string {
  const lower = host.toLowerCase();
  return lower === "" || lower.includes(".") || lower.includes("*")
    ? lower
    : `${lower}.${namespace}.svc.${clusterDomain}`;
}

/** "mesh", "namespace/name", or "name" in the rule's own namespace. */
export const resolveGateway = (name: string, namespace: string): string =>
  name === "mesh" || name.includes("/") ? name : `${namespace}/${name}`;

/** Whether `pattern` ("*", "*.example.com" or a name) covers `host`, which may be a pattern itself. */
export function hostCovers(pattern: string, host: string): boolean {
  if (pattern === host || pattern === "*") return true;
  return pattern.startsWith("*") && host.endsWith(pattern.slice(1)) && host.length >= pattern.length;
}

/** The narrower of two patterns when one covers the other, else undefined. */
export function hostIntersection(a: string, b: string): string | undefined {
  if (hostCovers(a, b)) return b;
  return hostCovers(b, a) ? a : undefined;
}

/** Most specific first: names before wildcards, longer wildcards before shorter. */
export function compareSpecificity(a: string, b: string): number {
  const wildcards = Number(a.startsWith("*")) - Number(b.startsWith("*"));
  return wildcards !== 0 ? wildcards : b.length - a.length || (a < b ? -1 : a > b ? 1 : 0);
}

/** exportTo as a set of namespaces: "." is the object's own, "*" or nothing everybody (undefined), "~" nobody. */
export function exportSet(exportTo: readonly string[] | undefined, namespace: string): ReadonlySet<string> | undefined {
  if (exportTo === undefined || exportTo.length === 0 || exportTo.includes("*")) return undefined;
  return new Set(exportTo.filter((entry) => entry !== "~").map((entry) => (entry === "." ? namespace : entry)));
}

export const isVisible = (exportTo: ReadonlySet<string> | undefined, namespace: string): boolean =>
  exportTo === undefined || exportTo.has(namespace);
