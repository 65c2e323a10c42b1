// Keeps the EndpointSlices of every Service with a selector: one slice per set of ports, split when it grows too long.

import { type Draft, keyOf } from "../api/object.ts";
import { endpointSlices, nodes, pods, services } from "../api/resources.ts";
import { matchesMap } from "../api/selectors.ts";
import type { EndpointSlice, Node, Service } from "../api/types.ts";
import { deleteObject } from "../client/delete.ts";
import type { ReconcileResult } from "../client/types.ts";
import { messageOf } from "../kernel/errors.ts";
import { endpointOf, hasManagedEndpoints, type PortGroup, portGroups, type SliceEndpoint } from "./endpoint-ports.ts";
import { serviceNameLabel } from "./indexes.ts";
import { controllerReference } from "./ownership.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

const managedByLabel = "endpointslice.kubernetes.io/managed-by";
const manager = "endpointslice-controller.kubernetes.io";
/** Endpoints in one slice (Kubernetes' default); more go into further slices. */
const endpointsPerSliceMax = 100;

export function endpointSliceController(deps: ControllerDeps): Controller {
  const { client, informers } = deps;
  const serviceCache = informers.of(services);
  const podCache = informers.of(pods);
  const sliceCache = informers.of(endpointSlices);
  const nodeCache = informers.of(nodes);
  const recorder = deps.recorderOf("endpoint-slice-controller");
  async function reconcile(key: string): Promise<ReconcileResult> {
    const service = serviceCache.get(key);
    const existing = sliceCache
      .by("service", key)
      .filter((slice) => slice.metadata.labels?.[managedByLabel] === manager && !slice.metadata.deletionTimestamp);
    const managed = service !== undefined && hasManagedEndpoints(service) && !service.metadata.deletionTimestamp;
    const groups = managed ? portGroups(service, podCache.by("namespace", service.metadata.namespace ?? "")) : [];
    const decision = plan(service, groups, existing, (name) => nodeCache.get(name));
    try {
      for (const draft of decision.create) sliceCache.observe(await client.create(endpointSlices, draft));
      for (const slice of decision.update) sliceCache.observe(await client.update(endpointSlices, slice));
      for (const { metadata } of decision.delete) {
        await deleteObject(client, endpointSlices, { metadata });
        sliceCache.observeDeleting(keyOf({ metadata }), metadata.uid);
      }
    } catch (error) {
      if (service !== undefined)
        recorder.record(
          service,
          "Warning",
          "FailedToUpdateEndpointSlices",
          `Error updating Endpoint Slices for Service ${key}: ${messageOf(error)}`,
        );
      throw error;
    }
    return { kind: "done" };
  }

  return runController(deps, {
    name: "endpointslice",
    reconcile,
    needs: [serviceCache, podCache, sliceCache, nodeCache],
    keys: () => serviceCache.list().map(keyOf),
    watch: (enqueue) => [
      serviceCache.onChange((current, old) => enqueue(keyOf((current ?? old)!))),
      sliceCache.onChange((current, old) => {
        const { labels, namespace } = (current ?? old)!.metadata;
        if (labels?.[managedByLabel] === manager) enqueue(`${namespace}/${labels[serviceNameLabel]}`);
      }),
      podCache.onChange((current, old) => {
        const { namespace } = (current ?? old)!.metadata;
        for (const service of serviceCache.by("namespace", namespace ?? "")) {
          const selector = service.spec?.selector;
          if (!hasManagedEndpoints(service)) continue;
          const selects = [current, old].some((pod) => pod !== undefined && matchesMap(selector, pod.metadata.labels));
          if (selects) enqueue(keyOf(service));
        }
      }),
    ],
  });
}

export interface SlicePlan {
  create: Draft<EndpointSlice>[];
  update: EndpointSlice[];
  delete: EndpointSlice[];
}

/**
 * The writes that turn the existing slices into the wanted ones. Endpoints stay in the slice they are in; new ones fill slices of the
 * same ports before a slice is added. A managed Service without endpoints keeps one empty slice, as in Kubernetes.
 */
export function plan(
  service: Service | undefined,
  groups: readonly PortGroup[],
  existing: readonly EndpointSlice[],
  nodeOf: (name: string) => Node | undefined,
): SlicePlan {
  const decision: SlicePlan = { create: [], update: [], delete: [] };
  if (service === undefined || !hasManagedEndpoints(service) || service.metadata.deletionTimestamp !== undefined) {
    decision.delete.push(...existing);
    return decision;
  }
  const unused = new Set(existing);
  const wanted = groups.length > 0 ? groups : [{ ports: [], members: [] }];
  for (const { ports, members } of wanted) {
    const waiting = new Map<string, SliceEndpoint>();
    for (const member of members)
      waiting.set(member.pod.metadata.uid, endpointOf(member, nodeOf(member.pod.spec?.nodeName ?? "")));
    const mine = existing
      .filter((slice) => Bun.deepEquals(slice.ports ?? [], ports))
      .slice(0, Math.max(1, members.length));
    const kept = mine.map((slice) => ({ slice, endpoints: keep(slice, waiting) }));
    for (const { slice, endpoints } of kept) {
      takeFrom(waiting, endpoints);
      // An emptied slice goes, except the Service's last.
      if (endpoints.length === 0 && (members.length > 0 || slice !== mine[0])) continue;
      unused.delete(slice);
      if (!Bun.deepEquals(endpoints, slice.endpoints ?? [])) decision.update.push({ ...slice, endpoints });
    }
    while (waiting.size > 0 || (members.length === 0 && mine.length === 0)) {
      const endpoints: SliceEndpoint[] = [];
      takeFrom(waiting, endpoints);
      decision.create.push(draftOf(service, ports, endpoints));
      if (members.length === 0) break;
    }
  }
  decision.delete.push(...unused);
  return decision;
}

/** The slice's endpoints that are still wanted, brought up to date and taken out of `waiting`. */
function keep(slice: EndpointSlice, waiting: Map<string, SliceEndpoint>): SliceEndpoint[] {
  const kept: SliceEndpoint[] = [];
  for (const { targetRef } of slice.endpoints ?? []) {
    const endpoint = waiting.get(targetRef?.uid ?? "");
    if (endpoint === undefined) continue;
    kept.push(endpoint);
    waiting.delete(targetRef!.uid!);
  }
  return kept;
}

function takeFrom(waiting: Map<string, SliceEndpoint>, endpoints: SliceEndpoint[]): void {
  for (const [uid, endpoint] of waiting) {
    if (endpoints.length >= endpointsPerSliceMax) return;
    endpoints.push(endpoint);
    waiting.delete(uid);
  }
}

function draftOf(service: Service, ports: EndpointSlice["ports"], endpoints: SliceEndpoint[]): Draft<EndpointSlice> {
  const { name, namespace, labels } = service.metadata;
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      generateName: `${name}-`,
      namespace: namespace!,
      labels: {
        ...labels,
        [serviceNameLabel]: name,
        [managedByLabel]: manager,
        ...(service.spec?.clusterIP === "None" && { "service.kubernetes.io/headless": "" }),
      },
      ownerReferences: [controllerReference(service)],
    },
    addressType: "IPv4",
    endpoints,
    ...(ports && { ports }),
  };
}
