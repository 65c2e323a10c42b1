// Builders of FieldError with the wording of apimachinery's field package, and paths as Kubernetes writes them.

import type { FieldError } from "./kind.ts";

/** "spec.ports" + "name" or + index: fields are joined by a dot, indices and map keys stand in brackets. */
export function child(path: string, ...parts: (string | number)[]): string {
  let text = path;
  for (const part of parts)
    if (typeof part === "number") text += `[${part}]`;
    else text += text === "" ? part : `.${part}`;
  return text;
}

export const keyed = (path: string, key: string): string => `${path}[${key}]`;

const quoted = (value: unknown): string => (value === undefined ? "null" : JSON.stringify(value));

export function required(field: string, detail = ""): FieldError {
  return { field, reason: "FieldValueRequired", message: `Required value${detail === "" ? "" : `: ${detail}`}` };
}
export function invalid(field: string, value: unknown, detail: string): FieldError {
  return { field, reason: "FieldValueInvalid", message: `Invalid value: ${quoted(value)}: ${detail}` };
}
export function notSupported(field: string, value: unknown, supported: readonly string[]): FieldError {
  const list = [...supported].sort().map((each) => JSON.stringify(each));
  return {
    field,
    reason: "FieldValueNotSupported",
    message: `Unsupported value: ${quoted(value)}: supported values: ${list.join(", ")}`,
  };
}
export function notFound(field: string, value: unknown): FieldError {
  return { field, reason: "FieldValueNotFound", message: `Not found: ${quoted(value)}` };
}
export function forbidden(field: string, detail: string): FieldError {
  return { field, reason: "FieldValueForbidden", message: `Forbidden: ${detail}` };
}
export function duplicate(field: string, value: unknown): FieldError {
  return { field, reason: "FieldValueDuplicate", message: `Duplicate value: ${quoted(value)}` };
}
export function tooLong(field: string, bytesMax: number): FieldError {
  return { field, reason: "FieldValueTooLong", message: `Too long: may not be more than ${bytesMax} bytes` };
}

/** The refusal of a changed immutable field, or nothing. Compares by value. */
export function immutable(field: string, value: unknown, old: unknown): FieldError[] {
  return sameValue(value, old) ? [] : [invalid(field, value, "field is immutable")];
}

/** Deep equality of JSON values, where an absent field equals undefined. */
export function sameValue(left: unknown, right: unknown): boolean {
  if (left === right) return true;
  if (typeof left !== "object" || typeof right !== "object" || left === null || right === null) return false;
  if (Array.isArray(left) !== Array.isArray(right)) return false;
  const a = left as Record<string, unknown>;
  const b = right as Record<string, unknown>;
  for (const key in a) if (!sameValue(a[key], b[key])) return false;
  for (const key in b) if (b[key] !== undefined && a[key] === undefined) return false;
  return true;
}

/** `value` when it names one of `supported`, else a refusal; absent is fine unless `isRequired`. */
export function oneOf(field: string, value: unknown, supported: readonly string[], isRequired = false): FieldError[] {
  if (value === undefined || value === "") return isRequired ? [required(field)] : [];
  return supported.includes(value as string) ? [] : [notSupported(field, value, supported)];
}

/** A refusal when `value` is present and outside [min, max]. */
export function inRange(field: string, value: number | undefined, min: number, max: number): FieldError[] {
  if (value === undefined || (value >= min && value <= max)) return [];
  return [invalid(field, value, `must be between ${min} and ${max}, inclusive`)];
}

/** A refusal when `value` is present and negative. */
export function notNegative(field: string, value: number | undefined): FieldError[] {
  return value === undefined || value >= 0 ? [] : [invalid(field, value, "must be greater than or equal to 0")];
}
