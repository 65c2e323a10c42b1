// Circuit breakers, outlier detection and health checks of an Envoy Cluster message → settings, with Envoy's defaults.

import type { CircuitBreakers_Thresholds } from "#gen/xds/envoy/config/cluster/v3/circuit_breaker_pb.js";
import type { Cluster } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import type { OutlierDetection } from "#gen/xds/envoy/config/cluster/v3/outlier_detection_pb.js";
import { RequestMethod, RoutingPriority } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import type {
  HealthCheck as HealthCheckMessage,
  HealthCheck_HttpHealthCheck as HttpMessage,
  HealthCheck_Payload as Payload,
} from "#gen/xds/envoy/config/core/v3/health_check_pb.js";
import { CodecClientType } from "#gen/xds/envoy/type/v3/http_pb.js";
import type { Int64Range } from "#gen/xds/envoy/type/v3/range_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { OutlierConfig } from "../balancing/outlier.ts";
import { defaultThresholds, type Thresholds } from "../clusters/config.ts";
import type { HealthCheck, HttpCheck, StatusRange } from "../clusters/health_check.ts";
import { durationMs } from "./any.ts";

export function compileThresholds(message: Cluster, priority: RoutingPriority): Thresholds {
  const set = message.circuitBreakers?.thresholds.find((one) => one.priority === priority);
  return {
    connectionsMax: set?.maxConnections ?? defaultThresholds.connectionsMax,
    pendingRequestsMax: set?.maxPendingRequests ?? defaultThresholds.pendingRequestsMax,
    requestsMax: set?.maxRequests ?? defaultThresholds.requestsMax,
    retriesMax: set?.maxRetries ?? defaultThresholds.retriesMax,
    retryBudget: set?.retryBudget && retryBudgetOf(set.retryBudget),
    trackRemaining: set?.trackRemaining ?? false,
  };
}

const retryBudgetOf = (budget: NonNullable<CircuitBreakers_Thresholds["retryBudget"]>): Thresholds["retryBudget"] => ({
  percent: budget.budgetPercent?.value ?? 20,
  concurrencyMin: budget.minRetryConcurrency ?? 3,
});

export const { DEFAULT: defaultPriority, HIGH: highPriority } = RoutingPriority;

const maxEjectionDefaultMs = 300_000;

export function compileOutlier(message: OutlierDetection, clusterName: string): OutlierConfig {
  if (message.monitors.length > 0) throw unsupported(clusterName, "outlier_detection.monitors");
  const baseEjectionMs = durationMs(message.baseEjectionTime, 30_000);
  const maxEjectionMs = durationMs(message.maxEjectionTime, Math.max(maxEjectionDefaultMs, baseEjectionMs));
  if (maxEjectionMs < baseEjectionMs)
    throw new MeshbedError(
      "CLUSTER_INVALID",
      `cluster ${clusterName}: max_ejection_time is shorter than base_ejection_time`,
    );
  return {
    intervalMs: durationMs(message.interval, 10_000),
    baseEjectionMs,
    maxEjectionMs,
    ejectionJitterMaxMs: durationMs(message.maxEjectionTimeJitter, 0),
    ejectionPercentMax: Math.min(100, message.maxEjectionPercent ?? 10),
    alwaysEjectOne: message.alwaysEjectOneHost ?? false,
    splitLocalOrigin: message.splitExternalLocalOriginErrors,
    activeCheckUnejects: message.successfulActiveHealthCheckUnejectHost ?? true,
    consecutive5xx: message.consecutive5xx ?? 5,
    consecutiveGatewayFailure: message.consecutiveGatewayFailure ?? 5,
    consecutiveLocalOriginFailure: message.consecutiveLocalOriginFailure ?? 5,
    successRate: {
      hostsMin: message.successRateMinimumHosts ?? 5,
      requestsMin: message.successRateRequestVolume ?? 100,
      stdevFactor: (message.successRateStdevFactor ?? 1900) / 1000,
    },
    failurePercentage: {
      hostsMin: message.failurePercentageMinimumHosts ?? 5,
      requestsMin: message.failurePercentageRequestVolume ?? 50,
      thresholdPercent: message.failurePercentageThreshold ?? 85,
    },
    enforcingPercent: {
      consecutive_5xx: message.enforcingConsecutive5xx ?? 100,
      consecutive_gateway_failure: message.enforcingConsecutiveGatewayFailure ?? 0,
      consecutive_local_origin_failure: message.enforcingConsecutiveLocalOriginFailure ?? 100,
      success_rate: message.enforcingSuccessRate ?? 100,
      local_origin_success_rate: message.enforcingLocalOriginSuccessRate ?? 100,
      failure_percentage: message.enforcingFailurePercentage ?? 0,
      local_origin_failure_percentage: message.enforcingFailurePercentageLocalOrigin ?? 0,
    },
  };
}

/** Envoy: while nothing uses the cluster, its hosts are checked rarely. */
const noTrafficIntervalDefaultMs = 60_000;

export function compileHealthCheck(message: HealthCheckMessage, clusterName: string): HealthCheck {
  const { healthyThreshold, unhealthyThreshold } = message;
  if (!message.timeout || !message.interval || healthyThreshold === undefined || unhealthyThreshold === undefined)
    throw new MeshbedError(
      "CLUSTER_INVALID",
      `cluster ${clusterName}: a health check needs timeout, interval, unhealthy_threshold and healthy_threshold`,
    );
  const intervalMs = durationMs(message.interval, 0);
  const unhealthyIntervalMs = durationMs(message.unhealthyInterval, intervalMs);
  const noTrafficIntervalMs = durationMs(message.noTrafficInterval, noTrafficIntervalDefaultMs);
  return {
    timeoutMs: durationMs(message.timeout, 0),
    intervalMs,
    unhealthyIntervalMs,
    healthyEdgeIntervalMs: durationMs(message.healthyEdgeInterval, intervalMs),
    unhealthyEdgeIntervalMs: durationMs(message.unhealthyEdgeInterval, unhealthyIntervalMs),
    noTrafficIntervalMs,
    noTrafficHealthyIntervalMs: durationMs(message.noTrafficHealthyInterval, noTrafficIntervalMs),
    initialJitterMs: durationMs(message.initialJitter, 0),
    intervalJitterMs: durationMs(message.intervalJitter, 0),
    intervalJitterPercent: message.intervalJitterPercent,
    healthyThreshold,
    unhealthyThreshold,
    port: message.altPort ?? 0,
    checker: checkerOf(message, clusterName),
  };
}

function checkerOf({ healthChecker }: HealthCheckMessage, clusterName: string): HealthCheck["checker"] {
  switch (healthChecker.case) {
    case "httpHealthCheck":
      return httpChecker(healthChecker.value, clusterName);
    case "tcpHealthCheck": {
      const { send, receive, proxyProtocolConfig } = healthChecker.value;
      if (proxyProtocolConfig) throw unsupported(clusterName, "tcp_health_check.proxy_protocol_config");
      return {
        kind: "tcp",
        send: send && bytesOf(send, clusterName),
        receive: receive.map((one) => bytesOf(one, clusterName)),
      };
    }
    default:
      throw unsupported(clusterName, `health check "${healthChecker.case ?? "empty"}"`);
  }
}

function httpChecker(message: HttpMessage, clusterName: string): HttpCheck {
  if (message.codecClientType !== CodecClientType.HTTP1)
    throw unsupported(clusterName, "codec_client_type other than HTTP1");
  for (const field of ["send", "serviceNameMatcher"] as const)
    if (message[field] !== undefined) throw unsupported(clusterName, `http_health_check.${field}`);
  if (message.receive.length > 0) throw unsupported(clusterName, "http_health_check.receive");
  const fields = message.requestHeadersToAdd.map(({ header }) => `${header?.key ?? ""}: ${header?.value ?? ""}\r\n`);
  const { method, path, host } = message;
  if (
    /[\r\n\0 ]/.test(path) ||
    !path.startsWith("/") ||
    /[\r\n\0]/.test(host) ||
    fields.some((line) => /[\r\n\0]/.test(line.slice(0, -2)))
  )
    throw new MeshbedError("CLUSTER_INVALID", `cluster ${clusterName}: the health check's path or fields are no HTTP`);
  return {
    kind: "http",
    method: method === RequestMethod.METHOD_UNSPECIFIED ? "GET" : RequestMethod[method],
    path,
    host: host || clusterName,
    fields: fields.join(""),
    expected: message.expectedStatuses.length > 0 ? message.expectedStatuses.map(rangeOf) : [{ from: 200, to: 201 }],
    retriable: message.retriableStatuses.map(rangeOf),
  };
}

const rangeOf = ({ start, end }: Int64Range): StatusRange => ({ from: Number(start), to: Number(end) });

/** Text is in hexadecimal. */
function bytesOf({ payload }: Payload, clusterName: string): Buffer {
  if (payload.case === "binary") return Buffer.from(payload.value);
  const bytes = Buffer.from(payload.value ?? "", "hex");
  if (bytes.length === 0 || bytes.length * 2 !== payload.value!.length)
    throw new MeshbedError(
      "CLUSTER_INVALID",
      `cluster ${clusterName}: a health check's payload is no hexadecimal text`,
    );
  return bytes;
}

const unsupported = (clusterName: string, what: string): MeshbedError =>
  new MeshbedError("CLUSTER_UNSUPPORTED", `cluster ${clusterName}: ${what} is not supported`);
