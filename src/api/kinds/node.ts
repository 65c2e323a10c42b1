// Node.

import { child, duplicate, forbidden, invalid, notSupported } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { labelKeyProblem, labelValueProblem } from "../names.ts";
import { isQuantity, quantityRule } from "../quantity.ts";
import type { Node } from "../types.ts";
import { ageColumn, column, define, nameColumn, wideColumn } from "./define.ts";

const rolePrefix = "node-role.kubernetes.io/";

function statusOf(node: Node): string {
  const ready = node.status?.conditions?.find((condition) => condition.type === "Ready");
  const text = ready === undefined ? "Unknown" : ready.status === "True" ? "Ready" : "NotReady";
  return node.spec?.unschedulable === true ? `${text},SchedulingDisabled` : text;
}

function rolesOf(node: Node): string {
  const roles = new Set<string>();
  for (const [key, value] of Object.entries(node.metadata.labels ?? {}))
    if (key.startsWith(rolePrefix) && key.length > rolePrefix.length) roles.add(key.slice(rolePrefix.length));
    else if (key === "kubernetes.io/role" && value !== "") roles.add(value);
  return roles.size === 0 ? "<none>" : [...roles].sort().join(",");
}

const addressOf = (type: string) => (node: Node) =>
  node.status?.addresses?.find((address) => address.type === type)?.address ?? "<none>";

function validate(node: Node, old?: Node): FieldError[] {
  const errors: FieldError[] = [];
  const seen = new Set<string>();
  node.spec?.taints?.forEach((taint, i) => {
    const path = child("spec.taints", i);
    const problem = labelKeyProblem(taint.key ?? "");
    if (problem !== undefined) errors.push(invalid(child(path, "key"), taint.key, problem));
    const bad = labelValueProblem(taint.value ?? "");
    if (bad !== undefined) errors.push(invalid(child(path, "value"), taint.value, bad));
    const effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if (!effects.includes(taint.effect)) errors.push(notSupported(child(path, "effect"), taint.effect, effects));
    const key = `${taint.key}:${taint.effect}`;
    if (seen.has(key)) errors.push(duplicate(path, taint));
    seen.add(key);
  });
  for (const field of ["capacity", "allocatable"] as const)
    for (const [name, value] of Object.entries(node.status?.[field] ?? {}))
      if (!isQuantity(value)) errors.push(invalid(`status.${field}[${name}]`, value, quantityRule));
  if (old?.spec?.podCIDR !== undefined && node.spec?.podCIDR !== old.spec.podCIDR)
    errors.push(forbidden("spec.podCIDR", 'node updates may not change podCIDR except from "" to valid'));
  return errors;
}

export const nodeKind = define<Node>({
  group: "",
  version: "v1",
  kind: "Node",
  plural: "nodes",
  shortNames: ["no"],
  namespaced: false,
  schemaName: "io.k8s.api.core.v1.Node",
  hasStatus: true,
  columns: [
    nameColumn,
    column("Status", statusOf, { description: "The status of the node" }),
    column("Roles", rolesOf, { description: "The roles of the node" }),
    ageColumn,
    column("Version", (o) => o.status?.nodeInfo?.kubeletVersion ?? "", { description: "Kubelet Version" }),
    wideColumn("Internal-IP", addressOf("InternalIP")),
    wideColumn("External-IP", addressOf("ExternalIP")),
    wideColumn("OS-Image", (o) => o.status?.nodeInfo?.osImage || "<unknown>"),
    wideColumn("Kernel-Version", (o) => o.status?.nodeInfo?.kernelVersion || "<unknown>"),
    wideColumn("Container-Runtime", (o) => o.status?.nodeInfo?.containerRuntimeVersion || "<unknown>"),
  ],
  selectableFields: { "spec.unschedulable": (o) => String(o.spec?.unschedulable === true) },
  applyDefaults(o) {
    o.spec ??= {};
    o.status ??= {};
    if (o.status.capacity !== undefined && o.status.allocatable === undefined)
      o.status.allocatable = { ...o.status.capacity };
  },
  validate,
});
