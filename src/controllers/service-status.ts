// Writes the addresses of LoadBalancer Services: the nodes on whose network their ready pods listen, or one of this machine's own.

import { isLocalAddress } from "../api/gateway-classes.ts";
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

/**
 * core/v1 LoadBalancerIngress of a Service: sorted, each node once; none for a Service of another type. Pods with addresses of their
 * own are reached through a loopback address of this machine, where the supervisor relays to the node ports.
 */
export function plan(
  service: Service,
  slices: readonly EndpointSlice[],
  podOf: (name: string) => Pod | undefined,
): { ip: string; ipMode: "VIP" | "Proxy" }[] {
  if (service.spec?.type !== "LoadBalancer") return [];
  const ips = new Set<string>();
  let hasOthers = false;
  for (const { conditions, addresses, targetRef } of slices.flatMap((slice) => slice.endpoints ?? []))
    if (podOf(targetRef?.name ?? "")?.spec?.hostNetwork !== true) hasOthers = true;
    else if (conditions?.ready === true) for (const ip of addresses) ips.add(ip);
  const own = hasOthers && ips.size === 0 ? localAddressOf(service) : undefined;
  if (own !== undefined) return [{ ip: own, ipMode: "Proxy" }];
  return [...ips].sort().map((ip) => ({ ip, ipMode: "VIP" }));
}

/** The one it asks for, or the one its cluster IP stands for: 10.96.3.4 → 127.96.3.4. */
function localAddressOf({ spec }: Service): string | undefined {
  if (spec?.loadBalancerIP && isLocalAddress(spec.loadBalancerIP)) return spec.loadBalancerIP;
  return spec?.clusterIP?.startsWith("10.") ? `127.${spec.clusterIP.slice(3)}` : undefined;
}
