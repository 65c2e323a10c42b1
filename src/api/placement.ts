// Where a pod may run: taints and tolerations, node selector and node affinity. One implementation for scheduler and controllers.

import { type LabelOperator, matchesLabels, matchesMap } from "./selectors.ts";
import type { Node, Pod } from "./types.ts";

export type Taint = NonNullable<NonNullable<Node["spec"]>["taints"]>[number];
export type Toleration = NonNullable<NonNullable<Pod["spec"]>["tolerations"]>[number];
type Affinity = NonNullable<NonNullable<Pod["spec"]>["affinity"]>;
type NodeSelectorTerm = NonNullable<
  NonNullable<Affinity["nodeAffinity"]>["requiredDuringSchedulingIgnoredDuringExecution"]
>["nodeSelectorTerms"][number];

/** Taints of nodes whose agent reports not ready, or reports nothing. */
export const notReadyTaint = "node.kubernetes.io/not-ready";
export const unreachableTaint = "node.kubernetes.io/unreachable";

/** core/v1 Toleration: an absent effect, key (with Exists) or value tolerates all. */
export function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false;
  if (toleration.key && toleration.key !== taint.key) return false;
  if (toleration.operator === "Exists") return true;
  return (toleration.value ?? "") === (taint.value ?? "") && Boolean(toleration.key);
}

/** The first taint with one of these effects that no toleration covers. */
export function untoleratedTaint(
  taints: readonly Taint[] | undefined,
  tolerations: readonly Toleration[] | undefined,
  effects: readonly string[],
): Taint | undefined {
  return taints?.find(
    (taint) => effects.includes(taint.effect) && !tolerations?.some((toleration) => tolerates(toleration, taint)),
  );
}

/** One term of a node selector: all its expressions and fields; an empty term matches nothing. */
export function matchesNodeSelectorTerm(term: NodeSelectorTerm, node: Node): boolean {
  const expressions = term.matchExpressions ?? [];
  const fields = term.matchFields ?? [];
  if (expressions.length === 0 && fields.length === 0) return false;
  const requirements = (list: typeof expressions) =>
    list.map(({ key, operator, values }) => ({ key, operator: operator as LabelOperator, values: values ?? [] }));
  return (
    matchesLabels(requirements(expressions), node.metadata.labels) &&
    matchesLabels(requirements(fields), { "metadata.name": node.metadata.name })
  );
}

/** spec.nodeSelector and the required node affinity (its terms are alternatives). */
export function matchesNodeAffinity(spec: Pod["spec"], node: Node): boolean {
  if (!matchesMap(spec?.nodeSelector, node.metadata.labels)) return false;
  const required = spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  return required === undefined || required.nodeSelectorTerms.some((term) => matchesNodeSelectorTerm(term, node));
}
