// What checks look at: every object by kind, and the model the mesh would make of them.

import { type KubeObject, keyOf } from "../../api/object.ts";
import * as resources from "../../api/resources.ts";
import type { Deployment, Namespace, Secret } from "../../api/types.ts";
import { hostCovers, isVisible, resolveHost } from "../hosts.ts";
import { createTranslator, noObjects } from "../translator.ts";
import type { MeshObjects, Model, ServiceModel, Workload } from "../types.ts";
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

export const groupOf = (apiVersion: string): string =>
  apiVersion.includes("/") ? apiVersion.slice(0, apiVersion.indexOf("/")) : "";

/** "VirtualService.networking.istio.io video/web" */
export const idOf = (object: Subject): string => `${object.kind}.${groupOf(object.apiVersion)} ${keyOf(object)}`;

/** `given`: the ids of objects that are not made up. */
export function buildCluster(completed: readonly KubeObject[], given: ReadonlySet<string>): Cluster {
  const found: { -readonly [K in keyof MeshObjects]: KubeObject[] } = structuredClone(noObjects) as never;
  for (const object of completed) {
    const list = lists.get(`${object.kind}.${groupOf(object.apiVersion)}`);
    if (list !== undefined && (list !== "configMaps" || keyOf(object) === "istio-system/istio"))
      found[list].push(object);
  }
  const objects = found as unknown as MeshObjects;
  const translator = createTranslator({ config, rootsPem: "", certificateOf: () => undefined });
  translator.update(objects);
  const { model } = translator;
  const hosts = hostsOf(objects, model);
  const byHost = Map.groupBy(hosts, ({ host }) => host);
  const wildcards = hosts.filter(({ host }) => host.startsWith("*"));
  const deployments = completed.filter(({ kind }) => kind === "Deployment") as unknown as Deployment[];
  const owners = new Map(deployments.map((each) => [each.metadata.uid, each]));
  const replicaSets = new Map(
    completed.flatMap((each) => (each.kind === "ReplicaSet" ? [[each.metadata.uid, each]] : [])),
  );
  return {
    objects,
    model,
    deployments,
    secrets: new Map(objects.secrets.map((each) => [keyOf(each), each])),
    namespaces: new Map(objects.namespaces.map((each) => [each.metadata.name, each])),
    hosts,
    isGiven: (subject) => given.has(idOf(subject)),
    hostOf(name, namespace) {
      const host = resolveHost(name, namespace, config.clusterDomain);
      const see = (entry: HostEntry): boolean => isVisible(entry.exportTo, namespace);
      return byHost.get(host)?.find(see) ?? wildcards.find((entry) => hostCovers(entry.host, host) && see(entry));
    },
    ownerOf({ pod }) {
      const subject = { ...pod, apiVersion: "v1", kind: "Pod" };
      const controller = pod.metadata.ownerReferences?.find((reference) => reference.controller === true);
      if (controller === undefined) return subject;
      const set = replicaSets.get(controller.uid);
      const upper = set?.metadata.ownerReferences?.[0]?.uid ?? controller.uid;
      return owners.get(upper) ?? set ?? completed.find(({ metadata }) => metadata.uid === controller.uid) ?? subject;
    },
  };
}

function hostsOf(objects: MeshObjects, model: Model): HostEntry[] {
  const hosts: HostEntry[] = model.services.map((service) => ({
    host: service.host,
    namespace: service.namespace,
    ports: service.ports.map(({ port }) => port),
    exportTo: service.exportTo,
    service,
  }));
  const known = new Set(hosts.map(({ host }) => host));
  for (const { metadata, spec } of objects.services)
    if (spec?.type === "ExternalName") {
      const host = `${metadata.name}.${metadata.namespace}.svc.${config.clusterDomain}`;
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
