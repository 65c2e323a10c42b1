// The scale subresource (autoscaling/v1 Scale): reads and writes the replica counts a kind names by JSON path.

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject } from "../api/object.ts";
import { formatLabelSelector, type LabelSelectorSpec, labelSelectorOf } from "../api/selectors.ts";
import { isRecord } from "./body.ts";
import { badRequest, invalid } from "./failure.ts";

/** The kind of the subresource's own objects, for patches and messages. */
export const scaleKind: KindDefinition = {
  group: "autoscaling",
  version: "v1",
  servedVersions: ["v1"],
  kind: "Scale",
  plural: "scale",
  singular: "scale",
  shortNames: [],
  categories: [],
  namespaced: true,
  schemaName: "io.k8s.api.autoscaling.v1.Scale",
  hasStatus: true,
  columns: [],
  selectableFields: {},
  applyDefaults() {},
  validate: () => [],
};

const partsOf = (path: string): string[] => path.split(".").filter((part) => part !== "");

function valueAt(object: KubeObject, path: string): unknown {
  let value: unknown = object;
  for (const part of partsOf(path)) value = isRecord(value) ? value[part] : undefined;
  return value;
}

export function scaleOf(kind: KindDefinition, object: KubeObject): KubeObject {
  const { specReplicas, statusReplicas, selector } = kind.scale!;
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const selected = valueAt(object, selector);
  const text =
    typeof selected === "string" ? selected : formatLabelSelector(labelSelectorOf(selected as LabelSelectorSpec) ?? []);
  return {
    apiVersion: "autoscaling/v1",
    kind: "Scale",
    metadata: { name, ...(namespace !== undefined && { namespace }), uid, resourceVersion, creationTimestamp },
    spec: { replicas: valueAt(object, specReplicas) ?? 0 },
    status: { replicas: valueAt(object, statusReplicas) ?? 0, selector: text },
  };
}

/** `object` with the replicas of `scale`. Throws 400 or 422. */
export function withScale(kind: KindDefinition, object: KubeObject, scale: unknown): KubeObject {
  if (!isRecord(scale) || scale["kind"] !== "Scale") throw badRequest("the body must be an autoscaling/v1 Scale");
  const replicas = isRecord(scale["spec"]) ? (scale["spec"]["replicas"] ?? 0) : 0;
  if (!Number.isSafeInteger(replicas) || (replicas as number) < 0)
    throw invalid(scaleKind, object.metadata.name, [
      {
        field: "spec.replicas",
        reason: "FieldValueInvalid",
        message: `Invalid value: ${JSON.stringify(replicas)}: must be greater than or equal to 0`,
      },
    ]);
  const copy = structuredClone(object);
  const parts = partsOf(kind.scale!.specReplicas);
  let parent: Record<string, unknown> = copy;
  for (const part of parts.slice(0, -1)) {
    if (!isRecord(parent[part])) parent[part] = {};
    parent = parent[part] as Record<string, unknown>;
  }
  parent[parts[parts.length - 1]!] = replicas;
  return copy;
}
