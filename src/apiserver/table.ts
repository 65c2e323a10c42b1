// The Table answer that kubectl get prints (meta.k8s.io/v1 Table).

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject } from "../api/object.ts";

export interface TableColumnDefinition {
  name: string;
  type: string;
  format: string;
  description: string;
  priority: number;
}

export interface TableRow {
  cells: (string | number | boolean | null)[];
  object?: unknown;
}

export interface Table {
  kind: "Table";
  apiVersion: "meta.k8s.io/v1";
  metadata: Record<string, unknown>;
  columnDefinitions: TableColumnDefinition[];
  rows: TableRow[];
}

/** `includeObject` says what each row carries besides its cells: nothing, the metadata, or the whole object. */
export function toTable(
  kind: KindDefinition,
  objects: readonly KubeObject[],
  nowMs: number,
  includeObject: "None" | "Metadata" | "Object",
): Table {
  const { columns } = kind;
  return {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata: {},
    columnDefinitions: columns.map(({ name, type, format, description, priority }) => ({
      name,
      type,
      format: format ?? "",
      description,
      priority,
    })),
    rows: objects.map((object) => {
      const cells = columns.map((column) => column.value(object, nowMs));
      if (includeObject === "None") return { cells };
      return {
        cells,
        object:
          includeObject === "Object"
            ? object
            : { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: object.metadata },
      };
    }),
  };
}
