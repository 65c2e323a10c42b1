// Pod (anti-)affinity terms: which pods they mean and which topology domain a node is in.

import type { Stored } from "../api/object.ts";
import { type LabelSelectorSpec, matchesLabelSelectorSpec } from "../api/selectors.ts";
import type { Node, Pod } from "../api/types.ts";

export type PodTerm = NonNullable<
  NonNullable<
    NonNullable<NonNullable<Pod["spec"]>["affinity"]>["podAffinity"]
  >["requiredDuringSchedulingIgnoredDuringExecution"]
>[number];

/** Labels of a namespace, for namespaceSelector. */
export type NamespaceLabels = (namespace: string) => Record<string, string> | undefined;

/** Whether the term of `owner` means `other`. */
export function termMeans(term: PodTerm, owner: Stored<object>, other: Pod, labelsOf: NamespaceLabels): boolean {
  const namespace = other.metadata.namespace ?? "";
  const listed = term.namespaces ?? [];
  const selector = term.namespaceSelector as LabelSelectorSpec | undefined;
  const inScope =
    listed.includes(namespace) ||
    (selector !== undefined && matchesLabelSelectorSpec(selector, labelsOf(namespace))) ||
    (listed.length === 0 && selector === undefined && namespace === owner.metadata.namespace);
  return (
    inScope && matchesLabelSelectorSpec(term.labelSelector as LabelSelectorSpec | undefined, other.metadata.labels)
  );
}

/** The node's domain under this key; undefined when it has no such label and so is in none. */
export const domainOf = (node: Node, topologyKey: string): string | undefined => node.metadata.labels?.[topologyKey];
