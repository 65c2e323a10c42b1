// Objects → model: names resolved, indexes built, precedence sorted. Pure.

import { isInjected } from "../api/injection.ts";
import { keyOf } from "../api/object.ts";
import type { EndpointSlice, Pod, Service, WorkloadEntry } from "../api/types.ts";
import { formatSpiffeId } from "../identity/spiffe.ts";
import { delegateKeys, isRoot, mergeDelegates } from "./delegates.ts";
import { backendTlsOf } from "./gateway-api/backend-tls.ts";
import { createGatewayApi } from "./gateway-api/state.ts";
import { exportSet, resolveGateway, resolveHost } from "./hosts.ts";
import { createMemo, type Memo, sameItems, stable } from "./memo.ts";
import { ruleSource } from "./rule-source.ts";
import { createEntryServices, type EntryServices, selectedEntries } from "./service-entries.ts";
import type {
  MeshConfig,
  MeshObjects,
  Model,
  OwnedRule,
  Policy,
  PortModel,
  Protocol,
  RuleSet,
  ServiceModel,
  Workload,
} from "./types.ts";

/** Where a workload's tunnel ends, in `namespaces` mode. */
const tunnelPort = 15008;
const clusterId = "Kubernetes";

export function buildModel(
  objects: MeshObjects,
  config: MeshConfig,
  settings: Pick<Model, "settings" | "settingsProblems">,
  memo: ModelMemo,
): Model {
  const inhabitants = memo.keep("workloads", [objects.pods, objects.namespaces], () =>
    workloadsOf(objects, config, memo),
  );
  const { workloads } = inhabitants;
  const slices = new Map<string, EndpointSlice[]>();
  for (const slice of objects.endpointSlices) {
    const name = slice.metadata.labels?.["kubernetes.io/service-name"];
    if (name === undefined) continue;
    const key = `${slice.metadata.namespace}/${name}`;
    const list = slices.get(key);
    if (list === undefined) slices.set(key, [slice]);
    else list.push(slice);
  }
  const services: ServiceModel[] = [];
  for (const service of objects.services)
    if (service.spec?.type !== "ExternalName")
      services.push({ ...memo.service(service, config), slices: slices.get(keyOf(service)) ?? [] });
  for (const service of services) service.selected = memo.selected(service, objects.workloadEntries);
  const hosts = new Set(services.map(({ host }) => host));
  // A Service is what its host is; an entry beside it only adds to it (Istio).
  const entries = memo
    .entries(objects.serviceEntries.toSorted(byAge), objects.workloadEntries, workloads)
    .filter(({ host }) => !hosts.has(host));
  const serviceByHost = new Map([...services, ...entries].toReversed().map((service) => [service.host, service]));
  services.push(...entries);
  services.sort((a, b) => (a.host < b.host ? -1 : a.host > b.host ? 1 : 0));
  const { backendTlsPolicies: tlsPolicies, caBundles } = objects;
  // Without policies nothing else matters.
  const tlsInputs = tlsPolicies.length > 0 ? [tlsPolicies, caBundles, objects.secrets] : [];
  const backendTls = memo.keep("backendTls", tlsInputs, () => backendTlsOf(objects));
  return {
    config,
    ...settings,
    services,
    serviceByHost,
    ...inhabitants,
    ruleSets: memo.keep("ruleSets", [objects.virtualServices], () =>
      memo.delegated(
        objects.virtualServices.toSorted(byAge).map((object) => memo.ruleSet(object, config)),
        config,
      ),
    ),
    policiesByHost: memo.keep("policies", [objects.destinationRules], () =>
      Map.groupBy(
        objects.destinationRules.toSorted(byAge).map((object) => memo.policy(object, config)),
        ({ host }) => (host.startsWith("*") ? "*" : host),
      ),
    ),
    gateways: objects.gateways.toSorted(byAge),
    ...memo.gatewayApi(objects, config),
    backendTls,
    authorizationPolicies: objects.authorizationPolicies.toSorted(byAge),
    peerAuthentications: objects.peerAuthentications.toSorted(byAge),
    requestAuthentications: objects.requestAuthentications.toSorted(byAge),
    telemetries: objects.telemetries.toSorted(byAge),
    sidecars: objects.sidecars.toSorted(byAge),
    nodes: objects.nodes.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1)),
    nodeByName: new Map(objects.nodes.map((n) => [n.metadata.name, n])),
    secrets: new Map([...objects.secrets.map((s) => [keyOf(s), s] as const), ...backendTls.bundles]),
  };
}

function workloadsOf(
  objects: MeshObjects,
  config: MeshConfig,
  memo: ModelMemo,
): Pick<Model, "workloads" | "workloadByKey" | "workloadByNodeId"> {
  const namespaceByName = new Map(objects.namespaces.map((n) => [n.metadata.name, n]));
  const workloads = objects.pods.flatMap((pod) => {
    const namespace = namespaceByName.get(pod.metadata.namespace ?? "");
    const injected = isInjected(pod as Parameters<typeof isInjected>[0], namespace);
    return memo.workload(pod, injected, config) ?? [];
  });
  return {
    workloads,
    workloadByKey: new Map(workloads.map((w) => [w.key, w])),
    workloadByNodeId: new Map(workloads.flatMap((w) => (w.nodeId === "" ? [] : [[w.nodeId, w] as const]))),
  };
}

/** What is derived from one object, or from lists, kept as long as they are the same. */
export interface ModelMemo {
  keep: Memo["get"];
  workload(pod: Pod, injected: boolean, config: MeshConfig): Workload | undefined;
  service(service: Service, config: MeshConfig): Omit<ServiceModel, "slices">;
  ruleSet(object: RuleSet["object"], config: MeshConfig): RuleSet;
  /** The rule sets with their delegates taken in. */
  delegated(ruleSets: readonly RuleSet[], config: MeshConfig): RuleSet[];
  policy(object: Policy["object"], config: MeshConfig): Policy;
  gatewayApi(objects: MeshObjects, config: MeshConfig): Pick<Model, "gatewayApi" | "derived">;
  entries: EntryServices["of"];
  /** Of a Service: as long as they are the same, one list. */
  selected(service: ServiceModel, workloadEntries: readonly WorkloadEntry[]): readonly WorkloadEntry[];
}

/** Assumes that `config` never changes. */
export function createModelMemo(): ModelMemo {
  const injectedPods = new WeakMap<Pod, Workload | false>();
  const otherPods = new WeakMap<Pod, Workload | false>();
  return {
    workload(pod, injected, config) {
      const known = injected ? injectedPods : otherPods;
      let workload = known.get(pod);
      if (workload === undefined) {
        workload = workloadOf(pod, injected, config) ?? false;
        known.set(pod, workload);
      }
      return workload === false ? undefined : workload;
    },
    keep: createMemo().get,
    service: memoized(serviceOf),
    ruleSet: memoized(ruleSetOf),
    delegated: createDelegation(),
    policy: memoized(policyOf),
    gatewayApi: createGatewayApi(),
    entries: createEntryServices().of,
    selected: createSelections(),
  };
}

function memoized<O extends object, R>(make: (object: O, config: MeshConfig) => R) {
  const known = new WeakMap<O, R>();
  return (object: O, config: MeshConfig): R => {
    let result = known.get(object);
    if (result === undefined) {
      result = make(object, config);
      known.set(object, result);
    }
    return result;
  };
}

function createSelections(): ModelMemo["selected"] {
  const known = new WeakMap<Service, readonly WorkloadEntry[]>();
  return (service, workloadEntries) => {
    if (workloadEntries.length === 0) return none;
    const selected = stable(known.get(service.service), selectedEntries(service, workloadEntries));
    known.set(service.service, selected);
    return selected;
  };
}
const none: readonly WorkloadEntry[] = [];

/** A root is merged anew only when it or one of its delegates is another object. */
function createDelegation(): ModelMemo["delegated"] {
  const known = new WeakMap<RuleSet, { delegates: readonly (RuleSet | undefined)[]; merged: RuleSet }>();
  return (ruleSets, config) => {
    if (!ruleSets.some(isRoot)) return [...ruleSets];
    const byKey = new Map(ruleSets.map((rules) => [rules.key, rules]));
    return ruleSets.map((root) => {
      if (!isRoot(root)) return root;
      const delegates = delegateKeys(root).map((key) => byKey.get(key));
      const before = known.get(root);
      if (before !== undefined && sameItems(before.delegates, delegates)) return before.merged;
      const { http, issues } = mergeDelegates(root, (key) => byKey.get(key), config.clusterDomain);
      const merged = { ...root, http, issues, destinations: destinationsOf(http, config) };
      known.set(root, { delegates, merged });
      return merged;
    });
  };
}

interface Aged {
  metadata: { creationTimestamp: string; name: string; namespace?: string };
}

/** Oldest first; by namespace and name where the same second says nothing (Istio: sortConfigByCreationTime). */
function byAge(a: Aged, b: Aged): number {
  const [x, y] = [a.metadata, b.metadata];
  if (x.creationTimestamp !== y.creationTimestamp) return x.creationTimestamp < y.creationTimestamp ? -1 : 1;
  return `${x.name}.${x.namespace}` < `${y.name}.${y.namespace}` ? -1 : 1;
}

function workloadOf(pod: Pod, injected: boolean, config: MeshConfig): Workload | undefined {
  const ip = pod.status?.podIP;
  const phase = pod.status?.phase;
  if (!ip || phase === "Succeeded" || phase === "Failed") return undefined;
  const { name } = pod.metadata;
  const namespace = pod.metadata.namespace ?? "default";
  const gateway = pod.spec?.containers?.some((container) => container.image === "auto") ?? false;
  const role = gateway ? "router" : injected ? "sidecar" : undefined;
  const annotations = pod.metadata.annotations ?? {};
  const serviceAccount = pod.spec?.serviceAccountName || "default";
  const identityIn = (trustDomain: string): string => formatSpiffeId({ trustDomain, namespace, serviceAccount });
  const others = (config.trustDomainAliases ?? []).filter((alias) => alias !== config.trustDomain);
  return {
    pod,
    key: `${namespace}/${name}`,
    namespace,
    name,
    ip,
    nodeName: pod.spec?.nodeName ?? "",
    labels: pod.metadata.labels ?? {},
    identity: identityIn(config.trustDomain),
    ...(others.length > 0 && { otherIdentities: others.map(identityIn) }),
    injected: injected && !gateway,
    gateway,
    nodeId: role === undefined ? "" : `${role}~${ip}~${name}.${namespace}~${namespace}.svc.${config.clusterDomain}`,
    about: describeWorkload(pod, namespace),
    ports: numbersOf(annotations["meshbed.io/ports"]),
    tunnelPort: Number(annotations["meshbed.io/tunnel-port"]) || tunnelPort,
    servicePorts: numbersOf(annotations["meshbed.io/service-ports"]),
  };
}

/** Istio's telemetry identity: the Deployment rather than the ReplicaSet, canonical name and revision by label. */
function describeWorkload(pod: Pod, namespace: string): string {
  const labels = pod.metadata.labels ?? {};
  const owner = pod.metadata.ownerReferences?.find((reference) => reference.controller === true);
  const hash = labels["pod-template-hash"];
  let workload = owner?.name ?? pod.metadata.name;
  if (owner?.kind === "ReplicaSet" && hash !== undefined && workload.endsWith(`-${hash}`))
    workload = workload.slice(0, -hash.length - 1);
  const service =
    labels["service.istio.io/canonical-name"] ?? labels["app.kubernetes.io/name"] ?? labels["app"] ?? workload;
  const revision =
    labels["service.istio.io/canonical-revision"] ??
    labels["app.kubernetes.io/version"] ??
    labels["version"] ??
    "latest";
  return `${workload};${namespace};${service};${revision};${clusterId}`;
}

function numbersOf(annotation: string | undefined): Readonly<Record<string, number>> {
  if (annotation === undefined) return {};
  try {
    const parsed: unknown = JSON.parse(annotation);
    if (typeof parsed !== "object" || parsed === null) return {};
    return Object.fromEntries(Object.entries(parsed).filter(([, value]) => typeof value === "number"));
  } catch {
    // Written by the kubelet alone; a user's garbage counts as absent.
    return {};
  }
}

function serviceOf(service: Service, config: MeshConfig): Omit<ServiceModel, "slices"> {
  const { name } = service.metadata;
  const namespace = service.metadata.namespace ?? "default";
  const { clusterIP, clusterIPs, ports } = service.spec ?? {};
  const addresses = [...new Set([clusterIP, ...(clusterIPs ?? [])])].filter(
    (address): address is string => address !== undefined && address !== "" && address !== "None",
  );
  const exported = service.metadata.annotations?.["networking.istio.io/exportTo"];
  return {
    service,
    namespace,
    name,
    host: `${name}.${namespace}.svc.${config.clusterDomain}`,
    addresses,
    ports: (ports ?? []).map((port): PortModel => {
      const { name: portName = "", appProtocol, protocol } = port;
      return {
        name: portName,
        port: port.port,
        targetPort: (port.targetPort as number | string | undefined) ?? port.port,
        protocol: protocolOf(portName, appProtocol, protocol),
        nodePort: port.nodePort || undefined,
      };
    }),
    exportTo: exportSet(exported?.split(",").map((entry) => entry.trim()) ?? config.exportTo?.service, namespace),
  };
}

const protocols: Readonly<Record<string, Protocol>> = {
  http: "http",
  "kubernetes.io/ws": "http",
  "grpc-web": "http",
  http2: "http2",
  "kubernetes.io/h2c": "http2",
  grpc: "grpc",
  https: "tls",
  tls: "tls",
  "kubernetes.io/wss": "tls",
  udp: "udp",
};

/** appProtocol first, then the name up to the first dash. */
export function protocolOf(name: string, appProtocol: string | undefined, transport: string | undefined): Protocol {
  if (transport === "UDP") return "udp";
  const app = appProtocol?.toLowerCase();
  if (app !== undefined && app !== "") return protocols[app] ?? "tcp";
  if (name.startsWith("grpc-web")) return "http";
  const dash = name.indexOf("-");
  return protocols[dash < 0 ? name : name.slice(0, dash)] ?? "tcp";
}

/** Ports whose requests are routed one by one. */
export const isHttp = (protocol: Protocol): boolean =>
  protocol === "http" || protocol === "http2" || protocol === "grpc";

function ruleSetOf(object: RuleSet["object"], config: MeshConfig): RuleSet {
  const namespace = object.metadata.namespace ?? "default";
  const gateways = object.spec?.gateways ?? [];
  const http = (object.spec?.http ?? []).map((rule, index) => ({
    rule,
    namespace,
    source: ruleSource("virtual-service", object.metadata, `spec.http[${index}]`),
  }));
  return {
    object,
    key: keyOf(object),
    namespace,
    hosts: (object.spec?.hosts ?? []).map((host) => resolveHost(host, namespace, config.clusterDomain)),
    gateways: new Set(gateways.length === 0 ? ["mesh"] : gateways.map((name) => resolveGateway(name, namespace))),
    exportTo: exportSet(object.spec?.exportTo ?? config.exportTo?.virtualService, namespace),
    http,
    issues: [],
    destinations: destinationsOf(http, config),
  };
}

function destinationsOf(http: readonly OwnedRule[], config: MeshConfig): string[] {
  const hosts = new Set<string>();
  for (const { rule, namespace } of http)
    for (const destination of [
      ...(rule.route ?? []).map((entry) => entry.destination),
      ...(rule.mirror ? [rule.mirror] : []),
      ...(rule.mirrors ?? []).map((entry) => entry.destination),
    ])
      hosts.add(resolveHost(destination.host, namespace, config.clusterDomain));
  return [...hosts];
}

function policyOf(object: Policy["object"], config: MeshConfig): Policy {
  const namespace = object.metadata.namespace ?? "default";
  return {
    object,
    namespace,
    host: resolveHost(object.spec?.host ?? "", namespace, config.clusterDomain),
    exportTo: exportSet(object.spec?.exportTo ?? config.exportTo?.destinationRule, namespace),
  };
}
