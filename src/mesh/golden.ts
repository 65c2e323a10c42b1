// Golden cases: manifests in, xDS out, both as YAML. Shared by the test and by `bun src/mesh/golden.ts --update`.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRegistry, type DescMessage, type Message, toJson } from "@bufbuild/protobuf";
import { parseAllDocuments, stringify } from "yaml";
import { CorsPolicySchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { OpenTelemetryConfigSchema } from "#gen/xds/envoy/config/trace/v3/opentelemetry_pb.js";
import { ZipkinConfigSchema } from "#gen/xds/envoy/config/trace/v3/zipkin_pb.js";
import { FileAccessLogSchema } from "#gen/xds/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { CorsSchema } from "#gen/xds/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { ExtAuthzSchema } from "#gen/xds/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { HTTPFaultSchema } from "#gen/xds/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { JwtAuthenticationSchema } from "#gen/xds/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { RBACSchema as HttpRbacSchema } from "#gen/xds/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { RouterSchema } from "#gen/xds/envoy/extensions/filters/http/router/v3/router_pb.js";
import { HttpConnectionManagerSchema } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { RBACSchema as NetworkRbacSchema } from "#gen/xds/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import { TcpProxySchema } from "#gen/xds/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { UriTemplateMatchConfigSchema } from "#gen/xds/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { PreviousHostsPredicateSchema } from "#gen/xds/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { PreviousPrioritiesConfigSchema } from "#gen/xds/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { HttpProtocolOptionsSchema } from "#gen/xds/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { TypedStructSchema } from "#gen/xds/udpa/type/v1/typed_struct_pb.js";
import type { KubeObject } from "../api/object.ts";
import { schemaOf } from "../xds/protocol.ts";
import { type TypeUrl, typeUrls } from "../xds/types.ts";
import { listOfConfigMap } from "./mesh-settings.ts";
import { createProblemFinder } from "./problems-all.ts";
import { createTranslator, noObjects } from "./translator.ts";
import type { MeshObjects, Model } from "./types.ts";

const folder = join(import.meta.dir, "golden");
/** Objects every case starts from: a small cluster. */
const baseFile = "base.yaml";
const outputSuffix = ".xds.yaml";

/** Types in the `Any` fields we emit. */
const extensions = createRegistry(
  ExtAuthzSchema,
  HttpRbacSchema,
  NetworkRbacSchema,
  UriTemplateMatchConfigSchema,
  JwtAuthenticationSchema,
  FileAccessLogSchema,
  OpenTelemetryConfigSchema,
  ZipkinConfigSchema,
  TypedStructSchema,
  CorsSchema,
  CorsPolicySchema,
  UpstreamTlsContextSchema,
  HTTPFaultSchema,
  RouterSchema,
  HttpConnectionManagerSchema,
  TcpProxySchema,
  PreviousHostsPredicateSchema,
  PreviousPrioritiesConfigSchema,
  DownstreamTlsContextSchema,
  HttpProtocolOptionsSchema,
);

/** What a case shows: resources of a node id, all of a type or some by name ("*" at the end: by prefix). */
interface Show {
  node: string;
  /** "grpc": what a client without a proxy is told. */
  generator?: "grpc";
  type: keyof typeof typeUrls;
  names?: string[];
}

const kinds: Readonly<Record<string, keyof MeshObjects>> = {
  Namespace: "namespaces",
  Node: "nodes",
  Pod: "pods",
  Service: "services",
  EndpointSlice: "endpointSlices",
  Secret: "secrets",
  Gateway: "gateways",
  VirtualService: "virtualServices",
  DestinationRule: "destinationRules",
  AuthorizationPolicy: "authorizationPolicies",
  PeerAuthentication: "peerAuthentications",
  RequestAuthentication: "requestAuthentications",
  Telemetry: "telemetries",
  ServiceEntry: "serviceEntries",
  WorkloadEntry: "workloadEntries",
  WorkloadGroup: "workloadGroups",
  Sidecar: "sidecars",
  EnvoyFilter: "envoyFilters",
  ProxyConfig: "proxyConfigs",
  WasmPlugin: "wasmPlugins",
  GatewayClass: "gatewayClasses",
  HTTPRoute: "httpRoutes",
  GRPCRoute: "grpcRoutes",
  TLSRoute: "tlsRoutes",
  TCPRoute: "tcpRoutes",
  ReferenceGrant: "referenceGrants",
  BackendTLSPolicy: "backendTlsPolicies",
  ConfigMap: "configMaps",
};

/** Some kinds have two lists. */
const listOf = (document: KubeObject): keyof MeshObjects | undefined => {
  if (isKubernetesGateway(document)) return "kubernetesGateways";
  return document.kind === "ConfigMap" ? listOfConfigMap(document.metadata) : kinds[document.kind];
};

/** Two groups have a kind of this name. */
const isKubernetesGateway = ({ kind, apiVersion }: KubeObject): boolean =>
  kind === "Gateway" && apiVersion.startsWith("gateway.networking.k8s.io/");

export const goldenCases = (): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".yaml") && !name.endsWith(outputSuffix) && name !== baseFile)
    .sort();

export const expectedOf = (name: string): string => readFileSync(outputPath(name), "utf8");
const outputPath = (name: string): string => join(folder, name.replace(/\.yaml$/, outputSuffix));

/** Translates one case and writes what it asks to see. */
export function renderCase(name: string): string {
  const documents = [...readDocuments(baseFile), ...readDocuments(name)];
  const shows: Show[] = [];
  const objects: { -readonly [K in keyof MeshObjects]: KubeObject[] } = structuredClone(noObjects) as never;
  let mode: "namespaces" | "ports" = "namespaces";
  for (const document of documents) {
    if ("show" in document) {
      shows.push(...(document["show"] as Show[]));
      if (document["mode"] === "ports") mode = "ports";
      continue;
    }
    const kind = listOf(document);
    if (kind === undefined) throw new Error(`${name}: kind ${document.kind} is none of the mesh's`);
    // A case may replace an object of the base.
    const list = objects[kind];
    const same = list.findIndex(
      ({ metadata: { name: n, namespace } }) =>
        n === document.metadata.name && namespace === document.metadata.namespace,
    );
    if (same >= 0) list[same] = withDefaults(document);
    else list.push(withDefaults(document));
  }
  const translator = createTranslator({
    config: { mode, clusterDomain: "cluster.local", trustDomain: "cluster.local", rootNamespace: "istio-system" },
    rootsPem: "roots of the mesh",
    certificateOf: (identity) => ({ certPem: `certificate of ${identity}`, keyPem: "its key", notAfterMs: 0 }),
  });
  translator.update(objects as unknown as MeshObjects);
  const shown = shows.map((show) => {
    const snapshot = show.generator ? translator.proxyless(show.node) : translator.snapshot(show.node);
    const group = snapshot?.resources[typeUrls[show.type]];
    if (group === undefined) throw new Error(`${name}: node ${show.node} has no resources of type ${show.type}`);
    const wanted = (resource: string) => show.names?.some((pattern) => fits(pattern, resource)) ?? true;
    const resources = group.resources.filter((resource) => wanted(resource.name));
    return { ...show, resources: resources.map(({ message }) => jsonOf(typeUrls[show.type], message)) };
  });
  const problems = problemsOf(translator.model, objects as unknown as MeshObjects);
  return stringify({ shown, ...(problems.length > 0 && { problems }) }, { lineWidth: 0, aliasDuplicateObjects: false });
}

const fits = (pattern: string, name: string): boolean =>
  pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : pattern === name;

function jsonOf(typeUrl: TypeUrl, message: Message): unknown {
  return toJson(schemaOf(typeUrl) as DescMessage, message, { registry: extensions, useProtoFieldName: true });
}

function problemsOf(model: Model, from: MeshObjects): string[] {
  return createProblemFinder()(model, from).map(
    ({ object, reason, message }) => `${object.kind} ${object.metadata.name}: ${reason}: ${message}`,
  );
}

function readDocuments(name: string): KubeObject[] {
  const documents = parseAllDocuments(readFileSync(join(folder, name), "utf8"));
  if (!Array.isArray(documents)) return [];
  return documents.map((document) => {
    if (document.errors[0]) throw document.errors[0];
    return document.toJS() as KubeObject;
  });
}

function withDefaults(object: KubeObject): KubeObject {
  const { uid = `${object.kind}/${object.metadata.name}`, creationTimestamp = "2026-01-01T00:00:00Z" } =
    object.metadata as Partial<KubeObject["metadata"]>;
  return { ...object, metadata: { ...object.metadata, uid, creationTimestamp, resourceVersion: "1" } };
}

if (import.meta.main && process.argv.includes("--update"))
  for (const name of goldenCases()) {
    writeFileSync(outputPath(name), renderCase(name));
    console.log(`written: ${outputPath(name)}`);
  }
