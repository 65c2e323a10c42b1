// Small helpers for Envoy's messages: typed Any, durations, addresses, metadata.

import { type DescMessage, fromBinary, type JsonObject, type MessageShape } from "@bufbuild/protobuf";
import type { Any, Duration } from "@bufbuild/protobuf/wkt";
import { type Address, SocketAddress_Protocol } from "#gen/xds/envoy/config/core/v3/address_pb.js";
import type { Metadata } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { ServiceIdentity } from "../clusters/cluster.ts";
import { unknownService } from "../clusters/cluster.ts";

/** The message inside, or undefined when it is of another type. */
export function unpack<Desc extends DescMessage>(any: Any, schema: Desc): MessageShape<Desc> | undefined {
  // Not the library's anyUnpack: it loads the descriptors of every well-known type.
  return typeName(any) === schema.typeName ? fromBinary(schema, any.value) : undefined;
}

/** What is inside, without the "type.googleapis.com/". */
export const typeName = (any: Any): string => any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1);

export function durationMs(duration: Duration | undefined, absent: number): number {
  return duration === undefined ? absent : Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

/** Host and port of a socket address; anything else is refused. */
export function socketAddress(address: Address | undefined, owner: string): { host: string; port: number } {
  if (address?.address.case !== "socketAddress")
    throw new MeshbedError("ADDRESS_UNSUPPORTED", `${owner}: only socket addresses are supported`);
  const { address: host, portSpecifier, protocol } = address.address.value;
  if (protocol !== SocketAddress_Protocol.TCP)
    throw new MeshbedError("ADDRESS_UNSUPPORTED", `${owner}: protocol UDP is not supported`);
  if (portSpecifier.case !== "portValue")
    throw new MeshbedError("ADDRESS_UNSUPPORTED", `${owner}: only numeric ports are supported`);
  return { host, port: portSpecifier.value };
}

export function istioMetadata(metadata: Metadata | undefined): JsonObject {
  return metadata?.filterMetadata["istio"] ?? {};
}

/** The first of the services Istio's control plane lists in a cluster's metadata. */
export function serviceOf(metadata: Metadata | undefined): ServiceIdentity {
  const services = istioMetadata(metadata)["services"];
  const first = Array.isArray(services) ? services[0] : undefined;
  if (typeof first !== "object" || first === null || Array.isArray(first)) return unknownService;
  const text = (key: string): string => (typeof first[key] === "string" ? first[key] : "unknown");
  return { host: text("host"), name: text("name"), namespace: text("namespace") };
}
