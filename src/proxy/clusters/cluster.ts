// Clusters and their endpoints as the data path sees them. An endpoint outlives configuration changes: its connections and counts stay.

import type { Cancel, Clock } from "../../kernel/clock.ts";
import type { HostMonitor, OutlierDetector } from "../balancing/outlier.ts";
import type { Selection } from "../balancing/selection.ts";
import { newUpstreamCounts } from "../telemetry/counts.ts";
import type { EdgeStats } from "../telemetry/telemetry.ts";
import type { ClientTls } from "../tls/compile_client.ts";
import type { Cluster } from "./config.ts";

/** Who a workload is, for telemetry and policy. Fields are "unknown" when xDS does not say. */
export interface WorkloadIdentity {
  workload: string;
  namespace: string;
  canonicalService: string;
  canonicalRevision: string;
  cluster: string;
  /** SPIFFE id, or "unknown". */
  principal: string;
  /** Of its pod, where connections of its own are not made from there. */
  address?: string;
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

/** Of an endpoint, as its load assignment says. */
export type EndpointHealth = "healthy" | "degraded" | "unhealthy";

/** How an endpoint takes part in balancing, as its load assignment says. */
export interface Placement {
  weight: number;
  priority: number;
  health: EndpointHealth;
  /** "region/zone/sub-zone" */
  locality: string;
  /** Share of its locality among those of its priority; 0 when not given. */
  localityWeight: number;
  /** What consistent hashing knows it by (metadata envoy.lb hash_key; else its address). */
  hashKey: string;
  /** Its name, where it has one ("" else): what Host is rewritten to, and what it is checked as. */
  hostname: string;
  /** Where and with which Host field it is checked; undefined: its own address, no name of its own. */
  healthCheck: EndpointHealthCheck | undefined;
}

export interface EndpointHealthCheck {
  disabled: boolean;
  /** 0: the endpoint's own. */
  port: number;
  /** "": none of its own. */
  host: string;
}

export class Endpoint {
  /** "ip:port" */
  readonly address: string;
  /** Identifies the endpoint across updates: address and everything that decides how it is reached. */
  readonly key: string;
  readonly transport: Transport;
  placement: Placement;
  workload: WorkloadIdentity;
  /** Its metadata by namespace, for formats. */
  metadata: Readonly<Record<string, unknown>> | undefined;
  /** Failed its active health checks, or has not passed the first one yet. */
  failedActiveCheck = false;
  /** Passive health checking; undefined without outlier detection. */
  outlier: HostMonitor | undefined;
  /** When it was added or last passed its health checks again: slow start begins here. */
  healthySinceMs = 0;
  /** Requests (HTTP) or connections (TCP) in progress. */
  active = 0;
  /** Open connections, idle ones and those being opened included. */
  connections = 0;
  /** Requests held back by the cluster's connectionsMax, oldest first; bounded by pendingRequestsMax. */
  readonly waiting: ConnectionWaiter[] = [];
  /** Most recently used last. */
  readonly idle: IdleConnection[] = [];
  /** Connections shared between requests (h2_pool.ts); made by the first request that asks for one. */
  http2: { retire(): void } | undefined;
  removed = false;
  /** As it is reached for single hosts (host_endpoint.ts). */
  byHost: Map<string, Endpoint> | undefined;
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
    this.placement = {
      weight: 1,
      priority: 0,
      health: "healthy",
      locality: "",
      localityWeight: 0,
      hashKey: address,
      hostname: "",
      healthCheck: undefined,
    };
  }

  /** By everything that is known: what xDS says, active checks and outlier detection. */
  get health(): EndpointHealth {
    return this.failedActiveCheck || this.outlier?.ejected ? "unhealthy" : this.placement.health;
  }
  get healthy(): boolean {
    return this.health === "healthy";
  }
  get weight(): number {
    return this.placement.weight;
  }
  get priority(): number {
    return this.placement.priority;
  }

  /** No longer told by xDS: idle connections close now, busy ones when their request is done. */
  retire(): void {
    this.removed = true;
    while (this.idle.length > 0) this.idle.pop()!.close();
    this.http2?.retire();
    for (const variant of this.byHost?.values() ?? []) variant.retire();
  }
}

/** What is in progress, against the circuit breakers of one priority. */
export interface Usage {
  requestsActive: number;
  pendingActive: number;
  retriesActive: number;
}

/** Envoy's overprovisioning factor in percent: a priority keeps all its load while 1 / 1.4 of it is healthy. */
export const overprovisioningDefaultPercent = 140;

const noClock: Pick<Clock, "monotonicMs"> = { monotonicMs: () => 0 };

/** What a cluster name stands for now. Routes hold the slot, so an update needs no route to be compiled again. It counts the requests of default priority itself. */
export class ClusterSlot implements Usage {
  readonly name: string;
  readonly #clock: Pick<Clock, "monotonicMs">;
  #current: Cluster | undefined;
  #all: readonly Endpoint[] = [];
  /** Makes the endpoints that nobody has asked for yet. */
  #pending: (() => readonly Endpoint[]) | undefined;
  #asked = false;
  overprovisioningPercent = overprovisioningDefaultPercent;
  /** How endpoints are picked; built by the first pick after a change of anything it depends on. */
  selection: Selection | undefined;
  /** The same by subset, for a cluster that has some. Bounded by what routes ask for. */
  readonly subsets = new Map<string, Selection | undefined>();
  /** False until endpoints have arrived once, and have been checked once if they are to be. */
  warm = false;
  requestsActive = 0;
  pendingActive = 0;
  retriesActive = 0;
  /** Of requests whose route has priority HIGH. */
  readonly high: Usage = { requestsActive: 0, pendingActive: 0, retriesActive: 0 };
  connectionsActive = 0;
  readonly counts = newUpstreamCounts();
  /** For failures before an endpoint was picked. */
  stats: EdgeStats | undefined;
  /** ORIGINAL_DST: endpoints by address. */
  readonly originals = new Map<string, Endpoint>();
  /** Set with outlier detection. */
  outliers: OutlierDetector | undefined;
  /** Told when endpoints have come or gone: outlier detection and health checks follow. */
  onEndpoints: (() => void) | undefined;
  /** Set while something watches the endpoints. */
  stopMonitors: Cancel | undefined;

  constructor(name: string, clock = noClock) {
    this.name = name;
    this.#clock = clock;
  }

  get current(): Cluster | undefined {
    return this.#current;
  }
  set current(cluster: Cluster | undefined) {
    this.#current = cluster;
    this.reselect();
  }
  /** Everything known, whatever its health. */
  get all(): readonly Endpoint[] {
    this.#asked = true;
    const make = this.#pending;
    if (make !== undefined) {
      this.#pending = undefined;
      this.#replace(make());
    }
    return this.#all;
  }
  /** Those that exist: a cluster that nothing was sent to has none yet. */
  get made(): readonly Endpoint[] {
    return this.#all;
  }
  nowMs(): number {
    return this.#clock.monotonicMs();
  }

  /** Something that picks depend on has changed. */
  reselect(): void {
    this.selection = undefined;
    if (this.subsets.size > 0) this.subsets.clear();
  }

  /** Replaces the endpoints by `next`; those with a known key keep their object, the rest are retired. */
  setEndpoints(next: readonly Endpoint[], overprovisioningPercent = overprovisioningDefaultPercent): void {
    this.#pending = undefined;
    this.#replace(next);
    this.#arrived(overprovisioningPercent);
  }

  /** The same, but as long as nobody has asked for endpoints `make` is not called: most workloads talk to few of the services they are told of. */
  setEndpointsLazily(make: () => readonly Endpoint[], overprovisioningPercent = overprovisioningDefaultPercent): void {
    if (this.#asked) this.#replace(make());
    else this.#pending = make;
    this.#arrived(overprovisioningPercent);
  }

  #arrived(overprovisioningPercent: number): void {
    this.overprovisioningPercent = overprovisioningPercent;
    this.reselect();
    this.warm = true;
    this.onEndpoints?.();
  }

  #replace(next: readonly Endpoint[]): void {
    const before = new Map(this.#all.map((endpoint) => [endpoint.key, endpoint]));
    const nowMs = this.nowMs();
    const all = new Map<string, Endpoint>();
    for (const endpoint of next) {
      // One address told twice is one endpoint, as in Envoy.
      if (all.has(endpoint.key)) continue;
      const kept = before.get(endpoint.key);
      all.set(endpoint.key, kept ?? endpoint);
      if (!kept) {
        endpoint.healthySinceMs = nowMs;
        continue;
      }
      before.delete(endpoint.key);
      kept.placement = endpoint.placement;
      kept.metadata = endpoint.metadata;
      if (!sameWorkload(kept.workload, endpoint.workload)) {
        kept.workload = endpoint.workload;
        kept.stats = undefined;
      }
    }
    for (const gone of before.values()) gone.retire();
    this.#all = [...all.values()];
  }
}
