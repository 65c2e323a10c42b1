// The rest of networking.istio.io and extensions.istio.io: ServiceEntry, WorkloadEntry, WorkloadGroup, Sidecar, EnvoyFilter, ProxyConfig, WasmPlugin.

import type {
  EnvoyFilter,
  ProxyConfig,
  ServiceEntry,
  Sidecar,
  WasmPlugin,
  WorkloadEntry,
  WorkloadGroup,
} from "../types.ts";
import { ageColumn, column, define, nameColumn } from "./define.ts";
import { validateEnvoyFilter, validateProxyConfig, validateWasmPlugin } from "./extensions-validation.ts";
import { envoyFilterWarnings, serviceEntryWarnings, sidecarWarnings, workloadEntryWarnings } from "./istio-warnings.ts";
import { validateServiceEntry, validateWorkloadEntry, validateWorkloadGroup } from "./service-entry-validation.ts";
import { validateSidecar } from "./sidecar-validation.ts";

const group = "networking.istio.io";
const common = {
  group,
  version: "v1",
  servedVersions: ["v1", "v1beta1", "v1alpha3"],
  categories: ["istio-io", "networking-istio-io"],
  hasStatus: true,
} as const;

export const serviceEntryKind = define<ServiceEntry>({
  ...common,
  kind: "ServiceEntry",
  plural: "serviceentries",
  shortNames: ["se"],
  schemaName: "io.istio.networking.v1.ServiceEntry",
  columns: [
    nameColumn,
    column("Hosts", (o) => (o.spec?.hosts ? JSON.stringify(o.spec.hosts) : ""), {
      description: "The hosts associated with the ServiceEntry",
    }),
    column("Location", (o) => o.spec?.location ?? "", {
      description: "Whether the service is external to the mesh or part of the mesh (MESH_EXTERNAL or MESH_INTERNAL)",
    }),
    column("Resolution", (o) => o.spec?.resolution ?? "", {
      description: "Service resolution mode for the hosts (NONE, STATIC, or DNS)",
    }),
    ageColumn,
  ],
  validate: validateServiceEntry,
  warn: serviceEntryWarnings,
});

export const workloadEntryKind = define<WorkloadEntry>({
  ...common,
  kind: "WorkloadEntry",
  plural: "workloadentries",
  shortNames: ["we"],
  schemaName: "io.istio.networking.v1.WorkloadEntry",
  columns: [
    nameColumn,
    ageColumn,
    column("Address", (o) => o.spec?.address ?? "", { description: "Address associated with the network endpoint." }),
  ],
  validate: validateWorkloadEntry,
  warn: workloadEntryWarnings,
});

export const workloadGroupKind = define<WorkloadGroup>({
  ...common,
  kind: "WorkloadGroup",
  plural: "workloadgroups",
  shortNames: ["wg"],
  schemaName: "io.istio.networking.v1.WorkloadGroup",
  columns: [nameColumn, ageColumn],
  validate: validateWorkloadGroup,
});

export const sidecarKind = define<Sidecar>({
  ...common,
  kind: "Sidecar",
  plural: "sidecars",
  schemaName: "io.istio.networking.v1.Sidecar",
  columns: [nameColumn, ageColumn],
  validate: validateSidecar,
  warn: sidecarWarnings,
});

export const envoyFilterKind = define<EnvoyFilter>({
  ...common,
  version: "v1alpha3",
  servedVersions: ["v1alpha3"],
  kind: "EnvoyFilter",
  plural: "envoyfilters",
  schemaName: "io.istio.networking.v1alpha3.EnvoyFilter",
  columns: [nameColumn, ageColumn],
  validate: validateEnvoyFilter,
  warn: envoyFilterWarnings,
});

export const proxyConfigKind = define<ProxyConfig>({
  ...common,
  version: "v1beta1",
  servedVersions: ["v1beta1"],
  kind: "ProxyConfig",
  plural: "proxyconfigs",
  schemaName: "io.istio.networking.v1beta1.ProxyConfig",
  columns: [nameColumn, ageColumn],
  validate: validateProxyConfig,
});

export const wasmPluginKind = define<WasmPlugin>({
  group: "extensions.istio.io",
  version: "v1alpha1",
  servedVersions: ["v1alpha1"],
  categories: ["istio-io", "extensions-istio-io"],
  hasStatus: true,
  kind: "WasmPlugin",
  plural: "wasmplugins",
  schemaName: "io.istio.extensions.v1alpha1.WasmPlugin",
  columns: [nameColumn, ageColumn],
  validate: validateWasmPlugin,
});
