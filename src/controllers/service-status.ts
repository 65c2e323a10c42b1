// Writes the addresses of LoadBalancer Services: the nodes on whose network their ready pods listen.

import { keyOf } from "../api/object.ts";
import { endpointSlices, pods, services } from "../api/resources.ts";
import type { EndpointSlice, Pod, Service } from "../api/types.ts";
import type { ReconcileResult } from "../client/types.ts";
import { serviceNameLabel } from "./indexes.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

export function serviceStatusController(deps: ControllerDeps): Controller {
  const { client, informers } = deps;
  const serviceCache = informers.of(services);
  const sliceCache = informers.of(endpointSlices);
  const podCache = informers.of(pods);
  const recorder = deps.recorderOf("service-controller");
  async function reconcile(key: string): Promise<ReconcileResult> {
    const service = serviceCache.get(key);
    if (service === undefined || service.metadata.deletionTimestamp !== undefined) return { kind: "done" };
    const slices = sliceCache.by("service", key);
    const wanted = plan(service, slices, (name) => podCache.get(`${service.metadata.namespace}/${name}`));
    const present = service.status?.loadBalancer?.ingress ?? [];
    if (Bun.deepEquals(present, wanted)) return { kind: "done" };
    const { namespace, name } = service.metadata;
    const status = { loadBalancer: { ingress: wanted.length > 0 ? wanted : null } };
    serviceCache.observe(await client.patch(services, namespace, name, { status }, { subresource: "status" }));
    if (wanted.length > 0 && present.length === 0)
      recorder.record(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer");
    return { kind: "done" };
  }

  return runController(deps, {
    name: "service-status",
    reconcile,
    needs: [serviceCache, sliceCache, podCache],
    keys: () => serviceCache.list().map(keyOf),
    watch: (enqueue) => [
      serviceCache.onChange((current) => {
        if (current !== undefined) enqueue(keyOf(current));
      }),
      sliceCache.onChange((current, old) => {
        const { labels, namespace } = (current ?? old)!.metadata;
        const key = `${namespace}/${labels?.[serviceNameLabel]}`;
        if (serviceCache.get(key)?.spec?.type === "LoadBalancer") enqueue(key);
      }),
    ],
  });
}

/** core/v1 LoadBalancerIngress of a Service: sorted, each node once; none for a Service of another type. */
export function plan(
  service: Service,
  slices: readonly EndpointSlice[],
  podOf: (name: string) => Pod | undefined,
): { ip: string; ipMode: "VIP" | "Proxy" }[] {
  if (service.spec?.type !== "LoadBalancer") return [];
  const ips = new Set<string>();
  for (const { conditions, addresses, targetRef } of slices.flatMap((slice) => slice.endpoints ?? []))
    if (conditions?.ready === true && podOf(targetRef?.name ?? "")?.spec?.hostNetwork === true)
      for (const ip of addresses) ips.add(ip);
  return [...ips].sort().map((ip) => ({ ip, ipMode: "VIP" }));
}
