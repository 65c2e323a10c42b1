// The mesh control plane: watches objects, translates them, serves the result by ADS. The shell around the translator.

import type { Resource } from "../api/resources.ts";
import * as resources from "../api/resources.ts";
import { createEventRecorder, type Subject } from "../client/event-recorder.ts";
import { createInformer } from "../client/informer.ts";
import type { Client, Informer, InformerOptions } from "../client/types.ts";
import type { Authority } from "../identity/authority.ts";
import { createWorkloadCertificates, workloadLifetimeMs } from "../identity/workload.ts";
import type { Cancel, Clock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import { type Random, systemRandom } from "../kernel/random.ts";
import type { AdsTls } from "../xds/client.ts";
import { shortType } from "../xds/protocol.ts";
import type { SnapshotSource } from "../xds/push.ts";
import { type Nack, type StreamStatus, startAdsServer } from "../xds/server.ts";
import { isProxyless, mayAsk } from "./admission.ts";
import { createCaBundles } from "./ca-bundles.ts";
import { createStatusWriter } from "./gateway-api/status-writer.ts";
import { certificateLifetimeMs, settingsName, settingsNamespace } from "./mesh-settings.ts";
import { createReporter } from "./report.ts";
import { onlyStatusChanged, type Versioned } from "./rule-status.ts";
import { createRuleStatusWriter } from "./rule-status-writer.ts";
import { createTranslator, type Translator } from "./translator.ts";
import type { MeshConfig, MeshObjects, Model } from "./types.ts";

export interface MeshOptions {
  client: Client;
  authority: Authority;
  adsHost: string;
  /** 0: any free port. */
  adsPort: number;
  adsTls: AdsTls;
  /** Plain text, for gRPC clients without a proxy (Istio: 15010); none unless said. */
  adsPlainPort?: number;
  clock: Clock;
  log: Log;
  mode: "namespaces" | "ports";
  random?: Random;
  /** Of workload certificates, where MeshConfig does not say it; 24 h unless said. */
  certificateLifetimeMs?: number;
}

export interface MeshStatistics {
  /** Translations since the start, and how long the last took, without making snapshots. */
  updates: number;
  lastUpdateMs: number;
  pushes: number;
  nacks: number;
  streams: number;
}

export interface Mesh {
  readonly adsPort: number;
  readonly adsPlainPort: number | undefined;
  /** Resolves when all objects were read and the first configuration stands. */
  readonly ready: Promise<void>;
  statistics(): MeshStatistics;
  /** Per connected node: what it was sent and has answered. */
  proxyStatus(): StreamStatus[];
  close(): Promise<void>;
}

/** The first change is taken at once; those that follow within this time together after it. */
const coalesceMs = 10;

const meshConfig: Omit<MeshConfig, "mode"> = {
  clusterDomain: "cluster.local",
  trustDomain: "cluster.local",
  rootNamespace: "istio-system",
};

/** Throws MeshbedError XDS_LISTEN_FAILED. */
export async function startMesh(options: MeshOptions): Promise<Mesh> {
  const { client, authority, clock, log } = options;
  const watched = watchObjects(options, () => coalescer.changed());
  const certificates = createWorkloadCertificates({
    authority,
    clock,
    log,
    ...(options.certificateLifetimeMs && { lifetimeMs: options.certificateLifetimeMs }),
    onIssued: () => served.notify(),
  });
  const translator = createTranslator({
    config: { ...meshConfig, mode: options.mode },
    rootsPem: authority.certPem,
    certificateOf: (spiffeId) => certificates.current(spiffeId),
  });
  const served = serve(translator);
  const events = createEventRecorder({ client, component: "meshbed-mesh", clock, log });
  const reporter = createReporter(events, log);
  const statuses = createStatusWriter(client, clock, log);
  const lifetimeMs = options.certificateLifetimeMs ?? workloadLifetimeMs;
  const ruleStatuses = createRuleStatusWriter({ client, clock, log, events }, () => ({
    model: translator.model,
    objects: watched.objects(),
  }));
  const counts = { updates: 0, lastUpdateMs: 0 };
  const coalescer = createCoalescer(clock, () => {
    const startedMs = clock.monotonicMs();
    const objects = watched.objects();
    translator.update(objects);
    certificates.setLifetime(certificateLifetimeMs(translator.model.settings) ?? lifetimeMs);
    const used = translator.model.workloads.filter(({ nodeId }) => nodeId !== "").map(({ identity }) => identity);
    const identities = new Set(used);
    certificates.retain(identities);
    // Asked for before the sidecar is: the certificate is there when it connects.
    for (const identity of identities) certificates.current(identity);
    counts.updates++;
    counts.lastUpdateMs = clock.monotonicMs() - startedMs;
    served.notify();
    reporter.report(translator.model, objects);
    statuses.update(translator.model, objects);
    ruleStatuses.changed();
  });
  const stop = (): void => {
    for (const part of [coalescer, ruleStatuses, watched, statuses]) part.stop();
    certificates.close();
  };
  const ready = watched.synced.then(() => {
    coalescer.start();
    served.open();
  });
  try {
    const { adsHost: host, adsPort: port, adsTls: tls, adsPlainPort: plainPort } = options;
    const server = await startAdsServer({
      host,
      port,
      tls,
      ...(plainPort !== undefined && { plainPort }),
      source: served.source,
      authorize: (peer, nodeId, metadata) => mayAsk(peer, nodeId, metadata, translator.model),
      onNack: (nack) => {
        const about = subjectOf(translator.model, nack.nodeId);
        if (about) events.record(about, "Warning", "ConfigurationRefused", refusalText(nack));
      },
      log,
      clock,
    });
    return {
      adsPort: server.port,
      adsPlainPort: server.plainPort,
      ready,
      statistics: () => ({ ...counts, ...server.statistics }),
      proxyStatus: () => server.status(),
      async close() {
        stop();
        await server.close();
      },
    };
  } catch (error) {
    stop();
    throw error;
  }
}

/** The pod, or the node, that a node id stands for. */
function subjectOf(model: Model, nodeId: string): Subject | undefined {
  const pod = model.workloadByNodeId.get(nodeId)?.pod;
  if (pod) return { apiVersion: "v1", kind: "Pod", metadata: pod.metadata };
  const [role, , name = ""] = nodeId.split("~");
  const node = role === "node" ? model.nodeByName.get(name) : undefined;
  return node && { apiVersion: "v1", kind: "Node", metadata: node.metadata };
}

const refusalText = ({ typeUrl, reason }: Nack): string =>
  `the proxy does not take configuration it was sent (${shortType(typeUrl)}): ${reason}`;

/** Until it is open it knows nothing: a proxy that comes back before the first list keeps what it has. */
function serve(translator: Translator): { source: SnapshotSource; notify(): void; open(): void } {
  const watchers = new Set<() => void>();
  let isOpen = false;
  const notify = (): void => {
    if (isOpen) for (const onChange of watchers) onChange();
  };
  return {
    source: {
      get(nodeId, metadata) {
        if (!isOpen) return undefined;
        return isProxyless(metadata) ? translator.proxyless(nodeId) : translator.snapshot(nodeId);
      },
      watch(_nodeId, _metadata, onChange) {
        watchers.add(onChange);
        return () => watchers.delete(onChange);
      },
    },
    notify,
    open() {
      isOpen = true;
      notify();
    },
  };
}

/** idle → (change) due at once → cooling → idle | due at the end of cooling. Does nothing before start(). */
function createCoalescer(clock: Clock, run: () => void): { changed(): void; start(): void; stop(): void } {
  let state: "stopped" | "idle" | "due" | "cooling" | "cooling-changed" = "stopped";
  let cancel: Cancel | undefined;
  const fire = (): void => {
    state = "cooling";
    cancel = clock.after(coalesceMs, () => {
      if (state === "cooling-changed") fire();
      else state = "idle";
    });
    run();
  };
  return {
    changed() {
      if (state === "cooling") state = "cooling-changed";
      if (state !== "idle") return;
      state = "due";
      // After the other events of the same chunk.
      cancel = clock.after(0, fire);
    },
    start: fire,
    stop() {
      state = "stopped";
      cancel?.();
    },
  };
}

/** What our own status writer does is no news to the translation. (A ServiceEntry's status has its addresses.) */
const onlyRuleStatusChanged = (resource: Pick<Resource, "group" | "kind">, current: unknown, old: unknown): boolean =>
  resource.group.endsWith("istio.io") &&
  resource.kind !== "ServiceEntry" &&
  onlyStatusChanged(current as Versioned | undefined, old as Versioned | undefined);

function watchObjects(
  options: MeshOptions,
  onChange: () => void,
): { objects(): MeshObjects; synced: Promise<void>; stop(): void } {
  const { client, clock, log } = options;
  const deps = { client, clock, log, random: options.random ?? systemRandom };
  const stops: (() => void)[] = [];
  const synced: Promise<void>[] = [];
  const follow = <T>(resource: Resource<T>, selection: InformerOptions = {}): Informer<T> => {
    const informer = createInformer(deps, resource, selection);
    informer.onChange((current, old) => {
      if (!onlyRuleStatusChanged(resource, current, old)) onChange();
    });
    stops.push(() => informer.stop());
    synced.push(informer.synced);
    return informer;
  };
  const informers: { [K in Exclude<keyof MeshObjects, "caBundles">]: Informer<MeshObjects[K][number]> } = {
    namespaces: follow(resources.namespaces),
    nodes: follow(resources.nodes),
    pods: follow(resources.pods),
    services: follow(resources.services),
    endpointSlices: follow(resources.endpointSlices),
    // Certificates with roots beside them are of no type (Istio's documentation makes them "generic").
    secrets: follow(resources.secrets),
    gateways: follow(resources.gateways),
    virtualServices: follow(resources.virtualServices),
    destinationRules: follow(resources.destinationRules),
    authorizationPolicies: follow(resources.authorizationPolicies),
    peerAuthentications: follow(resources.peerAuthentications),
    requestAuthentications: follow(resources.requestAuthentications),
    telemetries: follow(resources.telemetries),
    serviceEntries: follow(resources.serviceEntries),
    workloadEntries: follow(resources.workloadEntries),
    workloadGroups: follow(resources.workloadGroups),
    sidecars: follow(resources.sidecars),
    envoyFilters: follow(resources.envoyFilters),
    proxyConfigs: follow(resources.proxyConfigs),
    wasmPlugins: follow(resources.wasmPlugins),
    gatewayClasses: follow(resources.gatewayClasses),
    kubernetesGateways: follow(resources.kubernetesGateways),
    httpRoutes: follow(resources.httpRoutes),
    grpcRoutes: follow(resources.grpcRoutes),
    tlsRoutes: follow(resources.tlsRoutes),
    tcpRoutes: follow(resources.tcpRoutes),
    referenceGrants: follow(resources.referenceGrants),
    backendTlsPolicies: follow(resources.backendTlsPolicies),
    configMaps: follow(resources.configMaps, {
      namespace: settingsNamespace,
      fieldSelector: `metadata.name=${settingsName}`,
    }),
  };
  const kinds = Object.keys(informers) as (keyof typeof informers)[];
  const bundles = createCaBundles((resource, selection) => createInformer(deps, resource, selection), onChange);
  const followBundles = () => bundles.follow(informers.backendTlsPolicies.list());
  stops.push(() => bundles.stop());
  return {
    objects() {
      const lists = Object.fromEntries(kinds.map((kind) => [kind, informers[kind].list()]));
      return { ...lists, caBundles: bundles.list() } as unknown as MeshObjects;
    },
    synced: Promise.all(synced).then(async () => {
      informers.backendTlsPolicies.onChange(() => void followBundles());
      await followBundles();
    }),
    stop() {
      for (const stop of stops) stop();
    },
  };
}
