// The kinds of the Gateway API (gateway.networking.k8s.io), with the versions and columns of its standard and experimental channels.

import type {
  BackendTLSPolicy,
  GatewayClass,
  GRPCRoute,
  HTTPRoute,
  KubernetesGateway,
  ReferenceGrant,
  TCPRoute,
  TLSRoute,
} from "../types.ts";
import { ageColumn, column, define, nameColumn } from "./define.ts";
import {
  validateGrpcRoute,
  validateHttpRoute,
  validateTcpRoute,
  validateTlsRoute,
} from "./gateway-api-route-validation.ts";
import {
  validateBackendTlsPolicy,
  validateGatewayClass,
  validateKubernetesGateway,
  validateReferenceGrant,
} from "./gateway-api-validation.ts";

const common = {
  group: "gateway.networking.k8s.io",
  version: "v1",
  categories: ["gateway-api"],
  hasStatus: true,
} as const;

interface Conditioned {
  status?: { conditions?: readonly { type: string; status: string }[] };
}

/** The status of a condition, as the printer columns of the custom resources show it. */
const conditionOf = (object: Conditioned, type: string): string =>
  object.status?.conditions?.find((condition) => condition.type === type)?.status ?? "";

const listText = (list: readonly string[] | undefined): string => (list === undefined ? "" : JSON.stringify(list));

const schemaName = (kind: string, version = "v1") => `io.k8s.sigs.gateway-api.apis.${version}.${kind}`;

export const gatewayClassKind = define<GatewayClass>({
  ...common,
  servedVersions: ["v1", "v1beta1"],
  kind: "GatewayClass",
  plural: "gatewayclasses",
  shortNames: ["gc"],
  namespaced: false,
  schemaName: schemaName("GatewayClass"),
  columns: [
    nameColumn,
    column("Controller", (o) => o.spec?.controllerName ?? ""),
    column("Accepted", (o) => conditionOf(o, "Accepted")),
    ageColumn,
    column("Description", (o) => o.spec?.description ?? "", { priority: 1 }),
  ],
  validate: validateGatewayClass,
});

export const kubernetesGatewayKind = define<KubernetesGateway>({
  ...common,
  servedVersions: ["v1", "v1beta1"],
  kind: "Gateway",
  plural: "gateways",
  shortNames: ["gtw"],
  schemaName: schemaName("Gateway"),
  columns: [
    nameColumn,
    column("Class", (o) => o.spec?.gatewayClassName ?? ""),
    column("Address", (o) => o.status?.addresses?.map(({ value }) => value).join(",") ?? ""),
    column("Programmed", (o) => conditionOf(o, "Programmed")),
    ageColumn,
  ],
  validate: validateKubernetesGateway,
});

export const httpRouteKind = define<HTTPRoute>({
  ...common,
  servedVersions: ["v1", "v1beta1"],
  kind: "HTTPRoute",
  plural: "httproutes",
  schemaName: schemaName("HTTPRoute"),
  columns: [nameColumn, column("Hostnames", (o) => listText(o.spec?.hostnames)), ageColumn],
  validate: validateHttpRoute,
});

export const grpcRouteKind = define<GRPCRoute>({
  ...common,
  servedVersions: ["v1", "v1alpha2"],
  kind: "GRPCRoute",
  plural: "grpcroutes",
  schemaName: schemaName("GRPCRoute"),
  columns: [nameColumn, column("Hostnames", (o) => listText(o.spec?.hostnames)), ageColumn],
  validate: validateGrpcRoute,
});

export const tlsRouteKind = define<TLSRoute>({
  ...common,
  servedVersions: ["v1", "v1alpha3", "v1alpha2"],
  kind: "TLSRoute",
  plural: "tlsroutes",
  schemaName: schemaName("TLSRoute"),
  columns: [nameColumn, ageColumn],
  validate: validateTlsRoute,
});

export const tcpRouteKind = define<TCPRoute>({
  ...common,
  version: "v1alpha2",
  kind: "TCPRoute",
  plural: "tcproutes",
  schemaName: schemaName("TCPRoute", "v1alpha2"),
  columns: [nameColumn, ageColumn],
  validate: validateTcpRoute,
});

export const referenceGrantKind = define<ReferenceGrant>({
  ...common,
  hasStatus: false,
  servedVersions: ["v1", "v1beta1"],
  kind: "ReferenceGrant",
  plural: "referencegrants",
  shortNames: ["refgrant"],
  schemaName: schemaName("ReferenceGrant"),
  columns: [nameColumn, ageColumn],
  validate: validateReferenceGrant,
});

export const backendTlsPolicyKind = define<BackendTLSPolicy>({
  ...common,
  servedVersions: ["v1", "v1alpha3"],
  kind: "BackendTLSPolicy",
  plural: "backendtlspolicies",
  shortNames: ["btlspolicy"],
  schemaName: schemaName("BackendTLSPolicy"),
  columns: [nameColumn, ageColumn],
  validate: validateBackendTlsPolicy,
});
