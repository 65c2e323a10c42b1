// What a caller sent, checked for the shape every object has before anything else looks at it.

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject } from "../api/object.ts";
import { badRequest } from "./failure.ts";
import { apiVersionFor } from "./records.ts";

type Json = Record<string, unknown>;

export const isRecord = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

interface Target {
  kind: KindDefinition;
  version: string;
  namespace: string | undefined;
}

/** The body as an object of the kind its path names, in the stored version. Throws 400. Changes `body`, which is ours. */
export function objectBody(body: unknown, { kind, version, namespace }: Target): KubeObject {
  if (!isRecord(body)) throw badRequest("the body of the request must be an object");
  const expected = apiVersionFor(kind, version);
  if (body["kind"] === undefined || body["kind"] === "") throw badRequest("Object 'Kind' is missing in the body");
  if (body["apiVersion"] !== expected || body["kind"] !== kind.kind)
    throw badRequest(
      `the API version in the data (${body["apiVersion"]}, Kind=${body["kind"]}) does not match the expected API version (${expected}, Kind=${kind.kind})`,
    );
  body["apiVersion"] = apiVersionFor(kind, kind.version);
  body["metadata"] ??= {};
  const problem = metadataProblem(body["metadata"]);
  if (problem !== undefined) throw badRequest(`${kind.kind} in version "${version}" cannot be handled: ${problem}`);
  const metadata = body["metadata"] as Json;
  if (kind.namespaced) {
    metadata["namespace"] ||= namespace;
    if (metadata["namespace"] !== namespace)
      throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
  }
  // Who manages which field is the business of server-side apply, which is not offered.
  delete metadata["managedFields"];
  delete metadata["selfLink"];
  return body as KubeObject;
}

const textFields = [
  "name",
  "generateName",
  "namespace",
  "uid",
  "resourceVersion",
  "creationTimestamp",
  "deletionTimestamp",
];

/** Why this cannot be metadata; the kinds' validation relies on these types. */
function metadataProblem(metadata: unknown): string | undefined {
  if (!isRecord(metadata)) return "metadata must be an object";
  for (const field of textFields) {
    if (metadata[field] === null) delete metadata[field];
    if (metadata[field] !== undefined && typeof metadata[field] !== "string")
      return `metadata.${field} must be a string`;
  }
  for (const field of ["labels", "annotations"]) {
    const map = metadata[field];
    if (map === null) delete metadata[field];
    else if (map !== undefined) {
      if (!isRecord(map)) return `metadata.${field} must be a map of strings`;
      for (const key of Object.keys(map)) {
        if (map[key] === null) map[key] = "";
        if (typeof map[key] !== "string") return `metadata.${field}.${key} must be a string`;
      }
    }
  }
  const { finalizers, ownerReferences } = metadata;
  if (finalizers === null) delete metadata["finalizers"];
  else if (finalizers !== undefined)
    if (!Array.isArray(finalizers) || !finalizers.every((each) => typeof each === "string"))
      return "metadata.finalizers must be a list of strings";
  if (ownerReferences === null) delete metadata["ownerReferences"];
  else if (ownerReferences !== undefined)
    if (!Array.isArray(ownerReferences) || !ownerReferences.every(isRecord))
      return "metadata.ownerReferences must be a list of objects";
  return undefined;
}
