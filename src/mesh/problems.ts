// What users configured and the mesh does not carry out as written: found per object, to be said in Events. Pure.

import { parseDurationMs } from "../api/duration.ts";
import { keyOf } from "../api/object.ts";
import type { DestinationRule, Gateway, VirtualService } from "../api/types.ts";
import { serversOf } from "./gateway-servers.ts";
import { isTableSize, ringSizeMax } from "./translate-balancing.ts";
import { credentialNames } from "./translate-gateways.ts";
import { grpcCodeOf } from "./translate-routes.ts";
import { credentialSecret } from "./translate-secrets.ts";
import type { HttpRule, Model, Problem, TrafficPolicy } from "./types.ts";

export const notCarriedOut = "NotCarriedOut";
const conflicting = "Conflicting";
const missing = "ReferenceNotFound";

export type Report = (field: string, message: string) => void;

export function collect<O extends Problem["object"]>(object: O, look: (report: Report) => void): Problem[] {
  const problems: Problem[] = [];
  look((field, message) => {
    problems.push({ object, reason: notCarriedOut, field, message: `${field}: ${message}` });
  });
  return problems;
}

export const virtualServiceProblems = (object: VirtualService): Problem[] =>
  collect(object, (report) => {
    const { spec } = object;
    spec?.http?.forEach((rule, index) => {
      httpRuleProblems(rule, `spec.http[${index}]`, report);
    });
  });

function httpRuleProblems(rule: HttpRule, path: string, report: Report): void {
  const delay = rule.fault?.delay as Record<string, unknown> | undefined;
  const abort = rule.fault?.abort as Record<string, unknown> | undefined;
  if (delay?.["exponentialDelay"] !== undefined) report(`${path}.fault.delay.exponentialDelay`, "no delay is injected");
  if (abort?.["http2Error"] !== undefined) report(`${path}.fault.abort.http2Error`, "no fault is injected");
  if (abort?.["grpcStatus"] !== undefined && grpcCodeOf(String(abort["grpcStatus"])) === undefined)
    report(`${path}.fault.abort.grpcStatus`, `"${abort["grpcStatus"]}" is no gRPC status: no fault is injected`);
  const routes = rule.route ?? [];
  if (routes.length > 1 && routes.every(({ weight }) => !weight))
    report(`${path}.route`, "all weights are 0: requests are answered with 503");
  for (const field of ["timeout"] as const)
    if (rule[field] !== undefined && parseDurationMs(rule[field]) === undefined)
      report(`${path}.${field}`, `"${rule[field]}" is no duration`);
}

const credentialField = "credentialName";

export const destinationRuleProblems = (object: DestinationRule): Problem[] =>
  collect(object, (report) => {
    const { spec } = object;
    const tell: Report = (field, message) => {
      if (spec?.workloadSelector === undefined || !field.endsWith(credentialField)) report(field, message);
    };
    policyProblems(spec?.trafficPolicy, "spec.trafficPolicy", tell);
    spec?.subsets?.forEach(({ trafficPolicy }, index) => {
      policyProblems(trafficPolicy, `spec.subsets[${index}].trafficPolicy`, tell, spec.trafficPolicy);
    });
  });

/** `around`: the policy whose fields hold where this one has none. */
function policyProblems(
  policy: TrafficPolicy | undefined,
  path: string,
  report: Report,
  around?: TrafficPolicy | undefined,
): void {
  if (policy === undefined) return;
  const outliers = policy.outlierDetection ?? around?.outlierDetection;
  const { loadBalancer, connectionPool: pool, tls } = policy;
  balancingProblems(loadBalancer, `${path}.loadBalancer`, report);
  const locality = loadBalancer?.localityLbSetting;
  if (outliers === undefined && (locality?.failover?.length || locality?.failoverPriority?.length))
    report(`${path}.loadBalancer.localityLbSetting`, "failover has no effect without outlierDetection");
  for (const field of ["probes", "interval"] as const)
    if (pool?.tcp?.tcpKeepalive?.[field])
      report(`${path}.connectionPool.tcp.tcpKeepalive.${field}`, "is the kernel's own; only time is carried out");
  if (tls?.credentialName !== undefined)
    report(
      `${path}.tls.${credentialField}`,
      "gateways are given the Secret, sidecars only by a rule with workloadSelector",
    );
  for (const field of ["tunnel", "proxyProtocol"])
    if ((policy as Record<string, unknown>)[field] !== undefined) report(`${path}.${field}`, "is not carried out");
  policy.portLevelSettings?.forEach((setting, index) => {
    policyProblems(setting as TrafficPolicy, `${path}.portLevelSettings[${index}]`, report);
  });
}

function balancingProblems(balancer: TrafficPolicy["loadBalancer"], path: string, report: Report): void {
  const hash = balancer?.consistentHash;
  const tableSize = hash?.maglev?.tableSize;
  if (tableSize && !isTableSize(tableSize))
    report(`${path}.consistentHash.maglev.tableSize`, `${tableSize} is no prime number up to 5000011: 65537 is used`);
  const ringSize = hash?.ringHash?.minimumRingSize || hash?.minimumRingSize;
  if (ringSize && ringSize > ringSizeMax)
    report(`${path}.consistentHash.minimumRingSize`, `is above ${ringSizeMax}: 1024 is used`);
  const isWarming = balancer?.warmup !== undefined || balancer?.warmupDurationSecs !== undefined;
  if (isWarming && (hash !== undefined || balancer?.simple === "RANDOM" || balancer?.simple === "PASSTHROUGH"))
    report(`${path}.warmup`, "has no effect: only ROUND_ROBIN and LEAST_REQUEST warm up");
}

export const gatewayProblems = (object: Gateway): Problem[] =>
  collect(object, (report) => {
    object.spec?.servers?.forEach(({ tls, bind, port }, index) => {
      const path = `spec.servers[${index}]`;
      if (bind !== undefined) report(`${path}.bind`, "is ignored: the server listens on the pod's address");
      if (["MONGO", "MYSQL", "REDIS"].includes(port.protocol.toUpperCase()))
        report(`${path}.port.protocol`, "is carried as TCP");
      if (tls === undefined) return;
      if (tls.mode === "AUTO_PASSTHROUGH") report(`${path}.tls.mode`, `${tls.mode} is not carried out`);
      const unused = ["privateKey", "serverCertificate", "caCertificates", "caCrl", "tlsCertificates"] as const;
      for (const field of unused) if (tls[field] !== undefined) report(`${path}.tls.${field}`, "is not carried out");
    });
  });

/** What only shows with everything else there: colliding servers, missing credentials. */
export function modelProblems(model: Model): Problem[] {
  const problems = [...model.settingsProblems];
  for (const { object, issues } of model.ruleSets) for (const issue of issues) problems.push({ object, ...issue });
  for (const workload of model.workloads) {
    if (!workload.gateway) continue;
    const { byPort, conflicts } = serversOf(model, workload);
    for (const { server, message } of conflicts)
      problems.push({ object: server.gateway, reason: conflicting, field: "spec.servers", message });
    for (const server of [...byPort.values()].flat())
      for (const name of credentialNames(server.server)) {
        if (!name.startsWith("kubernetes://") || credentialSecret(model, name, workload.namespace)) continue;
        const secret = name.slice("kubernetes://".length);
        const message = `no Secret ${secret} with a certificate in namespace ${workload.namespace}, where gateway pod ${keyOf(workload.pod)} runs: its TLS connections are refused`;
        problems.push({ object: server.gateway, reason: missing, field: "spec.servers.tls.credentialName", message });
      }
  }
  return problems;
}
