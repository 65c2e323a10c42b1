// Strategic merge patch: lists of objects are merged by key, directives delete, replace and order (apimachinery strategicpatch mergeMap).

import { resolved, type Schema } from "../api/schema.ts";
import { badRequest } from "./failure.ts";

export type Json = Record<string, unknown>;

const directive = "$patch";
const retainKeys = "$retainKeys";
const orderPrefix = "$setElementOrder/";
const deletePrefix = "$deleteFromPrimitiveList/";

/** Where and how a list is merged. */
interface ListRules {
  /** "" for a list of plain values. */
  mergeKey: string;
  items: Schema | undefined;
}

const isRecord = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const propertyOf = (schema: Schema | undefined, name: string): Schema | undefined => {
  if (schema === undefined) return undefined;
  const { properties, additionalProperties } = resolved(schema);
  return properties !== undefined && Object.hasOwn(properties, name) ? properties[name] : additionalProperties;
};

/** The rules of a list that is merged; undefined for one that is replaced as a whole. */
function listRules(property: Schema | undefined): ListRules | undefined {
  const strategies = property?.["x-kubernetes-patch-strategy"]?.split(",") ?? [];
  if (!strategies.includes("merge")) return undefined;
  return { mergeKey: property!["x-kubernetes-patch-merge-key"] ?? "", items: property!.items };
}

/** Merges `patch` into `original`; both are the caller's own copies. Throws ApiFailure 400 for a patch that makes no sense. */
export function strategicMerge(original: Json, patch: Json, schema: Schema | undefined): Json {
  if (Object.hasOwn(patch, directive)) {
    const { [directive]: action, ...rest } = patch;
    if (action === "replace") return withoutDirectives(rest) as Json;
    if (action === "delete") return {};
    if (action !== "merge") throw badRequest(`unknown patch type: ${JSON.stringify(action)}`);
    delete patch[directive];
  }
  keepOnly(original, patch);
  for (const key of Object.keys(patch)) if (key.startsWith(orderPrefix)) mergeOrdered(original, patch, key, schema);
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith(deletePrefix)) deletePlain(original, key.slice(deletePrefix.length), value);
    else if (value === null) delete original[key];
    else original[key] = mergeField(original, key, value, propertyOf(schema, key));
  }
  return original;
}

function mergeField(original: Json, key: string, value: unknown, property: Schema | undefined): unknown {
  const present = Object.hasOwn(original, key) ? original[key] : undefined;
  if (isRecord(present) && isRecord(value)) return strategicMerge(present, value, property);
  if (Array.isArray(present) && Array.isArray(value)) {
    const rules = listRules(property);
    if (rules !== undefined) return mergeList(present, value, rules);
  }
  return withoutDirectives(value);
}

/** `$retainKeys` names all fields that may be there afterwards. */
function keepOnly(original: Json, patch: Json): void {
  if (!Object.hasOwn(patch, retainKeys)) return;
  const kept = patch[retainKeys];
  if (!Array.isArray(kept)) throw badRequest(`${retainKeys} must be a list`);
  delete patch[retainKeys];
  for (const key of Object.keys(patch))
    if (!key.startsWith("$") && patch[key] !== null && !kept.includes(key))
      throw badRequest(`${retainKeys} directive must contain all fields of the patch: ${key} is missing`);
  for (const key of Object.keys(original)) if (!kept.includes(key)) delete original[key];
}

/** `$deleteFromPrimitiveList/<field>` takes plain values out of a list. */
function deletePlain(original: Json, field: string, values: unknown): void {
  if (!Array.isArray(values)) throw badRequest(`${deletePrefix}${field} must be a list`);
  const present = original[field];
  if (Array.isArray(present)) original[field] = present.filter((value) => !values.includes(value));
}

const keyText = (item: unknown, mergeKey: string): string => {
  if (mergeKey === "") return JSON.stringify(item);
  const value = isRecord(item) ? item[mergeKey] : undefined;
  if (value === undefined || value === null)
    throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${mergeKey}`);
  return String(value);
};

const sameKey = (item: unknown, mergeKey: string, key: string): boolean =>
  mergeKey === ""
    ? JSON.stringify(item) === key
    : isRecord(item) && Object.hasOwn(item, mergeKey) && String(item[mergeKey]) === key;

function mergeList(original: readonly unknown[], patch: readonly unknown[], { mergeKey, items }: ListRules): unknown[] {
  if (mergeKey === "") return [...new Set([...original, ...patch])];
  let result = [...original];
  const replaces = patch.some((item) => isRecord(item) && item[directive] === "replace");
  if (replaces) return patch.filter((item) => !isRecord(item) || item[directive] !== "replace").map(withoutDirectives);
  for (const item of patch) {
    if (!isRecord(item)) throw badRequest(`a list merged by ${mergeKey} holds ${JSON.stringify(item)}`);
    const key = keyText(item, mergeKey);
    if (item[directive] === "delete") {
      result = result.filter((present) => !sameKey(present, mergeKey, key));
      continue;
    }
    const at = result.findIndex((present) => sameKey(present, mergeKey, key));
    if (at < 0) result.push(withoutDirectives(item));
    else result[at] = strategicMerge(result[at] as Json, item, items);
  }
  return result;
}

/** Merges the list that a `$setElementOrder/<field>` speaks of, then puts it into that order. */
function mergeOrdered(original: Json, patch: Json, directiveKey: string, schema: Schema | undefined): void {
  const field = directiveKey.slice(orderPrefix.length);
  const order = patch[directiveKey];
  delete patch[directiveKey];
  if (!Array.isArray(order)) throw badRequest(`${directiveKey} must be a list`);
  const live = Array.isArray(original[field]) ? (original[field] as unknown[]) : [];
  const deletions = patch[`${deletePrefix}${field}`];
  if (deletions !== undefined) deletePlain(original, field, deletions);
  delete patch[`${deletePrefix}${field}`];
  const rules = listRules(propertyOf(schema, field));
  if (rules === undefined) return;
  const changes = patch[field];
  delete patch[field];
  if (changes === null) {
    delete original[field];
    return;
  }
  const present = Array.isArray(original[field]) ? (original[field] as unknown[]) : [];
  if (changes !== undefined && !Array.isArray(changes)) throw badRequest(`${field} must be a list`);
  const orderKeys = order.map((item) => keyText(item, rules.mergeKey));
  for (const item of changes ?? [])
    if ((!isRecord(item) || item[directive] === undefined) && !orderKeys.includes(keyText(item, rules.mergeKey)))
      throw badRequest(`The order in patch list of ${field} doesn't match ${directiveKey} list`);
  const merged = changes === undefined ? present : mergeList(present, changes, rules);
  if (merged.length === 0 && original[field] === undefined) return;
  original[field] = inOrder(
    merged,
    orderKeys,
    live.map((item) => keyText(item, rules.mergeKey)),
    rules.mergeKey,
  );
}

/** Named items in the patch's order; the others keep their place relative to them in the live list, as far as both can be had. */
function inOrder(
  merged: readonly unknown[],
  order: readonly string[],
  live: readonly string[],
  mergeKey: string,
): unknown[] {
  const keyed = merged.map((item) => ({ item, key: keyText(item, mergeKey) }));
  const named = keyed
    .filter(({ key }) => order.includes(key))
    .sort((a, b) => order.indexOf(a.key) - order.indexOf(b.key));
  const others = keyed
    .filter(({ key }) => !order.includes(key))
    .sort((a, b) => live.indexOf(a.key) - live.indexOf(b.key));
  const result: unknown[] = [];
  let i = 0;
  for (const { item, key } of named) {
    const at = live.indexOf(key);
    while (at >= 0 && i < others.length && live.indexOf(others[i]!.key) < at && live.includes(others[i]!.key))
      result.push(others[i++]!.item);
    result.push(item);
  }
  while (i < others.length) result.push(others[i++]!.item);
  return result;
}

/** What a patch adds as new: nulls and directives say nothing there. */
function withoutDirectives(value: unknown): unknown {
  if (Array.isArray(value))
    return value.filter((item) => !isRecord(item) || item[directive] === undefined).map(withoutDirectives);
  if (!isRecord(value)) return value;
  const result: Json = {};
  for (const [key, each] of Object.entries(value)) {
    if (each === null || key === directive || key === retainKeys) continue;
    if (key.startsWith(orderPrefix) || key.startsWith(deletePrefix)) continue;
    result[key] = withoutDirectives(each);
  }
  return result;
}
