// Event (core/v1).

import { ageOf } from "../duration.ts";
import { invalid, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { Event } from "../types.ts";
import { column, define, wideColumn } from "./define.ts";

function firstSeen(event: Event, nowMs: number): string {
  return ageOf(event.firstTimestamp ?? event.eventTime, nowMs);
}

function lastSeen(event: Event, nowMs: number): string {
  if (event.series !== undefined) return ageOf(event.series.lastObservedTime, nowMs);
  return event.lastTimestamp === undefined || event.lastTimestamp === null
    ? firstSeen(event, nowMs)
    : ageOf(event.lastTimestamp, nowMs);
}

function sourceOf({ source, reportingComponent, reportingInstance }: Event): string {
  const component = source?.component || reportingComponent || "";
  const host = source?.host || reportingInstance || "";
  return host === "" ? component : `${component}, ${host}`;
}

function target({ involvedObject: { kind, name } }: Event): string {
  return name ? `${(kind ?? "").toLowerCase()}/${name}` : (kind ?? "").toLowerCase();
}

function validate(event: Event): FieldError[] {
  if (event.involvedObject === undefined) return [required("involvedObject")];
  const { namespace } = event.involvedObject;
  // Events about cluster-scoped objects live in "default".
  if (
    (namespace ?? "") === ""
      ? event.metadata.namespace !== "default" && event.metadata.namespace !== "kube-system"
      : namespace !== event.metadata.namespace
  )
    return [invalid("involvedObject.namespace", namespace ?? "", "does not match event.namespace")];
  return [];
}

export const eventKind = define<Event>({
  group: "",
  version: "v1",
  kind: "Event",
  plural: "events",
  shortNames: ["ev"],
  schemaName: "io.k8s.api.core.v1.Event",
  columns: [
    column("Last Seen", lastSeen, { description: "Time of the most recent occurrence" }),
    column("Type", (o) => o.type ?? "", { description: "Normal or Warning" }),
    column("Reason", (o) => o.reason ?? "", { description: "Why it happened" }),
    column("Object", target, { description: "The object this event is about" }),
    wideColumn("Subobject", (o) => o.involvedObject.fieldPath ?? ""),
    wideColumn("Source", sourceOf),
    column("Message", (o) => (o.message ?? "").trim(), { description: "What happened" }),
    wideColumn("First Seen", firstSeen),
    wideColumn("Count", (o) => String(o.series?.count ?? (o.count || 1))),
    wideColumn("Name", (o) => o.metadata.name),
  ],
  selectableFields: {
    "involvedObject.kind": (o) => o.involvedObject.kind ?? "",
    "involvedObject.namespace": (o) => o.involvedObject.namespace ?? "",
    "involvedObject.name": (o) => o.involvedObject.name ?? "",
    "involvedObject.uid": (o) => o.involvedObject.uid ?? "",
    "involvedObject.apiVersion": (o) => o.involvedObject.apiVersion ?? "",
    "involvedObject.resourceVersion": (o) => o.involvedObject.resourceVersion ?? "",
    "involvedObject.fieldPath": (o) => o.involvedObject.fieldPath ?? "",
    reason: (o) => o.reason ?? "",
    reportingComponent: (o) => o.reportingComponent ?? "",
    source: (o) => o.source?.component || o.reportingComponent || "",
    type: (o) => o.type ?? "",
  },
  validate,
});
