// Where a request goes from one proxy: cluster, its load balancing, the endpoints that may get it, and how they are reached.

import { type PolicyClient, policyFor, subsetPolicy } from "../mesh/policies.ts";
import type { Model, ServiceModel, Workload } from "../mesh/types.ts";
import { pick } from "../proxy/balancing/balance.ts";
import type { ClusterSlot, Endpoint } from "../proxy/clusters/cluster.ts";
import type { Cluster } from "../proxy/clusters/config.ts";
import type { Context } from "./context.ts";
import { peerAuthenticationSteps } from "./policies.ts";
import type { Step } from "./types.ts";

/** Endpoints shown one by one. */
const endpointsShownMax = 8;

export interface ClusterName {
  port: number;
  subset: string;
  host: string;
}

/** "outbound|80|v1|web.video.svc.cluster.local"; other names are no service's. */
export function clusterName(text: string): ClusterName | undefined {
  const [direction, port, subset = "", host] = text.split("|");
  return direction === "outbound" && host ? { port: Number(port), subset, host } : undefined;
}

/** Endpoints that may be picked now; empty: no healthy upstream. */
export function usableEndpoints(slot: ClusterSlot, hash: bigint | undefined): readonly Endpoint[] {
  if (slot.current?.balancing.policy === "ORIGINAL_DST") return [];
  const picked = pick(slot, { next: () => 0, below: () => 0 }, undefined, hash);
  if (picked === undefined) return [];
  const { policy } = slot.current!.balancing;
  // A hash says which one.
  if (hash !== undefined && (policy === "RING_HASH" || policy === "MAGLEV")) return [picked];
  return slot.selection?.hosts ?? [picked];
}

export const workloadOf = (model: Model, { address }: Endpoint): Workload | undefined =>
  model.workloads.find(({ ip }) => address.slice(0, address.lastIndexOf(":")) === ip);

/** The cluster with what shaped it, and its endpoints with what is known of each. */
export function targetSteps(
  context: Context,
  slot: ClusterSlot,
  client: PolicyClient,
  usable: readonly Endpoint[],
): Step[] {
  const { world, model } = context;
  const name = clusterName(slot.name);
  const steps: Step[] = [];
  const service = name && model.serviceByHost.get(name.host);
  const subset = name?.subset ? `, subset ${name.subset}` : "";
  steps.push({
    label: "cluster",
    text: name ? `${name.host} port ${name.port}${subset}` : slot.name,
    ...(service && { at: world.places.of(service.service) }),
  });
  if (service) steps.push(...ruleSteps(context, service, name!, client));
  steps.push({ label: "load balancer", text: balancingText(slot.current!) });
  steps.push(...endpointSteps(context, slot, usable));
  return steps;
}

function ruleSteps(
  { model, world }: Context,
  service: ServiceModel,
  { subset, port }: ClusterName,
  client: PolicyClient,
): Step[] {
  const policy = policyFor(model, service, client);
  if (policy.rules.length === 0) return [{ label: "DestinationRule", text: "none: Istio's defaults" }];
  return policy.rules.map(({ object }): Step => {
    const { namespace, name } = object.metadata;
    const index = object.spec?.subsets?.findIndex((each) => each.name === subset) ?? -1;
    const labels = Object.entries(object.spec?.subsets?.[index]?.labels ?? {}).map(([key, value]) => `${key}=${value}`);
    const tls = subsetPolicy(policy, subset, port).tls?.mode;
    const text = [
      index >= 0 ? `subset ${subset} is ${labels.join(",") || "everything"}` : "applies",
      ...(tls === undefined ? [] : [`tls mode ${tls}`]),
    ].join("; ");
    return {
      label: "DestinationRule",
      text: `${namespace}/${name}: ${text}`,
      at: world.places.of(object, index >= 0 ? `spec.subsets[${index}]` : "spec"),
    };
  });
}

function balancingText({ balancing, outlier, thresholds }: Cluster): string {
  const what: Readonly<Record<Cluster["balancing"]["policy"], string>> = {
    LEAST_REQUEST: "LEAST_REQUEST: of two chosen by chance, the one with fewer requests in progress",
    ROUND_ROBIN: "ROUND_ROBIN: each in turn",
    RANDOM: "RANDOM",
    RING_HASH: "RING_HASH: the same key goes to the same endpoint",
    MAGLEV: "MAGLEV: the same key goes to the same endpoint",
    ORIGINAL_DST: "none: where the caller wanted to go",
  };
  const limits = [
    ...(Number.isFinite(thresholds.connectionsMax) && thresholds.connectionsMax < 4_000_000_000
      ? [`${thresholds.connectionsMax} connections at most`]
      : []),
    ...(Number.isFinite(thresholds.requestsMax) && thresholds.requestsMax < 4_000_000_000
      ? [`${thresholds.requestsMax} requests at most`]
      : []),
    ...(outlier ? ["outlier detection"] : []),
  ];
  return [what[balancing.policy], ...limits].join("; ");
}

function endpointSteps({ model, world }: Context, slot: ClusterSlot, usable: readonly Endpoint[]): Step[] {
  if (slot.current!.balancing.policy === "ORIGINAL_DST") return [];
  if (slot.all.length === 0)
    return [{ label: "endpoints", text: "none: no pod is ready behind this cluster", mark: "no" }];
  const rows = slot.all.slice(0, endpointsShownMax).map((endpoint): Step => {
    const workload = workloadOf(model, endpoint);
    const { priority, locality } = endpoint.placement;
    const facts = [
      workload ? `${workload.namespace}/${workload.name}` : endpoint.placement.hostname || endpoint.address,
      world.offline ? "" : endpoint.address,
      workload?.nodeName && !world.offline ? `on ${workload.nodeName}` : "",
      locality.replaceAll("/", "") === "" ? "" : locality,
      priority > 0 ? `priority ${priority}` : "",
      endpoint.health,
    ];
    return { label: "", text: facts.filter(Boolean).join("  "), mark: usable.includes(endpoint) ? "yes" : "no" };
  });
  const more = slot.all.length - rows.length;
  if (more > 0) rows.push({ label: "", text: `… ${more} more` });
  return [{ label: "endpoints", text: `${usable.length} of ${slot.all.length} may get it`, steps: rows }];
}

/** How an endpoint is reached, and whose word that is. */
export function transportStep({ model, world }: Context, endpoint: Endpoint, caller: string): Step {
  const workload = workloadOf(model, endpoint);
  const steps = workload ? peerAuthenticationSteps(model, world, workload) : [];
  const { connectTarget, tls } = endpoint.transport;
  if (connectTarget !== undefined) {
    const why =
      steps.length === 0 ? "automatic: both are in the mesh and no rule says otherwise" : "both are in the mesh";
    return {
      label: "mTLS",
      text: `yes (${why}); ${caller} → ${workload?.identity ?? "the endpoint"}`,
      mark: "yes",
      steps,
    };
  }
  if (tls) return { label: "TLS", text: "originated here, as a DestinationRule asks", mark: "yes", steps };
  const why = !workload
    ? "the endpoint is outside the mesh"
    : workload.injected
      ? "a PeerAuthentication or DestinationRule switches it off"
      : "the pod has no sidecar";
  return { label: "mTLS", text: `no, plain text: ${why}`, mark: "warning", steps };
}
