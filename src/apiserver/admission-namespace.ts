// Admission of Namespaces and of what lives in them (Kubernetes' NamespaceLifecycle plugin and namespace strategy).

import { forbidden, notFound } from "./failure.ts";
import { decodeEntry, recordKey } from "./records.ts";
import type { AdmissionRequest, CoreDeps } from "./types.ts";

export const namespaceResource = { group: "", plural: "namespaces", kind: "Namespace", namespaced: false } as const;

/** Objects are created only in a namespace that exists (404) and is not being deleted (403). */
export function requireNamespace({ store }: CoreDeps, { kind, object, old }: AdmissionRequest): void {
  if (!kind.namespaced || old !== undefined) return;
  const name = object.metadata.namespace ?? "";
  const entry = store.get(recordKey(namespaceResource, undefined, name));
  if (entry === undefined) throw notFound(namespaceResource, name);
  if (decodeEntry(entry).metadata.deletionTimestamp !== undefined)
    throw forbidden(
      kind,
      object.metadata.name,
      `unable to create new content in namespace ${name} because it is being terminated`,
      [{ reason: "NamespaceTerminating", message: `namespace ${name} is being terminated` }],
    );
}

/** The finalizer that keeps a namespace until its contents are gone, the label with its name, and its phase. */
export function completeNamespace(_: CoreDeps, { kind, object, old }: AdmissionRequest): void {
  if (kind.group !== "" || kind.kind !== "Namespace") return;
  const name = object.metadata.name;
  object.metadata.labels = { ...object.metadata.labels, "kubernetes.io/metadata.name": name };
  // Only the finalize subresource changes spec.finalizers.
  if (old !== undefined) object["spec"] = old["spec"];
  else {
    object["spec"] = { finalizers: ["kubernetes"] };
    object["status"] = { phase: "Active" };
  }
}
