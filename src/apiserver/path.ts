// Reads a request path into the resource it names (Kubernetes API concepts, "resource URIs"). Pure.

export type Target =
  | { kind: "path"; path: string }
  | {
      kind: "resource";
      group: string;
      version: string;
      /** Of a namespaced collection or object; absent for all namespaces and for cluster-scoped resources. */
      namespace: string | undefined;
      plural: string;
      name: string | undefined;
      subresource: string | undefined;
    };

/** Paths under /api/<version>/ and /apis/<group>/<version>/ with at least a resource; everything else is a plain path. */
export function parsePath(path: string): Target {
  const plain: Target = { kind: "path", path };
  let parts: string[];
  try {
    parts = path.split("/").slice(1).map(decodeURIComponent);
  } catch {
    return plain;
  }
  if (parts[parts.length - 1] === "") parts.pop();
  let group = "";
  if (parts[0] === "apis") group = parts[1] ?? "";
  else if (parts[0] !== "api") return plain;
  const rest = parts.slice(parts[0] === "apis" ? 2 : 1);
  const version = rest.shift();
  if (version === undefined || rest.length === 0 || rest.includes("")) return plain;
  let namespace: string | undefined;
  if (rest[0] === "namespaces" && rest.length > 2 && !namespaceSubresources.has(rest[2]!)) {
    namespace = rest[1];
    rest.splice(0, 2);
  }
  if (rest.length > 3) return plain;
  const [plural, name, subresource] = rest;
  return { kind: "resource", group, version, namespace, plural: plural!, name, subresource };
}

/** Third parts of /namespaces/<name>/… that belong to the Namespace itself. */
const namespaceSubresources = new Set(["status", "finalize"]);
