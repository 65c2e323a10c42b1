// What the API server would refuse or warn about, by its own validators: wrong types, unknown fields, broken rules.

import type { FieldError, KindDefinition } from "../../api/kind.ts";
import { allKinds } from "../../api/kinds/all.ts";
import { kindOfObject } from "../../api/kinds/find.ts";
import { groupOf, type KubeObject } from "../../api/object.ts";
import { conform, resolved, type Schema, schemaNamed, unknownFields } from "../../api/schema.ts";
import { type Manifested, stored } from "../offline.ts";
import { idOf } from "./cluster.ts";
import { isCode } from "./messages.ts";
import { stepsOf } from "./sources.ts";
import { nearest } from "./suggest.ts";
import type { Report } from "./types.ts";

export interface Checked {
  /** Everything given, with uid and namespace, the later of two alike. */
  all: KubeObject[];
  /** Those with the right shape and all that is required: other checks can read them. */
  usable: KubeObject[];
}

/** Adds the ids of what it has looked at to `given`. */
export function checkSchema(objects: readonly Manifested[], given: Set<string>, report: Report): Checked {
  const byId = new Map<string, KubeObject>();
  for (const object of objects) {
    const complete = stored(object);
    const id = idOf(complete);
    given.add(id);
    if (byId.has(id))
      report("MB0003", complete, "metadata.name", "this object is given twice", "remove one of the two");
    byId.set(id, complete);
  }
  const all = [...byId.values()];
  return { all, usable: all.filter((object) => isUsable(object, report)) };
}

function isUsable(object: KubeObject, report: Report): boolean {
  const kind = kindOfObject(object.kind, groupOf(object.apiVersion));
  const version = object.apiVersion.slice(object.apiVersion.indexOf("/") + 1);
  if (kind === undefined) {
    const near = nearest(
      object.kind,
      allKinds.map((each) => each.kind),
    );
    const fix = near === undefined ? undefined : `did you mean "${near}"?`;
    report("MB0002", object, "kind", `${object.kind} of ${object.apiVersion} is not served and was not looked at`, fix);
    return false;
  }
  if (!kind.servedVersions.includes(version)) {
    const versions = kind.servedVersions.join(", ");
    report(
      "IST0106",
      object,
      "apiVersion",
      `${object.kind} is not served in version ${version}`,
      `use one of: ${versions}`,
    );
    return false;
  }
  const schema = schemaNamed(kind.schemaName);
  for (const field of unknownFields(object, schema)) {
    const near = nearest(stepsOf(field).at(-1) ?? "", siblings(schema, field));
    const fix = near === undefined ? "remove it: the API server refuses unknown fields" : `did you mean "${near}"?`;
    report("IST0106", object, field, `unknown field "${field}"`, fix);
  }
  const errors = errorsOf(object, kind);
  for (const { field, message } of errors) report("IST0106", object, field, message);
  if (errors.length === 0)
    for (const { field, message, code = "" } of kind.warn?.(object) ?? [])
      report(isCode(code) ? code : "IST0133", object, field, code === "IST0002" ? `Deprecated: ${message}` : message);
  const misshapen = conform(structuredClone(object), schema).length > 0;
  return !misshapen && !errors.some(({ reason }) => reason === "FieldValueRequired");
}

function errorsOf(object: KubeObject, kind: KindDefinition): FieldError[] {
  const copy = structuredClone(object);
  if (!kind.namespaced) delete copy.metadata.namespace;
  kind.applyDefaults(copy);
  return kind.validate(copy);
}

/** The fields that may stand where the last step of the path does. */
function siblings(schema: Schema, field: string): string[] {
  let here: Schema | undefined = schema;
  for (const step of stepsOf(field).slice(0, -1)) {
    const shape: Schema = resolved(here);
    here = shape.properties?.[step] ?? shape.additionalProperties ?? shape.items;
    if (here === undefined) return [];
  }
  return Object.keys(resolved(here).properties ?? {});
}
