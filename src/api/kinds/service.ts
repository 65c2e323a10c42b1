// Service.

import { dns1035LabelProblem } from "../names.ts";
import type { Service } from "../types.ts";
import { ageColumn, column, define, nameColumn, wideColumn } from "./define.ts";
import { formatMap } from "./metadata.ts";
import { validateService } from "./service-validation.ts";

type Spec = NonNullable<Service["spec"]>;

function clusterIpOf({ spec }: Service): string {
  return spec?.clusterIPs?.[0] || spec?.clusterIP || "<none>";
}

function externalIpOf({ spec, status }: Service): string {
  const external = spec?.externalIPs ?? [];
  if (spec?.type === "ExternalName") return spec.externalName ?? "<none>";
  if (spec?.type !== "LoadBalancer") return external.length > 0 ? external.join(",") : "<none>";
  const ingress = (status?.loadBalancer?.ingress ?? []).map((each) => each.ip || each.hostname || "");
  const all = [...ingress.filter((each) => each !== ""), ...external];
  return all.length > 0 ? all.join(",") : "<pending>";
}

function portsOf({ spec }: Service): string {
  const ports = (spec?.ports ?? []).map(
    ({ port, nodePort, protocol }) => `${port}${nodePort ? `:${nodePort}` : ""}/${protocol ?? "TCP"}`,
  );
  return ports.length > 0 ? ports.join(",") : "<none>";
}

/** `clusterIP` is the first of `clusterIPs`; the API server assigns one to a service that has none. */
function defaultAddresses(spec: Spec): void {
  if (spec.type === "ExternalName") return;
  if (spec.clusterIP && !spec.clusterIPs?.length) spec.clusterIPs = [spec.clusterIP];
  else if (!spec.clusterIP && spec.clusterIPs?.[0]) spec.clusterIP = spec.clusterIPs[0];
  spec.ipFamilies ??= ["IPv4"];
  spec.ipFamilyPolicy ??= "SingleStack";
}

/** A service that changes its type leaves behind what was filled in for the old one (dropTypeDependentFields). */
function dropDefaultsOfOtherTypes(spec: Spec): void {
  if (spec.allocateLoadBalancerNodePorts === true) delete spec.allocateLoadBalancerNodePorts;
  const isExternal = spec.type === "NodePort" || (spec.externalIPs?.length ?? 0) > 0;
  if (!isExternal && spec.externalTrafficPolicy === "Cluster") delete spec.externalTrafficPolicy;
}

function applyDefaults(service: Service): void {
  const spec = service.spec;
  if (spec === undefined) return;
  spec.type ||= "ClusterIP";
  spec.sessionAffinity ||= "None";
  if (spec.sessionAffinity === "ClientIP" && spec.sessionAffinityConfig?.clientIP?.timeoutSeconds === undefined)
    spec.sessionAffinityConfig = { clientIP: { timeoutSeconds: 10_800 } };
  for (const port of spec.ports ?? []) {
    port.protocol ||= "TCP";
    if (port.targetPort === undefined || port.targetPort === 0 || port.targetPort === "") port.targetPort = port.port;
  }
  if (spec.type !== "ExternalName") spec.internalTrafficPolicy ??= "Cluster";
  if (spec.type === "NodePort" || spec.type === "LoadBalancer") spec.externalTrafficPolicy ||= "Cluster";
  if (spec.type === "LoadBalancer") spec.allocateLoadBalancerNodePorts ??= true;
  else dropDefaultsOfOtherTypes(spec);
  defaultAddresses(spec);
  service.status ??= {};
  service.status.loadBalancer ??= {};
}

export const serviceKind = define<Service>({
  group: "",
  version: "v1",
  kind: "Service",
  plural: "services",
  shortNames: ["svc"],
  categories: ["all"],
  schemaName: "io.k8s.api.core.v1.Service",
  hasStatus: true,
  nameProblem: dns1035LabelProblem,
  columns: [
    nameColumn,
    column("Type", (o) => o.spec?.type ?? "", { description: "How the service is exposed" }),
    column("Cluster-IP", clusterIpOf, { description: "Address inside the cluster" }),
    column("External-IP", externalIpOf, { description: "Addresses outside the cluster" }),
    column("Port(s)", portsOf, { description: "Ports the service offers" }),
    ageColumn,
    wideColumn("Selector", (o) => formatMap(o.spec?.selector)),
  ],
  selectableFields: { "spec.clusterIP": (o) => o.spec?.clusterIP ?? "", "spec.type": (o) => o.spec?.type ?? "" },
  applyDefaults,
  validate: validateService,
});
