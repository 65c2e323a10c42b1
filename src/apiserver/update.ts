// update and patch: the new object from what the caller sent and what is stored; the main resource and its status keep apart.

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject } from "../api/object.ts";
import { conflict, invalid, modifiedConflict } from "./failure.ts";

/** Which part of an object a write may touch. */
export type Part = "main" | "status" | "finalize";

/**
 * The object to store: `sent` where the caller may decide, `current` where not. `sent` is the caller's own copy.
 * Throws 409 when `sent` names another resourceVersion or uid.
 */
export function merged(kind: KindDefinition, current: KubeObject, sent: KubeObject, part: Part): KubeObject {
  const { name, resourceVersion, uid } = sent.metadata;
  if (name !== current.metadata.name)
    throw invalid(kind, current.metadata.name, [
      { field: "metadata.name", reason: "FieldValueInvalid", message: `Invalid value: "${name}": field is immutable` },
    ]);
  if (resourceVersion && resourceVersion !== "0" && resourceVersion !== current.metadata.resourceVersion)
    throw modifiedConflict(kind, name);
  if (uid && uid !== current.metadata.uid)
    throw conflict(
      kind,
      name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${current.metadata.uid}`,
    );
  if (part === "status") return { ...current, status: sent["status"] };
  if (part === "finalize") return { ...current, spec: sent["spec"] };
  return mergedMain(kind, current, sent);
}

function mergedMain(kind: KindDefinition, current: KubeObject, sent: KubeObject): KubeObject {
  const { labels, annotations, finalizers, ownerReferences } = sent.metadata;
  const { labels: _l, annotations: _a, finalizers: _f, ownerReferences: _o, ...kept } = current.metadata;
  const wanted: KubeObject = {
    ...sent,
    metadata: {
      ...kept,
      ...(labels && Object.keys(labels).length > 0 && { labels }),
      ...(annotations && Object.keys(annotations).length > 0 && { annotations }),
      ...(finalizers && finalizers.length > 0 && { finalizers }),
      ...(ownerReferences && ownerReferences.length > 0 && { ownerReferences }),
    },
  };
  if (kind.hasStatus) {
    if (current["status"] === undefined) delete wanted["status"];
    else wanted["status"] = current["status"];
  }
  return wanted;
}

/** Counts a change of anything but metadata and status in metadata.generation, for kinds that have one. */
export function countGeneration(current: KubeObject, wanted: KubeObject): void {
  const { generation } = current.metadata;
  if (generation === undefined) return;
  const contentOf = ({ metadata: _, status: __, ...content }: KubeObject) => content;
  if (!Bun.deepEquals(contentOf(current), contentOf(wanted))) wanted.metadata.generation = generation + 1;
}
