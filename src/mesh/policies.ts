// Which DestinationRule counts for a host and client, and what it says for one port and subset. Pure.

import { parseDurationMs } from "../api/duration.ts";
import type { TcpSettings } from "./filters.ts";
import { compareSpecificity, hostCovers, isVisible } from "./hosts.ts";
import type { Model, Policy, ServiceModel, Subset, TrafficPolicy } from "./types.ts";

/** The DestinationRules that apply to a host together: subsets of all, the traffic policy of the oldest that has one. */
export interface AppliedPolicy {
  rules: readonly Policy[];
  trafficPolicy: TrafficPolicy | undefined;
  subsets: readonly Subset[];
}

const none: AppliedPolicy = { rules: [], trafficPolicy: undefined, subsets: [] };

/**
 * Istio's lookup: the client's namespace, the service's, the root namespace; the first with a matching rule decides.
 * Within one namespace the most specific host wins and rules for the same host are merged (Istio: mergeDestinationRule).
 */
export function policyFor(model: Model, service: ServiceModel, clientNamespace: string): AppliedPolicy {
  const candidates = [...(model.policiesByHost.get(service.host) ?? []), ...(model.policiesByHost.get("*") ?? [])];
  if (candidates.length === 0) return none;
  for (const namespace of new Set([clientNamespace, service.namespace, model.config.rootNamespace])) {
    let best: string | undefined;
    let rules: Policy[] = [];
    for (const policy of candidates) {
      if (policy.namespace !== namespace || !hostCovers(policy.host, service.host)) continue;
      if (!isVisible(policy.exportTo, clientNamespace)) continue;
      if (policy.object.spec?.workloadSelector !== undefined) continue;
      if (best !== undefined && policy.host !== best) {
        if (compareSpecificity(policy.host, best) > 0) continue;
        rules = [];
      }
      best = policy.host;
      rules.push(policy);
    }
    if (rules.length > 0) return merge(rules);
  }
  return none;
}

function merge(rules: readonly Policy[]): AppliedPolicy {
  const subsets = new Map<string, Subset>();
  for (const { object } of rules)
    for (const subset of object.spec?.subsets ?? []) if (!subsets.has(subset.name)) subsets.set(subset.name, subset);
  return {
    rules,
    trafficPolicy: rules.find(({ object }) => object.spec?.trafficPolicy !== undefined)?.object.spec?.trafficPolicy,
    subsets: [...subsets.values()],
  };
}

export type PortPolicy = Pick<TrafficPolicy, "loadBalancer" | "connectionPool" | "outlierDetection" | "tls">;

/**
 * What holds for one port. A port-level setting replaces everything less specific whole; a subset's policy overrides the top
 * level field by field (Istio: MergeTrafficPolicy).
 */
export function policyOfPort(
  top: TrafficPolicy | undefined,
  subset: TrafficPolicy | undefined,
  port: number,
): PortPolicy {
  const merged: PortPolicy = {};
  for (const policy of [top, subset]) {
    const ofPort = policy?.portLevelSettings?.find((setting) => setting.port?.number === port);
    const level: PortPolicy | undefined = ofPort ?? policy;
    for (const field of ["loadBalancer", "connectionPool", "outlierDetection", "tls"] as const)
      if (ofPort !== undefined || level?.[field] !== undefined) Object.assign(merged, { [field]: level?.[field] });
  }
  return merged;
}

/** What holds for a subset of this name, known or not. */
export const subsetPolicy = (policy: AppliedPolicy, name: string | undefined, port: number): PortPolicy =>
  policyOfPort(policy.trafficPolicy, policy.subsets.find((subset) => subset.name === name)?.trafficPolicy, port);

/** What the listener of a TCP port takes from the rules; its clusters take the rest. */
export function tcpSettingsOf({ loadBalancer, connectionPool }: PortPolicy): TcpSettings {
  const idle = connectionPool?.tcp?.idleTimeout;
  return {
    idleTimeoutMs: idle === undefined ? undefined : parseDurationMs(idle),
    hashSourceIp: loadBalancer?.consistentHash?.useSourceIp === true,
  };
}

/** Undefined where switched off; only a rule can say so, as the mesh's default is on. */
const localitySetting = ({ loadBalancer }: PortPolicy) =>
  loadBalancer?.localityLbSetting?.enabled === false ? undefined : (loadBalancer?.localityLbSetting ?? {});

/** Shares per locality, by where the client is. They come before failover. */
export const distributionOf = (policy: PortPolicy) => {
  const distribute = localitySetting(policy)?.distribute;
  return distribute && distribute.length > 0 ? distribute : undefined;
};

/**
 * Nearer endpoints first. Without outlier detection nobody would notice that they fail, so there is none; with it, it is the
 * default.
 */
export function failoverOf(policy: PortPolicy) {
  const setting = localitySetting(policy);
  if (setting === undefined || policy.outlierDetection === undefined || distributionOf(policy)) return undefined;
  return { failover: setting.failover ?? [], priority: setting.failoverPriority ?? [] };
}

/** Whether localities get their load by weight (Istio: only then, as it disturbs least request). */
export function weightsLocalities(policy: PortPolicy): boolean {
  const failover = failoverOf(policy);
  return distributionOf(policy) !== undefined || Boolean(failover?.failover.length || failover?.priority.length);
}
