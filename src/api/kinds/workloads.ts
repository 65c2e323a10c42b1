// Deployment, ReplicaSet and DaemonSet.

import { child, forbidden, immutable, invalid, notNegative, notSupported, oneOf, required } from "../field-errors.ts";
import type { FieldError, KindDefinition } from "../kind.ts";
import { type LabelSelectorSpec, matchesLabelSelectorSpec } from "../selectors.ts";
import type { DaemonSet, Deployment, Pod, ReplicaSet } from "../types.ts";
import { ageColumn, column, define, nameColumn, wideColumn } from "./define.ts";
import { formatMap, validateLabelSelector, validateLabels } from "./metadata.ts";
import { defaultPodSpec } from "./pod-defaults.ts";
import { validatePodSpec } from "./pod-validation.ts";
import { containerImages, containerNames, selectorText } from "./workload-format.ts";

interface Template {
  metadata?: { labels?: Record<string, string> };
  spec?: Pod["spec"] | undefined;
}

const wideColumns = [
  wideColumn("Containers", containerNames),
  wideColumn("Images", containerImages),
  wideColumn("Selector", selectorText),
];

const integer = { type: "integer" } as const;

const scale: KindDefinition["scale"] = {
  specReplicas: ".spec.replicas",
  statusReplicas: ".status.replicas",
  selector: ".spec.selector",
};

function defaultTemplate(template: Template | undefined): void {
  if (template?.spec !== undefined) defaultPodSpec(template.spec);
}

/** The selector must be there, select its own template, and never change. */
function validateTemplate(
  spec: { selector?: LabelSelectorSpec | undefined; template?: Template | undefined },
  old?: { selector?: LabelSelectorSpec | undefined },
): FieldError[] {
  const errors: FieldError[] = [];
  const { selector, template } = spec;
  if (selector === undefined) errors.push(required("spec.selector"));
  else {
    errors.push(...validateLabelSelector(selector, "spec.selector"));
    if (Object.keys(selector.matchLabels ?? {}).length + (selector.matchExpressions?.length ?? 0) === 0)
      errors.push(invalid("spec.selector", selector, "empty selector is invalid for deployment"));
  }
  const labels = template?.metadata?.labels;
  if (errors.length === 0 && !matchesLabelSelectorSpec(selector, labels))
    errors.push(invalid("spec.template.metadata.labels", labels ?? {}, "`selector` does not match template `labels`"));
  errors.push(...validateLabels(labels, "spec.template.metadata.labels"));
  errors.push(...validatePodSpec(template?.spec, "spec.template.spec"));
  const policy = template?.spec?.restartPolicy;
  if (policy !== undefined && policy !== "Always")
    errors.push(notSupported("spec.template.spec.restartPolicy", policy, ["Always"]));
  if (template?.spec?.activeDeadlineSeconds !== undefined)
    errors.push(
      forbidden("spec.template.spec.activeDeadlineSeconds", "activeDeadlineSeconds in ReplicaSet is not Supported"),
    );
  if (old !== undefined) errors.push(...immutable("spec.selector", selector, old.selector));
  return errors;
}

/** A count, or a share of the replicas such as "25%". */
function validateCountOrPercent(value: string | number | undefined, path: string): FieldError[] {
  if (value === undefined) return [];
  if (typeof value === "number") return notNegative(path, value);
  if (!/^\d+%$/.test(value))
    return [
      invalid(
        path,
        value,
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
      ),
    ];
  return [];
}

const isZero = (value: string | number | undefined) => value === 0 || value === "0%";

function validateRollingUpdate(
  rolling: { maxSurge?: string | number; maxUnavailable?: string | number } | undefined,
  path: string,
): FieldError[] {
  const errors = [
    ...validateCountOrPercent(rolling?.maxUnavailable, child(path, "maxUnavailable")),
    ...validateCountOrPercent(rolling?.maxSurge, child(path, "maxSurge")),
  ];
  const unavailable = rolling?.maxUnavailable;
  if (isZero(unavailable) && isZero(rolling?.maxSurge))
    errors.push(invalid(child(path, "maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0"));
  if (typeof unavailable === "string" && Number.parseInt(unavailable, 10) > 100)
    errors.push(invalid(child(path, "maxUnavailable"), unavailable, "must not be greater than 100%"));
  return errors;
}

function validateDeployment(deployment: Deployment, old?: Deployment): FieldError[] {
  const { spec } = deployment;
  if (spec === undefined) return [required("spec")];
  const errors = validateTemplate(spec, old?.spec);
  errors.push(...notNegative("spec.replicas", spec.replicas));
  errors.push(...notNegative("spec.minReadySeconds", spec.minReadySeconds));
  errors.push(...notNegative("spec.revisionHistoryLimit", spec.revisionHistoryLimit));
  errors.push(...notNegative("spec.progressDeadlineSeconds", spec.progressDeadlineSeconds));
  if (spec.progressDeadlineSeconds !== undefined && spec.progressDeadlineSeconds <= (spec.minReadySeconds ?? 0))
    errors.push(
      invalid("spec.progressDeadlineSeconds", spec.progressDeadlineSeconds, "must be greater than minReadySeconds"),
    );
  errors.push(...oneOf("spec.strategy.type", spec.strategy?.type, ["Recreate", "RollingUpdate"], true));
  if (spec.strategy?.type === "Recreate" && spec.strategy.rollingUpdate !== undefined)
    errors.push(forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'"));
  else errors.push(...validateRollingUpdate(spec.strategy?.rollingUpdate, "spec.strategy.rollingUpdate"));
  return errors;
}

export const deploymentKind = define<Deployment>({
  group: "apps",
  version: "v1",
  kind: "Deployment",
  plural: "deployments",
  shortNames: ["deploy"],
  categories: ["all"],
  schemaName: "io.k8s.api.apps.v1.Deployment",
  hasStatus: true,
  scale,
  columns: [
    nameColumn,
    column("Ready", (o) => `${o.status?.readyReplicas ?? 0}/${o.spec?.replicas ?? 0}`),
    column("Up-to-date", (o) => o.status?.updatedReplicas ?? 0, integer),
    column("Available", (o) => o.status?.availableReplicas ?? 0, integer),
    ageColumn,
    ...wideColumns,
  ],
  applyDefaults({ spec }) {
    if (spec === undefined) return;
    spec.replicas ??= 1;
    spec.strategy ??= {};
    spec.strategy.type ||= "RollingUpdate";
    if (spec.strategy.type === "RollingUpdate") {
      spec.strategy.rollingUpdate ??= {};
      spec.strategy.rollingUpdate.maxUnavailable ??= "25%";
      spec.strategy.rollingUpdate.maxSurge ??= "25%";
    }
    spec.revisionHistoryLimit ??= 10;
    spec.progressDeadlineSeconds ??= 600;
    defaultTemplate(spec.template);
  },
  validate: validateDeployment,
});

function validateReplicaSet({ spec }: ReplicaSet, old?: ReplicaSet): FieldError[] {
  if (spec === undefined) return [required("spec")];
  return [
    ...validateTemplate(spec, old?.spec),
    ...notNegative("spec.replicas", spec.replicas),
    ...notNegative("spec.minReadySeconds", spec.minReadySeconds),
  ];
}

export const replicaSetKind = define<ReplicaSet>({
  group: "apps",
  version: "v1",
  kind: "ReplicaSet",
  plural: "replicasets",
  shortNames: ["rs"],
  categories: ["all"],
  schemaName: "io.k8s.api.apps.v1.ReplicaSet",
  hasStatus: true,
  scale,
  columns: [
    nameColumn,
    column("Desired", (o) => o.spec?.replicas ?? 0, integer),
    column("Current", (o) => o.status?.replicas ?? 0, integer),
    column("Ready", (o) => o.status?.readyReplicas ?? 0, integer),
    ageColumn,
    ...wideColumns,
  ],
  selectableFields: { "status.replicas": (o) => String(o.status?.replicas ?? 0) },
  applyDefaults(o) {
    if (o.spec === undefined) return;
    o.spec.replicas ??= 1;
    defaultTemplate(o.spec.template);
    o.status ??= { replicas: 0 };
  },
  validate: validateReplicaSet,
});

function validateDaemonSet({ spec }: DaemonSet, old?: DaemonSet): FieldError[] {
  if (spec === undefined) return [required("spec")];
  const path = "spec.updateStrategy";
  const errors = [
    ...validateTemplate(spec, old?.spec),
    ...notNegative("spec.minReadySeconds", spec.minReadySeconds),
    ...notNegative("spec.revisionHistoryLimit", spec.revisionHistoryLimit),
    ...oneOf(`${path}.type`, spec.updateStrategy?.type, ["OnDelete", "RollingUpdate"], true),
  ];
  if (spec.updateStrategy?.type === "RollingUpdate")
    errors.push(...validateRollingUpdate(spec.updateStrategy.rollingUpdate, `${path}.rollingUpdate`));
  return errors;
}

export const daemonSetKind = define<DaemonSet>({
  group: "apps",
  version: "v1",
  kind: "DaemonSet",
  plural: "daemonsets",
  shortNames: ["ds"],
  categories: ["all"],
  schemaName: "io.k8s.api.apps.v1.DaemonSet",
  hasStatus: true,
  columns: [
    nameColumn,
    column("Desired", (o) => o.status?.desiredNumberScheduled ?? 0, integer),
    column("Current", (o) => o.status?.currentNumberScheduled ?? 0, integer),
    column("Ready", (o) => o.status?.numberReady ?? 0, integer),
    column("Up-to-date", (o) => o.status?.updatedNumberScheduled ?? 0, integer),
    column("Available", (o) => o.status?.numberAvailable ?? 0, integer),
    column("Node Selector", (o) => formatMap(o.spec?.template?.spec?.nodeSelector)),
    ageColumn,
    ...wideColumns,
  ],
  applyDefaults(o) {
    const { spec } = o;
    if (spec === undefined) return;
    spec.updateStrategy ??= {};
    spec.updateStrategy.type ||= "RollingUpdate";
    if (spec.updateStrategy.type === "RollingUpdate") {
      spec.updateStrategy.rollingUpdate ??= {};
      spec.updateStrategy.rollingUpdate.maxUnavailable ??= 1;
      spec.updateStrategy.rollingUpdate.maxSurge ??= 0;
    }
    spec.revisionHistoryLimit ??= 10;
    defaultTemplate(spec.template);
    o.status ??= { currentNumberScheduled: 0, desiredNumberScheduled: 0, numberMisscheduled: 0, numberReady: 0 };
  },
  validate: validateDaemonSet,
});
