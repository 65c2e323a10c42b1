// Which DestinationRule counts for a host and client, and what it says for one port and subset. Pure.

import { parseDurationMs } from "../api/duration.ts";
import { matchesMap } from "../api/selectors.ts";
import type { TcpSettings } from "./filters.ts";
import type { BackendTls, ServiceTls } from "./gateway-api/backend-tls.ts";
import { compareSpecificity, hostCovers, isVisible } from "./hosts.ts";
import type { Model, Policy, ServiceModel, Subset, TrafficPolicy, Workload } from "./types.ts";

/** The DestinationRules that apply to a host together: subsets of all, the traffic policy of the oldest that has one. */
export interface AppliedPolicy {
  rules: readonly Policy[];
  trafficPolicy: TrafficPolicy | undefined;
  subsets: readonly Subset[];
}

const none: AppliedPolicy = { rules: [], trafficPolicy: undefined, subsets: [] };

/** Whom rules are looked up for. */
export interface PolicyClient {
  namespace: string;
  /** Rules of its namespace that select it by its labels (workloadSelector). */
  selected?: readonly Policy[] | undefined;
  backendTls?: BackendTls["byService"] | undefined;
}

/** Those that name the workload; they come before all others. */
export const rulesSelecting = (model: Model, { namespace, labels }: Pick<Workload, "namespace" | "labels">): Policy[] =>
  [...model.policiesByHost.values()].flatMap((policies) =>
    policies.filter(
      ({ object, namespace: own }) =>
        own === namespace &&
        object.spec?.workloadSelector !== undefined &&
        matchesMap(object.spec.workloadSelector.matchLabels, labels),
    ),
  );

/** The DestinationRules' policy, and for gateways how a BackendTLSPolicy says that ports are reached. */
export function policyFor(model: Model, service: ServiceModel, client: string | PolicyClient): AppliedPolicy {
  const applied = ruledPolicy(model, service, client);
  const tls = typeof client === "string" || service.entry ? undefined : client.backendTls;
  const own = tls?.get(`${service.namespace}/${service.name}`);
  return own ? withBackendTls(applied, service, own) : applied;
}

/** It counts before the tls of a DestinationRule; all else of the rule holds. */
function withBackendTls({ rules, trafficPolicy, subsets }: AppliedPolicy, service: ServiceModel, own: ServiceTls) {
  const settings = service.ports.flatMap(({ name, port }) => {
    const tls = own.byPort.get(name) ?? own.byPort.get("");
    return tls ? [{ ...policyOfPort(trafficPolicy, undefined, port), port: { number: port }, tls }] : [];
  });
  const changed = new Set(settings.map(({ port }) => port.number));
  const others = (trafficPolicy?.portLevelSettings ?? []).filter(({ port }) => !changed.has(port?.number ?? 0));
  return {
    rules: [...rules, own.rule],
    trafficPolicy: { ...trafficPolicy, portLevelSettings: [...settings, ...others] },
    subsets,
  };
}

/**
 * Istio's lookup: a rule that selects the client; else the client's namespace, the service's, the root namespace; the first with a matching rule decides.
 * Within one namespace the most specific host wins and rules for the same host are merged (Istio: mergeDestinationRule).
 */
function ruledPolicy(model: Model, service: ServiceModel, client: string | PolicyClient): AppliedPolicy {
  const clientNamespace = typeof client === "string" ? client : client.namespace;
  const selecting = typeof client === "string" ? undefined : client.selected;
  if (selecting?.length) {
    const rules = mostSpecific(selecting.filter(({ host }) => hostCovers(host, service.host)));
    if (rules.length > 0) return merge(rules);
  }
  const candidates = [...(model.policiesByHost.get(service.host) ?? []), ...(model.policiesByHost.get("*") ?? [])];
  if (candidates.length === 0) return none;
  for (const namespace of new Set([clientNamespace, service.namespace, model.config.rootNamespace])) {
    const rules = mostSpecific(
      candidates.filter(
        (policy) =>
          policy.namespace === namespace &&
          hostCovers(policy.host, service.host) &&
          isVisible(policy.exportTo, clientNamespace) &&
          policy.object.spec?.workloadSelector === undefined,
      ),
    );
    if (rules.length > 0) return merge(rules);
  }
  return none;
}

/** Those with the most specific host of all. */
function mostSpecific(policies: readonly Policy[]): Policy[] {
  let rules: Policy[] = [];
  for (const policy of policies) {
    const [best] = rules;
    if (best !== undefined && policy.host !== best.host) {
      if (compareSpecificity(policy.host, best.host) > 0) continue;
      rules = [];
    }
    rules.push(policy);
  }
  return rules;
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

export type PortPolicy = Pick<
  TrafficPolicy,
  "loadBalancer" | "connectionPool" | "outlierDetection" | "tls" | "retryBudget"
>;

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
    // Ports have none of their own.
    if (policy?.retryBudget !== undefined) merged.retryBudget = policy.retryBudget;
  }
  return merged;
}

/** With what MeshConfig says where the rule says nothing; a rule's localityLbSetting replaces the mesh's whole. */
export function withMeshSettings({ settings }: Model, policy: PortPolicy): PortPolicy {
  const { localityLbSetting, connectTimeout, tcpKeepalive } = settings;
  const merged = { ...policy };
  if (localityLbSetting && !policy.loadBalancer?.localityLbSetting)
    merged.loadBalancer = { ...policy.loadBalancer, localityLbSetting };
  if (connectTimeout || tcpKeepalive) {
    const tcp = { ...(connectTimeout && { connectTimeout }), ...(tcpKeepalive && { tcpKeepalive }) };
    merged.connectionPool = { ...policy.connectionPool, tcp: { ...tcp, ...policy.connectionPool?.tcp } };
  }
  return merged;
}

/** What holds for a subset of this name, known or not. */
export const subsetPolicy = (policy: AppliedPolicy, name: string | undefined, port: number): PortPolicy =>
  policyOfPort(policy.trafficPolicy, policy.subsets.find((subset) => subset.name === name)?.trafficPolicy, port);

/** What the listener of a TCP port takes from the rules; its clusters take the rest. */
export function tcpSettingsOf({ loadBalancer, connectionPool }: PortPolicy): TcpSettings {
  const { idleTimeout: idle, maxConnectionDuration: most } = connectionPool?.tcp ?? {};
  return {
    idleTimeoutMs: idle === undefined ? undefined : parseDurationMs(idle),
    maxDurationMs: most === undefined ? undefined : parseDurationMs(most),
    hashSourceIp: loadBalancer?.consistentHash?.useSourceIp === true,
  };
}

/** Undefined where switched off. */
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
