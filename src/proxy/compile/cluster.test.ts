// Cluster and ClusterLoadAssignment messages → settings: defaults, every policy in both spellings, and what is refused.
import { describe, expect, test } from "bun:test";
import { create, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import {
  ClusterSchema,
  Cluster_DiscoveryType as Discovery,
  Cluster_LbPolicy as Lb,
} from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { HealthStatus } from "#gen/xds/envoy/config/core/v3/health_check_pb.js";
import { ClusterLoadAssignmentSchema } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { RouterSchema } from "#gen/xds/envoy/extensions/filters/http/router/v3/router_pb.js";
import {
  LeastRequestSchema,
  LeastRequest_SelectionMethod as Selection,
} from "#gen/xds/envoy/extensions/load_balancing_policies/least_request/v3/least_request_pb.js";
import { MaglevSchema } from "#gen/xds/envoy/extensions/load_balancing_policies/maglev/v3/maglev_pb.js";
import { RandomSchema } from "#gen/xds/envoy/extensions/load_balancing_policies/random/v3/random_pb.js";
import { RingHashSchema } from "#gen/xds/envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash_pb.js";
import { RoundRobinSchema } from "#gen/xds/envoy/extensions/load_balancing_policies/round_robin/v3/round_robin_pb.js";
import { HttpProtocolOptionsSchema } from "#gen/xds/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { leastRequest, roundRobin } from "../balancing/fixture.ts";
import { clusterDefaults, defaultThresholds } from "../clusters/config.ts";
import { pack } from "../fixture.ts";
import { SecretStore } from "../tls/secrets.ts";
import { compileCluster, compileEndpoints } from "./cluster.ts";

type Init = MessageInitShape<typeof ClusterSchema>;
const compile = (init: Init) =>
  compileCluster(create(ClusterSchema, { name: "c", ...init }), new SecretStore()).cluster;
const seconds = (count: number) => ({ seconds: BigInt(count) });

test("a message that says nothing has Envoy's defaults, and Istio's connect timeout", () => {
  const { edsName, service, ...rest } = clusterDefaults("c");
  expect(compile({})).toMatchObject({ ...rest, service, edsName });
  expect(compile({}).thresholds).toEqual({
    connectionsMax: 1024,
    pendingRequestsMax: 1024,
    requestsMax: 1024,
    retriesMax: 3,
    retryBudget: undefined,
    trackRemaining: false,
  });
});

describe("policies", () => {
  const typed = <S extends DescMessage>(schema: S, init: MessageInitShape<S> = {} as never): Init => ({
    loadBalancingPolicy: {
      policies: [
        { typedExtensionConfig: { name: "unknown", typedConfig: pack(RouterSchema, {}) } },
        { typedExtensionConfig: { name: "it", typedConfig: pack(schema, init) } },
      ],
    },
  });
  const slowStart = { windowMs: 30_000, aggression: 2, weightPercentMin: 20 };
  const slowStartConfig = {
    slowStartWindow: seconds(30),
    aggression: { defaultValue: 2 },
    minWeightPercent: { value: 20 },
  };
  const cases: [string, Init, object][] = [
    ["ROUND_ROBIN", { lbPolicy: Lb.ROUND_ROBIN }, roundRobin],
    [
      "ROUND_ROBIN with slow start",
      { lbConfig: { case: "roundRobinLbConfig", value: { slowStartConfig } } },
      { ...roundRobin, slowStart },
    ],
    ["LEAST_REQUEST", { lbPolicy: Lb.LEAST_REQUEST }, leastRequest],
    [
      "LEAST_REQUEST with settings",
      {
        lbPolicy: Lb.LEAST_REQUEST,
        lbConfig: { case: "leastRequestLbConfig", value: { choiceCount: 4, activeRequestBias: { defaultValue: 0.5 } } },
      },
      { ...leastRequest, choices: 4, activeRequestBias: 0.5 },
    ],
    ["RANDOM", { lbPolicy: Lb.RANDOM }, { policy: "RANDOM" }],
    ["RING_HASH", { lbPolicy: Lb.RING_HASH }, { policy: "RING_HASH", ringSizeMin: 1024, ringSizeMax: 8_388_608 }],
    [
      "RING_HASH with sizes",
      {
        lbPolicy: Lb.RING_HASH,
        lbConfig: { case: "ringHashLbConfig", value: { minimumRingSize: 9n, maximumRingSize: 99n } },
      },
      { policy: "RING_HASH", ringSizeMin: 9, ringSizeMax: 99 },
    ],
    ["MAGLEV", { lbPolicy: Lb.MAGLEV }, { policy: "MAGLEV", tableSize: 65_537 }],
    [
      "ORIGINAL_DST",
      { lbPolicy: Lb.CLUSTER_PROVIDED, clusterDiscoveryType: { case: "type", value: Discovery.ORIGINAL_DST } },
      { policy: "ORIGINAL_DST" },
    ],
    ["typed round robin", typed(RoundRobinSchema, { slowStartConfig }), { ...roundRobin, slowStart }],
    [
      "typed least request",
      typed(LeastRequestSchema, { selectionMethod: Selection.FULL_SCAN }),
      { ...leastRequest, fullScan: true },
    ],
    ["typed random", typed(RandomSchema), { policy: "RANDOM" }],
    [
      "typed ring hash",
      typed(RingHashSchema, { minimumRingSize: 9n }),
      { policy: "RING_HASH", ringSizeMin: 9, ringSizeMax: 8_388_608 },
    ],
    ["typed maglev", typed(MaglevSchema, { tableSize: 251n }), { policy: "MAGLEV", tableSize: 251 }],
  ];
  for (const [name, init, want] of cases) test(name, () => expect(compile(init).balancing as object).toEqual(want));
  test("localities are weighted where it is said, in either spelling", () => {
    const plain = { localityConfigSpecifier: { case: "localityWeightedLbConfig", value: {} } } as const;
    expect(compile({ commonLbConfig: plain }).localityWeighted).toBe(true);
    expect(compile(typed(RoundRobinSchema, { localityLbConfig: plain })).localityWeighted).toBe(true);
    expect(compile(typed(MaglevSchema, { localityWeightedLbConfig: {} })).localityWeighted).toBe(true);
  });
});

test("circuit breakers are by priority; what is not set keeps Envoy's default", () => {
  const thresholds = [
    { priority: 1, maxRequests: 7, retryBudget: {} },
    { maxConnections: 5, trackRemaining: true },
  ];
  const cluster = compile({ circuitBreakers: { thresholds } });
  expect(cluster.thresholds).toEqual({ ...defaultThresholds, connectionsMax: 5, trackRemaining: true });
  expect(cluster.highThresholds).toEqual({
    ...defaultThresholds,
    requestsMax: 7,
    retryBudget: { percent: 20, concurrencyMin: 3 },
  });
});

test("connections end by the extension's options, else by the cluster's own", () => {
  const name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
  const common = { maxRequestsPerConnection: 3, idleTimeout: seconds(5) };
  const options = pack(HttpProtocolOptionsSchema, { commonHttpProtocolOptions: common });
  const cluster = compile({ typedExtensionProtocolOptions: { [name]: options }, maxRequestsPerConnection: 9 });
  expect([cluster.requestsPerConnectionMax, cluster.connectionIdleMs]).toEqual([3, 5_000]);
  expect(compile({ maxRequestsPerConnection: 9 }).requestsPerConnectionMax).toBe(9);
  expect(compile({ commonHttpProtocolOptions: { idleTimeout: seconds(0) } }).connectionIdleMs).toBe(
    Number.POSITIVE_INFINITY,
  );
});

test("a longer base ejection time makes the longest as long", () => {
  expect(compile({ outlierDetection: {} }).outlier?.maxEjectionMs).toBe(300_000);
  expect(compile({ outlierDetection: { baseEjectionTime: seconds(900) } }).outlier?.maxEjectionMs).toBe(900_000);
});

describe("what is refused, by name", () => {
  const check = { timeout: seconds(1), interval: seconds(1), unhealthyThreshold: 1, healthyThreshold: 1 };
  const http = (value: object): Init => ({
    healthChecks: [{ ...check, healthChecker: { case: "httpHealthCheck", value: { path: "/", ...value } } }],
  });
  const cases: [string, Init, string][] = [
    ["lists as values of subsets", { lbSubsetConfig: { listAsAny: true } }, "listAsAny is not supported"],
    ["a selector without keys", { lbSubsetConfig: { subsetSelectors: [{}] } }, "a selector has no keys"],
    [
      "a selector that falls back to itself",
      { lbSubsetConfig: { subsetSelectors: [{ keys: ["a"], fallbackPolicy: 4, fallbackKeysSubset: ["a"] }] } },
      "fallback_keys_subset must be some, not all, of a",
    ],
    [
      "an unknown policy",
      {
        loadBalancingPolicy: {
          policies: [{ typedExtensionConfig: { name: "mine", typedConfig: pack(RouterSchema, {}) } }],
        },
      },
      "load_balancing_policy mine is not supported",
    ],
    [
      "bounded loads",
      { commonLbConfig: { consistentHashingLbConfig: { hashBalanceFactor: 120 } } },
      "hash_balance_factor is not supported",
    ],
    [
      "a Maglev table that is not prime",
      { lbPolicy: Lb.MAGLEV, lbConfig: { case: "maglevLbConfig", value: { tableSize: 100n } } },
      "table_size 100 is no prime",
    ],
    [
      "a ring of no size",
      {
        lbPolicy: Lb.RING_HASH,
        lbConfig: { case: "ringHashLbConfig", value: { minimumRingSize: 9n, maximumRingSize: 8n } },
      },
      "ring sizes 9 to 8",
    ],
    [
      "ejection times upside down",
      { outlierDetection: { baseEjectionTime: seconds(9), maxEjectionTime: seconds(8) } },
      "max_ejection_time is shorter",
    ],
    ["two health checks", { healthChecks: [check, check] }, "more than one health check"],
    [
      "a health check without timeout",
      { healthChecks: [{ ...check, timeout: undefined as never }] },
      "needs timeout, interval",
    ],
    [
      "a gRPC health check",
      { healthChecks: [{ ...check, healthChecker: { case: "grpcHealthCheck", value: {} } }] },
      'health check "grpcHealthCheck"',
    ],
    ["a path with a line end", http({ path: "/\r\nx: y" }), "no HTTP"],
    [
      "a payload that is no hexadecimal",
      {
        healthChecks: [
          {
            ...check,
            healthChecker: { case: "tcpHealthCheck", value: { send: { payload: { case: "text", value: "xyz" } } } },
          },
        ],
      },
      "no hexadecimal text",
    ],
    [
      "a logical name that is two",
      { clusterDiscoveryType: { case: "type", value: Discovery.LOGICAL_DNS }, loadAssignment: { endpoints: [] } },
      "exactly one endpoint",
    ],
    [
      "a type of its own",
      { clusterDiscoveryType: { case: "clusterType", value: { name: "x" } } },
      "custom cluster types",
    ],
  ];
  for (const [name, init, want] of cases)
    test(name, () => {
      expect(() => compile(init)).toThrow(want);
      expect(() => compile(init)).toThrow("cluster c:");
    });
});

test("endpoints carry weight, priority, health, locality and names", () => {
  const address = (port: number) =>
    ({
      address: {
        case: "socketAddress",
        value: { address: "10.0.0.1", portSpecifier: { case: "portValue", value: port } },
      },
    }) as const;
  const endpointOf = (port: number, healthStatus: HealthStatus, more = {}) => ({
    hostIdentifier: { case: "endpoint", value: { address: address(port), ...more } } as const,
    healthStatus,
  });
  const assignment = create(ClusterLoadAssignmentSchema, {
    clusterName: "c",
    endpoints: [
      {
        priority: 2,
        locality: { region: "r", zone: "z", subZone: "s" },
        loadBalancingWeight: 7,
        lbEndpoints: [
          {
            ...endpointOf(1, HealthStatus.DEGRADED, {
              hostname: "a.test",
              healthCheckConfig: { portValue: 9, disableActiveHealthCheck: true },
            }),
            loadBalancingWeight: 3,
            metadata: { filterMetadata: { "envoy.lb": { hash_key: "key" } } },
          },
          endpointOf(2, HealthStatus.DRAINING),
          endpointOf(3, HealthStatus.UNKNOWN),
        ],
      },
    ],
  });
  const endpoints = compileEndpoints(assignment, clusterDefaults("c"), () => undefined);
  expect(endpoints[0]!.placement).toEqual({
    weight: 3,
    priority: 2,
    health: "degraded",
    locality: "r/z/s",
    localityWeight: 7,
    hashKey: "key",
    hostname: "a.test",
    healthCheck: { disabled: true, port: 9, host: "" },
  });
  expect(endpoints.map(({ health }) => health)).toEqual(["degraded", "unhealthy", "healthy"]);
  expect(endpoints[1]!.placement.hashKey).toBe("10.0.0.1:2");
  const far = create(ClusterLoadAssignmentSchema, {
    endpoints: [{ priority: 1_000_000, lbEndpoints: [endpointOf(1, 0)] }],
  });
  expect(() => compileEndpoints(far, clusterDefaults("c"), () => undefined)).toThrow("priority 1000000 is above 128");
});
