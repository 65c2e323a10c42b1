// The whole translation: objects → model → a snapshot per xDS node id, made on demand and kept while its inputs last.

import type { Certificate } from "../identity/authority.ts";
import { type Snapshot, typeUrls } from "../xds/types.ts";
import { createInterner, createMemo, type Group, groupOf, joinGroups, stable } from "./memo.ts";
import { type ReadSettings, readSettings } from "./mesh-settings.ts";
import { buildModel, createModelMemo, isHttp } from "./model.ts";
import {
  audience,
  clientCredentials,
  endpoints,
  group,
  outboundClusters,
  outboundListeners,
  outboundRoutes,
  type Pass,
  rulesOf,
} from "./outbound.ts";
import { names, proxylessSnapshot } from "./proxyless.ts";
import { blackHoleCluster, passthroughCluster } from "./translate-clusters.ts";
import { gatewayResources } from "./translate-gateways.ts";
import { inbound, portListeners, servicePortOf } from "./translate-listeners.ts";
import { localityOf, localityText } from "./translate-locality.ts";
import { nodeWorkloads, ownListeners, plainClusters, plainListeners } from "./translate-nodes.ts";
import { credentialSecret, rootsSecret, workloadSecret } from "./translate-secrets.ts";
import { telemetryOf } from "./translate-telemetry.ts";
import { singleServiceRoutes } from "./translate-virtual-hosts.ts";
import type { MeshConfig, MeshObjects, Model, Workload } from "./types.ts";

export interface Translator {
  /** Takes over a new state of the objects. */
  update(objects: MeshObjects): void;
  readonly model: Model;
  /** What the node is to be told; undefined when no such pod or node is known. */
  snapshot(nodeId: string): Snapshot | undefined;
  /** What a gRPC client without a proxy is to be told. */
  proxyless(nodeId: string): Snapshot | undefined;
}

/** Answers the workload's certificate when it is there. */
export type CertificateOf = (spiffeId: string) => Certificate | undefined;

export const noObjects: MeshObjects = {
  namespaces: [],
  nodes: [],
  pods: [],
  services: [],
  endpointSlices: [],
  secrets: [],
  gateways: [],
  virtualServices: [],
  destinationRules: [],
  authorizationPolicies: [],
  peerAuthentications: [],
  requestAuthentications: [],
  telemetries: [],
  serviceEntries: [],
  workloadEntries: [],
  workloadGroups: [],
  sidecars: [],
  envoyFilters: [],
  proxyConfigs: [],
  wasmPlugins: [],
  gatewayClasses: [],
  kubernetesGateways: [],
  httpRoutes: [],
  grpcRoutes: [],
  tlsRoutes: [],
  tcpRoutes: [],
  referenceGrants: [],
  backendTlsPolicies: [],
  configMaps: [],
  caBundles: [],
};

export function createTranslator(options: {
  config: MeshConfig;
  rootsPem: string;
  certificateOf: CertificateOf;
}): Translator {
  const { certificateOf } = options;
  let modelMemo = createModelMemo();
  const kept = { memo: createMemo(), interner: createInterner() };
  let read: ReadSettings = { settings: {}, problems: [] };
  let config = options.config;
  /** Everything depends on MeshConfig, which hardly ever changes: then nothing of before is used again. */
  const takeSettings = (objects: MeshObjects): void => {
    const next = readSettings(objects.configMaps[0]);
    read = { settings: next.settings ?? read.settings, problems: next.problems };
    const { trustDomain = options.config.trustDomain, rootNamespace = options.config.rootNamespace } =
      read.settings ?? {};
    const { trustDomainAliases } = read.settings ?? {};
    const exportTo = {
      service: read.settings?.defaultServiceExportTo,
      virtualService: read.settings?.defaultVirtualServiceExportTo,
      destinationRule: read.settings?.defaultDestinationRuleExportTo,
    };
    config = { ...options.config, trustDomain, trustDomainAliases, rootNamespace, exportTo };
    modelMemo = createModelMemo();
    kept.memo = createMemo();
  };
  const state = (objects: MeshObjects): Pass => {
    const settings = { settings: read.settings ?? {}, settingsProblems: read.problems };
    const model = buildModel(objects, config, settings, modelMemo);
    const localities = model.nodes
      .map(({ metadata: { name } }) => `${name}:${localityText(localityOf(model, name))}`)
      .join();
    const sources = [objects.services, objects.serviceEntries, objects.workloadEntries];
    const registry = kept.memo.get("registry", sources, () => ({}));
    return { ...kept, objects, model, localities, registry };
  };
  let pass = state(noObjects);
  const fixed: Fixed = {
    clusters: group(pass, typeUrls.cluster, [blackHoleCluster, passthroughCluster]),
    roots: group(pass, typeUrls.secret, [rootsSecret(options.rootsPem)]),
    certificateOf,
  };
  return {
    get model() {
      return pass.model;
    },
    update(next) {
      const objects = unchangedKept(pass.objects, next);
      if (objects.configMaps !== pass.objects.configMaps) takeSettings(objects);
      pass = state(objects);
    },
    snapshot(nodeId) {
      const [role, ip, name] = nodeId.split("~");
      if (role === "node" && ip && name) return nodeSnapshot(pass, fixed, name, ip);
      const workload = pass.model.workloadByNodeId.get(nodeId);
      if (workload === undefined) return undefined;
      return workload.gateway ? routerSnapshot(pass, fixed, workload) : sidecarSnapshot(pass, fixed, workload);
    },
    proxyless: (nodeId) => proxylessSnapshot(pass, nodeId),
  };
}

interface Fixed {
  clusters: Group;
  roots: Group;
  certificateOf: CertificateOf;
}

function unchangedKept(previous: MeshObjects, next: MeshObjects): MeshObjects {
  const kinds = Object.keys(next) as (keyof MeshObjects)[];
  const lists = kinds.map((kind) => [kind, stable<unknown>(previous[kind], next[kind])]);
  return Object.fromEntries(lists) as unknown as MeshObjects;
}

/** Objects that inbound and gateway listeners follow from. */
const policiesOf = ({ objects }: Pass): unknown[] => [
  objects.authorizationPolicies,
  objects.peerAuthentications,
  objects.requestAuthentications,
  objects.telemetries,
];

function sidecarSnapshot(pass: Pass, fixed: Fixed, workload: Workload): Snapshot {
  const { memo, model } = pass;
  const { key } = workload;
  const to = audience(pass, workload);
  const { clusters, listeners } = memo.get(`inbound|${key}`, [workload, to, pass.registry, ...policiesOf(pass)], () => {
    const own = inbound(model, workload);
    return {
      clusters: group(pass, typeUrls.cluster, own.clusters),
      listeners: group(pass, typeUrls.listener, own.listeners),
    };
  });
  const outbound =
    model.config.mode === "ports"
      ? portOutbound(pass, workload)
      : {
          listeners: outboundListeners(pass, to, workload.labels, telemetryOf(model, workload, "CLIENT")),
          routes: outboundRoutes(pass, to, workload),
        };
  return {
    resources: {
      [typeUrls.cluster]: joinGroups(outboundClusters(pass, to), fixed.clusters, clusters),
      [typeUrls.endpoint]: endpoints(pass, workload, to),
      [typeUrls.listener]: joinGroups(outbound.listeners, listeners),
      [typeUrls.route]: outbound.routes,
      [typeUrls.secret]: secrets(pass, fixed, workload, to.selected ? clientCredentials(pass, to, false) : []),
      get [typeUrls.nameTable]() {
        return names(pass, to);
      },
    },
  };
}

/** In `ports` mode a sidecar listens where the kubelet told its pod. */
function portOutbound(pass: Pass, workload: Workload): { listeners: Group; routes: Group } {
  const { memo, model, objects } = pass;
  const rules = rulesOf(pass, audience(pass, workload));
  const inputs = [workload, pass.registry, rules, objects.destinationRules, objects.telemetries];
  return memo.get(`ports|${workload.key}`, inputs, () => {
    const client = { namespace: workload.namespace, labels: workload.labels, key: workload.key };
    const routes = Object.keys(workload.servicePorts).flatMap((key) => {
      const found = servicePortOf(model, key);
      if (found === undefined || !isHttp(found.port.protocol)) return [];
      return [singleServiceRoutes(model, found.service, rules, client, found.port.port)];
    });
    return {
      listeners: group(pass, typeUrls.listener, portListeners(model, workload, rules)),
      routes: group(pass, typeUrls.route, routes),
    };
  });
}

function routerSnapshot(pass: Pass, fixed: Fixed, workload: Workload): Snapshot {
  const { memo, model, objects } = pass;
  const inputs = [
    workload,
    pass.registry,
    objects.virtualServices,
    objects.destinationRules,
    objects.gateways,
    model.derived,
    ...policiesOf(pass),
  ];
  const to = audience(pass, workload);
  const own = memo.get(`gateway|${workload.key}`, inputs, () => {
    const made = gatewayResources(model, workload, memo);
    return {
      listeners: group(pass, typeUrls.listener, made.listeners),
      routes: group(pass, typeUrls.route, made.routes),
      clusters: group(pass, typeUrls.cluster, made.clusters),
      credentials: made.credentials,
    };
  });
  return {
    resources: {
      [typeUrls.cluster]: joinGroups(outboundClusters(pass, to), fixed.clusters, own.clusters),
      [typeUrls.endpoint]: endpoints(pass, workload, to),
      [typeUrls.listener]: own.listeners,
      [typeUrls.route]: own.routes,
      [typeUrls.secret]: secrets(pass, fixed, workload, [
        ...new Set([...own.credentials, ...clientCredentials(pass, to, true)]),
      ]),
    },
  };
}

function secrets(pass: Pass, fixed: Fixed, workload: Workload, credentials: readonly string[]): Group {
  const { memo, model, objects } = pass;
  const certificate = fixed.certificateOf(workload.identity);
  const own = memo.get(`secret|${workload.identity}`, [certificate], () =>
    group(pass, typeUrls.secret, certificate ? [workloadSecret(certificate)] : []),
  );
  const named = credentials.filter((name) => name.startsWith("kubernetes://"));
  const others = memo.get(`credentials|${workload.key}`, [objects.secrets, model.backendTls, ...named], () =>
    group(
      pass,
      typeUrls.secret,
      named.flatMap((name) => credentialSecret(model, name, workload.namespace) ?? []),
    ),
  );
  return joinGroups(own, fixed.roots, others);
}

function nodeSnapshot(pass: Pass, fixed: Fixed, name: string, ip: string): Snapshot {
  const { memo, model, objects } = pass;
  const plain = memo.get("plain", [objects.services], () => plainResources(pass));
  const inputs = [objects.pods, objects.namespaces, objects.services];
  const workloads = memo.get(`workloads|${name}`, inputs, () =>
    group(pass, typeUrls.workload, nodeWorkloads(model, name)),
  );
  const found = model.nodeByName.get(name);
  const own = memo.get(`own|${name}|${ip}`, [found, ...inputs], () =>
    group(pass, typeUrls.listener, found ? ownListeners(model, found, ip) : []),
  );
  return {
    resources: {
      [typeUrls.cluster]: joinGroups(plain.clusters, fixed.clusters),
      [typeUrls.endpoint]: endpoints(pass, undefined, undefined),
      [typeUrls.listener]: joinGroups(plain.listeners, own),
      [typeUrls.workload]: workloads,
    },
  };
}

/** In `ports` mode there are no service addresses to listen on. */
function plainResources({ memo, model, interner }: Pass): { clusters: Group; listeners: Group } {
  const services = model.services.filter(({ entry }) => entry === undefined);
  const clusters = services.flatMap((service) =>
    memo.get(`plain-cluster|${service.host}`, [service.service], () =>
      plainClusters(service).map((cluster) => interner.named(typeUrls.cluster, cluster)),
    ),
  );
  const listening = model.config.mode === "ports" ? [] : services;
  const listeners = listening.flatMap((service) =>
    memo.get(`plain-listener|${service.host}`, [service.service], () =>
      plainListeners(service).map((listener) => interner.named(typeUrls.listener, listener)),
    ),
  );
  return { clusters: groupOf(clusters), listeners: groupOf(listeners) };
}
