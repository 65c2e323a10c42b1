// Namespace.

import { dnsLabelProblem } from "../names.ts";
import type { Namespace } from "../types.ts";
import { ageColumn, column, define, nameColumn } from "./define.ts";

export const namespaceKind = define<Namespace>({
  group: "",
  version: "v1",
  kind: "Namespace",
  plural: "namespaces",
  shortNames: ["ns"],
  namespaced: false,
  schemaName: "io.k8s.api.core.v1.Namespace",
  hasStatus: true,
  nameProblem: dnsLabelProblem,
  columns: [
    nameColumn,
    column("Status", (o) => o.status?.phase ?? "", { description: "The status of the namespace" }),
    ageColumn,
  ],
  selectableFields: { "status.phase": (o) => o.status?.phase ?? "" },
  applyDefaults(o) {
    // Every namespace carries its own name as a label, so that selectors can name it (since Kubernetes 1.21).
    if (o.metadata.name) o.metadata.labels = { ...o.metadata.labels, "kubernetes.io/metadata.name": o.metadata.name };
    o.spec ??= {};
    // The namespace controller empties a namespace before this finalizer goes.
    if (o.metadata.deletionTimestamp === undefined) o.spec.finalizers ??= ["kubernetes"];
    o.status ??= {};
    o.status.phase ??= "Active";
  },
});
