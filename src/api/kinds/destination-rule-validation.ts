// What is wrong with a DestinationRule (Istio pkg/config/validation ValidateDestinationRule).

import type {
  ClientTls,
  ConnectionPool,
  LoadBalancer,
  OutlierDetection,
  PortPolicy,
  TrafficPolicy,
} from "../destination-rule.ts";
import { child, duplicate, forbidden, inRange, invalid, notNegative, oneOf, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { dnsLabelProblem } from "../names.ts";
import type { DestinationRule } from "../types.ts";
import {
  exclusive,
  fqdnProblem,
  isAddress,
  validateDuration,
  validateExportTo,
  validateHeaderName,
  validateHost,
  validatePercent,
  validateRequired,
  validateSelectorLabels,
} from "./istio-rules.ts";
import { validateLabels } from "./metadata.ts";

const isEmpty = (object: object): boolean => Object.keys(object).length === 0;

export function validatePool(pool: ConnectionPool, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const { http, tcp } = pool;
  if (http === undefined && tcp === undefined)
    errors.push(required(path, "connection pool must have at least one field"));
  if (http !== undefined) {
    const at = child(path, "http");
    if (isEmpty(http)) errors.push(required(at, "http connection pool must have at least one field"));
    for (const field of [
      "http1MaxPendingRequests",
      "http2MaxRequests",
      "maxRequestsPerConnection",
      "maxRetries",
      "maxConcurrentStreams",
    ] as const)
      errors.push(...notNegative(child(at, field), http[field]));
    errors.push(...validateDuration(http.idleTimeout, child(at, "idleTimeout")));
    if (http.h2UpgradePolicy === "UPGRADE" && http.useClientProtocol === true)
      errors.push(
        forbidden(
          child(at, "useClientProtocol"),
          "use client protocol must not be true when H2UpgradePolicy is UPGRADE",
        ),
      );
  }
  if (tcp !== undefined) {
    const at = child(path, "tcp");
    if (isEmpty(tcp)) errors.push(required(at, "tcp connection pool must have at least one field"));
    errors.push(...notNegative(child(at, "maxConnections"), tcp.maxConnections));
    for (const field of ["connectTimeout", "idleTimeout", "maxConnectionDuration"] as const)
      errors.push(...validateDuration(tcp[field], child(at, field)));
    const keepalive = child(at, "tcpKeepalive");
    errors.push(...notNegative(child(keepalive, "probes"), tcp.tcpKeepalive?.probes));
    errors.push(...validateDuration(tcp.tcpKeepalive?.time, child(keepalive, "time")));
    errors.push(...validateDuration(tcp.tcpKeepalive?.interval, child(keepalive, "interval")));
  }
  return errors;
}

function validateOutlier(outlier: OutlierDetection, path: string): FieldError[] {
  const errors = [
    ...validateDuration(outlier.interval, child(path, "interval")),
    ...validateDuration(outlier.baseEjectionTime, child(path, "baseEjectionTime")),
    ...validatePercent(outlier.maxEjectionPercent, child(path, "maxEjectionPercent")),
    ...validatePercent(outlier.minHealthPercent, child(path, "minHealthPercent")),
  ];
  for (const field of [
    "consecutive5xxErrors",
    "consecutiveGatewayErrors",
    "consecutiveErrors",
    "consecutiveLocalOriginFailures",
  ] as const)
    errors.push(...notNegative(child(path, field), outlier[field]));
  if ((outlier.consecutiveLocalOriginFailures ?? 0) > 0 && outlier.splitExternalLocalOriginErrors !== true)
    errors.push(
      invalid(
        child(path, "consecutiveLocalOriginFailures"),
        outlier.consecutiveLocalOriginFailures,
        "outlier detection consecutive local origin failures is specified, but split external local origin errors is set to false",
      ),
    );
  return errors;
}

/** Envoy's limit of a Maglev table. */
const tableSizeLimit = 5_000_011;

function isPrime(value: number): boolean {
  if (value < 2) return false;
  for (let factor = 2; factor * factor <= value; factor++) if (value % factor === 0) return false;
  return true;
}

function validateHash(hash: NonNullable<LoadBalancer["consistentHash"]>, path: string): FieldError[] {
  const keys = ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];
  const errors = exclusive(hash, path, keys).concat(exclusive(hash, path, ["ringHash", "maglev"]));
  if (!keys.some((key) => hash[key as keyof typeof hash] !== undefined))
    errors.push(required(path, `one of ${keys.join(", ")} is required`));
  if (hash.httpHeaderName !== undefined)
    errors.push(...validateHeaderName(hash.httpHeaderName, child(path, "httpHeaderName")));
  if (hash.httpQueryParameterName === "") errors.push(required(child(path, "httpQueryParameterName")));
  if (hash.httpCookie !== undefined) {
    if (!hash.httpCookie.name) errors.push(required(child(path, "httpCookie", "name"), "name required for HttpCookie"));
    // "0s" makes it a session cookie.
    if (hash.httpCookie.ttl !== "0s")
      errors.push(...validateDuration(hash.httpCookie.ttl, child(path, "httpCookie", "ttl")));
  }
  errors.push(...notNegative(child(path, "ringHash", "minimumRingSize"), hash.ringHash?.minimumRingSize));
  errors.push(...notNegative(child(path, "minimumRingSize"), hash.minimumRingSize));
  if (hash.minimumRingSize && (hash.ringHash ?? hash.maglev) !== undefined)
    errors.push(
      forbidden(child(path, "minimumRingSize"), "only one of MinimumRingSize or Maglev/Ringhash can be specified"),
    );
  const tableSize = hash.maglev?.tableSize;
  if (hash.maglev !== undefined && !tableSize)
    errors.push(required(child(path, "maglev", "tableSize"), "tableSize must be set for maglev"));
  else if (tableSize !== undefined && !(tableSize < tableSizeLimit && isPrime(tableSize)))
    errors.push(
      invalid(
        child(path, "maglev", "tableSize"),
        tableSize,
        `tableSize must be a prime number less than ${tableSizeLimit}`,
      ),
    );
  return errors;
}

function validateLocality(setting: NonNullable<LoadBalancer["localityLbSetting"]>, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (setting.distribute?.length && (setting.failover?.length || setting.failoverPriority?.length))
    errors.push(forbidden(child(path, "distribute"), "can not simultaneously specify 'distribute' and 'failover'"));
  setting.distribute?.forEach(({ to = {} }, i) => {
    const at = child(path, "distribute", i, "to");
    let total = 0;
    for (const [locality, weight] of Object.entries(to)) {
      if (weight <= 0) errors.push(invalid(`${at}[${locality}]`, weight, "locality weight must be in range 1..100"));
      total += weight;
    }
    if (total !== 100) errors.push(invalid(at, total, `total locality weight ${total} != 100`));
  });
  setting.failover?.forEach(({ from, to }, i) => {
    if (from !== undefined && from === to)
      errors.push(
        invalid(child(path, "failover", i), to, "locality lb failover settings must specify different regions"),
      );
  });
  return errors;
}

function validateBalancer(balancer: LoadBalancer, path: string): FieldError[] {
  const errors = exclusive(balancer, path, ["simple", "consistentHash"]);
  if (balancer.consistentHash !== undefined)
    errors.push(...validateHash(balancer.consistentHash, child(path, "consistentHash")));
  if (balancer.localityLbSetting !== undefined)
    errors.push(...validateLocality(balancer.localityLbSetting, child(path, "localityLbSetting")));
  errors.push(...validateDuration(balancer.warmupDurationSecs, child(path, "warmupDurationSecs")));
  if (balancer.warmup !== undefined) {
    const at = child(path, "warmup");
    if (balancer.warmup.duration === undefined) errors.push(required(child(at, "duration")));
    errors.push(...validateDuration(balancer.warmup.duration, child(at, "duration")));
    errors.push(...validatePercent(balancer.warmup.minimumPercent, child(at, "minimumPercent")));
    if ((balancer.warmup.aggression ?? 1) < 1)
      errors.push(invalid(child(at, "aggression"), balancer.warmup.aggression, "must be greater than or equal to 1"));
  }
  return errors;
}

function validateTls(tls: ClientTls, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const files = (["clientCertificate", "privateKey", "caCertificates"] as const).filter((field) => tls[field]);
  if (tls.credentialName)
    for (const field of files)
      errors.push(forbidden(child(path, field), "may not be set together with credentialName"));
  if (tls.mode === "MUTUAL" && !tls.credentialName)
    for (const field of ["clientCertificate", "privateKey"] as const)
      if (!tls[field]) errors.push(required(child(path, field), `${field} required for mutual tls`));
  if (tls.insecureSkipVerify)
    for (const field of ["caCertificates", "subjectAltNames"] as const)
      if (tls[field]?.length)
        errors.push(forbidden(child(path, field), "may not be set together with insecureSkipVerify"));
  if (tls.sni) errors.push(...validateHost(tls.sni, child(path, "sni")));
  return errors;
}

function validateParts(policy: PortPolicy, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (policy.connectionPool !== undefined)
    errors.push(...validatePool(policy.connectionPool, child(path, "connectionPool")));
  if (policy.outlierDetection !== undefined)
    errors.push(...validateOutlier(policy.outlierDetection, child(path, "outlierDetection")));
  if (policy.loadBalancer !== undefined)
    errors.push(...validateBalancer(policy.loadBalancer, child(path, "loadBalancer")));
  if (policy.tls !== undefined) errors.push(...validateTls(policy.tls, child(path, "tls")));
  return errors;
}

function validateTunnel(tunnel: NonNullable<TrafficPolicy["tunnel"]>, path: string): FieldError[] {
  const { protocol, targetHost, targetPort } = tunnel;
  const problem = isAddress(targetHost) ? undefined : fqdnProblem(targetHost);
  return [
    ...oneOf(child(path, "protocol"), protocol, ["CONNECT", "POST"]),
    ...(problem === undefined ? [] : [invalid(child(path, "targetHost"), targetHost, problem)]),
    ...inRange(child(path, "targetPort"), targetPort, 1, 65535),
  ];
}

/** A rule for selected clients is of its own namespace. */
function validateSelected({ metadata, spec }: DestinationRule): FieldError[] {
  if (spec?.workloadSelector === undefined) return [];
  const errors = validateSelectorLabels(spec.workloadSelector.matchLabels, "spec.workloadSelector.matchLabels");
  const outside = spec.exportTo?.some((each) => each !== "." && each !== metadata.namespace);
  if (outside)
    errors.push(
      forbidden(
        "spec.exportTo",
        "destination rule with workload selector cannot have exportTo beyond current namespace",
      ),
    );
  return errors;
}

function validatePolicy(policy: TrafficPolicy | undefined, path: string): FieldError[] {
  if (policy === undefined) return [];
  const errors = validateParts(policy, path);
  if (isEmpty(policy)) errors.push(required(path, "traffic policy must have at least one field"));
  if (policy.tunnel !== undefined) errors.push(...validateTunnel(policy.tunnel, child(path, "tunnel")));
  if (policy.tunnel !== undefined && policy.proxyProtocol !== undefined)
    errors.push(forbidden(child(path, "proxyProtocol"), "tunnel and proxyProtocol must not be set together"));
  const ports = new Set<number>();
  policy.portLevelSettings?.forEach((setting, i) => {
    const at = child(path, "portLevelSettings", i);
    const port = setting.port?.number;
    if (port === undefined) errors.push(required(child(at, "port")));
    else {
      errors.push(...inRange(child(at, "port", "number"), port, 1, 65535));
      if (ports.has(port)) errors.push(duplicate(child(at, "port", "number"), port));
      ports.add(port);
    }
    if (Object.keys(setting).every((field) => field === "port"))
      errors.push(required(at, "port traffic policy must have at least one field"));
    errors.push(...validateParts(setting, at));
  });
  return errors;
}

export function validateDestinationRule(object: DestinationRule): FieldError[] {
  const missing = validateRequired(object, "io.istio.networking.v1.DestinationRule");
  if (missing.length > 0) return missing;
  const spec = object.spec!;
  const errors = [
    ...validateHost(spec.host, "spec.host"),
    ...validatePolicy(spec.trafficPolicy, "spec.trafficPolicy"),
    ...validateSelected(object),
    ...validateExportTo(spec.exportTo, { namespace: object.metadata.namespace }),
  ];
  const names = new Set<string>();
  spec.subsets?.forEach((subset, i) => {
    const path = child("spec.subsets", i);
    const problem = subset.name ? dnsLabelProblem(subset.name) : "subset name cannot be empty";
    if (problem !== undefined) errors.push(invalid(child(path, "name"), subset.name, problem));
    if (names.has(subset.name)) errors.push(duplicate(child(path, "name"), subset.name));
    names.add(subset.name);
    errors.push(...validateLabels(subset.labels, child(path, "labels")));
    errors.push(...validatePolicy(subset.trafficPolicy, child(path, "trafficPolicy")));
  });
  return errors;
}
