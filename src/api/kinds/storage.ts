// PersistentVolume, PersistentVolumeClaim and StorageClass.

import {
  child,
  forbidden,
  inRange,
  invalid,
  keyed,
  notSupported,
  oneOf,
  required,
  sameValue,
} from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { dnsSubdomainProblem } from "../names.ts";
import { canonicalQuantity, compareQuantities, isQuantity, quantityRule } from "../quantity.ts";
import type { PersistentVolume, PersistentVolumeClaim, StorageClass } from "../types.ts";
import { ageColumn, column, define, nameColumn, wideColumn } from "./define.ts";
import { validateLabelSelector } from "./metadata.ts";

const accessModes: Record<string, string> = {
  ReadWriteOnce: "RWO",
  ReadOnlyMany: "ROX",
  ReadWriteMany: "RWX",
  ReadWriteOncePod: "RWOP",
};
const volumeModes = ["Filesystem", "Block"];

/** Sources a PersistentVolume may name; exactly one. */
const volumeSources = ["hostPath", "local", "nfs", "csi", "cephfs", "rbd", "iscsi", "fc", "glusterfs"] as const;

const modesText = (modes: readonly string[] | undefined): string =>
  Object.keys(accessModes)
    .filter((mode) => modes?.includes(mode))
    .map((mode) => accessModes[mode])
    .join(",");

function validateAccessModes(modes: readonly string[] | undefined, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (modes === undefined || modes.length === 0) errors.push(required(path, "at least 1 access mode is required"));
  modes?.forEach((mode, i) => {
    if (!Object.hasOwn(accessModes, mode)) errors.push(notSupported(child(path, i), mode, Object.keys(accessModes)));
  });
  if (modes?.includes("ReadWriteOncePod") && modes.length > 1)
    errors.push(forbidden(path, "may not use ReadWriteOncePod with other access modes"));
  return errors;
}

type Quantities = Record<string, string | number> | undefined;

function validateStorage(quantities: Quantities, path: string): FieldError[] {
  const storage = quantities?.["storage"];
  if (storage === undefined) return [required(keyed(path, "storage"))];
  if (!isQuantity(storage)) return [invalid(keyed(path, "storage"), storage, quantityRule)];
  if (compareQuantities(storage, 0) <= 0)
    return [invalid(keyed(path, "storage"), String(storage), "must be greater than zero")];
  return [];
}

function canonicalize(quantities: Quantities): void {
  for (const name in quantities)
    if (isQuantity(quantities[name])) quantities[name] = canonicalQuantity(quantities[name]!);
}

function validateVolume(volume: PersistentVolume, old?: PersistentVolume): FieldError[] {
  const spec = volume.spec;
  if (spec === undefined) return [required("spec")];
  const errors = validateAccessModes(spec.accessModes, "spec.accessModes");
  errors.push(...validateStorage(spec.capacity, "spec.capacity"));
  errors.push(
    ...oneOf("spec.persistentVolumeReclaimPolicy", spec.persistentVolumeReclaimPolicy, ["Delete", "Recycle", "Retain"]),
  );
  errors.push(...oneOf("spec.volumeMode", spec.volumeMode, volumeModes));
  const sources = volumeSources.filter((source) => spec[source] !== undefined);
  if (sources.length === 0) errors.push(required("spec", "must specify a volume type"));
  for (const extra of sources.slice(1))
    errors.push(forbidden(`spec.${extra}`, "may not specify more than 1 volume type"));
  if (spec.hostPath !== undefined && !spec.hostPath.path) errors.push(required("spec.hostPath.path"));
  if (spec.hostPath?.path.split("/").includes(".."))
    errors.push(invalid("spec.hostPath.path", spec.hostPath.path, "must not contain '..'"));
  if (spec.local !== undefined && !spec.local.path) errors.push(required("spec.local.path"));
  if (spec.local !== undefined && spec.nodeAffinity === undefined)
    errors.push(required("spec.nodeAffinity", "Local volume requires node affinity"));
  if (spec.storageClassName) {
    const problem = dnsSubdomainProblem(spec.storageClassName);
    if (problem !== undefined) errors.push(invalid("spec.storageClassName", spec.storageClassName, problem));
  }
  if (old?.spec !== undefined)
    for (const source of volumeSources)
      if (!sameValue(spec[source], old.spec[source]))
        errors.push(
          forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation"),
        );
  return errors;
}

export const persistentVolumeKind = define<PersistentVolume>({
  group: "",
  version: "v1",
  kind: "PersistentVolume",
  plural: "persistentvolumes",
  shortNames: ["pv"],
  namespaced: false,
  schemaName: "io.k8s.api.core.v1.PersistentVolume",
  hasStatus: true,
  columns: [
    nameColumn,
    column("Capacity", (o) => String(o.spec?.capacity?.["storage"] ?? "")),
    column("Access Modes", (o) => modesText(o.spec?.accessModes)),
    column("Reclaim Policy", (o) => o.spec?.persistentVolumeReclaimPolicy ?? ""),
    column("Status", (o) => (o.metadata.deletionTimestamp === undefined ? (o.status?.phase ?? "") : "Terminating")),
    column("Claim", (o) =>
      o.spec?.claimRef === undefined ? "" : `${o.spec.claimRef.namespace ?? ""}/${o.spec.claimRef.name ?? ""}`,
    ),
    column("StorageClass", (o) => o.spec?.storageClassName ?? ""),
    column("VolumeAttributesClass", (o) => o.spec?.volumeAttributesClassName ?? "<unset>"),
    column("Reason", (o) => o.status?.reason ?? ""),
    ageColumn,
    wideColumn("VolumeMode", (o) => o.spec?.volumeMode ?? "<unset>"),
  ],
  applyDefaults(o) {
    if (o.spec === undefined) return;
    o.spec.persistentVolumeReclaimPolicy ??= "Retain";
    o.spec.volumeMode ??= "Filesystem";
    if (o.spec.hostPath !== undefined) o.spec.hostPath.type ??= "";
    canonicalize(o.spec.capacity);
    o.status ??= {};
    o.status.phase ??= "Pending";
  },
  validate: validateVolume,
});

/** What may change in a bound claim: a larger request, the attributes class, and what the binder fills in once. */
function validateClaimUpdate(claim: PersistentVolumeClaim, old: PersistentVolumeClaim): FieldError[] {
  const next = { ...claim.spec };
  const before = { ...old.spec };
  const errors: FieldError[] = [];
  if (!before.volumeName) delete next.volumeName;
  if (!before.volumeName) delete before.volumeName;
  if (before.storageClassName === undefined) delete next.storageClassName;
  for (const field of ["volumeAttributesClassName", "resources", "dataSource", "dataSourceRef"] as const) {
    delete next[field];
    delete before[field];
  }
  if (!sameValue(next, before))
    errors.push(
      forbidden(
        "spec",
        "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
      ),
    );
  const request = claim.spec?.resources?.requests?.["storage"];
  const previous = old.spec?.resources?.requests?.["storage"];
  if (isQuantity(request) && isQuantity(previous) && compareQuantities(request!, previous!) < 0)
    errors.push(forbidden("spec.resources.requests.storage", "field can not be less than status.capacity"));
  return errors;
}

function validateClaim(claim: PersistentVolumeClaim, old?: PersistentVolumeClaim): FieldError[] {
  const spec = claim.spec;
  if (spec === undefined) return [required("spec")];
  const errors = validateAccessModes(spec.accessModes, "spec.accessModes");
  errors.push(...validateLabelSelector(spec.selector, "spec.selector"));
  errors.push(...validateStorage(spec.resources?.requests, "spec.resources"));
  if (spec.storageClassName) {
    const problem = dnsSubdomainProblem(spec.storageClassName);
    if (problem !== undefined) errors.push(invalid("spec.storageClassName", spec.storageClassName, problem));
  }
  errors.push(...oneOf("spec.volumeMode", spec.volumeMode, volumeModes));
  if (old !== undefined) errors.push(...validateClaimUpdate(claim, old));
  return errors;
}

export const persistentVolumeClaimKind = define<PersistentVolumeClaim>({
  group: "",
  version: "v1",
  kind: "PersistentVolumeClaim",
  plural: "persistentvolumeclaims",
  shortNames: ["pvc"],
  schemaName: "io.k8s.api.core.v1.PersistentVolumeClaim",
  hasStatus: true,
  columns: [
    nameColumn,
    column("Status", (o) => (o.metadata.deletionTimestamp === undefined ? (o.status?.phase ?? "") : "Terminating")),
    column("Volume", (o) => o.spec?.volumeName ?? ""),
    column("Capacity", (o) => (o.spec?.volumeName ? String(o.status?.capacity?.["storage"] ?? "0") : "")),
    column("Access Modes", (o) => (o.spec?.volumeName ? modesText(o.status?.accessModes) : "")),
    column("StorageClass", (o) => o.spec?.storageClassName ?? ""),
    column("VolumeAttributesClass", (o) => o.spec?.volumeAttributesClassName ?? "<unset>"),
    ageColumn,
    wideColumn("VolumeMode", (o) => o.spec?.volumeMode ?? "<unset>"),
  ],
  applyDefaults(o) {
    if (o.spec === undefined) return;
    o.spec.volumeMode ??= "Filesystem";
    canonicalize(o.spec.resources?.requests);
    canonicalize(o.spec.resources?.limits);
    o.status ??= {};
    o.status.phase ??= "Pending";
  },
  validate: validateClaim,
});

const defaultClass = "storageclass.kubernetes.io/is-default-class";

function validateClass(storageClass: StorageClass, old?: StorageClass): FieldError[] {
  const errors: FieldError[] = [];
  if (!storageClass.provisioner) errors.push(required("provisioner"));
  errors.push(...oneOf("reclaimPolicy", storageClass.reclaimPolicy, ["Delete", "Retain"]));
  errors.push(...oneOf("volumeBindingMode", storageClass.volumeBindingMode, ["Immediate", "WaitForFirstConsumer"]));
  errors.push(...inRange("parameters", Object.keys(storageClass.parameters ?? {}).length, 0, 512));
  if (old === undefined) return errors;
  for (const field of ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] as const)
    if (!sameValue(storageClass[field], old[field]))
      errors.push(forbidden(field, `updates to ${field} are forbidden.`));
  return errors;
}

export const storageClassKind = define<StorageClass>({
  group: "storage.k8s.io",
  version: "v1",
  kind: "StorageClass",
  plural: "storageclasses",
  shortNames: ["sc"],
  namespaced: false,
  schemaName: "io.k8s.api.storage.v1.StorageClass",
  columns: [
    column(
      "Name",
      (o) => (o.metadata.annotations?.[defaultClass] === "true" ? `${o.metadata.name} (default)` : o.metadata.name),
      { format: "name" },
    ),
    column("Provisioner", (o) => o.provisioner ?? ""),
    column("ReclaimPolicy", (o) => o.reclaimPolicy ?? "Delete"),
    column("VolumeBindingMode", (o) => o.volumeBindingMode ?? "Immediate"),
    column("AllowVolumeExpansion", (o) => o.allowVolumeExpansion === true, { type: "boolean" }),
    ageColumn,
  ],
  applyDefaults(o) {
    o.reclaimPolicy ??= "Delete";
    o.volumeBindingMode ??= "Immediate";
  },
  validate: validateClass,
});
