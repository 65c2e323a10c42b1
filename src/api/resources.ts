// Light descriptors of the served resources: names and scope, nothing else, so that every process can afford them.

import type { KubeObject, Stored } from "./object.ts";
import type * as types from "./types.ts";

/** Where a kind lives in the API. T is the type of its objects. */
export interface Resource<T = KubeObject> {
  readonly group: string;
  /** The version clients of this project use, and the stored one. */
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  /** Never set: carries T for inference. */
  readonly objectType?: T;
}

function resource<T extends Stored<object>>(
  group: string,
  version: string,
  kind: string,
  plural: string,
  namespaced = true,
): Resource<T> {
  return { group, version, kind, plural, namespaced };
}

export const namespaces = resource<types.Namespace>("", "v1", "Namespace", "namespaces", false);
export const nodes = resource<types.Node>("", "v1", "Node", "nodes", false);
export const pods = resource<types.Pod>("", "v1", "Pod", "pods");
export const services = resource<types.Service>("", "v1", "Service", "services");
export const configMaps = resource<types.ConfigMap>("", "v1", "ConfigMap", "configmaps");
export const secrets = resource<types.Secret>("", "v1", "Secret", "secrets");
export const serviceAccounts = resource<types.ServiceAccount>("", "v1", "ServiceAccount", "serviceaccounts");
export const events = resource<types.Event>("", "v1", "Event", "events");
export const persistentVolumes = resource<types.PersistentVolume>(
  "",
  "v1",
  "PersistentVolume",
  "persistentvolumes",
  false,
);
export const persistentVolumeClaims = resource<types.PersistentVolumeClaim>(
  "",
  "v1",
  "PersistentVolumeClaim",
  "persistentvolumeclaims",
);
export const storageClasses = resource<types.StorageClass>(
  "storage.k8s.io",
  "v1",
  "StorageClass",
  "storageclasses",
  false,
);
export const deployments = resource<types.Deployment>("apps", "v1", "Deployment", "deployments");
export const replicaSets = resource<types.ReplicaSet>("apps", "v1", "ReplicaSet", "replicasets");
export const daemonSets = resource<types.DaemonSet>("apps", "v1", "DaemonSet", "daemonsets");
export const endpointSlices = resource<types.EndpointSlice>(
  "discovery.k8s.io",
  "v1",
  "EndpointSlice",
  "endpointslices",
);
export const endpoints = resource<types.Endpoints>("", "v1", "Endpoints", "endpoints");
export const leases = resource<types.Lease>("coordination.k8s.io", "v1", "Lease", "leases");
export const gateways = resource<types.Gateway>("networking.istio.io", "v1", "Gateway", "gateways");
export const virtualServices = resource<types.VirtualService>(
  "networking.istio.io",
  "v1",
  "VirtualService",
  "virtualservices",
);
export const destinationRules = resource<types.DestinationRule>(
  "networking.istio.io",
  "v1",
  "DestinationRule",
  "destinationrules",
);

export const authorizationPolicies = resource<types.AuthorizationPolicy>(
  "security.istio.io",
  "v1",
  "AuthorizationPolicy",
  "authorizationpolicies",
);
export const peerAuthentications = resource<types.PeerAuthentication>(
  "security.istio.io",
  "v1",
  "PeerAuthentication",
  "peerauthentications",
);
export const requestAuthentications = resource<types.RequestAuthentication>(
  "security.istio.io",
  "v1",
  "RequestAuthentication",
  "requestauthentications",
);
export const telemetries = resource<types.Telemetry>("telemetry.istio.io", "v1", "Telemetry", "telemetries");
export const serviceEntries = resource<types.ServiceEntry>(
  "networking.istio.io",
  "v1",
  "ServiceEntry",
  "serviceentries",
);
export const workloadEntries = resource<types.WorkloadEntry>(
  "networking.istio.io",
  "v1",
  "WorkloadEntry",
  "workloadentries",
);
export const workloadGroups = resource<types.WorkloadGroup>(
  "networking.istio.io",
  "v1",
  "WorkloadGroup",
  "workloadgroups",
);
export const sidecars = resource<types.Sidecar>("networking.istio.io", "v1", "Sidecar", "sidecars");
export const envoyFilters = resource<types.EnvoyFilter>(
  "networking.istio.io",
  "v1alpha3",
  "EnvoyFilter",
  "envoyfilters",
);
export const proxyConfigs = resource<types.ProxyConfig>(
  "networking.istio.io",
  "v1beta1",
  "ProxyConfig",
  "proxyconfigs",
);
export const wasmPlugins = resource<types.WasmPlugin>("extensions.istio.io", "v1alpha1", "WasmPlugin", "wasmplugins");
export const gatewayClasses = resource<types.GatewayClass>(
  "gateway.networking.k8s.io",
  "v1",
  "GatewayClass",
  "gatewayclasses",
  false,
);
/** Of the Gateway API; `gateways` are Istio's. */
export const kubernetesGateways = resource<types.KubernetesGateway>(
  "gateway.networking.k8s.io",
  "v1",
  "Gateway",
  "gateways",
);
export const httpRoutes = resource<types.HTTPRoute>("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");
export const grpcRoutes = resource<types.GRPCRoute>("gateway.networking.k8s.io", "v1", "GRPCRoute", "grpcroutes");
export const tlsRoutes = resource<types.TLSRoute>("gateway.networking.k8s.io", "v1", "TLSRoute", "tlsroutes");
export const tcpRoutes = resource<types.TCPRoute>("gateway.networking.k8s.io", "v1alpha2", "TCPRoute", "tcproutes");
export const referenceGrants = resource<types.ReferenceGrant>(
  "gateway.networking.k8s.io",
  "v1",
  "ReferenceGrant",
  "referencegrants",
);
export const backendTlsPolicies = resource<types.BackendTLSPolicy>(
  "gateway.networking.k8s.io",
  "v1",
  "BackendTLSPolicy",
  "backendtlspolicies",
);

/** The REST path of a collection, or of one object when `name` is given. */
export function pathOf(resource: Resource, namespace?: string, name?: string, subresource?: string): string {
  let path = resource.group === "" ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  if (resource.namespaced && namespace !== undefined) path += `/namespaces/${namespace}`;
  path += `/${resource.plural}`;
  if (name !== undefined) path += `/${name}`;
  if (subresource !== undefined) path += `/${subresource}`;
  return path;
}

export const apiVersionOf = (resource: Resource): string =>
  resource.group === "" ? resource.version : `${resource.group}/${resource.version}`;
