// Strictness about fields (the fieldValidation parameter): fields that a kind does not have, and fields given twice.

import type { KindDefinition } from "../api/kind.ts";
import { schemaNamed, unknownFields } from "../api/schema.ts";
import { duplicateFields } from "./duplicate-fields.ts";

/** At most this many problems are reported; the rest adds nothing a person could use. */
const problemsMax = 100;

/**
 * What Kubernetes' strict decoder would say of `object`: `unknown field "spec.foo"`, `duplicate field "spec.bar"`. `text` is
 * the JSON it came from; when it is not JSON (YAML), duplicates are the YAML reader's business.
 */
export function fieldProblems(kind: KindDefinition, object: unknown, text: string): string[] {
  const unknown = unknownFields(object, schemaNamed(kind.schemaName)).map((path) => `unknown field "${path}"`);
  const duplicates = duplicateFields(text).map((path) => `duplicate field "${path}"`);
  return [...unknown, ...duplicates].slice(0, problemsMax);
}
