// The shape of a DestinationRule. The library's typings spell out every combination of its oneofs, 37,000 lines that take the
// compiler minutes and gigabytes as soon as code looks into them; these are the same fields with oneofs as optional fields.

export interface IDestinationRule {
  apiVersion?: string;
  kind?: string;
  metadata?: object;
  spec?: DestinationRuleSpec;
  status?: {
    conditions?: { type?: string; status?: string; reason?: string; message?: string }[];
    [field: string]: unknown;
  };
}

export interface DestinationRuleSpec {
  host: string;
  exportTo?: string[];
  trafficPolicy?: TrafficPolicy;
  subsets?: { name: string; labels?: Record<string, string>; trafficPolicy?: TrafficPolicy }[];
  workloadSelector?: { matchLabels?: Record<string, string> };
}

/** What holds for a destination, and may be said again for one of its ports. */
export interface PortPolicy {
  connectionPool?: ConnectionPool;
  outlierDetection?: OutlierDetection;
  loadBalancer?: LoadBalancer;
  tls?: ClientTls;
}

export interface TrafficPolicy extends PortPolicy {
  portLevelSettings?: (PortPolicy & { port?: { number?: number } })[];
  proxyProtocol?: { version?: "V1" | "V2" };
  retryBudget?: { minRetryConcurrency?: number; percent?: number };
  tunnel?: { protocol?: string; targetHost: string; targetPort: number };
}

export interface ConnectionPool {
  http?: {
    h2UpgradePolicy?: "DEFAULT" | "DO_NOT_UPGRADE" | "UPGRADE";
    http1MaxPendingRequests?: number;
    http2MaxRequests?: number;
    idleTimeout?: string;
    maxConcurrentStreams?: number;
    maxRequestsPerConnection?: number;
    maxRetries?: number;
    useClientProtocol?: boolean;
  };
  tcp?: {
    connectTimeout?: string;
    idleTimeout?: string;
    maxConnectionDuration?: string;
    maxConnections?: number;
    tcpKeepalive?: { interval?: string; probes?: number; time?: string };
  };
}

export interface OutlierDetection {
  baseEjectionTime?: string;
  consecutive5xxErrors?: number;
  consecutiveErrors?: number;
  consecutiveGatewayErrors?: number;
  consecutiveLocalOriginFailures?: number;
  interval?: string;
  maxEjectionPercent?: number;
  minHealthPercent?: number;
  splitExternalLocalOriginErrors?: boolean;
}

export interface LoadBalancer {
  simple?: "UNSPECIFIED" | "LEAST_CONN" | "RANDOM" | "PASSTHROUGH" | "ROUND_ROBIN" | "LEAST_REQUEST";
  consistentHash?: ConsistentHash;
  localityLbSetting?: {
    distribute?: { from?: string; to?: Record<string, number> }[];
    enabled?: boolean;
    failover?: { from?: string; to?: string }[];
    failoverPriority?: string[];
  };
  warmup?: { aggression?: number; duration: string; minimumPercent?: number };
  warmupDurationSecs?: string;
}

/** One of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName; one of ringHash and maglev. */
export interface ConsistentHash {
  httpHeaderName?: string;
  httpCookie?: { name: string; path?: string; ttl?: string; attributes?: { name: string; value?: string }[] };
  useSourceIp?: boolean;
  httpQueryParameterName?: string;
  ringHash?: { minimumRingSize?: number };
  maglev?: { tableSize?: number };
  minimumRingSize?: number;
}

export interface ClientTls {
  mode?: "DISABLE" | "SIMPLE" | "MUTUAL" | "ISTIO_MUTUAL";
  caCertificates?: string;
  caCrl?: string;
  clientCertificate?: string;
  credentialName?: string;
  insecureSkipVerify?: boolean;
  privateKey?: string;
  sni?: string;
  subjectAltNames?: string[];
}
