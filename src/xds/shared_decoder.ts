// Decodes resources so that equal ones are one object, over all streams of a process: memory is shared, and what is made of one can be kept by it.

import { create, fromBinary, type Message } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { type VirtualHost, VirtualHostSchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { decodeMessage } from "./protocol.ts";
import { applyPatch } from "./route_patch.ts";
import { type TypeUrl, typeUrls } from "./types.ts";

/** Past this many the cache starts anew; only sharing is lost. */
const decodedMax = 50_000;

const shells = new WeakMap<RouteConfiguration, object>();

/** What stands for all of a route configuration but its virtual hosts: the same object when that is equal. */
export const routeShell = (message: RouteConfiguration): object => shells.get(message) ?? message;

/** What a client has of a resource. */
export interface Held {
  version: string;
  message: Message;
}

export interface Decoder {
  decode(typeUrl: TypeUrl, value: Uint8Array): Message;
  /** A route configuration from the one the client has and what changed of it. */
  patch(value: Uint8Array, base: Held | undefined): Message;
}

export function createSharedDecoder(): Decoder {
  const decoded = new Map<string, WeakRef<Message>>();
  function shared<M extends Message>(kind: string, value: Uint8Array, decode: () => M): M {
    const key = `${kind} ${value.length} ${Bun.hash(value)}`;
    const known = decoded.get(key)?.deref();
    if (known !== undefined) return known as M;
    const message = decode();
    if (decoded.size >= decodedMax) decoded.clear();
    decoded.set(key, new WeakRef<Message>(message));
    return message;
  }
  /** It may hold a thousand virtual hosts of which one changed. */
  function decodeRoutes(value: Uint8Array): RouteConfiguration {
    const { rest, hosts } = split(value, RouteConfigurationSchema.field.virtualHosts.number);
    const shell = shared("routes", rest, () => fromBinary(RouteConfigurationSchema, rest));
    const message = create(RouteConfigurationSchema, {
      ...shell,
      virtualHosts: hosts.map(
        (bytes): VirtualHost => shared("host", bytes, () => fromBinary(VirtualHostSchema, bytes)),
      ),
    });
    shells.set(message, shell);
    return message;
  }
  return {
    decode: (typeUrl, value) =>
      shared(typeUrl, value, () => (typeUrl === typeUrls.route ? decodeRoutes(value) : decodeMessage(typeUrl, value))),
    // Equal patches name the same base by its content.
    patch: (value, base) =>
      shared("patch", value, () => {
        const { message, part } = applyPatch(value, base as HeldRoutes | undefined, decodeRoutes);
        shells.set(message, routeShell(part));
        return message;
      }),
  };
}

type HeldRoutes = Held & { message: RouteConfiguration };

/** The values of one repeated message field, and the bytes of all others. */
function split(value: Uint8Array, field: number): { rest: Uint8Array; hosts: Uint8Array[] } {
  const reader = new BinaryReader(value);
  const others: Uint8Array[] = [];
  const hosts: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const [number, type] = reader.tag();
    if (number === field && type === WireType.LengthDelimited) hosts.push(reader.bytes());
    else {
      reader.skip(type, number);
      others.push(value.subarray(start, reader.pos));
    }
  }
  return { rest: Buffer.concat(others), hosts };
}
