// The messages of both ADS variants as bytes: state of the world for foreign clients, delta for those and our own.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { Node } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import type { RouteConfiguration } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  DiscoveryRequestSchema,
  type Resource,
} from "#gen/xds/envoy/service/discovery/v3/discovery_pb.js";
import { MeshbedError, messageOf } from "../kernel/errors.ts";
import {
  type AdsNode,
  type AdsRequest,
  type AdsResponse,
  contentVersion,
  encodeResource,
  isTypeUrl,
  resourceName,
} from "./protocol.ts";
import { encodePatch, patchFeature, patchTypeUrl } from "./route_patch.ts";
import type { Decoder, Held } from "./shared_decoder.ts";
import { type NamedResource, type Refusals, type TypeUrl, typeUrls } from "./types.ts";

export const sotwPath = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
export const deltaPath = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/** google.rpc.Code.INVALID_ARGUMENT, which Envoy sends with a NACK. */
const invalidArgument = 3;

function nodeOf(node: Node | undefined): AdsNode | undefined {
  if (node === undefined || node.id === "") return undefined;
  const metadata: Record<string, string> = {};
  for (const [key, value] of Object.entries(node.metadata ?? {})) if (typeof value === "string") metadata[key] = value;
  return { id: node.id, metadata, takesPatches: node.clientFeatures.includes(patchFeature) };
}

const none: ReadonlyMap<string, string> = new Map();

export function decodeSotwRequest(bytes: Uint8Array): AdsRequest {
  const { typeUrl, node, responseNonce, resourceNames, errorDetail } = fromBinary(DiscoveryRequestSchema, bytes);
  return {
    typeUrl,
    node: nodeOf(node),
    nonce: responseNonce,
    names: resourceNames,
    unsubscribed: [],
    held: none,
    error: errorDetail?.message,
  };
}

export function decodeDeltaRequest(bytes: Uint8Array): AdsRequest {
  const raw = fromBinary(DeltaDiscoveryRequestSchema, bytes);
  return {
    typeUrl: raw.typeUrl,
    node: nodeOf(raw.node),
    nonce: raw.responseNonce,
    names: raw.resourceNamesSubscribe,
    unsubscribed: raw.resourceNamesUnsubscribe,
    held: new Map(Object.entries(raw.initialResourceVersions)),
    error: raw.errorDetail?.message,
  };
}

export function encodeDeltaRequest({ typeUrl, node, nonce, names, unsubscribed, held, error }: AdsRequest): Uint8Array {
  return toBinary(
    DeltaDiscoveryRequestSchema,
    create(DeltaDiscoveryRequestSchema, {
      typeUrl,
      responseNonce: nonce,
      resourceNamesSubscribe: [...names],
      resourceNamesUnsubscribe: [...unsubscribed],
      initialResourceVersions: Object.fromEntries(held),
      ...(node && {
        node: {
          id: node.id,
          userAgentName: "meshbed",
          metadata: { ...node.metadata },
          clientFeatures: node.takesPatches ? [patchFeature] : [],
        },
      }),
      ...(error !== undefined && { errorDetail: { code: invalidArgument, message: error } }),
    }),
  );
}

export function encodeSotwResponse({ typeUrl, version, nonce, resources }: AdsResponse): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, WireType.LengthDelimited).string(version);
  for (const { message } of resources) writer.tag(2, WireType.LengthDelimited).bytes(encodeResource(typeUrl, message));
  writer.tag(4, WireType.LengthDelimited).string(typeUrl);
  writer.tag(5, WireType.LengthDelimited).string(nonce);
  return writer.finish();
}

export function encodeDeltaResponse({ typeUrl, version, nonce, resources, removed }: AdsResponse): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, WireType.LengthDelimited).string(version);
  for (const { name, message, base } of resources) {
    const patch =
      typeUrl === typeUrls.route && base
        ? encodePatch(base as RouteConfiguration, message as RouteConfiguration)
        : undefined;
    writer.tag(2, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.LengthDelimited).string(contentVersion(typeUrl, message));
    writer.tag(2, WireType.LengthDelimited).bytes(patch ?? encodeResource(typeUrl, message));
    writer.tag(3, WireType.LengthDelimited).string(name).join();
  }
  writer.tag(4, WireType.LengthDelimited).string(typeUrl);
  writer.tag(5, WireType.LengthDelimited).string(nonce);
  for (const name of removed) writer.tag(6, WireType.LengthDelimited).string(name);
  return writer.finish();
}

/** A resource as a delta client gets it. */
export interface VersionedResource extends NamedResource {
  version: string;
}

export interface DeltaResponse {
  typeUrl: TypeUrl;
  version: string;
  nonce: string;
  resources: readonly VersionedResource[];
  removed: readonly string[];
  /** Resources that cannot be decoded. */
  broken: Refusals;
}

/** `held`: what the client has of a resource, to which a patch is applied. */
export function decodeDeltaResponse(
  bytes: Uint8Array,
  decoder: Decoder,
  held: (typeUrl: TypeUrl, name: string) => Held | undefined,
): DeltaResponse {
  const raw = fromBinary(DeltaDiscoveryResponseSchema, bytes);
  const { typeUrl, nonce } = raw;
  if (!isTypeUrl(typeUrl)) throw new MeshbedError("XDS_TYPE_UNKNOWN", `the server sent resources of type ${typeUrl}`);
  const broken = new Map<string, string>();
  const decoded = (resource: Resource): VersionedResource[] => {
    const { name, version, resource: any } = resource;
    try {
      if (any?.typeUrl === patchTypeUrl && typeUrl === typeUrls.route)
        return [{ name, version, message: decoder.patch(any.value, held(typeUrl, name)) }];
      if (any?.typeUrl !== typeUrl)
        throw new MeshbedError("XDS_TYPE_MIXED", `a resource of type ${any?.typeUrl} among those of ${typeUrl}`);
      const message = decoder.decode(typeUrl, any.value);
      return [{ name: name || resourceName(typeUrl, message), version, message }];
    } catch (error) {
      broken.set(name, messageOf(error));
      return [];
    }
  };
  const resources = raw.resources.flatMap(decoded);
  return { typeUrl, version: raw.systemVersionInfo, nonce, resources, removed: raw.removedResources, broken };
}
