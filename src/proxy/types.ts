// Contracts of the proxy room: what it is started with, and what it expects of the xDS resources beyond Envoy's own fields.

import type { DescMessage, Message } from "@bufbuild/protobuf";
import type { Clock } from "../kernel/clock.ts";
import type { Log, LogLevel } from "../kernel/log.ts";
import type { Random } from "../kernel/random.ts";
import type { XdsConnection } from "../xds/types.ts";
import type { Resolve } from "./clusters/dns.ts";

/*
What the proxy reads from xDS (the mesh room emits it). Envoy v3 throughout; metadata in Istio's own form. docs/proxy.md has the table of
what is carried out; what stands here goes beyond Envoy's own fields or is chosen among them.

IDENTITY AND TELEMETRY, all under `filter_metadata["istio"]`:
- `Listener.metadata`: {"workload": "<workload>;<namespace>;<canonical service>;<canonical revision>;<cluster id>"} is the workload
  the listener belongs to (source of outbound, destination of inbound requests). One listener of a node id carrying it is enough.
- `Cluster.metadata`: {"services": [{"host": "web.video.svc.cluster.local", "name": "web", "namespace": "video"}]} is the
  destination_service of outbound clusters, and of `inbound|<port>||` the service that the workload is reached by.
- `LbEndpoint.metadata`: {"workload": "<same form>"} is the destination workload.
SUBSETS of the mesh are clusters of their own. Endpoints' `filter_metadata["envoy.lb"]` is read too: by `lb_subset_config` with a route's
  `metadata_match`, and its `hash_key` by consistent hashing.

TUNNEL: `LbEndpoint.metadata.filter_metadata["meshbed.tunnel"] = {"address": "10.244.1.5:15008", "identity": "spiffe://…"}`,
  and "aliases": the same identity under other names of the trust domain.
The client certificate is the SDS secret `default` and the roots `ROOTCA` of the node id that owns the cluster. A tunnel
  that ends in this very process is not made: the inbound chain behind it runs. What is reached without a tunnel is connected to, and
  comes in at its own listener as from another node.

LISTENERS. `bind_to_port: false`: address is matched against the connection's local address on a shared wildcard socket.
- traffic_direction is INBOUND for `virtualInbound` and `connect_terminate`, OUTBOUND for everything else, gateways included.
- an outbound listener has `filter_chains` with one chain, or several told apart by `filter_chain_match`: port, addresses, `server_names`,
  `transport_protocol`, `application_protocols` (TLS is sniffed when any chain has one of these three); else `default_filter_chain`.
- `virtualInbound`: one chain per container port (`destination_port`); a connection to a port without a chain is passed through.
  `connect_terminate`: one chain, DownstreamTlsContext; its network filters are not looked at (the CONNECT target selects a chain of
  `virtualInbound`: by `destination_port`, or because it is the address of the chain's inbound cluster's endpoint, as in `ports` mode).
- `virtualOutbound` (`use_original_dst`, `bind_to_port: false`): takes a workload's connections that none of its other outbound listeners
  does. Interception needs somebody who listens: `additional_addresses` are the ports on which it does, beside those of all other listeners.
- listener filters: `envoy.filters.listener.proxy_protocol` makes the header a must; the others say what is done anyway.
- network filters: http_connection_manager or tcp_proxy (`cluster` or `weighted_clusters`) ends a chain; filters/network_registry.ts
  lists those that may come before.
- `use_remote_address: true` at gateways (edge): x-forwarded-for and x-forwarded-proto are set, x-request-id made anew unless preserved.
- logs, traces, the `istio.stats` filter and what proxies tell each other in fields: docs/observability.md.
- DownstreamTlsContext and UpstreamTlsContext: docs/proxy-limits.md has the fields. A secret that has not arrived refuses connections.
  A DownstreamTlsContext without a chain's certificate is TLS passthrough only when the chain has no transport socket.
CLUSTERS: EDS, STATIC, STRICT_DNS, LOGICAL_DNS, ORIGINAL_DST (`PassthroughCluster`); `BlackHoleCluster` is STATIC without endpoints.
  `transport_socket` (TLS origination) is honoured for endpoints without a tunnel.
ROUTES: metadata is not read, runtime keys neither (defaults count). `retry_policy` absent means no retries, except RFC 9110 §9.2.2's on a
  reused connection. What a POST may be retried for differs from Envoy: docs/restarts.md.
HTTP FILTERS in `http_filters` order: filters/registry.ts lists them (cors, jwt_authn, rbac, local_ratelimit, fault, compressor,
  header_mutation, set_metadata, health_check), router ends the chain. An unknown filter is refused (NACK) unless `is_optional`.
*/

export interface ProxyOptions {
  /** `node` hosts a virtual sidecar for every workload its node stream lists; `router` is one gateway. */
  role: "node" | "router";
  /** xDS node id: "node~<node IP>~<node>~<domain>" or "router~<pod IP>~<pod>.<ns>~<ns>.svc.<domain>". */
  nodeId: string;
  /** `namespaces`: intercepted connections arrive on wildcard sockets; `ports`: every listener is bound as it says. */
  bindMode: {
    nodeIp: string;
    mode: "namespaces" | "ports";
    /** Of a node in `namespaces` mode: only what is dialled from here reaches a pod of the node, all else comes to this proxy. */
    podGateway?: string;
  };
  xds: XdsConnection;
  /** Port 0 takes any free port; `RunningProxy.adminPort` says which. */
  admin: AdminSettings | undefined;
  /** Another process serves the same addresses: bind them only when everything is known, so that it can go (see `serving`). */
  takesOver?: boolean;
  clock: Clock;
  random: Random;
  /** How STRICT_DNS and LOGICAL_DNS clusters find addresses; by default as the system does. */
  resolve?: Resolve;
  log: Log;
}

export interface AdminSettings {
  host: string;
  port: number;
  /** A proxy that runs alone, from a file. Only then may its admin pages change it: in a mesh any pod can reach them. */
  standalone?: {
    configPath: string;
    /** Node.cluster */
    cluster: string;
    bootstrap(): { schema: DescMessage; message: Message; readAtMs: number };
    logLevel: LogLevel;
    quit(): void;
  };
}

export interface DrainTimes {
  /** New connections are still accepted for so long. */
  acceptMs: number;
  /** From the start: what is still open then is closed. */
  drainMs: number;
}

export interface RunningProxy {
  /** Undefined without an admin server. */
  readonly adminPort: number | undefined;
  /** Everything that was told serves. */
  isSettled(): boolean;
  /** What is listened on, by listener. */
  listeners(): { name: string; host: string; port: number }[];
  /** Addresses ("host:port") that cannot be listened on, and why; they are tried again. */
  bindFailures(): ReadonlyMap<string, string>;
  /** Resolves when every listener serves; at once for a proxy that does not take over. */
  readonly serving: Promise<void>;
  /**
   * The graceful end: not ready any more, hands its addresses to a successor if there is one, lets its connections go on until they
   * end (each is asked to with its next answer) or the time is up. `close` follows; it may also cut this short.
   */
  drain(times?: Partial<DrainTimes>): Promise<void>;
  /** Stops accepting, closes idle connections, gives requests in flight a second, then closes everything. */
  close(): Promise<void>;
}
