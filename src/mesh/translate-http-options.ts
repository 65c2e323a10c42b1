// How servers are spoken to in HTTP: version, streams, idle times, requests per connection. Ports, DestinationRules and MeshConfig → a cluster's options. Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Cluster } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import {
  type HttpProtocolOptions as Common,
  HttpProtocolOptionsSchema as CommonSchema,
  UpstreamHttpProtocolOptionsSchema as ServerNameSchema,
} from "#gen/xds/envoy/config/core/v3/protocol_pb.js";
import {
  type HttpProtocolOptions,
  HttpProtocolOptionsSchema,
} from "#gen/xds/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { parseDurationMs } from "../api/duration.ts";
import { durationOf, pack } from "./envoy.ts";
import type { MeshSettings } from "./mesh-settings.ts";
import type { PortPolicy } from "./policies.ts";
import type { Protocol } from "./types.ts";

const extension = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/** Ports whose servers speak HTTP/2 and nothing else. */
export const isMultiplexed = (protocol: Protocol): boolean => protocol === "http2" || protocol === "grpc";

/** Writes them into the cluster. With HTTP/1.1 its plain fields say it all; with anything else all of it goes into Envoy's extension. */
export function setHttpOptions(
  cluster: Cluster,
  protocol: Protocol,
  pool: PortPolicy["connectionPool"],
  serverName: MessageInitShape<typeof ServerNameSchema> | undefined,
  { h2UpgradePolicy }: Pick<MeshSettings, "h2UpgradePolicy">,
): void {
  const http = pool?.http;
  const idleMs = http?.idleTimeout === undefined ? undefined : parseDurationMs(http.idleTimeout);
  const requestsMax = http?.maxRequestsPerConnection || undefined;
  const most = pool?.tcp?.maxConnectionDuration;
  const mostMs = most === undefined ? undefined : parseDurationMs(most);
  const common = create(CommonSchema);
  if (idleMs !== undefined) common.idleTimeout = durationOf(idleMs);
  if (mostMs) common.maxConnectionDuration = durationOf(mostMs);
  const version = versionOf(protocol, http, h2UpgradePolicy);
  if (version === undefined) {
    if (idleMs !== undefined || mostMs) cluster.commonHttpProtocolOptions = common;
    if (requestsMax !== undefined) cluster.maxRequestsPerConnection = requestsMax;
    if (serverName !== undefined) cluster.upstreamHttpProtocolOptions = create(ServerNameSchema, serverName);
    return;
  }
  if (requestsMax !== undefined) common.maxRequestsPerConnection = requestsMax;
  setVersion(cluster, version, common, serverName);
}

type Version = HttpProtocolOptions["upstreamProtocolOptions"];

/** Undefined: HTTP/1.1. */
function versionOf(
  protocol: Protocol,
  http: NonNullable<PortPolicy["connectionPool"]>["http"],
  meshWide: MeshSettings["h2UpgradePolicy"],
): Version | undefined {
  const options = { maxConcurrentStreams: http?.maxConcurrentStreams || undefined };
  const asked = http?.h2UpgradePolicy ?? "DEFAULT";
  const upgrades = protocol === "http" && (asked === "DEFAULT" ? meshWide : asked) === "UPGRADE";
  const http2 = create(HttpProtocolOptionsSchema, {
    upstreamProtocolOptions: http?.useClientProtocol
      ? { case: "useDownstreamProtocolConfig", value: { httpProtocolOptions: {}, http2ProtocolOptions: options } }
      : {
          case: "explicitHttpConfig",
          value: { protocolConfig: { case: "http2ProtocolOptions", value: options } },
        },
  }).upstreamProtocolOptions;
  const isHttp = protocol === "http" || isMultiplexed(protocol);
  return isMultiplexed(protocol) || upgrades || (isHttp && http?.useClientProtocol) ? http2 : undefined;
}

/** A server of this very pod: nothing but its port's protocol counts. */
export function setServerProtocol(cluster: Cluster, protocol: Protocol): void {
  const version = versionOf(protocol, undefined, undefined);
  if (version !== undefined) setVersion(cluster, version, undefined, undefined);
}

function setVersion(
  cluster: Cluster,
  version: Version,
  common: Common | undefined,
  serverName: MessageInitShape<typeof ServerNameSchema> | undefined,
): void {
  cluster.typedExtensionProtocolOptions[extension] = pack(HttpProtocolOptionsSchema, {
    ...(common && { commonHttpProtocolOptions: common }),
    ...(serverName && { upstreamHttpProtocolOptions: serverName }),
    upstreamProtocolOptions: version,
  });
}
