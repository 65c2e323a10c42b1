// A cluster's settings, compiled from Envoy's Cluster message. Immutable; a changed message makes a new one.

import type { Http2Limits } from "../../wire/http2_connection.ts";
import type { OutlierConfig } from "../balancing/outlier.ts";
import type { SlowStart } from "../balancing/slow_start.ts";
import type { SubsetSettings } from "../balancing/subsets.ts";
import type { ClientTls } from "../tls/compile_client.ts";
import type { ServiceIdentity } from "./cluster.ts";
import { unknownService } from "./cluster.ts";
import type { HealthCheck } from "./health_check.ts";

export type LoadBalancing =
  | { policy: "ROUND_ROBIN"; slowStart: SlowStart | undefined }
  | {
      policy: "LEAST_REQUEST";
      slowStart: SlowStart | undefined;
      /** Hosts drawn per pick. */
      choices: number;
      fullScan: boolean;
      /** With unequal weights: weight / (active + 1) ^ bias. */
      activeRequestBias: number;
    }
  | { policy: "RANDOM" }
  | { policy: "RING_HASH"; ringSizeMin: number; ringSizeMax: number }
  | { policy: "MAGLEV"; tableSize: number }
  | { policy: "ORIGINAL_DST" };

/** Circuit breakers of one priority. */
export interface Thresholds {
  connectionsMax: number;
  pendingRequestsMax: number;
  requestsMax: number;
  retriesMax: number;
  /** Takes the place of retriesMax. */
  retryBudget: { percent: number; concurrencyMin: number } | undefined;
  /** Remaining resources are shown. */
  trackRemaining: boolean;
}

/** Envoy's defaults, for a threshold the message does not set. Istio sets all of them. */
export const defaultThresholds: Thresholds = {
  connectionsMax: 1024,
  pendingRequestsMax: 1024,
  requestsMax: 1024,
  retriesMax: 3,
  retryBudget: undefined,
  trackRemaining: false,
};

export const unlimitedThresholds: Thresholds = {
  connectionsMax: Number.POSITIVE_INFINITY,
  pendingRequestsMax: Number.POSITIVE_INFINITY,
  requestsMax: Number.POSITIVE_INFINITY,
  retriesMax: Number.POSITIVE_INFINITY,
  retryBudget: undefined,
  trackRemaining: false,
};

/** Endpoints that are host names. */
export interface DnsSettings {
  /** STRICT: every address is an endpoint; LOGICAL: one of them is used. */
  kind: "STRICT" | "LOGICAL";
  refreshMs: number;
  /** After a failure. */
  failureRefreshMs: number;
  family: DnsFamily;
}
export type DnsFamily = "v4" | "v6" | "v4-preferred" | "v6-preferred" | "all";

/** When a cluster is spoken to in HTTP/2, and how. */
export interface Http2Use {
  when: "always" | "as client";
  /** Requests at once on one connection. */
  streamsMax: number;
  limits: Http2Limits;
}

export const speaksHttp2 = (use: Http2Use | undefined, clientDoes: boolean): boolean =>
  use !== undefined && (use.when === "always" || clientDoes);

export interface Cluster {
  readonly name: string;
  readonly balancing: LoadBalancing;
  /** Below this share of available hosts all of them are used; 0 disables it. */
  readonly panicThresholdPercent: number;
  /** Localities get load by their weights instead of by their number of hosts. */
  readonly localityWeighted: boolean;
  /** Set when requests go to those endpoints only whose metadata their routes ask for. */
  readonly subsets: SubsetSettings | undefined;
  readonly connectTimeoutMs: number;
  readonly connectionIdleMs: number;
  /** Older connections are not used for another request. */
  readonly connectionMaxMs: number;
  /** Of idleness, after which the kernel asks whether the peer is still there; 0: never. */
  readonly keepAliveMs: number;
  readonly requestsPerConnectionMax: number;
  /** Undefined: HTTP/1.1. */
  readonly http2: Http2Use | undefined;
  readonly thresholds: Thresholds;
  /** For routes of priority HIGH. */
  readonly highThresholds: Thresholds;
  readonly outlier: OutlierConfig | undefined;
  readonly healthCheck: HealthCheck | undefined;
  readonly service: ServiceIdentity;
  /** Its metadata by namespace, for formats. */
  readonly metadata: Readonly<Record<string, unknown>> | undefined;
  /** Origination for endpoints without a tunnel. */
  readonly tls: ClientTls | undefined;
  /** Set when the endpoints come from EDS under this name. */
  readonly edsName: string | undefined;
  readonly dns: DnsSettings | undefined;
}

/** Istio's mesh default; Envoy's is 5 s. */
export const connectTimeoutDefaultMs = 10_000;
/** Envoy's connection idle timeout. */
export const connectionIdleDefaultMs = 3_600_000;
/** Envoy's healthy panic threshold. */
export const panicThresholdDefaultPercent = 50;

/** What a cluster is that says nothing but its name. */
export function clusterDefaults(name: string): Cluster {
  return {
    name,
    balancing: { policy: "ROUND_ROBIN", slowStart: undefined },
    panicThresholdPercent: panicThresholdDefaultPercent,
    localityWeighted: false,
    subsets: undefined,
    connectTimeoutMs: connectTimeoutDefaultMs,
    connectionIdleMs: connectionIdleDefaultMs,
    connectionMaxMs: Number.POSITIVE_INFINITY,
    keepAliveMs: 0,
    requestsPerConnectionMax: Number.POSITIVE_INFINITY,
    http2: undefined,
    thresholds: defaultThresholds,
    highThresholds: defaultThresholds,
    outlier: undefined,
    healthCheck: undefined,
    service: unknownService,
    metadata: undefined,
    tls: undefined,
    edsName: undefined,
    dns: undefined,
  };
}
