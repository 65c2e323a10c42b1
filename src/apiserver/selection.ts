// Which objects a list, watch or deletecollection means: label and field selectors of the query.

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject } from "../api/object.ts";
import { matchesFields, matchesLabels, parseFieldSelector, parseLabelSelector } from "../api/selectors.ts";
import { badRequest } from "./failure.ts";

export interface Selection {
  /** Selects everything. */
  readonly everything: boolean;
  matches(object: KubeObject): boolean;
}

/** Throws 400 for a selector that does not parse or names a field this kind does not offer. */
export function selectionOf(kind: KindDefinition, query: Readonly<Record<string, string>>): Selection {
  const labels = parseLabelSelector(query["labelSelector"] ?? "");
  const fields = parseFieldSelector(query["fieldSelector"] ?? "");
  for (const { field } of fields)
    if (!(field === "metadata.name" || (field === "metadata.namespace" && kind.namespaced)))
      if (!Object.hasOwn(kind.selectableFields, field)) throw badRequest(`field label not supported: ${field}`);
  return {
    everything: labels.length === 0 && fields.length === 0,
    matches: (object) =>
      matchesLabels(labels, object.metadata.labels) &&
      (fields.length === 0 || matchesFields(fields, (field) => fieldOf(kind, object, field))),
  };
}

function fieldOf(kind: KindDefinition, object: KubeObject, field: string): string {
  if (field === "metadata.name") return object.metadata.name;
  if (field === "metadata.namespace") return object.metadata.namespace ?? "";
  return kind.selectableFields[field]!(object);
}
