// What checks look at: every object by kind, and the model the mesh would make of them.

import { groupOf, type KubeObject, keyOf } from "../../api/object.ts";
import * as resources from "../../api/resources.ts";
import { matchesMap } from "../../api/selectors.ts";
import type { Deployment, Namespace, Secret } from "../../api/types.ts";
import { hostCovers, isVisible, resolveHost } from "../hosts.ts";
import { listOfConfigMap } from "../mesh-settings.ts";
import { createTranslator, noObjects } from "../translator.ts";
import type { MeshObjects, Model, ServiceModel, Workload } from "../types.ts";
import { destinationsOf } from "./destinations.ts";
import type { Subject } from "./types.ts";

/** A host that routes may lead to. */
export interface HostEntry {
  /** Of a Service, or as a ServiceEntry writes it; may start with "*". */
  host: string;
  namespace: string;
  ports: readonly number[];
  exportTo: ReadonlySet<string> | undefined;
  /** Absent for a ServiceEntry. */
  service: ServiceModel | undefined;
}

export interface Cluster {
  /** Completed: a workload's pods and a service's slices are there even when only its manifest was given. */
  objects: MeshObjects;
  model: Model;
  deployments: readonly Deployment[];
  /** Of every type. */
  secrets: ReadonlyMap<string, Secret>;
  namespaces: ReadonlyMap<string, Namespace>;
  hosts: readonly HostEntry[];
  /** Whether the object was given; others were made up to complete what was. */
  isGiven(subject: Subject): boolean;
  /** The host a name in a rule of `namespace` stands for, if a client there may see it. */
  hostOf(name: string, namespace: string): HostEntry | undefined;
  /** Workloads of the namespace with all the labels; none for no labels. */
  selected(namespace: string, labels: Readonly<Record<string, string>> | undefined): readonly Workload[];
  /** Whether a route leads to the subset of the host (which may be a pattern). */
  isRouted(host: string, subset: string): boolean;
  /** What to call the workload: its Deployment if that was given, else the pod. */
  ownerOf(workload: Workload): Subject;
}

const config = {
  mode: "namespaces",
  clusterDomain: "cluster.local",
  trustDomain: "cluster.local",
  rootNamespace: "istio-system",
} as const;

/** "Gateway.networking.istio.io" → gateways */
const lists = new Map(
  Object.entries(resources).flatMap(([key, resource]) =>
    typeof resource === "object" && key in noObjects
      ? [[`${resource.kind}.${resource.group}`, key as keyof MeshObjects] as const]
      : [],
  ),
);

/** "VirtualService.networking.istio.io video/web" */
export const idOf = (object: Subject): string => `${object.kind}.${groupOf(object.apiVersion)} ${keyOf(object)}`;

/** `given`: the ids of objects that are not made up. */
export function buildCluster(completed: readonly KubeObject[], given: ReadonlySet<string>): Cluster {
  const found: { -readonly [K in keyof MeshObjects]: KubeObject[] } = structuredClone(noObjects) as never;
  for (const object of completed) {
    const list = lists.get(`${object.kind}.${groupOf(object.apiVersion)}`);
    if (list !== undefined) found[list === "configMaps" ? listOfConfigMap(object.metadata) : list].push(object);
  }
  const objects = found as unknown as MeshObjects;
  const translator = createTranslator({ config, rootsPem: "", certificateOf: () => undefined });
  translator.update(objects);
  return clusterOf(translator.model, objects, completed, (subject) => given.has(idOf(subject)));
}

/** The view of what the mesh holds; `owners`: ReplicaSets and what is above them, as far as they are known. */
export function clusterOf(
  model: Model,
  objects: MeshObjects,
  owners: readonly KubeObject[],
  isGiven: Cluster["isGiven"],
): Cluster {
  const hosts = hostsOf(objects, model);
  const byHost = Map.groupBy(hosts, ({ host }) => host);
  const wildcards = hosts.filter(({ host }) => host.startsWith("*"));
  const byUid = new Map(owners.map((each) => [each.metadata.uid, each]));
  const labelled = indexLabels(model.workloads);
  const led = ledTo(model);
  return {
    objects,
    model,
    deployments: owners.filter(({ kind }) => kind === "Deployment") as unknown as Deployment[],
    secrets: new Map(objects.secrets.map((each) => [keyOf(each), each])),
    namespaces: new Map(objects.namespaces.map((each) => [each.metadata.name, each])),
    hosts,
    isGiven,
    hostOf(name, namespace) {
      const host = resolveHost(name, namespace, model.config.clusterDomain);
      const see = (entry: HostEntry): boolean => isVisible(entry.exportTo, namespace);
      return byHost.get(host)?.find(see) ?? wildcards.find((entry) => hostCovers(entry.host, host) && see(entry));
    },
    selected(namespace, labels) {
      const [first] = Object.entries(labels ?? {});
      if (first === undefined) return [];
      const candidates = labelled.get(first.join("=")) ?? [];
      return candidates.filter((each) => each.namespace === namespace && matchesMap(labels, each.labels));
    },
    isRouted(host, subset) {
      const routed = led.get(subset);
      if (routed === undefined) return false;
      return host.startsWith("*") ? [...routed].some((each) => hostCovers(host, each)) : routed.has(host);
    },
    ownerOf({ pod }) {
      const controller = pod.metadata.ownerReferences?.find((reference) => reference.controller === true);
      const set = controller && byUid.get(controller.uid);
      const upper = set?.metadata.ownerReferences?.[0];
      return (upper && byUid.get(upper.uid)) ?? set ?? { ...pod, apiVersion: "v1", kind: "Pod" };
    },
  };
}

/** "app=web" → workloads */
function indexLabels(workloads: readonly Workload[]): Map<string, Workload[]> {
  const index = new Map<string, Workload[]>();
  for (const workload of workloads)
    for (const entry of Object.entries(workload.labels)) {
      const key = entry.join("=");
      const list = index.get(key);
      if (list === undefined) index.set(key, [workload]);
      else list.push(workload);
    }
  return index;
}

/** Subset → hosts that routes lead to with it. */
function ledTo(model: Model): Map<string, Set<string>> {
  const led = new Map<string, Set<string>>();
  for (const { object, namespace } of model.ruleSets)
    for (const { destination } of destinationsOf(object)) {
      if (!destination.subset) continue;
      const hosts = led.get(destination.subset) ?? new Set<string>();
      led.set(
        destination.subset,
        hosts.add(resolveHost(destination.host ?? "", namespace, model.config.clusterDomain)),
      );
    }
  return led;
}

function hostsOf(objects: MeshObjects, model: Model): HostEntry[] {
  const hosts: HostEntry[] = model.services.map((service) => ({
    host: service.host,
    namespace: service.namespace,
    ports: service.ports.map(({ port }) => port),
    exportTo: service.exportTo,
    service: service.entry === undefined ? service : undefined,
  }));
  const known = new Set(hosts.map(({ host }) => host));
  for (const { metadata, spec } of objects.services)
    if (spec?.type === "ExternalName") {
      const host = `${metadata.name}.${metadata.namespace}.svc.${model.config.clusterDomain}`;
      const ports = (spec.ports ?? []).map(({ port }) => port);
      hosts.push({ host, namespace: metadata.namespace ?? "default", ports, exportTo: undefined, service: undefined });
    }
  for (const { metadata, spec } of objects.serviceEntries)
    for (const name of spec?.hosts ?? []) {
      const host = name.toLowerCase();
      if (known.has(host)) continue;
      const namespace = metadata.namespace ?? "default";
      const exportTo = spec?.exportTo?.length && !spec.exportTo.includes("*") ? spec.exportTo : undefined;
      hosts.push({
        host,
        namespace,
        ports: (spec?.ports ?? []).map(({ number }) => number),
        exportTo: exportTo && new Set(exportTo.map((each) => (each === "." ? namespace : each))),
        service: undefined,
      });
    }
  return hosts;
}
