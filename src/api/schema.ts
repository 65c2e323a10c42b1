// The structure of the served kinds, generated from typings: refusing wrong types, finding and dropping unknown fields.

import { readFileSync } from "node:fs";
import { MeshbedError } from "../kernel/errors.ts";
import { child, invalid, keyed, required } from "./field-errors.ts";
import type { FieldError } from "./kind.ts";

/** The part of an OpenAPI v3 schema that the generated documents use. */
export interface Schema {
  type?: string;
  format?: string;
  description?: string;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema;
  items?: Schema;
  required?: string[];
  enum?: (string | number)[];
  oneOf?: Schema[];
  allOf?: Schema[];
  $ref?: string;
  "x-kubernetes-patch-strategy"?: string;
  "x-kubernetes-patch-merge-key"?: string;
  "x-kubernetes-group-version-kind"?: { group: string; version: string; kind: string }[];
}

/** Where `bun tools/openapi-gen.ts` puts its files. */
export const generatedFolder = new URL("../../gen/openapi/", import.meta.url);

/** Throws MeshbedError GENERATED_FILE_MISSING. */
export function readGenerated(name: string): string {
  try {
    return readFileSync(new URL(name, generatedFolder), "utf8");
  } catch (cause) {
    throw new MeshbedError("GENERATED_FILE_MISSING", `gen/openapi/${name} is missing`, { fix: "run: npm ci", cause });
  }
}

let loaded: Record<string, Schema> | undefined;

/** The schema of this name. Read from disk on first use. */
export function schemaNamed(name: string): Schema {
  loaded ??= JSON.parse(readGenerated("schemas.json")) as Record<string, Schema>;
  const schema = loaded[name];
  if (schema === undefined)
    throw new MeshbedError("GENERATED_FILE_MISSING", `no schema ${name}`, { fix: "run: npm ci" });
  return schema;
}

const referencePrefix = "#/components/schemas/";

/** Follows a reference, also one wrapped in allOf. */
export function resolved(schema: Schema): Schema {
  const reference = schema.$ref ?? schema.allOf?.[0]?.$ref;
  return reference === undefined ? schema : schemaNamed(reference.slice(referencePrefix.length));
}

/** Required fields that are missing, for kinds whose schema is all the API server knows of them (custom resources). */
export function missingFields(object: unknown, schema: Schema, path = ""): FieldError[] {
  const { properties, additionalProperties, items, required: names = [] } = resolved(schema);
  if (Array.isArray(object))
    return items === undefined ? [] : object.flatMap((item, i) => missingFields(item, items, child(path, i)));
  if (!isRecord(object)) return [];
  const errors = names.filter((name) => object[name] === undefined).map((name) => required(child(path, name)));
  for (const [name, value] of Object.entries(object)) {
    const known = properties !== undefined && Object.hasOwn(properties, name);
    const next = known ? properties[name] : additionalProperties;
    if (next !== undefined) errors.push(...missingFields(value, next, child(path, name)));
  }
  return errors;
}

type Json = Record<string, unknown>;
const isRecord = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Paths of fields in `object` that the schema does not have, written as Kubernetes' strict decoder does. */
export function unknownFields(object: unknown, schema: Schema, path = ""): string[] {
  const { properties, additionalProperties, items } = resolved(schema);
  if (Array.isArray(object))
    return items === undefined ? [] : object.flatMap((item, i) => unknownFields(item, items, child(path, i)));
  if (!isRecord(object)) return [];
  const unknown: string[] = [];
  for (const [name, value] of Object.entries(object)) {
    const at = child(path, name);
    if (properties !== undefined && Object.hasOwn(properties, name))
      unknown.push(...unknownFields(value, properties[name]!, at));
    else if (additionalProperties !== undefined) unknown.push(...unknownFields(value, additionalProperties, at));
    else if (properties !== undefined) unknown.push(at);
  }
  return unknown;
}

/**
 * Makes `object` (the caller's own copy) fit its schema as Kubernetes' decoder would: nulls and unknown fields go, numbers
 * given as quantities become text. Answers what has the wrong type, or is not among the values allowed; those stay.
 */
export function conform(object: unknown, schema: Schema, path = ""): FieldError[] {
  const shape = resolved(schema);
  if (shape.properties !== undefined || shape.additionalProperties !== undefined)
    return isRecord(object) ? conformRecord(object, shape, path) : [wrongType(path, object, "object")];
  if (shape.items !== undefined) {
    if (!Array.isArray(object)) return [wrongType(path, object, "array")];
    const { items } = shape;
    return object.flatMap((item, i) => conform(item, items, child(path, i)));
  }
  return scalarErrors(object, shape, path);
}

function conformRecord(object: Json, { properties, additionalProperties }: Schema, path: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const name of Object.keys(object)) {
    const known = properties !== undefined && Object.hasOwn(properties, name);
    const schema = known ? properties[name]! : additionalProperties;
    if (schema === undefined) {
      delete object[name];
      continue;
    }
    const target = resolved(schema);
    if (object[name] === undefined) {
      delete object[name];
      continue;
    }
    if (object[name] === null) {
      // Go reads null as the zero value: nothing for a field, the empty text for an entry of a map of texts.
      if (!known && target.type === "string") object[name] = "";
      else delete object[name];
      continue;
    }
    if (target.format === "quantity" && typeof object[name] === "number") object[name] = String(object[name]);
    errors.push(...conform(object[name], schema, known ? child(path, name) : keyed(path, name)));
  }
  return errors;
}

const int32Max = 2 ** 31 - 1;

function scalarErrors(value: unknown, { type, format, enum: values }: Schema, path: string): FieldError[] {
  if (format === "int-or-string" || format === "quantity") {
    const fits =
      typeof value === "string" || (typeof value === "number" && (format === "quantity" || Number.isInteger(value)));
    return fits ? [] : [wrongType(path, value, "integer or string")];
  }
  switch (type) {
    case "string":
      if (typeof value !== "string") return [wrongType(path, value, "string")];
      if (format === "date-time" && Number.isNaN(Date.parse(value)))
        return [invalid(path, value, `${path} in body must be of type date-time: ${JSON.stringify(value)}`)];
      return values !== undefined && value !== "" && !values.includes(value) ? [notAmong(path, value, values)] : [];
    case "integer":
      if (!Number.isInteger(value)) return [wrongType(path, value, "integer")];
      if (format === "int32" && Math.abs(value as number) > int32Max)
        return [invalid(path, value, `${path} in body must be a 32-bit integer`)];
      if (values !== undefined && !values.includes(value as number)) return [notAmong(path, value, values)];
      return Number.isSafeInteger(value) ? [] : [invalid(path, value, `${path} in body is too large`)];
    case "number":
      return typeof value === "number" ? [] : [wrongType(path, value, "number")];
    case "boolean":
      return typeof value === "boolean" ? [] : [wrongType(path, value, "boolean")];
    default:
      return [];
  }
}

/** In the order of the schema, as Kubernetes lists them. */
const notAmong = (field: string, value: unknown, values: readonly (string | number)[]): FieldError => ({
  field,
  reason: "FieldValueNotSupported",
  message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${values.map((each) => JSON.stringify(each)).join(", ")}`,
});

/** As Kubernetes words a type error in a validated schema. */
function wrongType(path: string, value: unknown, expected: string): FieldError {
  const found =
    value === null ? "null" : Array.isArray(value) ? "array" : Number.isInteger(value) ? "integer" : typeof value;
  return invalid(path, found, `${path} in body must be of type ${expected}: "${found}"`);
}
