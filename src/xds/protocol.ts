// What server and client of ADS share: the exchange as plain values, and the encoding of resources.

import type { DescMessage, Message } from "@bufbuild/protobuf";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { ClusterSchema } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import { type VirtualHost, VirtualHostSchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { SecretSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { NameTableSchema } from "#gen/xds/istio/networking/nds/v1/nds_pb.js";
import { WorkloadSchema } from "#gen/xds/meshbed/workload/v1/workload_pb.js";
import { MeshbedError } from "../kernel/errors.ts";
import { getOrAdd } from "../kernel/map.ts";
import { type NamedResource, type TypeUrl, typeUrls } from "./types.ts";

/** Who asks. */
export interface AdsNode {
  id: string;
  metadata: Readonly<Record<string, string>>;
  /** Takes route configurations as changes to what it has (route_patch.ts). */
  takesPatches: boolean;
}

/** DiscoveryRequest or DeltaDiscoveryRequest, reduced to what is used. */
export interface AdsRequest {
  typeUrl: string;
  /** Only in the first request of a stream. */
  node: AdsNode | undefined;
  /** Of the response this answers, "" for none. */
  nonce: string;
  /** State of the world: all names, none meaning everything. Delta: names subscribed to from now on. */
  names: readonly string[];
  /** Delta: names no longer subscribed to. */
  unsubscribed: readonly string[];
  /** Delta, a type's first request of a stream: versions of what the client still has from earlier streams, by name. */
  held: ReadonlyMap<string, string>;
  /** Set: the response was refused for this reason. */
  error: string | undefined;
}

/** A resource on its way, with what the client has in its place where that is known. */
export interface SentResource extends NamedResource {
  base?: Message | undefined;
}

/** DiscoveryResponse or DeltaDiscoveryResponse. */
export interface AdsResponse {
  typeUrl: TypeUrl;
  version: string;
  nonce: string;
  resources: readonly SentResource[];
  /** Delta only. */
  removed: readonly string[];
}

const schemas: Readonly<Record<TypeUrl, DescMessage>> = {
  [typeUrls.listener]: ListenerSchema,
  [typeUrls.route]: RouteConfigurationSchema,
  [typeUrls.cluster]: ClusterSchema,
  [typeUrls.endpoint]: ClusterLoadAssignmentSchema,
  [typeUrls.secret]: SecretSchema,
  [typeUrls.nameTable]: NameTableSchema,
  [typeUrls.workload]: WorkloadSchema,
};

/** The message type of a resource type. */
export const schemaOf = (typeUrl: TypeUrl): DescMessage => schemas[typeUrl];

export function isTypeUrl(text: string): text is TypeUrl {
  return text in schemas;
}

/** Types of which all is told to who names nothing, and, in state of the world, every response holds the whole set. */
export function isWholeSet(typeUrl: TypeUrl): boolean {
  return typeUrl !== typeUrls.route && typeUrl !== typeUrls.endpoint && typeUrl !== typeUrls.secret;
}

/** "Cluster" of "type.googleapis.com/envoy.config.cluster.v3.Cluster". */
export const shortType = (typeUrl: string): string => typeUrl.slice(typeUrl.lastIndexOf(".") + 1);

/** The name a decoded resource is subscribed by. */
export function resourceName(typeUrl: TypeUrl, message: Message): string {
  // Istio gives its only name table none.
  if (typeUrl === typeUrls.nameTable) return "";
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
const encodeHost = (host: VirtualHost): Uint8Array =>
  getOrAdd(encodedHosts, host, () => toBinary(VirtualHostSchema, host));

/** A route configuration may hold a thousand virtual hosts of which one changed: each is encoded once. */
export function encodeRoutes(routes: RouteConfiguration): Uint8Array {
  const writer = new BinaryWriter();
  writer.raw(toBinary(RouteConfigurationSchema, { ...routes, virtualHosts: [] }));
  for (const host of routes.virtualHosts)
    writer.tag(virtualHostsField, WireType.LengthDelimited).bytes(encodeHost(host));
  return writer.finish();
}

const versions = new WeakMap<Message, string>();

/** Equal for equal messages, whoever made them and when: a control plane that was restarted gives the same. */
export function contentVersion(typeUrl: TypeUrl, message: Message): string {
  let version = versions.get(message);
  if (version === undefined) {
    const bytes =
      typeUrl === typeUrls.route ? digestOf(message as RouteConfiguration) : encodeResource(typeUrl, message);
    version = `${Bun.hash(bytes).toString(36)}${bytes.length.toString(36)}`;
    versions.set(message, version);
  }
  return version;
}

const hostHashes = new WeakMap<VirtualHost, bigint>();

/** What tells a route configuration, without encoding all its virtual hosts again: few of them change at a time. */
function digestOf(routes: RouteConfiguration): Uint8Array {
  const writer = new BinaryWriter();
  writer.raw(toBinary(RouteConfigurationSchema, { ...routes, virtualHosts: [] }));
  for (const host of routes.virtualHosts) {
    const hash = getOrAdd(hostHashes, host, () => BigInt(Bun.hash(encodeHost(host))));
    writer.fixed64(hash);
  }
  return writer.finish();
}

export const decodeMessage = (typeUrl: TypeUrl, value: Uint8Array): Message => fromBinary(schemas[typeUrl], value);
