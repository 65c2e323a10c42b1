// Keeps the core/v1 Endpoints object of every Service with a selector, for `kubectl get endpoints` and older clients.

import { type Draft, keyOf } from "../api/object.ts";
import { endpoints, pods, services } from "../api/resources.ts";
import { matchesMap } from "../api/selectors.ts";
import type { Endpoints, Service } from "../api/types.ts";
import { deleteObject } from "../client/delete.ts";
import type { ReconcileResult } from "../client/types.ts";
import { hasManagedEndpoints, type PortGroup, portGroups } from "./endpoint-ports.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

type Subset = NonNullable<Endpoints["subsets"]>[number];

/** Addresses in one object; further ones are left out and the object says so in an annotation (as in Kubernetes). */
const addressesMax = 1_000;
const overCapacityAnnotation = "endpoints.kubernetes.io/over-capacity";

export function endpointsController(deps: ControllerDeps): Controller {
  const { client, informers } = deps;
  const serviceCache = informers.of(services);
  const podCache = informers.of(pods);
  const cache = informers.of(endpoints);
  async function reconcile(key: string): Promise<ReconcileResult> {
    const service = serviceCache.get(key);
    const present = cache.get(key);
    if (service === undefined || service.metadata.deletionTimestamp !== undefined) {
      // Only what this controller made: user-made Endpoints of the same name have no such label.
      if (present?.metadata.labels?.["endpoints.kubernetes.io/managed-by"] === manager)
        await deleteObject(client, endpoints, present);
      return { kind: "done" };
    }
    if (!hasManagedEndpoints(service)) return { kind: "done" };
    const wanted = plan(service, portGroups(service, podCache.by("namespace", service.metadata.namespace ?? "")));
    if (present === undefined) cache.observe(await client.create(endpoints, wanted));
    else if (!Bun.deepEquals(wanted.subsets ?? [], present.subsets ?? []))
      cache.observe(
        await client.update(endpoints, {
          ...present,
          subsets: wanted.subsets ?? [],
          metadata: {
            ...present.metadata,
            ...(wanted.metadata as object),
            annotations: annotationsOf(present, wanted),
          },
        }),
      );
    return { kind: "done" };
  }

  return runController(deps, {
    name: "endpoints",
    reconcile,
    needs: [serviceCache, podCache, cache],
    keys: () => serviceCache.list().map(keyOf),
    watch: (enqueue) => [
      serviceCache.onChange((current, old) => enqueue(keyOf((current ?? old)!))),
      cache.onChange((current, old) => enqueue(keyOf((current ?? old)!))),
      podCache.onChange((current, old) => {
        for (const service of serviceCache.by("namespace", (current ?? old)!.metadata.namespace ?? "")) {
          const { selector } = service.spec ?? {};
          if ([current, old].some((pod) => pod !== undefined && matchesMap(selector, pod.metadata.labels)))
            enqueue(keyOf(service));
        }
      }),
    ],
  });
}

const manager = "endpoint-controller";

function annotationsOf(present: Endpoints, wanted: Draft<Endpoints>): Record<string, string> {
  const { [overCapacityAnnotation]: _, ...rest } = present.metadata.annotations ?? {};
  return { ...rest, ...wanted.metadata.annotations };
}

/** The Endpoints object of a Service: ready and not ready addresses by set of ports; terminating pods are left out. */
export function plan(service: Service, groups: readonly PortGroup[]): Draft<Endpoints> {
  const publish = service.spec?.publishNotReadyAddresses === true;
  const subsets: Subset[] = [];
  let left = addressesMax;
  let truncated = false;
  for (const { ports, members } of groups) {
    const subset: Subset = {
      ports: ports.map((port) => ({ ...port, name: port.name ?? "" })) as NonNullable<Subset["ports"]>,
    };
    for (const { pod, ip, ready, terminating } of members) {
      if (terminating && !publish) continue;
      if (left-- <= 0) {
        truncated = true;
        break;
      }
      const { name, namespace, uid } = pod.metadata;
      const address = {
        ip,
        ...(pod.spec?.nodeName && { nodeName: pod.spec.nodeName }),
        targetRef: { kind: "Pod", name, namespace: namespace!, uid },
      };
      const list = ready ? "addresses" : "notReadyAddresses";
      subset[list] = [...(subset[list] ?? []), address];
    }
    if (subset.ports?.every((port) => port.name === "")) for (const port of subset.ports) delete port.name;
    if (subset.addresses || subset.notReadyAddresses) subsets.push(subset);
  }
  const { name, namespace, labels } = service.metadata;
  return {
    apiVersion: "v1",
    kind: "Endpoints",
    metadata: {
      name,
      namespace: namespace!,
      labels: { ...labels, "endpoints.kubernetes.io/managed-by": manager },
      ...(truncated && { annotations: { [overCapacityAnnotation]: "truncated" } }),
    },
    ...(subsets.length > 0 && { subsets }),
  };
}
