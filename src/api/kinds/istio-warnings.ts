// What Istio's webhook accepts and warns about: deprecated fields, settings without effect, rules nobody reaches (pkg/config/validation).

import { cipherSuites } from "../cipher-suites.ts";
import { child } from "../field-errors.ts";
import type { FieldWarning } from "../kind.ts";
import type { AuthorizationRule } from "../security.ts";
import type {
  AuthorizationPolicy,
  DestinationRule,
  EnvoyFilter,
  Gateway,
  RequestAuthentication,
  ServiceEntry,
  Sidecar,
  Telemetry,
  VirtualService,
  WorkloadEntry,
} from "../types.ts";
import { isAddress } from "./istio-rules.ts";
import { type AnyRule, orderWarnings } from "./route-order.ts";

const deprecated = "IST0002";
const replaced = (field: string, old: string, by: string): FieldWarning => ({
  field,
  message: `${old} is deprecated; use ${by}`,
  code: deprecated,
});

/** Larger answers weigh on the control plane. */
const directBodyBytesMax = 100 * 1024;

export function virtualServiceWarnings({ spec }: VirtualService): FieldWarning[] {
  const warnings: FieldWarning[] = [];
  for (const protocol of ["http", "tls", "tcp"] as const)
    warnings.push(...orderWarnings(spec?.[protocol] as readonly AnyRule[] | undefined, `spec.${protocol}`));
  spec?.gateways?.forEach((name, i) => {
    const [gateway = "", namespace = ""] = name.split(".");
    if (!name.includes("/") && name.includes("."))
      warnings.push({
        field: child("spec.gateways", i),
        message: `using legacy gatewayName format "${name}"; prefer the <namespace>/<name> format: "${namespace}/${gateway}"`,
      });
  });
  spec?.http?.forEach((rule, i) => {
    const path = child("spec.http", i);
    const { delay, abort } = (rule.fault ?? {}) as {
      delay?: { percent?: number };
      abort?: { httpStatus?: number; grpcStatus?: string; http2Error?: string };
    };
    if (delay?.percent)
      warnings.push(replaced(`${path}.fault.delay.percent`, "HTTPRoute.fault.delay.percent", "percentage"));
    if (abort && abort.httpStatus === undefined && !abort.grpcStatus && !abort.http2Error)
      warnings.push({ field: `${path}.fault.abort`, message: "abort configured, but error type not set" });
    if ((rule as { mirrorPercent?: number }).mirrorPercent !== undefined)
      warnings.push(replaced(`${path}.mirrorPercent`, "mirrorPercent", "mirrorPercentage"));
    if ((rule as { mirror_percent?: number }).mirror_percent !== undefined)
      warnings.push(replaced(`${path}.mirror_percent`, "mirror_percent", "mirrorPercentage"));
    if ((rule.corsPolicy as { allowOrigin?: string[] } | undefined)?.allowOrigin !== undefined)
      warnings.push(replaced(`${path}.corsPolicy.allowOrigin`, "allowOrigin", "allowOrigins"));
    const { string: text = "", bytes = "" } = rule.directResponse?.body ?? {};
    if (Buffer.byteLength(text) > directBodyBytesMax || (bytes.length / 4) * 3 > directBodyBytesMax)
      warnings.push({
        field: `${path}.directResponse.body`,
        message: "large direct_responses may impact control plane performance",
      });
  });
  spec?.tls?.forEach((rule, i) => {
    rule.match?.forEach((match, j) => {
      match.sniHosts?.forEach((host, k) => {
        if (isAddress(host))
          warnings.push({
            field: child("spec.tls", i, "match", j, "sniHosts", k),
            message: `using an IP address ("${host}") goes against SNI spec and most clients do not support this`,
          });
      });
    });
  });
  return warnings;
}

type TrafficPolicy = NonNullable<NonNullable<DestinationRule["spec"]>["trafficPolicy"]>;

function policyWarnings(policy: TrafficPolicy | undefined, path: string): FieldWarning[] {
  const warnings: FieldWarning[] = [];
  const { outlierDetection, loadBalancer, portLevelSettings } = policy ?? {};
  if (outlierDetection?.consecutiveErrors)
    warnings.push(
      replaced(
        `${path}.outlierDetection.consecutiveErrors`,
        "outlier detection consecutive errors",
        "consecutiveGatewayErrors or consecutive5xxErrors",
      ),
    );
  if (loadBalancer?.consistentHash?.minimumRingSize)
    warnings.push(replaced(`${path}.loadBalancer.consistentHash.minimumRingSize`, "MinimumRingSize", "ringHash"));
  if (loadBalancer?.simple === "LEAST_CONN")
    warnings.push(replaced(`${path}.loadBalancer.simple`, "LEAST_CONN", "LEAST_REQUEST"));
  if (loadBalancer?.warmupDurationSecs !== undefined)
    warnings.push(replaced(`${path}.loadBalancer.warmupDurationSecs`, "warmupDurationSecs", "warmup"));
  const { failover, failoverPriority } = loadBalancer?.localityLbSetting ?? {};
  if ((failover?.length || failoverPriority?.length) && outlierDetection === undefined)
    warnings.push({
      field: `${path}.loadBalancer.localityLbSetting`,
      message: "outlier detection policy must be provided for failover",
    });
  portLevelSettings?.forEach((setting, i) => {
    warnings.push(...policyWarnings(setting, child(path, "portLevelSettings", i)));
  });
  return warnings;
}

export function destinationRuleWarnings({ spec }: DestinationRule): FieldWarning[] {
  const warnings = policyWarnings(spec?.trafficPolicy, "spec.trafficPolicy");
  // A subset's policy may lean on the outlier detection of the whole.
  const around = spec?.trafficPolicy?.outlierDetection;
  spec?.subsets?.forEach(({ trafficPolicy }, i) => {
    const whole = trafficPolicy && around && !trafficPolicy.outlierDetection ? { outlierDetection: around } : {};
    const path = child("spec.subsets", i, "trafficPolicy");
    const own = policyWarnings({ ...whole, ...trafficPolicy }, path);
    warnings.push(...own.filter(({ field }) => trafficPolicy?.outlierDetection || !field.includes("outlierDetection")));
  });
  return [...warnings, ...emptySelector(spec?.workloadSelector, "spec.workloadSelector")];
}

function emptySelector(selector: { matchLabels?: object; labels?: object } | undefined, field: string): FieldWarning[] {
  if (selector === undefined) return [];
  const labels = selector.matchLabels ?? selector.labels ?? {};
  return Object.keys(labels).length > 0
    ? []
    : [{ field, message: "workload selector specified without labels: it stands for all workloads" }];
}

const selectorOf = ({ spec }: { spec?: { selector?: object } }): FieldWarning[] =>
  emptySelector(spec?.selector, "spec.selector");

export function gatewayWarnings({ spec }: Gateway): FieldWarning[] {
  const warnings: FieldWarning[] = [];
  spec?.servers?.forEach(({ tls, port }, i) => {
    if (tls === undefined) return;
    const path = child("spec.servers", i, "tls");
    const isHttp = ["HTTP", "HTTP2", "GRPC", "GRPC-WEB"].includes(port.protocol.toUpperCase());
    if (tls.httpsRedirect && !isHttp)
      warnings.push({
        field: `${path}.httpsRedirect`,
        message: "tls.httpsRedirect should only be used with http servers",
      });
    const old = tls.minProtocolVersion === "TLSV1_0" || tls.minProtocolVersion === "TLSV1_1";
    if (old && !tls.cipherSuites?.length)
      warnings.push({
        field: `${path}.minProtocolVersion`,
        message:
          "TLS version below TLSV1_2 require setting compatible ciphers as by default they no longer include compatible ciphers.",
      });
    tls.cipherSuites?.forEach((suite, j) => {
      const field = child(path, "cipherSuites", j);
      if (!cipherSuites.includes(suite))
        warnings.push({ field, message: `ignoring invalid cipher suites: [${suite}]` });
      else if (tls.cipherSuites!.indexOf(suite) !== j)
        warnings.push({ field, message: `ignoring duplicate cipher suites: [${suite}]` });
    });
    if (!isHttp && (tls.mode ?? "PASSTHROUGH").endsWith("PASSTHROUGH"))
      for (const field of ["serverCertificate", "privateKey", "caCertificates", "credentialName", "caCrl"] as const)
        if (tls[field])
          warnings.push({
            field: `${path}.${field}`,
            message: `${tls.mode ?? "PASSTHROUGH"} mode does not use certificates, they will be ignored`,
          });
  });
  return warnings;
}

/** Fields that TCP connections have too. */
const tcpSources = [
  "principals",
  "notPrincipals",
  "ipBlocks",
  "notIpBlocks",
  "namespaces",
  "notNamespaces",
  "remoteIpBlocks",
  "notRemoteIpBlocks",
] as const;

function deniesTcp({ from, to }: AuthorizationRule): boolean {
  const tcpFrom = from?.some(({ source }) => tcpSources.some((field) => source?.[field])) ?? false;
  const tcpTo = to?.some(({ operation }) => operation?.ports ?? operation?.notPorts) ?? false;
  return (from !== undefined && to === undefined && !tcpFrom) || (to !== undefined && !tcpTo);
}

export function authorizationPolicyWarnings(object: AuthorizationPolicy): FieldWarning[] {
  const warnings = selectorOf(object);
  if (object.spec?.action === "DENY")
    object.spec.rules?.forEach((rule, i) => {
      if (deniesTcp(rule))
        warnings.push({
          field: child("spec.rules", i),
          message:
            "configured AuthorizationPolicy will deny all traffic to TCP ports under its scope due to the use of only HTTP attributes in a DENY rule; it is recommended to explicitly specify the port",
        });
    });
  return warnings;
}

export function requestAuthenticationWarnings(object: RequestAuthentication): FieldWarning[] {
  const warnings = selectorOf(object);
  object.spec?.jwtRules?.forEach((rule, i) => {
    if (rule.jwks_uri !== undefined)
      warnings.push(replaced(child("spec.jwtRules", i, "jwks_uri"), "jwks_uri", "jwksUri"));
  });
  return warnings;
}

export const peerAuthenticationWarnings = selectorOf;

export function telemetryWarnings(object: Telemetry): FieldWarning[] {
  const warnings = selectorOf(object);
  const tracing = object.spec?.tracing ?? [];
  if (tracing.length > 1)
    warnings.push({ field: "spec.tracing", message: "multiple tracing is not currently supported" });
  tracing.forEach(({ providers }, i) => {
    if ((providers?.length ?? 0) > 1)
      warnings.push({
        field: child("spec.tracing", i, "providers"),
        message: "multiple providers is not currently supported",
      });
  });
  return warnings;
}

export function serviceEntryWarnings({ spec }: ServiceEntry): FieldWarning[] {
  const warnings = emptySelector(spec?.workloadSelector, "spec.workloadSelector");
  const resolution = spec?.resolution ?? "NONE";
  spec?.hosts?.forEach((host, i) => {
    if (/^\*[^.]/.test(host))
      warnings.push({
        field: child("spec.hosts", i),
        message: `partial wildcard "${host}" only recommended when using resolution NONE`,
      });
  });
  if (spec?.workloadSelector !== undefined && resolution !== "STATIC")
    warnings.push({
      field: "spec.workloadSelector",
      message: `workloadSelector should not be set when resolution mode is ${resolution}`,
    });
  spec?.ports?.forEach(({ targetPort, protocol = "" }, i) => {
    if (targetPort && resolution === "NONE")
      warnings.push({
        field: child("spec.ports", i, "targetPort"),
        message: "targetPort has no effect when resolution mode is NONE",
      });
    const isDns = resolution === "DNS" || resolution === "DNS_ROUND_ROBIN";
    if (isDns && spec.addresses?.length && spec.hosts.length > 1 && protocol.toUpperCase() === "TCP")
      warnings.push({
        field: child("spec.ports", i),
        message: "service entry can not have more than one host specified simultaneously with address and tcp port",
      });
  });
  return warnings;
}

export const workloadEntryWarnings = ({ spec }: WorkloadEntry): FieldWarning[] =>
  !spec?.address && spec?.network
    ? [{ field: "spec.address", message: `address is unset with network "${spec.network}"` }]
    : [];

export function sidecarWarnings({ metadata, spec }: Sidecar): FieldWarning[] {
  const warnings = emptySelector(spec?.workloadSelector, "spec.workloadSelector");
  if ((spec?.outboundTrafficPolicy as { egressProxy?: object } | undefined)?.egressProxy !== undefined)
    warnings.push({
      field: "spec.outboundTrafficPolicy.egressProxy",
      message: "OutboundTrafficPolicy.EgressProxy ignored",
      code: deprecated,
    });
  spec?.ingress?.forEach(({ port, connectionPool }, i) => {
    const isHttp = /^(HTTP|HTTP2|GRPC|GRPC-WEB|HTTP_PROXY)$/i.test(port?.protocol ?? "");
    if (connectionPool?.http !== undefined && !isHttp)
      warnings.push({
        field: child("spec.ingress", i, "connectionPool", "http"),
        message: `HTTP connection pool settings are configured for port ${port?.number} but its protocol is not HTTP (${port?.protocol}); only TCP settings will apply`,
      });
  });
  spec?.egress?.forEach(({ hosts }, i) => {
    const all = (hosts ?? []).map((host) => host.replace(/^\.\//, `${metadata.namespace}/`));
    all.forEach((host, j) => {
      const field = child("spec.egress", i, "hosts", j);
      const wide = `${host.split("/")[0]}/*`;
      const earlier = all.slice(0, j);
      if (
        earlier.includes(host) ||
        earlier.includes(wide) ||
        (host === wide && earlier.some((each) => each.startsWith(wide.slice(0, -1))))
      )
        warnings.push({ field, message: `duplicated egress host: ${hosts?.[j]}` });
      else if (host === "*/*" && all.length > 1)
        warnings.push({ field, message: "`*/*` host select all resources, no other hosts can be added" });
    });
  });
  return warnings;
}

export function envoyFilterWarnings({ spec }: EnvoyFilter): FieldWarning[] {
  const warnings: FieldWarning[] = [
    {
      field: "spec.configPatches",
      message:
        "EnvoyFilter exposes internal implementation details that may change at any time. Prefer other APIs if possible, and exercise extreme caution, especially around upgrades.",
    },
    ...emptySelector(spec?.workloadSelector, "spec.workloadSelector"),
  ];
  spec?.configPatches?.forEach(({ applyTo, match }, i) => {
    const filter = (match as { listener?: { filterChain?: { filter?: object } } } | undefined)?.listener?.filterChain
      ?.filter;
    if (filter !== undefined && (applyTo === "LISTENER" || applyTo === "FILTER_CHAIN"))
      warnings.push({
        field: child("spec.configPatches", i, "match", "listener", "filterChain", "filter"),
        message: `filter match has no effect when used with ${applyTo}`,
      });
  });
  return warnings;
}
