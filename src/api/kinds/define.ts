// Builds a KindDefinition from its typed parts, adding what all kinds share: name and age columns, metadata rules.

import { ageOf } from "../duration.ts";
import type { Column, FieldError, FieldWarning, KindDefinition } from "../kind.ts";
import { dnsSubdomainProblem } from "../names.ts";
import type { KubeObject, Stored } from "../object.ts";
import { conform, schemaNamed } from "../schema.ts";
import { validateMetadata } from "./metadata.ts";

type Cell = string | number | boolean | null;

/** The typed parts of a kind; what is left out takes the usual value. */
export interface KindParts<T> {
  group: string;
  version: string;
  servedVersions?: readonly string[];
  kind: string;
  plural: string;
  shortNames?: readonly string[];
  categories?: readonly string[];
  /** True unless said. */
  namespaced?: boolean;
  schemaName: string;
  hasStatus?: boolean;
  scale?: KindDefinition["scale"];
  /** What is wrong with a name; RFC 1123 subdomain unless said. */
  nameProblem?: (name: string) => string | undefined;
  columns: readonly TypedColumn<T>[];
  selectableFields?: Readonly<Record<string, (object: T) => string>>;
  applyDefaults?: (object: T) => void;
  validate?: (object: T, old?: T) => FieldError[];
  warn?: (object: T) => FieldWarning[];
}

export interface TypedColumn<T> extends Omit<Column, "value"> {
  value(object: T, nowMs: number): Cell;
}

/** A column; priority 1 shows only with -o wide. */
export function column<T>(
  name: string,
  value: (object: T, nowMs: number) => Cell,
  options: { type?: Column["type"]; format?: string; priority?: number; description?: string } = {},
): TypedColumn<T> {
  const { type = "string", format, priority = 0, description = "" } = options;
  return { name, type, ...(format === undefined ? {} : { format }), description, priority, value };
}

/** A column that shows only with -o wide. */
export function wideColumn<T>(name: string, value: (object: T, nowMs: number) => Cell): TypedColumn<T> {
  return column(name, value, { priority: 1 });
}

export const nameColumn: TypedColumn<{ metadata: { name: string } }> = column("Name", (o) => o.metadata.name, {
  format: "name",
  description: "Name must be unique within a namespace.",
});

export const ageColumn: TypedColumn<{ metadata: { creationTimestamp: string } }> = column(
  "Age",
  (o, nowMs) => ageOf(o.metadata.creationTimestamp, nowMs),
  { description: "Time since the object was created." },
);

/** Type errors found while defaulting, until validation reports them. */
const misshapen = new WeakMap<KubeObject, FieldError[]>();

export function define<T extends Stored<object>>(parts: KindParts<T>): KindDefinition {
  const nameProblem = parts.nameProblem ?? dnsSubdomainProblem;
  const namespaced = parts.namespaced ?? true;
  const shapeErrors = (object: KubeObject) => conform(object, schemaNamed(parts.schemaName));
  return {
    group: parts.group,
    version: parts.version,
    servedVersions: parts.servedVersions ?? [parts.version],
    kind: parts.kind,
    plural: parts.plural,
    singular: parts.kind.toLowerCase(),
    shortNames: parts.shortNames ?? [],
    categories: parts.categories ?? [],
    namespaced,
    schemaName: parts.schemaName,
    hasStatus: parts.hasStatus ?? false,
    ...(parts.scale === undefined ? {} : { scale: parts.scale }),
    columns: parts.columns as unknown as readonly Column[],
    selectableFields: (parts.selectableFields ?? {}) as unknown as KindDefinition["selectableFields"],
    // Decoding is part of defaulting: what does not have the right shape cannot be completed, only refused.
    applyDefaults(object) {
      const errors = shapeErrors(object);
      misshapen.set(object, errors);
      if (errors.length === 0) parts.applyDefaults?.(object as unknown as T);
    },
    validate(object, old) {
      const errors = misshapen.get(object) ?? shapeErrors(structuredClone(object));
      misshapen.delete(object);
      if (errors.length > 0) return errors;
      errors.push(...validateMetadata(object, old, namespaced, nameProblem));
      errors.push(...(parts.validate?.(object as unknown as T, old as unknown as T | undefined) ?? []));
      return errors;
    },
    ...(parts.warn && { warn: parts.warn as unknown as NonNullable<KindDefinition["warn"]> }),
  };
}
