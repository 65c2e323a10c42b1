// A changed route configuration as the difference to what the client has: of a thousand virtual hosts one is sent.

import { create, fromBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { VirtualHost } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { RoutePatchSchema } from "#gen/xds/meshbed/route/v1/route_patch_pb.js";
import { MeshbedError } from "../kernel/errors.ts";
import { getOrAdd } from "../kernel/map.ts";
import { contentVersion, encodeRoutes } from "./protocol.ts";
import { typeUrls } from "./types.ts";

/** Among a node's client_features: it takes patches. */
export const patchFeature = "meshbed.route_patches";
export const patchTypeUrl = "type.googleapis.com/meshbed.route.v1.RoutePatch";

const patches = new WeakMap<RouteConfiguration, WeakMap<RouteConfiguration, Uint8Array | undefined>>();

/** google.protobuf.Any of the patch; undefined: it is better sent whole. Made once for all streams that go the same way. */
export const encodePatch = (base: RouteConfiguration, next: RouteConfiguration): Uint8Array | undefined => {
  const known = getOrAdd(patches, next, () => new WeakMap<RouteConfiguration, Uint8Array | undefined>());
  if (!known.has(base)) known.set(base, makePatch(base, next));
  return known.get(base);
};

function makePatch(base: RouteConfiguration, next: RouteConfiguration): Uint8Array | undefined {
  const change = changeOf(base.virtualHosts, next.virtualHosts);
  if (change === undefined || change.changed.length * 2 > next.virtualHosts.length) return undefined;
  const value = new BinaryWriter();
  value.tag(1, WireType.LengthDelimited).string(contentVersion(typeUrls.route, base));
  value.tag(2, WireType.LengthDelimited).bytes(encodeRoutes({ ...next, virtualHosts: change.changed }));
  for (const name of change.removed) value.tag(3, WireType.LengthDelimited).string(name);
  const any = new BinaryWriter();
  any.tag(1, WireType.LengthDelimited).string(patchTypeUrl);
  any.tag(2, WireType.LengthDelimited).bytes(value.finish());
  return any.finish();
}

/** Undefined when hosts were added or have changed places: their order is part of the configuration. */
function changeOf(
  before: readonly VirtualHost[],
  after: readonly VirtualHost[],
): { changed: VirtualHost[]; removed: string[] } | undefined {
  const changed: VirtualHost[] = [];
  const removed: string[] = [];
  let at = 0;
  for (const host of before) {
    const now = after[at];
    if (now?.name !== host.name) {
      removed.push(host.name);
      continue;
    }
    if (now !== host) changed.push(now);
    at++;
  }
  return at === after.length && new Set(removed).size === removed.length ? { changed, removed } : undefined;
}

/** The patched configuration, and the part that the patch holds. `decode` decodes a RouteConfiguration. */
export function applyPatch(
  value: Uint8Array,
  base: { version: string; message: RouteConfiguration } | undefined,
  decode: (value: Uint8Array) => RouteConfiguration,
): { message: RouteConfiguration; part: RouteConfiguration } {
  const { baseVersion, configuration, removed } = fromBinary(RoutePatchSchema, value);
  if (base?.version !== baseVersion)
    throw new MeshbedError("XDS_PATCH_BASE", `it changes version ${baseVersion}; here is ${base?.version ?? "none"}`);
  const part = decode(configuration);
  const gone = new Set(removed);
  const changed = new Map(part.virtualHosts.map((host) => [host.name, host]));
  const virtualHosts = base.message.virtualHosts.flatMap((host) =>
    gone.has(host.name) ? [] : [changed.get(host.name) ?? host],
  );
  return { message: create(RouteConfigurationSchema, { ...part, virtualHosts }), part };
}
