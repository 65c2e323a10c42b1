// Writes src/apiserver/protobuf-schema.json, the field numbers of Kubernetes' protobuf bodies, from the descriptors inside a
// kubectl: `bun tools/kube-protobuf.ts <path of a kubectl binary>`. Needed again only for a newer Kubernetes or more kinds.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { constants, gunzipSync } from "node:zlib";
import { fromBinary } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  type FieldDescriptorProto,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  FileDescriptorProtoSchema,
} from "@bufbuild/protobuf/wkt";

const kinds: Record<string, string> = {
  "core.v1":
    "Binding ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod ResourceQuota Secret Service ServiceAccount",
  "apps.v1": "DaemonSet Deployment ReplicaSet StatefulSet",
  "authentication.v1": "TokenRequest",
  "authorization.v1": "SelfSubjectAccessReview SelfSubjectRulesReview",
  "autoscaling.v1": "HorizontalPodAutoscaler Scale",
  "autoscaling.v2": "HorizontalPodAutoscaler",
  "batch.v1": "CronJob Job",
  "coordination.v1": "Lease",
  "discovery.v1": "EndpointSlice",
  "events.v1": "Event",
  "meta.v1": "DeleteOptions",
  "networking.v1": "Ingress IngressClass NetworkPolicy",
  "policy.v1": "Eviction PodDisruptionBudget",
  "rbac.v1": "ClusterRole ClusterRoleBinding Role RoleBinding",
  "scheduling.v1": "PriorityClass",
  "storage.v1": "StorageClass",
};

/** Numbers and booleans whose zero means "absent": in Go no pointers, and left out of JSON when zero. */
const zeroIsAbsent = new Set(
  `ObjectMeta.generation PodSpec.hostNetwork PodSpec.hostPID PodSpec.hostIPC Container.stdin Container.stdinOnce Container.tty
  EphemeralContainerCommon.stdin EphemeralContainerCommon.stdinOnce EphemeralContainerCommon.tty ContainerPort.hostPort
  VolumeMount.readOnly VolumeMountStatus.readOnly Probe.initialDelaySeconds Probe.timeoutSeconds Probe.periodSeconds
  Probe.successThreshold Probe.failureThreshold PodStatus.observedGeneration PodCondition.observedGeneration
  Condition.observedGeneration ContainerStateTerminated.signal ServiceSpec.healthCheckNodePort
  ServiceSpec.publishNotReadyAddresses ServicePort.nodePort NodeSpec.unschedulable ContainerImage.sizeBytes Event.count
  EventSeries.count DeploymentSpec.minReadySeconds DeploymentSpec.paused DeploymentStatus.observedGeneration
  DeploymentStatus.replicas DeploymentStatus.updatedReplicas DeploymentStatus.readyReplicas DeploymentStatus.availableReplicas
  DeploymentStatus.unavailableReplicas ReplicaSetSpec.minReadySeconds ReplicaSetStatus.fullyLabeledReplicas
  ReplicaSetStatus.readyReplicas ReplicaSetStatus.availableReplicas ReplicaSetStatus.observedGeneration
  DaemonSetSpec.minReadySeconds DaemonSetStatus.observedGeneration DaemonSetStatus.updatedNumberScheduled
  DaemonSetStatus.numberAvailable DaemonSetStatus.numberUnavailable StatefulSetSpec.minReadySeconds
  StatefulSetStatus.observedGeneration StatefulSetStatus.readyReplicas StatefulSetStatus.currentReplicas
  StatefulSetStatus.updatedReplicas JobStatus.active JobStatus.succeeded JobStatus.failed
  PodDisruptionBudgetStatus.observedGeneration HorizontalPodAutoscalerStatus.currentReplicas PriorityClass.globalDefault
  SubjectAccessReviewStatus.denied ServiceBackendPort.number GCEPersistentDiskVolumeSource.partition
  AWSElasticBlockStoreVolumeSource.partition`.split(/\s+/),
);
const isPointer = new Set(["AzureDiskVolumeSource.readOnly", "CSIVolumeSource.readOnly"]);
const isVolumeFlag = (message: string, field: string) =>
  /(Persistent)?VolumeSource$/.test(message) &&
  ["readOnly", "chapAuthDiscovery", "chapAuthSession", "sslEnabled"].includes(field);

/** Texts that may be given and empty; elsewhere an empty text means "absent". */
const emptyTextCounts = new Set([
  "PersistentVolumeClaimSpec.storageClassName",
  "PersistentVolumeClaimSpec.volumeAttributesClassName",
  "PersistentVolumeSpec.volumeAttributesClassName",
  "LeaseSpec.holderIdentity",
  "EndpointPort.name",
]);

/** Messages whose fields stand in JSON beside those of the message they are in. */
const inlined = new Set([
  "Volume.volumeSource",
  "PersistentVolumeSpec.persistentVolumeSource",
  "Probe.handler",
  "EphemeralContainer.ephemeralContainerCommon",
]);
const isInlined = (message: string, field: string) =>
  inlined.has(`${message}.${field}`) ||
  (field === "localObjectReference" &&
    /^(ConfigMap|Secret)(VolumeSource|KeySelector|EnvSource|Projection)$/.test(message));

function readMessages(binary: Buffer): Map<string, DescriptorProto> {
  const messages = new Map<string, DescriptorProto>();
  const gzip = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
  for (let at = binary.indexOf(gzip); at >= 0; at = binary.indexOf(gzip, at + 1)) {
    try {
      const bytes = gunzipSync(binary.subarray(at, at + 500_000), { finishFlush: constants.Z_SYNC_FLUSH });
      const file = fromBinary(FileDescriptorProtoSchema, bytes);
      if (/^k8s\.io\/(api|apimachinery)\//.test(file.name))
        for (const message of file.messageType) messages.set(`.${file.package}.${message.name}`, message);
    } catch {
      // Something else that is compressed.
    }
  }
  return messages;
}

/** ".k8s.io.api.core.v1.Pod" and ".k8s.io.apimachinery.pkg.apis.meta.v1.Time" without what they all share. */
const shortName = (name: string) =>
  name.replace(/^\.k8s\.io\.(api|apimachinery\.pkg\.(apis|api|util)|apimachinery\.pkg)\./, "");

const scalars: Partial<Record<FieldDescriptorProto_Type, string>> = {
  [FieldDescriptorProto_Type.STRING]: "s",
  [FieldDescriptorProto_Type.BYTES]: "y",
  [FieldDescriptorProto_Type.BOOL]: "b",
  [FieldDescriptorProto_Type.INT32]: "i",
  [FieldDescriptorProto_Type.INT64]: "i",
};

function describe(messages: ReadonlyMap<string, DescriptorProto>, visit: (name: string) => void) {
  const typeOf = (field: FieldDescriptorProto): string => {
    if (field.type === FieldDescriptorProto_Type.MESSAGE) {
      visit(field.typeName);
      return `@${shortName(field.typeName)}`;
    }
    const scalar = scalars[field.type];
    if (scalar === undefined) throw new Error(`${field.name}: type ${field.type} is not expected`);
    return scalar;
  };
  return (name: string): string => {
    const message = messages.get(name);
    if (message === undefined) throw new Error(`no message ${name} in this binary`);
    return message.field
      .map((field) => {
        const id = `${message.name}.${field.name}`;
        const entry = message.nestedType.find((each) => field.typeName === `${name}.${each.name}`);
        if (entry !== undefined) return `${field.number} ${field.name} {${typeOf(entry.field[1]!)}`;
        const type = typeOf(field);
        if (isInlined(message.name, field.name)) return `${field.number} * ${type}`;
        if (field.label === FieldDescriptorProto_Label.REPEATED) return `${field.number} ${field.name} [${type}`;
        const absent =
          type === "s"
            ? !emptyTextCounts.has(id)
            : zeroIsAbsent.has(id) || (isVolumeFlag(message.name, field.name) && !isPointer.has(id));
        return `${field.number} ${field.name} ${type}${absent ? "-" : ""}`;
      })
      .join(";");
  };
}

const messages = readMessages(readFileSync(process.argv[2]!));
const names = Object.entries(kinds).flatMap(([version, list]) =>
  list
    .split(" ")
    .map((kind) => `.k8s.io.${version === "meta.v1" ? "apimachinery.pkg.apis" : "api"}.${version}.${kind}`),
);
const described = new Map<string, string>();
const describeOne = describe(messages, (name) => {
  if (!names.includes(name)) names.push(name);
});
for (const name of names) described.set(shortName(name), describeOne(name));
const sorted = Object.fromEntries([...described].sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(
  join(import.meta.dir, "../src/apiserver/protobuf-schema.json"),
  `${JSON.stringify(sorted, undefined, 2)}\n`,
);
