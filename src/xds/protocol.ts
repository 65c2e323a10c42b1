// The ADS exchange as plain values, and the encoding of resources: what server and client share, apart from the transport.

import type { DescMessage, Message } from "@bufbuild/protobuf";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { ClusterSchema } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import { type VirtualHost, VirtualHostSchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { SecretSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { DiscoveryRequestSchema, DiscoveryResponseSchema } from "#gen/xds/envoy/service/discovery/v3/discovery_pb.js";
import { WorkloadSchema } from "#gen/xds/meshbed/workload/v1/workload_pb.js";
import { MeshbedError } from "../kernel/errors.ts";
import { type NamedResource, type TypeUrl, typeUrls } from "./types.ts";

export const adsPath = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/** DiscoveryRequest, reduced to what is used. */
export interface AdsRequest {
  typeUrl: string;
  /** Only in the first request of a stream. */
  node: { id: string; metadata: Readonly<Record<string, string>> } | undefined;
  /** The last version accepted, "" for none. */
  version: string;
  /** Of the response this answers, "" for none. */
  nonce: string;
  /** Empty: all (wildcard). */
  names: readonly string[];
  /** Set: the response was refused for this reason. */
  error: string | undefined;
}

/** DiscoveryResponse. */
export interface AdsResponse {
  typeUrl: TypeUrl;
  version: string;
  nonce: string;
  resources: readonly NamedResource[];
}

/** google.rpc.Code.INVALID_ARGUMENT, which Envoy sends with a NACK. */
const invalidArgument = 3;

const schemas: Readonly<Record<TypeUrl, DescMessage>> = {
  [typeUrls.listener]: ListenerSchema,
  [typeUrls.route]: RouteConfigurationSchema,
  [typeUrls.cluster]: ClusterSchema,
  [typeUrls.endpoint]: ClusterLoadAssignmentSchema,
  [typeUrls.secret]: SecretSchema,
  [typeUrls.workload]: WorkloadSchema,
};

/** The message type of a resource type. */
export const schemaOf = (typeUrl: TypeUrl): DescMessage => schemas[typeUrl];

export function isTypeUrl(text: string): text is TypeUrl {
  return text in schemas;
}

/** Types of which every response holds the whole set (xDS protocol, "State of the world"); of others only what changed. */
export function isWholeSet(typeUrl: TypeUrl): boolean {
  return typeUrl === typeUrls.listener || typeUrl === typeUrls.cluster || typeUrl === typeUrls.workload;
}

/** The name a decoded resource is subscribed by. */
export function resourceName(typeUrl: TypeUrl, message: Message): string {
  const named = message as unknown as { name?: string; clusterName?: string };
  const name = typeUrl === typeUrls.endpoint ? named.clusterName : named.name;
  if (!name) throw new MeshbedError("XDS_RESOURCE_UNNAMED", `a resource of type ${typeUrl} has no name`);
  return name;
}

/** RouteConfiguration.virtual_hosts */
const virtualHostsField = RouteConfigurationSchema.field.virtualHosts.number;

/** google.protobuf.Any of each message, made once however many streams it goes to. */
const encoded = new WeakMap<Message, Uint8Array>();

/** The message as a google.protobuf.Any, encoded. Messages must not change once they were given out. */
export function encodeResource(typeUrl: TypeUrl, message: Message): Uint8Array {
  let bytes = encoded.get(message);
  if (bytes === undefined) {
    const value =
      typeUrl === typeUrls.route ? encodeRoutes(message as RouteConfiguration) : toBinary(schemas[typeUrl], message);
    bytes = new BinaryWriter()
      .tag(1, WireType.LengthDelimited)
      .string(typeUrl)
      .tag(2, WireType.LengthDelimited)
      .bytes(value)
      .finish();
    encoded.set(message, bytes);
  }
  return bytes;
}

const encodedHosts = new WeakMap<VirtualHost, Uint8Array>();

/** A route configuration may hold a thousand virtual hosts of which one changed: each is encoded once. */
function encodeRoutes(routes: RouteConfiguration): Uint8Array {
  const writer = new BinaryWriter();
  writer.raw(toBinary(RouteConfigurationSchema, { ...routes, virtualHosts: [] }));
  for (const host of routes.virtualHosts) {
    let bytes = encodedHosts.get(host);
    if (bytes === undefined) {
      bytes = toBinary(VirtualHostSchema, host);
      encodedHosts.set(host, bytes);
    }
    writer.tag(virtualHostsField, WireType.LengthDelimited).bytes(bytes);
  }
  return writer.finish();
}

export function encodeResponse(response: AdsResponse): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, WireType.LengthDelimited).string(response.version);
  for (const { message } of response.resources)
    writer.tag(2, WireType.LengthDelimited).bytes(encodeResource(response.typeUrl, message));
  writer.tag(4, WireType.LengthDelimited).string(response.typeUrl);
  writer.tag(5, WireType.LengthDelimited).string(response.nonce);
  return writer.finish();
}

/** `decode` turns the bytes of one resource into its message; it may share messages between calls. */
export function decodeResponse(
  bytes: Uint8Array,
  decode: (typeUrl: TypeUrl, value: Uint8Array) => Message,
): AdsResponse & { error?: unknown } {
  const raw = fromBinary(DiscoveryResponseSchema, bytes);
  const { typeUrl, versionInfo: version, nonce } = raw;
  if (!isTypeUrl(typeUrl)) throw new MeshbedError("XDS_TYPE_UNKNOWN", `the server sent resources of type ${typeUrl}`);
  try {
    const resources = raw.resources.map((any) => {
      if (any.typeUrl !== typeUrl)
        throw new MeshbedError("XDS_TYPE_MIXED", `a resource of type ${any.typeUrl} among those of ${typeUrl}`);
      const message = decode(typeUrl, any.value);
      return { name: resourceName(typeUrl, message), message };
    });
    return { typeUrl, version, nonce, resources };
  } catch (error) {
    return { typeUrl, version, nonce, resources: [], error };
  }
}

export const decodeMessage = (typeUrl: TypeUrl, value: Uint8Array): Message => fromBinary(schemas[typeUrl], value);

export function encodeRequest(request: AdsRequest): Uint8Array {
  return toBinary(
    DiscoveryRequestSchema,
    create(DiscoveryRequestSchema, {
      typeUrl: request.typeUrl,
      versionInfo: request.version,
      responseNonce: request.nonce,
      resourceNames: [...request.names],
      ...(request.node && {
        node: { id: request.node.id, userAgentName: "meshbed", metadata: { ...request.node.metadata } },
      }),
      ...(request.error !== undefined && { errorDetail: { code: invalidArgument, message: request.error } }),
    }),
  );
}

export function decodeRequest(bytes: Uint8Array): AdsRequest {
  const raw = fromBinary(DiscoveryRequestSchema, bytes);
  const metadata: Record<string, string> = {};
  for (const [key, value] of Object.entries(raw.node?.metadata ?? {}))
    if (typeof value === "string") metadata[key] = value;
  return {
    typeUrl: raw.typeUrl,
    node: raw.node && raw.node.id !== "" ? { id: raw.node.id, metadata } : undefined,
    version: raw.versionInfo,
    nonce: raw.responseNonce,
    names: raw.resourceNames,
    error: raw.errorDetail?.message,
  };
}
