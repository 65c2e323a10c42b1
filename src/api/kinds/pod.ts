// Pod.

import type { Pod } from "../types.ts";
import { ageColumn, column, define, nameColumn, wideColumn } from "./define.ts";
import { defaultPod } from "./pod-defaults.ts";
import { summarizePod } from "./pod-status.ts";
import { validatePod } from "./pod-validation.ts";

function readinessGates(pod: Pod): string {
  const gates = pod.spec?.readinessGates ?? [];
  if (gates.length === 0) return "<none>";
  const passed = gates.filter((gate) =>
    pod.status?.conditions?.some((condition) => condition.type === gate.conditionType && condition.status === "True"),
  );
  return `${passed.length}/${gates.length}`;
}

export const podKind = define<Pod>({
  group: "",
  version: "v1",
  kind: "Pod",
  plural: "pods",
  shortNames: ["po"],
  categories: ["all"],
  schemaName: "io.k8s.api.core.v1.Pod",
  hasStatus: true,
  columns: [
    nameColumn,
    column("Ready", (o, nowMs) => summarizePod(o, nowMs).ready, {
      description: "The aggregate readiness state of this pod for accepting traffic.",
    }),
    column("Status", (o, nowMs) => summarizePod(o, nowMs).status, {
      description: "The aggregate status of the containers in this pod.",
    }),
    column("Restarts", (o, nowMs) => summarizePod(o, nowMs).restarts, {
      description: "The number of times the containers in this pod have been restarted and when the last one was.",
    }),
    ageColumn,
    wideColumn("IP", (o) => o.status?.podIP || "<none>"),
    wideColumn("Node", (o) => o.spec?.nodeName || "<none>"),
    wideColumn("Nominated Node", (o) => o.status?.nominatedNodeName || "<none>"),
    wideColumn("Readiness Gates", readinessGates),
  ],
  selectableFields: {
    "spec.nodeName": (o) => o.spec?.nodeName ?? "",
    "spec.restartPolicy": (o) => o.spec?.restartPolicy ?? "",
    "spec.schedulerName": (o) => o.spec?.schedulerName ?? "",
    "spec.serviceAccountName": (o) => o.spec?.serviceAccountName ?? "",
    "spec.hostNetwork": (o) => String(o.spec?.hostNetwork === true),
    "status.phase": (o) => o.status?.phase ?? "",
    "status.podIP": (o) => o.status?.podIP ?? "",
    "status.nominatedNodeName": (o) => o.status?.nominatedNodeName ?? "",
  },
  applyDefaults: defaultPod,
  validate: validatePod,
});
