// The ADS server: gRPC with TLS and a required client certificate, one push stream per client stream, in both variants of ADS.

import * as grpc from "@grpc/grpc-js";
import type { Clock } from "../kernel/clock.ts";
import { MeshbedError, messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { AdsTls } from "./client.ts";
import {
  decodeDeltaRequest,
  decodeSotwRequest,
  deltaPath,
  encodeDeltaResponse,
  encodeSotwResponse,
  sotwPath,
} from "./codec.ts";
import { messageSizeBytesMax } from "./frames.ts";
import type { AdsRequest, AdsResponse } from "./protocol.ts";
import {
  createPushStream,
  type NodeMetadata,
  type PushOptions,
  type PushStream,
  type SnapshotSource,
  type TypeStatus,
} from "./push.ts";
import type { TypeUrl } from "./types.ts";

/** Further streams are refused with RESOURCE_EXHAUSTED. */
const streamsMax = 10_000;
/** gRPC: how often the server looks whether a silent client is still there. */
const keepaliveTimeMs = 10_000;
const keepaliveTimeoutMs = 5_000;

export interface StreamStatus {
  nodeId: string;
  peer: string;
  connectedAtMs: number;
  variant: PushOptions["variant"];
  types: TypeStatus[];
}

/** Who is at the other end, from its certificate; without names at the plaintext port. */
export interface Peer {
  commonName: string;
  organizations: readonly string[];
}

export interface Nack {
  nodeId: string;
  typeUrl: TypeUrl;
  version: string;
  reason: string;
}

export interface AdsServer {
  readonly port: number;
  /** Of the plaintext port. */
  readonly plainPort: number | undefined;
  /** Every connected node with what it was sent and has answered. */
  status(): StreamStatus[];
  readonly statistics: { pushes: number; nacks: number; streams: number };
  close(): Promise<void>;
}

type Call = grpc.ServerDuplexStream<AdsRequest, AdsResponse>;

/** Listens on `port` (0: any free one). Throws MeshbedError XDS_LISTEN_FAILED. */
export async function startAdsServer(options: {
  host: string;
  port: number;
  tls: AdsTls;
  /** Also without TLS, for clients that have no certificate: `authorize` sees a peer without names. */
  plainPort?: number;
  source: SnapshotSource;
  /** Whether this client may have what the node id is told (private keys among it); asked at each update. */
  authorize: (peer: Peer, nodeId: string, metadata: NodeMetadata) => boolean;
  onNack?: (nack: Nack) => void;
  log: Log;
  clock: Clock;
}): Promise<AdsServer> {
  const { source, log, clock, tls, authorize } = options;
  const streams = new Map<PushStream, Omit<StreamStatus, "nodeId" | "types">>();
  const statistics = { pushes: 0, nacks: 0, streams: 0 };
  const server = new grpc.Server({
    "grpc.max_receive_message_length": messageSizeBytesMax,
    "grpc.max_send_message_length": messageSizeBytesMax,
    "grpc.keepalive_time_ms": keepaliveTimeMs,
    "grpc.keepalive_timeout_ms": keepaliveTimeoutMs,
    "grpc-node.flow_control_window": 1024 * 1024,
  });

  function serve(call: Call, variant: PushOptions["variant"]): void {
    if (streams.size >= streamsMax) {
      end(call, grpc.status.RESOURCE_EXHAUSTED, "too many streams");
      return;
    }
    const peer = peerOf(call);
    const stream = createPushStream({
      source: restricted(source, authorize, peer, log),
      clock,
      variant,
      send: (response) => {
        statistics.pushes++;
        call.write(response);
      },
      fail: (reason) => {
        finish();
        end(call, grpc.status.INVALID_ARGUMENT, reason);
      },
      onNack: (node, typeUrl, version, reason) => {
        statistics.nacks++;
        log.warn("xds resources refused by a node", { node, typeUrl, version, reason });
        options.onNack?.({ nodeId: node, typeUrl, version, reason });
      },
    });
    const finish = (): void => {
      if (!streams.delete(stream)) return;
      statistics.streams = streams.size;
      stream.close();
    };
    streams.set(stream, { peer: call.getPeer(), connectedAtMs: clock.now(), variant });
    statistics.streams = streams.size;
    call.on("data", (request: AdsRequest) => stream.receive(request));
    call.on("end", () => {
      finish();
      call.end();
    });
    call.on("cancelled", finish);
    call.on("error", (error) => {
      log.debug("xds stream failed", { node: stream.nodeId, error: messageOf(error) });
      finish();
    });
  }

  server.addService(service, {
    streamAggregatedResources: ((call: Call) => serve(call, "sotw")) as grpc.UntypedHandleCall,
    deltaAggregatedResources: ((call: Call) => serve(call, "delta")) as grpc.UntypedHandleCall,
  });
  const credentials = grpc.ServerCredentials.createSsl(
    Buffer.from(tls.ca),
    [{ cert_chain: Buffer.from(tls.cert), private_key: Buffer.from(tls.key) }],
    true,
  );
  const port = await bind(server, `${options.host}:${options.port}`, credentials);
  const plainPort =
    options.plainPort === undefined
      ? undefined
      : await bind(server, `${options.host}:${options.plainPort}`, grpc.ServerCredentials.createInsecure());
  log.info("xds listening", { address: `${options.host}:${port}`, plainPort });
  return {
    port,
    plainPort,
    statistics,
    status: () =>
      [...streams].map(([stream, about]) => ({ nodeId: stream.nodeId ?? "", ...about, types: stream.status() })),
    async close() {
      for (const stream of streams.keys()) stream.close();
      streams.clear();
      server.forceShutdown();
    },
  };
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const method = (
  path: string,
  decode: (bytes: Uint8Array) => AdsRequest,
  encode: (response: AdsResponse) => Uint8Array,
): grpc.MethodDefinition<AdsRequest, AdsResponse> => ({
  path,
  requestStream: true,
  responseStream: true,
  requestSerialize: () => Buffer.alloc(0),
  requestDeserialize: decode,
  responseSerialize: (response) => asBuffer(encode(response)),
  responseDeserialize: (): never => {
    throw new Error("a server reads no responses");
  },
});

const service: grpc.ServiceDefinition = {
  streamAggregatedResources: method(sotwPath, decodeSotwRequest, encodeSotwResponse),
  deltaAggregatedResources: method(deltaPath, decodeDeltaRequest, encodeDeltaResponse),
};

/** A client that may not ask is told nothing, as long as that is so. */
function restricted(
  source: SnapshotSource,
  authorize: (peer: Peer, nodeId: string, metadata: NodeMetadata) => boolean,
  peer: Peer,
  log: Log,
): SnapshotSource {
  let warned = false;
  return {
    get(nodeId, metadata) {
      if (authorize(peer, nodeId, metadata)) return source.get(nodeId, metadata);
      if (!warned)
        log.warn("xds client asks for a node that is not its own", { node: nodeId, client: peer.commonName });
      warned = true;
      return undefined;
    },
    watch: (nodeId, metadata, onChange) => source.watch(nodeId, metadata, onChange),
  };
}

/** Subject of the client's certificate; nobody when the connection cannot tell. */
function peerOf(call: Call): Peer {
  const subject = call.getAuthContext().sslPeerCertificate?.subject as
    | { CN?: string | string[]; O?: string | string[] }
    | undefined;
  const list = (value: string | string[] | undefined): string[] => (value === undefined ? [] : [value].flat());
  return { commonName: list(subject?.CN)[0] ?? "", organizations: list(subject?.O) };
}

function bind(server: grpc.Server, address: string, credentials: grpc.ServerCredentials): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => {
      if (error)
        reject(
          new MeshbedError("XDS_LISTEN_FAILED", `cannot listen for xds on ${address}: ${error.message}`, {
            fix: "find what holds the port (ss -ltnp) and stop it",
            cause: error,
          }),
        );
      else resolve(port);
    });
  });
}

function end(call: Call, code: grpc.status, details: string): void {
  call.emit("error", { code, details });
}
