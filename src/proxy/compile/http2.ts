// Envoy's HTTP/2 options → what one client may do, and when a cluster is spoken to in HTTP/2. Without options: shared defaults.

import type { Cluster as ClusterMessage } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import type { Http2ProtocolOptions } from "#gen/xds/envoy/config/core/v3/protocol_pb.js";
import { HttpProtocolOptionsSchema } from "#gen/xds/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { headerCountMax, responseHeadBytesMax } from "../../wire/http1_head.ts";
import type { Http2Limits } from "../../wire/http2_connection.ts";
import { windowBytesDefault, windowBytesMax } from "../../wire/http2_frames.ts";
import type { Http2Use } from "../clusters/config.ts";
import { unpack } from "./any.ts";

/** Strangers get little, the mesh's own what a gRPC service needs. */
const edgeDefaults = { streamsMax: 100, streamWindowBytes: 64 * 1024, connectionWindowBytes: 1024 * 1024 };
const meshDefaults = { streamsMax: 1024, streamWindowBytes: 256 * 1024, connectionWindowBytes: 4 * 1024 * 1024 };

type Defaults = typeof edgeDefaults;

function compile(options: Http2ProtocolOptions | undefined, defaults: Defaults, head: HeadLimits): Http2Limits {
  const streamWindowBytes = options?.initialStreamWindowSize || defaults.streamWindowBytes;
  const connectionWindowBytes = options?.initialConnectionWindowSize || defaults.connectionWindowBytes;
  return {
    streamsMax: options?.maxConcurrentStreams || defaults.streamsMax,
    streamWindowBytes: windowOf(streamWindowBytes),
    connectionWindowBytes: windowOf(connectionWindowBytes),
    headBytesMax: head.headBytesMax,
    headersMax: head.headersMax,
  };
}
/** As Envoy: never below what a peer may send before it has heard of us. */
const windowOf = (bytes: number): number => Math.min(Math.max(bytes, windowBytesDefault), windowBytesMax);

type HeadLimits = Pick<Http2Limits, "headBytesMax" | "headersMax">;

/** What a client of a listener may do. */
export const downstreamHttp2 = (
  options: Http2ProtocolOptions | undefined,
  edge: boolean,
  head: HeadLimits,
): Http2Limits => compile(options, edge ? edgeDefaults : meshDefaults, head);

const extension = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const answerHead = { headBytesMax: responseHeadBytesMax, headersMax: headerCountMax };

/** Undefined: HTTP/1.1 always. `auto_config` (by ALPN) is HTTP/1.1, which every server of both speaks. */
export function upstreamHttp2(message: ClusterMessage): Http2Use | undefined {
  const any = message.typedExtensionProtocolOptions[extension];
  const choice = any && unpack(any, HttpProtocolOptionsSchema)?.upstreamProtocolOptions;
  switch (choice?.case) {
    case "explicitHttpConfig": {
      const { protocolConfig } = choice.value;
      return protocolConfig.case === "http2ProtocolOptions" ? use("always", protocolConfig.value) : undefined;
    }
    case "useDownstreamProtocolConfig":
      return use("as client", choice.value.http2ProtocolOptions);
    case "autoConfig":
      return undefined;
    default:
      return message.http2ProtocolOptions && use("always", message.http2ProtocolOptions);
  }
}

function use(when: Http2Use["when"], options: Http2ProtocolOptions | undefined): Http2Use {
  return {
    when,
    streamsMax: options?.maxConcurrentStreams || Number.POSITIVE_INFINITY,
    // A server opens no streams.
    limits: { ...compile(options, meshDefaults, answerHead), streamsMax: 0 },
  };
}
