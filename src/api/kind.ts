// What the API server knows of a kind: one definition each, in an explicit list (src/api/kinds/).

import type { KubeObject } from "./object.ts";

/** One problem in one field, as Kubernetes reports it in Status.details.causes. */
export interface FieldError {
  /** JSON path without the leading dot: spec.containers[0].name */
  field: string;
  reason:
    | "FieldValueRequired"
    | "FieldValueInvalid"
    | "FieldValueNotFound"
    | "FieldValueNotSupported"
    | "FieldValueForbidden"
    | "FieldValueDuplicate"
    | "FieldValueTooLong";
  message: string;
}

/** Said to whoever writes the object, in a Warning header. */
export interface FieldWarning {
  field: string;
  message: string;
  /** Istio's code for it ("IST0130"), where its analyzers have one. */
  code?: string;
}

/** A column of `kubectl get` (metav1.TableColumnDefinition) with the function that fills it. */
export interface Column {
  name: string;
  type: "string" | "integer" | "date" | "boolean";
  format?: string;
  description: string;
  /** 0: always; above: only with -o wide. */
  priority: number;
  /** A cell: string, number or null. `nowMs` is for ages. */
  value(object: KubeObject, nowMs: number): string | number | boolean | null;
}

export interface KindDefinition {
  group: string;
  /** Stored version. */
  version: string;
  /** All versions served, preferred first; they share one schema. */
  servedVersions: readonly string[];
  kind: string;
  plural: string;
  singular: string;
  shortNames: readonly string[];
  categories: readonly string[];
  namespaced: boolean;
  /** Name of the schema in the OpenAPI document: io.k8s.api.core.v1.Pod */
  schemaName: string;
  hasStatus: boolean;
  /** JSON paths, where the kind has a scale subresource. */
  scale?: { specReplicas: string; statusReplicas: string; selector: string };
  columns: readonly Column[];
  /** Field selectors beyond metadata.name and metadata.namespace. */
  selectableFields: Readonly<Record<string, (object: KubeObject) => string>>;
  /** Fills in what Kubernetes would; changes `object`, which is the caller's own copy. */
  applyDefaults(object: KubeObject): void;
  /** Everything wrong with `object`; `old` is there on update (immutable fields). Empty: valid. */
  validate(object: KubeObject, old?: KubeObject): FieldError[];
  /** What is accepted but deprecated or without effect, in an object that is valid. */
  warn?(object: KubeObject): FieldWarning[];
}
