// Contracts of the mesh room: the objects it reads and the model the translators share.

import type {
  AuthorizationPolicy,
  BackendTLSPolicy,
  ConfigMap,
  DestinationRule,
  EndpointSlice,
  EnvoyFilter,
  Gateway,
  GatewayClass,
  GRPCRoute,
  HTTPRoute,
  KubernetesGateway,
  Namespace,
  Node,
  PeerAuthentication,
  Pod,
  ProxyConfig,
  ReferenceGrant,
  RequestAuthentication,
  Secret,
  Service,
  ServiceEntry,
  Sidecar,
  TCPRoute,
  Telemetry,
  TLSRoute,
  VirtualService,
  WasmPlugin,
  WorkloadEntry,
  WorkloadGroup,
} from "../api/types.ts";
import type { BackendTls } from "./gateway-api/backend-tls.ts";
import type { GatewayApiState } from "./gateway-api/types.ts";
import type { MeshSettings } from "./mesh-settings.ts";

/** An immutable snapshot of everything the translation reads. */
export interface MeshObjects {
  namespaces: readonly Namespace[];
  nodes: readonly Node[];
  pods: readonly Pod[];
  services: readonly Service[];
  endpointSlices: readonly EndpointSlice[];
  secrets: readonly Secret[];
  gateways: readonly Gateway[];
  virtualServices: readonly VirtualService[];
  destinationRules: readonly DestinationRule[];
  authorizationPolicies: readonly AuthorizationPolicy[];
  peerAuthentications: readonly PeerAuthentication[];
  requestAuthentications: readonly RequestAuthentication[];
  telemetries: readonly Telemetry[];
  serviceEntries: readonly ServiceEntry[];
  workloadEntries: readonly WorkloadEntry[];
  workloadGroups: readonly WorkloadGroup[];
  sidecars: readonly Sidecar[];
  envoyFilters: readonly EnvoyFilter[];
  proxyConfigs: readonly ProxyConfig[];
  wasmPlugins: readonly WasmPlugin[];
  gatewayClasses: readonly GatewayClass[];
  kubernetesGateways: readonly KubernetesGateway[];
  httpRoutes: readonly HTTPRoute[];
  grpcRoutes: readonly GRPCRoute[];
  tlsRoutes: readonly TLSRoute[];
  tcpRoutes: readonly TCPRoute[];
  referenceGrants: readonly ReferenceGrant[];
  backendTlsPolicies: readonly BackendTLSPolicy[];
  /** `istio` in `istio-system` only: MeshConfig. */
  configMaps: readonly ConfigMap[];
  /** ConfigMaps that BackendTLSPolicies name. */
  caBundles: readonly ConfigMap[];
}

export interface MeshConfig {
  mode: "namespaces" | "ports";
  clusterDomain: string;
  trustDomain: string;
  /** Of MeshConfig: other names of the same trust domain. */
  trustDomainAliases?: readonly string[] | undefined;
  rootNamespace: string;
  /** Of MeshConfig: exportTo of objects that do not say. */
  exportTo?: {
    service?: string[] | undefined;
    virtualService?: string[] | undefined;
    destinationRule?: string[] | undefined;
  };
}

/** What the port's name or appProtocol says (Istio, "Protocol selection"); tcp when they say nothing. */
export type Protocol = "http" | "http2" | "grpc" | "tcp" | "tls" | "udp";

export interface PortModel {
  name: string;
  port: number;
  /** A container port number, or the name of one. */
  targetPort: number | string;
  protocol: Protocol;
  nodePort: number | undefined;
}

export interface ServiceModel {
  service: Service;
  namespace: string;
  name: string;
  /** name.namespace.svc.<domain> */
  host: string;
  /** Cluster IPs; none for headless services. */
  addresses: readonly string[];
  ports: readonly PortModel[];
  /** Namespaces that may see it; undefined: all. */
  exportTo: ReadonlySet<string> | undefined;
  slices: readonly EndpointSlice[];
  /** WorkloadEntries that its selector finds, and pods where it is a ServiceEntry's; the slices have a Service's pods. */
  selected?: readonly (Workload | WorkloadEntry)[];
  /** Set when a ServiceEntry describes it; `service` is then that entry in a Service's shape. */
  entry?: EntryPart;
}

/** What a ServiceEntry says beyond what a Service can. */
export interface EntryPart {
  /** Outside the mesh: reached in plain text unless a rule says otherwise. */
  isExternal: boolean;
  /** NONE: wherever the caller wanted to go. */
  resolution: "NONE" | "STATIC" | "DNS" | "DNS_ROUND_ROBIN";
  endpoints: readonly NonNullable<NonNullable<ServiceEntry["spec"]>["endpoints"]>[number][];
  /** One of them the server's certificate must have, where a rule asks for TLS. */
  subjectAltNames: readonly string[];
}

/** A pod with an address. */
export interface Workload {
  pod: Pod;
  key: string;
  namespace: string;
  name: string;
  ip: string;
  nodeName: string;
  labels: Readonly<Record<string, string>>;
  /** SPIFFE id. */
  identity: string;
  /** The same in the aliases of the trust domain: its certificate may still be, or be already, for one of these. */
  otherIdentities?: readonly string[];
  /** Has a virtual sidecar. */
  injected: boolean;
  /** Is a gateway (image: auto). */
  gateway: boolean;
  /** xDS node id; empty when it gets no configuration of its own. */
  nodeId: string;
  /** "<workload>;<namespace>;<canonical service>;<canonical revision>;<cluster id>" */
  about: string;
  /** In `ports` mode: container port → the port it was given. */
  ports: Readonly<Record<string, number>>;
  tunnelPort: number;
  /** In `ports` mode: "namespace/service:port" → port of the listener. */
  servicePorts: Readonly<Record<string, number>>;
}

/** A VirtualService with its names resolved. */
export interface RuleSet {
  object: VirtualService;
  key: string;
  namespace: string;
  /** Fully qualified, lower case. */
  hosts: readonly string[];
  /** "mesh" or "namespace/name". */
  gateways: ReadonlySet<string>;
  exportTo: ReadonlySet<string> | undefined;
  /** Its http rules, with those of delegates in the places of the rules that name them. */
  http: readonly OwnedRule[];
  /** What came up when delegates were taken in. */
  issues: readonly RuleSetIssue[];
  /** Hosts its http rules lead to, fully qualified: their ports take part in the routes. */
  destinations: readonly string[];
  /**
   * Made from routes of the Gateway API (`object` is made up), whose rules hold: prefixes by path segment, 500 without a backend,
   * ports that no rule is for are left as they are.
   */
  derived?: true;
}

/** A listener of the Gateway API in Istio's terms. */
export interface DerivedGateway {
  /** Made up; it has one server and no selector. */
  gateway: Gateway;
  /** Its pods: of this namespace, with these labels. */
  namespace: string;
  labels: Readonly<Record<string, string>>;
  source: KubernetesGateway;
}

/** What the Gateway API's objects come to. */
export interface Derived {
  gateways: readonly DerivedGateway[];
  ruleSets: readonly RuleSet[];
}

/** A rule and the namespace that short names in it belong to. */
export interface OwnedRule {
  rule: HttpRule;
  namespace: string;
  /** Where it is written, for whoever asks why a request went where it went. */
  source: RuleSource;
}

export interface RuleSource {
  /** Istio's reference to an object: "/apis/networking.istio.io/v1/namespaces/<ns>/virtual-service/<name>". */
  config: string;
  /** JSON path in it: "spec.http[2]". */
  field: string;
  /** The rule that delegates to it, in the same form, config and field together. */
  root?: string;
}

export interface RuleSetIssue {
  reason: "NotCarriedOut" | "ReferenceNotFound";
  field: string;
  message: string;
}

/** A DestinationRule with its host resolved. */
export interface Policy {
  object: DestinationRule;
  namespace: string;
  host: string;
  exportTo: ReadonlySet<string> | undefined;
}

export interface Model {
  /** With what MeshConfig overrides. */
  config: MeshConfig;
  settings: MeshSettings;
  settingsProblems: readonly Problem[];
  /** By host; several of one host when entries of different namespaces describe it. */
  services: readonly ServiceModel[];
  /** Services before entries, then the oldest entry. */
  serviceByHost: ReadonlyMap<string, ServiceModel>;
  workloads: readonly Workload[];
  workloadByKey: ReadonlyMap<string, Workload>;
  workloadByNodeId: ReadonlyMap<string, Workload>;
  /** Oldest first, as precedence wants it. */
  ruleSets: readonly RuleSet[];
  /** Oldest first, by their resolved host; those with a wildcard under "*". */
  policiesByHost: ReadonlyMap<string, readonly Policy[]>;
  gateways: readonly Gateway[];
  /** From the Gateway API. In the mesh they count before VirtualServices. */
  derived: Derived;
  gatewayApi: GatewayApiState;
  backendTls: BackendTls;
  /** These four oldest first. */
  authorizationPolicies: readonly AuthorizationPolicy[];
  peerAuthentications: readonly PeerAuthentication[];
  requestAuthentications: readonly RequestAuthentication[];
  telemetries: readonly Telemetry[];
  /** Oldest first. */
  sidecars: readonly Sidecar[];
  nodes: readonly Node[];
  nodeByName: ReadonlyMap<string, Node>;
  /** By "namespace/name". */
  secrets: ReadonlyMap<string, Secret>;
}

/** Something a user configured that is not carried out as written. */
export interface Problem {
  object: { apiVersion: string; kind: string; metadata: Gateway["metadata"] };
  /** CamelCase, stable: the reason of the Event. */
  reason: string;
  /** JSON path of the field. */
  field: string;
  message: string;
}

export type VirtualServiceSpec = NonNullable<VirtualService["spec"]>;
export type HttpRule = NonNullable<VirtualServiceSpec["http"]>[number];
export type HttpMatch = NonNullable<HttpRule["match"]>[number];
export type HttpDestination = NonNullable<HttpRule["route"]>[number];
export type DestinationRuleSpec = NonNullable<DestinationRule["spec"]>;
export type TrafficPolicy = NonNullable<DestinationRuleSpec["trafficPolicy"]>;
export type Subset = NonNullable<DestinationRuleSpec["subsets"]>[number];
export type GatewayServer = NonNullable<NonNullable<Gateway["spec"]>["servers"]>[number];

/** networking.istio.io StringMatch; all absent: the header or parameter is present. */
export interface StringMatch {
  exact?: string;
  prefix?: string;
  regex?: string;
}
