// Rules for metadata that hold for every kind (apimachinery api/validation ValidateObjectMeta).

import { child, forbidden, invalid, required, sameValue } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { labelKeyProblem, labelValueProblem } from "../names.ts";
import type { KubeObject, ObjectMeta } from "../object.ts";

/** All annotations of one object together, keys and values. */
const annotationBytesMax = 256 * 1024;

export function validateMetadata(
  object: KubeObject,
  old: KubeObject | undefined,
  namespaced: boolean,
  nameProblem: (name: string) => string | undefined,
): FieldError[] {
  const { metadata } = object;
  const errors: FieldError[] = [];
  if (metadata.generateName !== undefined && metadata.generateName !== "") {
    // A name is going to be appended, so a trailing dash is fine.
    const problem = nameProblem(metadata.generateName.replace(/-$/, ""));
    if (problem !== undefined) errors.push(invalid("metadata.generateName", metadata.generateName, problem));
  }
  if (!metadata.name) {
    if (!metadata.generateName) errors.push(required("metadata.name", "name or generateName is required"));
  } else if (old === undefined) {
    const problem = nameProblem(metadata.name);
    if (problem !== undefined) errors.push(invalid("metadata.name", metadata.name, problem));
  }
  if (namespaced) {
    if (!metadata.namespace) errors.push(required("metadata.namespace"));
  } else if (metadata.namespace) errors.push(forbidden("metadata.namespace", "not allowed on this type"));
  errors.push(...validateLabels(metadata.labels, "metadata.labels"));
  errors.push(...validateAnnotations(metadata.annotations, "metadata.annotations"));
  errors.push(...validateOwners(metadata));
  metadata.finalizers?.forEach((finalizer, i) => {
    const problem = labelKeyProblem(finalizer);
    if (problem !== undefined) errors.push(invalid(child("metadata.finalizers", i), finalizer, problem));
  });
  if (old !== undefined) errors.push(...validateMetadataUpdate(metadata, old.metadata));
  return errors;
}

function validateMetadataUpdate(metadata: ObjectMeta, old: ObjectMeta): FieldError[] {
  const errors: FieldError[] = [];
  for (const field of ["name", "namespace", "uid", "creationTimestamp"] as const)
    if (metadata[field] !== undefined && !sameValue(metadata[field], old[field]))
      errors.push(invalid(`metadata.${field}`, metadata[field], "field is immutable"));
  if (old.deletionTimestamp !== undefined) {
    const added = (metadata.finalizers ?? []).filter((each) => !old.finalizers?.includes(each));
    if (added.length > 0)
      errors.push(
        forbidden(
          "metadata.finalizers",
          `no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`,
        ),
      );
  }
  return errors;
}

export function validateLabels(labels: Record<string, string> | undefined, path: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const [key, value] of Object.entries(labels ?? {})) {
    const problem = labelKeyProblem(key);
    if (problem !== undefined) errors.push(invalid(path, key, problem));
    const bad = labelValueProblem(value);
    if (bad !== undefined) errors.push(invalid(path, value, bad));
  }
  return errors;
}

function validateAnnotations(annotations: Record<string, string> | undefined, path: string): FieldError[] {
  const errors: FieldError[] = [];
  let sizeBytes = 0;
  for (const [key, value] of Object.entries(annotations ?? {})) {
    const problem = labelKeyProblem(key.toLowerCase());
    if (problem !== undefined) errors.push(invalid(path, key, problem));
    sizeBytes += Buffer.byteLength(key) + Buffer.byteLength(value);
  }
  if (sizeBytes > annotationBytesMax)
    errors.push({
      field: path,
      reason: "FieldValueTooLong",
      message: `Too long: may not be more than ${annotationBytesMax} bytes`,
    });
  return errors;
}

function validateOwners(metadata: ObjectMeta): FieldError[] {
  const errors: FieldError[] = [];
  const path = "metadata.ownerReferences";
  let controller: string | undefined;
  metadata.ownerReferences?.forEach((owner, i) => {
    for (const field of ["apiVersion", "kind", "name", "uid"] as const)
      if (!owner[field]) errors.push(invalid(child(path, i, field), owner[field] ?? "", "must not be empty"));
    if (owner.controller !== true) return;
    if (controller !== undefined)
      errors.push(
        invalid(
          path,
          owner,
          `Only one reference can have Controller set to true. Found "true" in references for ${controller} and ${owner.kind}/${owner.name}`,
        ),
      );
    controller ??= `${owner.kind}/${owner.name}`;
  });
  return errors;
}

/** A metav1.LabelSelector in a spec. */
export function validateLabelSelector(
  selector:
    | {
        matchLabels?: Record<string, string>;
        matchExpressions?: { key: string; operator: string; values?: string[] }[];
      }
    | undefined,
  path: string,
): FieldError[] {
  const errors = validateLabels(selector?.matchLabels, child(path, "matchLabels"));
  selector?.matchExpressions?.forEach(({ key, operator, values }, i) => {
    const at = child(path, "matchExpressions", i);
    const problem = labelKeyProblem(key ?? "");
    if (problem !== undefined) errors.push(invalid(child(at, "key"), key, problem));
    const count = values?.length ?? 0;
    if (operator === "In" || operator === "NotIn") {
      if (count === 0)
        errors.push(required(child(at, "values"), "must be specified when `operator` is 'In' or 'NotIn'"));
    } else if (operator === "Exists" || operator === "DoesNotExist") {
      if (count > 0)
        errors.push(
          forbidden(child(at, "values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
        );
    } else errors.push(invalid(child(at, "operator"), operator, "not a valid selector operator"));
    values?.forEach((value, j) => {
      const bad = labelValueProblem(value);
      if (bad !== undefined) errors.push(invalid(child(at, "values", j), value, bad));
    });
  });
  return errors;
}

/** A map of annotations, labels or the like written "k=v,k2=v2", "<none>" when empty. */
export function formatMap(map: Record<string, string> | undefined): string {
  const entries = Object.entries(map ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.length === 0 ? "<none>" : entries.map(([key, value]) => `${key}=${value}`).join(",");
}
