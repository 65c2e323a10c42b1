// Clusters and their endpoints as the data path sees them. An endpoint outlives configuration changes: its connections and counts stay.

import type { EdgeStats } from "./telemetry.ts";

/** Who a workload is, for telemetry and policy. Fields are "unknown" when xDS does not say. */
export interface WorkloadIdentity {
  workload: string;
  namespace: string;
  canonicalService: string;
  canonicalRevision: string;
  cluster: string;
  /** SPIFFE id, or "unknown". */
  principal: string;
}

export const unknownWorkload: WorkloadIdentity = {
  workload: "unknown",
  namespace: "unknown",
  canonicalService: "unknown",
  canonicalRevision: "unknown",
  cluster: "unknown",
  principal: "unknown",
};

/** Istio's metadata form: "<workload>;<namespace>;<canonical service>;<canonical revision>;<cluster id>". */
export function parseWorkload(text: string, principal = "unknown"): WorkloadIdentity {
  const part = text.split(";");
  return {
    workload: part[0] || "unknown",
    namespace: part[1] || "unknown",
    canonicalService: part[2] || "unknown",
    canonicalRevision: part[3] || "latest",
    cluster: part[4] || "Kubernetes",
    principal,
  };
}

function sameWorkload(a: WorkloadIdentity, b: WorkloadIdentity): boolean {
  return (Object.keys(a) as (keyof WorkloadIdentity)[]).every((key) => a[key] === b[key]);
}

export interface ServiceIdentity {
  host: string;
  name: string;
  namespace: string;
}

export const unknownService: ServiceIdentity = { host: "unknown", name: "unknown", namespace: "unknown" };

/** TLS towards a server. `context` is read for each new connection, so a rotated certificate is used at once. */
export interface ClientTls {
  /** A node:tls SecureContext's native part; undefined while a secret is missing. */
  context(): object | undefined;
  serverName: string;
  /** Tells settings apart: endpoints reached with other settings are other endpoints. */
  key: string;
  /** How the server's certificate is checked once its chain is known good; undefined: not at all. */
  verify: { spiffeId: string } | { hostName: string } | undefined;
}

/** How to reach an endpoint. */
export interface Transport {
  host: string;
  port: number;
  tls: ClientTls | undefined;
  /** Set: open a tunnel with CONNECT to this "ip:port" once connected. */
  connectTarget: string | undefined;
}

/** A request that waits for a connection. */
export interface ConnectionWaiter {
  /** One may be free, or may be opened now. */
  onConnectionFree(): void;
}

/** A kept connection, as the pool sees it. */
export interface IdleConnection {
  close(): void;
}

export class Endpoint {
  /** "ip:port" */
  readonly address: string;
  /** Identifies the endpoint across updates: address and everything that decides how it is reached. */
  readonly key: string;
  readonly transport: Transport;
  weight: number;
  priority: number;
  healthy: boolean;
  workload: WorkloadIdentity;
  /** Requests (HTTP) or connections (TCP) in progress. */
  active = 0;
  /** Open connections, idle ones and those being opened included. */
  connections = 0;
  /** Requests held back by the cluster's connectionsMax, oldest first; bounded by pendingRequestsMax. */
  readonly waiting: ConnectionWaiter[] = [];
  /** Most recently used last. */
  readonly idle: IdleConnection[] = [];
  removed = false;
  /** Smooth weighted round robin's running balance. */
  balance = 0;
  stats: EdgeStats | undefined;
  /** The inbound chain of this very process behind this address, cached for one registry version. */
  localVersion = -1;
  local: unknown;
  /** As `stats`, for the destination's report when it lives in this process. */
  neighbourStats: EdgeStats | undefined;
  neighbourOf: unknown;
  requests = 0;
  failures = 0;

  constructor(address: string, key: string, transport: Transport, workload: WorkloadIdentity) {
    this.address = address;
    this.key = key;
    this.transport = transport;
    this.workload = workload;
    this.weight = 1;
    this.priority = 0;
    this.healthy = true;
  }

  /** No longer told by xDS: idle connections close now, busy ones when their request is done. */
  retire(): void {
    this.removed = true;
    while (this.idle.length > 0) this.idle.pop()!.close();
  }
}

export type LoadBalancing = "ROUND_ROBIN" | "LEAST_REQUEST" | "RANDOM" | "ORIGINAL_DST";

/** Circuit breakers; Infinity when not set. */
export interface Thresholds {
  connectionsMax: number;
  pendingRequestsMax: number;
  requestsMax: number;
  retriesMax: number;
}

export interface Cluster {
  readonly name: string;
  readonly policy: LoadBalancing;
  readonly connectTimeoutMs: number;
  readonly connectionIdleMs: number;
  readonly requestsPerConnectionMax: number;
  readonly thresholds: Thresholds;
  readonly service: ServiceIdentity;
  /** Origination for endpoints without a tunnel. */
  readonly tls: ClientTls | undefined;
  /** True when the endpoints come from EDS under `edsName`. */
  readonly edsName: string | undefined;
}

/** What a cluster name stands for now. Routes hold the slot, so an update needs no route to be compiled again. */
export class ClusterSlot {
  readonly name: string;
  current: Cluster | undefined;
  /** Endpoints of the highest priority that has a healthy one; replaced, never changed. */
  endpoints: readonly Endpoint[] = [];
  /** Everything known, for the admin pages. */
  all: readonly Endpoint[] = [];
  uniformWeights = true;
  /** False until endpoints have arrived once. */
  warm = false;
  rotation = 0;
  requestsActive = 0;
  connectionsActive = 0;
  pendingActive = 0;
  retriesActive = 0;
  /** For failures before an endpoint was picked. */
  stats: EdgeStats | undefined;
  /** ORIGINAL_DST: endpoints by address. */
  readonly originals = new Map<string, Endpoint>();

  constructor(name: string) {
    this.name = name;
  }

  /** Replaces the endpoints by `next`; those with a known key keep their object, the rest are retired. */
  setEndpoints(next: readonly Endpoint[]): void {
    const before = new Map(this.all.map((endpoint) => [endpoint.key, endpoint]));
    const all = next.map((endpoint) => {
      const kept = before.get(endpoint.key);
      if (!kept) return endpoint;
      before.delete(endpoint.key);
      kept.weight = endpoint.weight;
      kept.priority = endpoint.priority;
      kept.healthy = endpoint.healthy;
      if (!sameWorkload(kept.workload, endpoint.workload)) {
        kept.workload = endpoint.workload;
        kept.stats = undefined;
      }
      return kept;
    });
    for (const gone of before.values()) gone.retire();
    this.all = all;
    const usable = all.filter((endpoint) => endpoint.healthy && endpoint.weight > 0);
    const best = usable.reduce((least, { priority }) => Math.min(least, priority), Number.POSITIVE_INFINITY);
    this.endpoints = usable.filter(({ priority }) => priority === best);
    this.uniformWeights = this.endpoints.every(({ weight }) => weight === this.endpoints[0]!.weight);
    this.warm = true;
  }
}
