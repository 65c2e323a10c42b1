// Compiled filter chains: what happens to a connection after it was accepted. Immutable; replaced whole by the next configuration.

import type { Clock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import type { Metrics } from "../kernel/metrics.ts";
import type { Random } from "../kernel/random.ts";
import type { Http2Limits } from "../wire/http2_connection.ts";
import type { OwnedSocket } from "../wire/socket.ts";
import type { ClusterSlot, WorkloadIdentity } from "./clusters/cluster.ts";
import type { Resolve } from "./clusters/dns.ts";
import type { Filter, NetworkFilter } from "./filter.ts";
import type { HeaderPolicy } from "./http/header_policy.ts";
import type { LocalReply } from "./http/local_reply.ts";
import type { HostRules } from "./http/request.ts";
import type { InboundRegistry } from "./inbound.ts";
import type { AccessLog } from "./log/access_log.ts";
import type { PodSource } from "./pod_source.ts";
import type { EscapedSlashes } from "./routing/path.ts";
import type { RouteTable } from "./routing/route.ts";
import type { Sweeper } from "./sweep.ts";
import type { DownstreamCounts } from "./telemetry/counts.ts";
import type { TelemetryOptions } from "./telemetry/options.ts";
import type { SeriesRegistry } from "./telemetry/series.ts";
import type { EdgeStats } from "./telemetry/telemetry.ts";
import type { ClientCertForwarding } from "./tls/client_cert.ts";
import type { Tracing } from "./tracing/tracing.ts";

/** What every part of one proxy process shares. */
export interface Runtime {
  clock: Clock;
  random: Random;
  log: Log;
  metrics: Metrics;
  /** Istio's standard metrics. */
  series: SeriesRegistry;
  sweeper: Sweeper;
  inbound: InboundRegistry;
  /** All addresses of a host name. */
  resolve: Resolve;
  /** What to dial a pod of this node from so that its proxy, which is this one, does not come between. `entered`: it has already. */
  podSource(host: string, entered: boolean): PodSource | undefined;
  /** An address of ours: passing a connection through to it would come straight back. */
  isVirtual: (connection: ConnectionInfo) => boolean;
  /** True once the process is told to stop: answers ask their clients to close. */
  draining: boolean;
  /** Near its end: what is closed at the next tick of the sweeper. */
  closes: "nothing" | "idle" | "all";
}

/** The xDS node a chain belongs to, as the data path needs it. */
export interface ChainOwner {
  readonly nodeId: string;
  /** Its own workload; "unknown" for a node's own listeners. */
  identity: WorkloadIdentity;
  /** Edge statistics for requests that never reached an endpoint. */
  stats: EdgeStats | undefined;
}

/** Holds the current table of one route configuration name. */
export interface RouteSlot {
  readonly name: string;
  current: RouteTable | undefined;
}

export interface HttpChain {
  kind: "http";
  owner: ChainOwner;
  inbound: boolean;
  routes: RouteSlot;
  /** What the client may speak (codec_type). */
  codec: "auto" | "http1" | "http2";
  http2: Http2Limits;
  filters: readonly Filter[];
  /** Those of `filters` that see answers, last one first. */
  responders: readonly Filter[];
  networkFilters: readonly NetworkFilter[];
  /** A gateway: forwarding headers are written, not trusted. */
  edge: boolean;
  policy: HeaderPolicy;
  /** Proxies before us whose x-forwarded-for is believed (xff_num_trusted_hops). */
  trustedHops: number;
  /** Replaces the Server field of answers; undefined leaves it alone. */
  serverName: string | undefined;
  /** In lower case; "connect" for CONNECT. */
  upgrades: ReadonlySet<string>;
  /** Expect: 100-continue and the first interim answer go through (proxy_100_continue); otherwise the proxy itself says 100. */
  proxiesContinue: boolean;
  /** Trailers go through, both ways (http_protocol_options.enable_trailers); otherwise they are dropped. */
  trailers: boolean;
  /** What becomes of %2F and %5C in a path (path_with_escaped_slashes_action). */
  escapedSlashes: EscapedSlashes;
  /** What is cut off the Host field; undefined for nothing. */
  hostRules: HostRules | undefined;
  /** From a request's head to its last byte; Infinity: no limit. */
  requestTimeoutMs: number;
  /** From a request's head to its answer's end, tunnels included; 0: no limit. Routes may say otherwise. */
  maxStreamDurationMs: number;
  clientCert: ClientCertForwarding;
  accessLog: AccessLog | undefined;
  localReply: LocalReply | undefined;
  tracing: Tracing | undefined;
  telemetry: TelemetryOptions;
  streamIdleMs: number;
  connectionIdleMs: number;
  headerTimeoutMs: number;
  /** A body must make progress in each window (slow_client.ts). */
  bodyWindowMs: number;
  headersMax: number;
  headBytesMax: number;
  connectionMaxMs: number;
  requestsPerConnectionMax: number;
  stats: InboundStats;
  /** Of its stat_prefix; kept when the chain is replaced. */
  counts: DownstreamCounts;
}

export interface TcpChain {
  kind: "tcp";
  owner: ChainOwner;
  inbound: boolean;
  targets: readonly ClusterSlot[];
  weights: readonly number[];
  totalWeight: number;
  networkFilters: readonly NetworkFilter[];
  accessLog: AccessLog | undefined;
  telemetry: TelemetryOptions;
  idleMs: number;
  /** From accept to close, whatever happens; Infinity: no limit. */
  maxDurationMs: number;
  connectTriesMax: number;
  /** Consistent hashing by the client's address. */
  hashSourceIp: boolean;
  stats: InboundStats;
  /** Of its stat_prefix; kept when the chain is replaced. */
  counts: DownstreamCounts;
}

export type Chain = HttpChain | TcpChain;

/** Whether a connection may go on under a newer chain than it began with: what has been forbidden since ends. */
export const allowsOn = ({ networkFilters }: Chain, connection: ConnectionInfo): boolean =>
  networkFilters.every((filter) => filter.allowsOn === undefined || filter.allowsOn(connection));

/** A connection keeps the slot, not the chain: the next request on it sees the newest configuration. */
export interface ChainSlot {
  current: Chain | undefined;
}

/** Edge statistics of an inbound chain by peer; kept when the chain is replaced. */
export interface InboundStats {
  readonly byPeer: Map<string, EdgeStats>;
}

/** Who is at the other end of a connection. */
export interface Peer {
  identity: WorkloadIdentity;
  /** Authenticated: by mutual TLS, or as a workload of this very process. */
  authenticated: boolean;
  /** What its verified certificate calls it; where missing, `identity.principal` is its name. */
  names?: readonly string[];
}

export interface ConnectionInfo {
  remoteAddress: string;
  remotePort: number;
  localAddress: string;
  localPort: number;
  /** The connection to us was TLS (for x-forwarded-proto). */
  secure: boolean;
  serverName: string;
  /** The TLS session to the client; asked for certificates, version and cipher. */
  session?: OwnedSocket;
  /** What x-forwarded-client-cert says of the client, made once. */
  clientCert?: { how: ClientCertForwarding; text: string | undefined };
  peer: Peer;
  /** Edge statistics last used on this connection, and the chain state they belong to. */
  edge?: EdgeStats;
  edgeOf?: InboundStats;
}

/** An inbound chain of a workload hosted here, found by the address of its endpoint. */
export interface InboundTarget {
  slot: ChainSlot;
  owner: ChainOwner;
}
