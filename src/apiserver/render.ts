// How an answer is shown: objects as they are, as a Table, or as metadata only, by the Accept header (Kubernetes API concepts).

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject, WatchEvent } from "../api/object.ts";
import type { Clock } from "../kernel/clock.ts";
import { badRequest, notAcceptable } from "./failure.ts";
import type { Listed } from "./list.ts";
import { apiVersionFor, inVersion } from "./records.ts";

export interface Rendering {
  as: "object" | "table" | "partial";
  /** What a Table row carries of its object. */
  includeObject: "None" | "Metadata" | "Object";
  yaml: boolean;
}

interface View {
  kind: KindDefinition;
  version: string;
  rendering: Rendering;
  clock: Clock;
}

/** The first media type of the header that can be served. Throws 406. */
export function renderingOf(accept: string, query: Readonly<Record<string, string>>): Rendering {
  const includeObject = query["includeObject"] || "Metadata";
  if (includeObject !== "None" && includeObject !== "Metadata" && includeObject !== "Object")
    throw badRequest(
      `includeObject: Unsupported value: "${includeObject}": supported values: "None", "Metadata", "Object"`,
    );
  if (accept === "") return { as: "object", includeObject, yaml: false };
  for (const range of accept.split(",")) {
    const [type, ...parameters] = range.split(";").map((part) => part.trim());
    const yaml = type === "application/yaml";
    if (!yaml && type !== "application/json" && type !== "*/*" && type !== "application/*") continue;
    const value = (name: string) => parameters.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
    const as = value("as");
    if (as === undefined) return { as: "object", includeObject, yaml };
    if (value("g") !== "meta.k8s.io" || value("v") !== "v1") continue;
    if (as === "Table") return { as: "table", includeObject, yaml };
    if (as === "PartialObjectMetadata" || as === "PartialObjectMetadataList")
      return { as: "partial", includeObject, yaml };
  }
  throw notAcceptable();
}

const partialOf = ({ metadata }: KubeObject) => ({
  apiVersion: "meta.k8s.io/v1",
  kind: "PartialObjectMetadata",
  metadata,
});

/** Loaded on first use: only people at terminals ask for tables. */
async function tableOf(view: View, objects: readonly KubeObject[]) {
  const { toTable } = await import("./table.ts");
  const shown = objects.map((object) => inVersion(object, view.kind, view.version));
  return toTable(view.kind, shown, view.clock.now(), view.rendering.includeObject);
}

export async function renderObject(view: View, object: KubeObject): Promise<unknown> {
  if (view.rendering.as === "table") {
    const { resourceVersion } = object.metadata;
    return { ...(await tableOf(view, [object])), metadata: { resourceVersion } };
  }
  if (view.rendering.as === "partial") return partialOf(object);
  return inVersion(object, view.kind, view.version);
}

export async function renderList(view: View, { items, metadata }: Listed): Promise<unknown> {
  if (view.rendering.as === "table") return { ...(await tableOf(view, items)), metadata };
  if (view.rendering.as === "partial")
    return {
      apiVersion: "meta.k8s.io/v1",
      kind: "PartialObjectMetadataList",
      metadata,
      items: items.map(partialOf),
    };
  return {
    apiVersion: apiVersionFor(view.kind, view.version),
    kind: `${view.kind.kind}List`,
    metadata,
    items: items.map((object) => inVersion(object, view.kind, view.version)),
  };
}

export async function* renderEvents(view: View, events: AsyncIterable<WatchEvent>): AsyncGenerator<WatchEvent> {
  let columnsSent = false;
  for await (const event of events) {
    if (event.type === "ERROR") yield event;
    else if (view.rendering.as === "partial") yield { ...event, object: partialOf(event.object) };
    else if (view.rendering.as === "table") {
      const bookmark = event.type === "BOOKMARK";
      const table = await tableOf(view, bookmark ? [] : [event.object]);
      const { resourceVersion } = event.object.metadata;
      // Column definitions come with the first event only.
      if (columnsSent) table.columnDefinitions = [];
      columnsSent = true;
      yield { type: event.type, object: { ...table, metadata: { resourceVersion } } as unknown as KubeObject };
    } else
      yield view.version === view.kind.version
        ? event
        : { ...event, object: inVersion(event.object, view.kind, view.version) };
  }
}
