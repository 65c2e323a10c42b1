// Plain values → Envoy messages, guided by their descriptors: every mistake is found, with its place, before anything is built.

import { isUtf8 } from "node:buffer";
import { readFileSync } from "node:fs";
import {
  type DescField,
  type DescMessage,
  fromJson,
  type JsonValue,
  type MessageShape,
  type Registry,
} from "@bufbuild/protobuf";
import { messageOf } from "../../kernel/errors.ts";
import type { FieldPath, Problem } from "./document.ts";
import { fieldsWithoutEffect, isAlwaysSo } from "./without_effect.ts";

export interface DecodeContext {
  /** Types that may stand in a google.protobuf.Any. */
  registry: Registry;
  environment: Readonly<Record<string, string | undefined>>;
}

/** The message, or the problems that keep it from being one. Data sources that name a file or a variable are read. */
export function decode<Desc extends DescMessage>(
  schema: Desc,
  value: unknown,
  context: DecodeContext,
): { message?: MessageShape<Desc>; problems: Problem[]; withoutEffect: readonly FieldPath[] } {
  const decoder = new Decoder(context);
  const json = decoder.message(value, schema, []);
  const { problems, withoutEffect } = decoder;
  if (problems.length > 0) return { problems, withoutEffect };
  try {
    return { message: fromJson(schema, json, { registry: context.registry }), problems, withoutEffect };
  } catch (error) {
    return { problems: [{ path: [], message: reasonOf(error) }], withoutEffect };
  }
}

type JsonMap = { [key: string]: JsonValue };

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const kindOf = (value: unknown): string =>
  value === null
    ? "nothing"
    : Array.isArray(value)
      ? "a list"
      : isObject(value)
        ? "a map"
        : `${typeof value} ${JSON.stringify(value)}`;

/** Protobuf's reason without its own name of the place: ours says file, line and field. */
const reasonOf = (error: unknown): string => messageOf(error).replace(/^cannot decode [^:]* from JSON: /, "");

const shortName = (typeName: string): string => typeName.slice(typeName.lastIndexOf(".") + 1);

/** What the JSON form of these looks like, for messages. */
const jsonForms: Record<string, string> = {
  "google.protobuf.Duration": 'a duration such as "1.5s" (a string that ends with s)',
  "google.protobuf.Timestamp": 'a time such as "2026-01-01T00:00:00Z"',
};

class Decoder {
  readonly problems: Problem[] = [];
  /** Fields that are set and that nobody here acts on. */
  readonly withoutEffect: FieldPath[] = [];
  readonly #context: DecodeContext;

  constructor(context: DecodeContext) {
    this.#context = context;
  }

  #problem(path: FieldPath, message: string, fix?: string): null {
    this.problems.push({ path, message, ...(fix !== undefined && { fix }) });
    return null;
  }

  /** The value in protobuf's JSON form. Mistakes become problems, and null in the result. */
  message(value: unknown, desc: DescMessage, path: FieldPath): JsonValue {
    if (desc.typeName === "google.protobuf.Any") return this.#any(value, path);
    if (desc.typeName.startsWith("google.protobuf.")) return this.#wellKnown(value, desc, path);
    if (!isObject(value))
      return this.#problem(path, `must be a map (${shortName(desc.typeName)}), not ${kindOf(value)}`);
    if (desc.typeName === "envoy.config.core.v3.DataSource") return this.#dataSource(value, desc, path);
    if (desc.typeName === "envoy.config.core.v3.ConfigSource")
      return this.#problem(
        path,
        "configuration from elsewhere (xDS) is not supported here: the file is all there is",
        "write listeners, routes, endpoints and secrets into the file (route_config, load_assignment, secrets); in the mesh they come from its control plane",
      );
    return this.#fields(value, desc, path);
  }

  #fields(value: Record<string, unknown>, desc: DescMessage, path: FieldPath): JsonMap {
    const json: JsonMap = {};
    const seen = new Map<unknown, string>();
    for (const [key, item] of Object.entries(value)) {
      const at = [...path, key];
      const field = desc.fields.find(({ name, jsonName }) => name === key || jsonName === key);
      if (field === undefined) {
        const nearest = nearestOf(
          key,
          desc.fields.map(({ name }) => name),
        );
        const known = `${shortName(desc.typeName)} has: ${desc.fields.map(({ name }) => name).join(", ")}`;
        this.#problem(at, `unknown field ${JSON.stringify(key)}`, nearest ? `did you mean ${nearest}?` : known);
        continue;
      }
      if (item === null || item === undefined) continue;
      const group = field.oneof ?? field;
      const other = seen.get(group);
      if (other !== undefined) this.#problem(at, `${key} and ${other} exclude each other`);
      seen.set(group, key);
      if (fieldsWithoutEffect[desc.typeName]?.includes(field.name) && !isAlwaysSo(field.name, item))
        this.withoutEffect.push(at);
      json[field.jsonName] = this.#field(item, field, at);
    }
    return json;
  }

  #field(value: unknown, field: DescField, path: FieldPath): JsonValue {
    if (field.fieldKind === "list") {
      if (!Array.isArray(value)) return this.#problem(path, `must be a list, not ${kindOf(value)}`);
      return value.map((item, index) => this.#single(item, field, [...path, index]));
    }
    if (field.fieldKind === "map") {
      if (!isObject(value)) return this.#problem(path, `must be a map, not ${kindOf(value)}`);
      const entries = Object.entries(value).map(([key, item]) => [key, this.#single(item, field, [...path, key])]);
      return Object.fromEntries(entries);
    }
    return this.#single(value, field, path);
  }

  /** One value of a field; of a list or map, one item. */
  #single(value: unknown, field: DescField, path: FieldPath): JsonValue {
    if (field.message) return this.message(value, field.message, path);
    if (field.enum) {
      const { values } = field.enum;
      if (values.some(({ name, number }) => name === value || number === value)) return value as string | number;
      const names = values.map(({ name }) => name);
      const nearest = typeof value === "string" ? nearestOf(value.toUpperCase(), names) : undefined;
      const fix = nearest ? `did you mean ${nearest}?` : `one of: ${names.join(", ")}`;
      return this.#problem(path, `${JSON.stringify(value)} is no ${field.enum.name}`, fix);
    }
    const wrapped = field.fieldKind === "list" ? [value] : field.fieldKind === "map" ? { "1": value } : value;
    try {
      fromJson(field.parent, { [field.jsonName]: wrapped as JsonValue });
      return value as JsonValue;
    } catch (error) {
      const quote = typeof value !== "string" && !isObject(value) && /expected string/.test(messageOf(error));
      return this.#problem(
        path,
        reasonOf(error),
        quote ? `write it in quotes: ${JSON.stringify(String(value))}` : undefined,
      );
    }
  }

  /** Durations, wrappers, structs: leaves with a JSON form of their own. */
  #wellKnown(value: unknown, desc: DescMessage, path: FieldPath): JsonValue {
    try {
      fromJson(desc, value as JsonValue);
      return value as JsonValue;
    } catch (error) {
      const form = jsonForms[desc.typeName];
      return this.#problem(path, form ? `must be ${form}, not ${kindOf(value)}` : reasonOf(error));
    }
  }

  #any(value: unknown, path: FieldPath): JsonValue {
    if (!isObject(value)) return this.#problem(path, `must be a map with "@type", not ${kindOf(value)}`);
    const { "@type": url, ...rest } = value;
    if (typeof url !== "string")
      return this.#problem(
        path,
        '"@type" is missing',
        'for example "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router',
      );
    const desc = this.#context.registry.getMessage(url.slice(url.lastIndexOf("/") + 1));
    if (desc === undefined) {
      const known = [...this.#context.registry].flatMap((type) =>
        type.kind === "message" && !type.parent ? type.typeName : [],
      );
      const nearest = nearestOf(url.slice(url.lastIndexOf("/") + 1), known);
      const fix = nearest ? `did you mean type.googleapis.com/${nearest}?` : `supported: ${known.sort().join(", ")}`;
      return this.#problem([...path, "@type"], `${url} is not supported`, fix);
    }
    if (desc.typeName.startsWith("google.protobuf."))
      return { "@type": url, value: this.#wellKnown(rest["value"], desc, [...path, "value"]) };
    return { "@type": url, ...this.#fields(rest, desc, path) };
  }

  /** A file (relative to the working folder, as Envoy) or an environment variable becomes inline: changed contents make a changed message at the next reload. */
  #dataSource(value: Record<string, unknown>, desc: DescMessage, path: FieldPath): JsonValue {
    const json = this.#fields(value, desc, path);
    delete json["watchedDirectory"];
    const { filename, environmentVariable } = json;
    if (typeof filename === "string")
      try {
        const bytes = readFileSync(filename);
        return isUtf8(bytes) ? { inlineString: bytes.toString() } : { inlineBytes: bytes.toString("base64") };
      } catch (error) {
        return this.#problem(
          [...path, "filename"],
          `cannot be read: ${messageOf(error)}`,
          "relative names start at the working folder",
        );
      }
    if (typeof environmentVariable === "string") {
      const text = this.#context.environment[environmentVariable];
      if (text === undefined) return this.#problem(path, `the environment has no ${environmentVariable}`);
      return { inlineString: text };
    }
    return json;
  }
}

/** The candidate within a third of its length in edits, if there is one. */
export function nearestOf(text: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(text.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(text, candidate, bestDistance);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Levenshtein's; gives up with `limit` once it cannot be lower. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    if (Math.min(...next) >= limit) return limit;
    row = next;
  }
  return row[b.length]!;
}
