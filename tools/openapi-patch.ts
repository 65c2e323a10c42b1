// What the typings do not carry: strategic merge patch metadata (the struct tags of Kubernetes' API types), and a field of Istio's.
import type { Schema } from "../src/api/schema.ts";

/** Per schema and list field: merge key and, where not plain "merge", the strategy. "" as key: a list of plain values. */
const mergeKeys: Record<string, Record<string, string | { key?: string; strategy: string }>> = {
  "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": { ownerReferences: "uid", finalizers: "" },
  "io.k8s.api.core.v1.PodSpec": {
    containers: "name",
    initContainers: "name",
    ephemeralContainers: "name",
    volumes: { key: "name", strategy: "merge,retainKeys" },
    resourceClaims: { key: "name", strategy: "merge,retainKeys" },
    imagePullSecrets: "name",
    hostAliases: "ip",
    topologySpreadConstraints: "topologyKey",
    schedulingGates: "name",
  },
  "io.k8s.api.core.v1.Container": {
    ports: "containerPort",
    env: "name",
    volumeMounts: "mountPath",
    volumeDevices: "devicePath",
  },
  "io.k8s.api.core.v1.EphemeralContainer": {
    ports: "containerPort",
    env: "name",
    volumeMounts: "mountPath",
    volumeDevices: "devicePath",
  },
  "io.k8s.api.core.v1.PodStatus": {
    conditions: "type",
    podIPs: "ip",
    hostIPs: "ip",
    resourceClaimStatuses: { key: "name", strategy: "merge,retainKeys" },
  },
  "io.k8s.api.core.v1.ServiceSpec": { ports: "port" },
  "io.k8s.api.core.v1.ServiceStatus": { conditions: "type" },
  "io.k8s.api.core.v1.ServiceAccount": { secrets: "name" },
  "io.k8s.api.core.v1.NamespaceStatus": { conditions: "type" },
  "io.k8s.api.core.v1.NodeSpec": { podCIDRs: "" },
  "io.k8s.api.core.v1.NodeStatus": { conditions: "type", addresses: "type" },
  "io.k8s.api.core.v1.PersistentVolumeClaimStatus": { conditions: "type" },
  "io.k8s.api.apps.v1.DeploymentSpec": { strategy: { strategy: "retainKeys" } },
  "io.k8s.api.apps.v1.DeploymentStatus": { conditions: "type" },
  "io.k8s.api.apps.v1.ReplicaSetStatus": { conditions: "type" },
  "io.k8s.api.apps.v1.DaemonSetStatus": { conditions: "type" },
};

/** Fields that Istio's own definitions have and the typings lack, by schema and status field. */
const statusFields: Record<string, Record<string, Schema>> = {
  "io.istio.networking.v1.ServiceEntry": {
    addresses: {
      description: "Addresses allocated by Istio's control plane for hosts of the entry that are given none.",
      type: "array",
      items: {
        type: "object",
        properties: {
          host: { type: "string", description: "The host name associated with this address." },
          value: { type: "string", description: "The address." },
        },
      },
    },
  },
};

/** Adds the metadata to a schema's fields. Throws when the table names a field that is not there: it would be a typing error. */
export function patchMetadata(name: string, schema: Schema): Schema {
  for (const [field, entry] of Object.entries(mergeKeys[name] ?? {})) {
    const property = schema.properties?.[field];
    if (property === undefined) throw new Error(`${name} has no field ${field}`);
    const { key, strategy } = typeof entry === "string" ? { key: entry, strategy: "merge" } : { key: "", ...entry };
    property["x-kubernetes-patch-strategy"] = strategy;
    if (key !== "") property["x-kubernetes-patch-merge-key"] = key;
  }
  Object.assign(schema.properties?.["status"]?.properties ?? {}, statusFields[name]);
  return schema;
}
