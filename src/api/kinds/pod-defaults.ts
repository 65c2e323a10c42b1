// What Kubernetes fills into a pod, or a pod template, that leaves it out (pkg/apis/core/v1/defaults.go).

import { canonicalQuantity, compareQuantities, isQuantity } from "../quantity.ts";
import type { Pod } from "../types.ts";

export type PodSpec = NonNullable<Pod["spec"]>;
export type Container = PodSpec["containers"][number];
type Probe = NonNullable<Container["livenessProbe"]>;
type Volume = NonNullable<PodSpec["volumes"]>[number];
type HttpGet = NonNullable<Probe["httpGet"]>;

const fileMode = 0o644;

/** The tag decides: ":latest" or none is pulled always. */
function pullPolicyOf(image: string | undefined): string {
  const last = (image ?? "").slice((image ?? "").lastIndexOf("/") + 1);
  if (last.includes("@")) return "IfNotPresent";
  const tag = last.split(":")[1];
  return tag === undefined || tag === "latest" ? "Always" : "IfNotPresent";
}

function defaultHttpGet(get: HttpGet | undefined): void {
  if (get === undefined) return;
  get.path ||= "/";
  get.scheme ||= "HTTP";
}

function defaultProbe(probe: Probe | undefined): void {
  if (probe === undefined) return;
  probe.timeoutSeconds ||= 1;
  probe.periodSeconds ||= 10;
  probe.successThreshold ||= 1;
  probe.failureThreshold ||= 3;
  defaultHttpGet(probe.httpGet);
  if (probe.grpc !== undefined) probe.grpc.service ??= "";
}

function canonicalize(quantities: Record<string, string | number> | undefined): void {
  for (const name in quantities)
    if (isQuantity(quantities[name])) quantities[name] = canonicalQuantity(quantities[name]!);
}

function defaultContainer(container: Container, hostNetwork: boolean): void {
  container.terminationMessagePath ||= "/dev/termination-log";
  container.terminationMessagePolicy ||= "File";
  container.imagePullPolicy ||= pullPolicyOf(container.image) as NonNullable<Container["imagePullPolicy"]>;
  container.resources ??= {};
  canonicalize(container.resources.requests);
  canonicalize(container.resources.limits);
  for (const port of container.ports ?? []) {
    port.protocol ||= "TCP";
    if (hostNetwork) port.hostPort ||= port.containerPort;
  }
  for (const variable of container.env ?? [])
    if (variable.valueFrom?.fieldRef !== undefined) variable.valueFrom.fieldRef.apiVersion ||= "v1";
  defaultProbe(container.livenessProbe);
  defaultProbe(container.readinessProbe);
  defaultProbe(container.startupProbe);
  defaultHttpGet(container.lifecycle?.postStart?.httpGet);
  defaultHttpGet(container.lifecycle?.preStop?.httpGet);
}

function defaultVolume(volume: Volume): void {
  if (Object.keys(volume).every((field) => field === "name")) volume.emptyDir = {};
  if (volume.secret !== undefined) volume.secret.defaultMode ??= fileMode;
  if (volume.configMap !== undefined) volume.configMap.defaultMode ??= fileMode;
  if (volume.hostPath !== undefined) volume.hostPath.type ??= "";
  const downward = [...(volume.downwardAPI?.items ?? [])];
  if (volume.downwardAPI !== undefined) volume.downwardAPI.defaultMode ??= fileMode;
  if (volume.projected !== undefined) {
    volume.projected.defaultMode ??= fileMode;
    for (const source of volume.projected.sources ?? []) {
      downward.push(...(source.downwardAPI?.items ?? []));
      if (source.serviceAccountToken !== undefined) source.serviceAccountToken.expirationSeconds ??= 3600;
    }
  }
  for (const item of downward) if (item.fieldRef !== undefined) item.fieldRef.apiVersion ||= "v1";
}

export function defaultPodSpec(spec: PodSpec): void {
  spec.dnsPolicy ||= "ClusterFirst";
  spec.restartPolicy ||= "Always";
  spec.terminationGracePeriodSeconds ??= 30;
  spec.schedulerName ||= "default-scheduler";
  spec.securityContext ??= {};
  // One value under two names, for clients from before the renaming.
  if (spec.serviceAccountName) spec.serviceAccount = spec.serviceAccountName;
  else if (spec.serviceAccount) spec.serviceAccountName = spec.serviceAccount;
  for (const container of [...(spec.initContainers ?? []), ...(spec.containers ?? [])])
    defaultContainer(container, spec.hostNetwork === true);
  for (const volume of spec.volumes ?? []) defaultVolume(volume);
}

/** Beyond a template's: what only a pod itself gets, on creation or by the usual admission. */
export function defaultPod(pod: Pod): void {
  if (pod.spec === undefined) return;
  const { spec } = pod;
  defaultPodSpec(spec);
  spec.enableServiceLinks ??= true;
  if (!spec.serviceAccountName) {
    spec.serviceAccountName = "default";
    spec.serviceAccount = "default";
  }
  spec.priority ??= 0;
  spec.preemptionPolicy ??= "PreemptLowerPriority";
  for (const { resources } of [...(spec.initContainers ?? []), ...(spec.containers ?? [])]) {
    if (resources?.limits === undefined) continue;
    resources.requests = { ...resources.limits, ...resources.requests };
  }
  pod.status ??= {};
  pod.status.phase ??= "Pending";
  pod.status.qosClass ??= qosClassOf(spec);
}

/** Guaranteed: every container's cpu and memory requests equal their limits. BestEffort: none has any. Else Burstable. */
export function qosClassOf(spec: PodSpec): "Guaranteed" | "Burstable" | "BestEffort" {
  let any = false;
  let guaranteed = true;
  for (const { resources } of [...(spec.initContainers ?? []), ...spec.containers])
    for (const name of ["cpu", "memory"]) {
      const limit = resources?.limits?.[name];
      const request = resources?.requests?.[name] ?? limit;
      const isSet = (value: string | number | undefined) => isQuantity(value) && compareQuantities(value!, 0) > 0;
      if (isSet(limit) || isSet(request)) any = true;
      if (!isSet(limit) || !isSet(request) || compareQuantities(limit!, request!) !== 0) guaranteed = false;
    }
  if (!any) return "BestEffort";
  return guaranteed ? "Guaranteed" : "Burstable";
}
