// What became of the Gateway API's objects → their statuses; only those that differ from what is written. Pure.

import { controllerName } from "../../api/gateway-classes.ts";
import { keyOf, type ObjectMeta } from "../../api/object.ts";
import type { Resource } from "../../api/resources.ts";
import * as resources from "../../api/resources.ts";
import type { KubernetesGateway, Service } from "../../api/types.ts";
import { hostPort } from "../../kernel/host_port.ts";
import type { Model } from "../types.ts";
import type { BackendTlsState } from "./backend-tls.ts";
import { passed } from "./listeners.ts";
import {
  type GatewayState,
  gatewayGroup,
  isUsable,
  type ListenerState,
  type ParentState,
  type RouteState,
  type Verdict,
} from "./types.ts";

export interface StatusChange {
  resource: Resource;
  object: { metadata: ObjectMeta };
  status: object;
}

interface Condition {
  type: string;
  status: string;
  reason: string;
  message: string;
  observedGeneration?: number;
  lastTransitionTime: string;
}

type Written = Partial<Condition> & { type: string };

const conditionMessageMax = 32_768;

/** `now`: RFC 3339. */
export function statusChanges(model: Model, services: readonly Service[], now: string): StatusChange[] {
  const { classes, gateways, routes } = model.gatewayApi;
  const changes: StatusChange[] = [];
  const change = (
    resource: Resource<never>,
    object: { metadata: ObjectMeta; status?: object },
    status: object,
  ): void => {
    if (!Bun.deepEquals(object.status ?? {}, status)) changes.push({ resource: resource as Resource, object, status });
  };
  for (const { object, accepted } of classes) {
    const conditions = merged(object.status?.conditions, { Accepted: accepted }, object.metadata, now);
    change(resources.gatewayClasses as Resource<never>, object, { ...object.status, conditions });
  }
  if (gateways.length > 0) {
    const byKey = new Map(services.map((service) => [keyOf(service), service]));
    const counts = attachedRoutes(routes);
    for (const gateway of gateways)
      change(
        resources.kubernetesGateways as Resource<never>,
        gateway.gateway,
        gatewayStatus(model, gateway, byKey, counts, now),
      );
  }
  for (const route of routes) {
    const status = routeStatus(route, now);
    // A route of others, or none at all: nothing to say, and nothing of ours to take back.
    if (status.parents.length > 0 || route.route.status?.parents?.length)
      change(resourceOf(route), route.route, status);
  }
  for (const state of model.backendTls.states) {
    const status = policyStatus(model, state, now);
    if (status.ancestors.length > 0 || state.object.status?.ancestors?.length)
      change(resources.backendTlsPolicies as Resource<never>, state.object, status);
  }
  return changes;
}

/** The specification has no more. */
const ancestorsMax = 16;

/** Per Gateway with a route to one of its Services. */
function policyStatus(model: Model, { object, accepted, resolved, targets }: BackendTlsState, now: string) {
  const hostOf = (key: string): string => `${key.split("/").toReversed().join(".")}.svc.${model.config.clusterDomain}`;
  const targeted = new Set(targets.map(({ service }) => hostOf(service)));
  const gateways = new Map<string, GatewayState>();
  for (const { http, destinations, parents } of model.gatewayApi.routes) {
    const rules = http.flatMap(({ owned }) => owned.rule.route ?? []);
    if ([...rules, ...destinations].some(({ destination }) => targeted.has(destination.host)))
      for (const { attachments } of parents) for (const { gateway } of attachments) gateways.set(gateway.key, gateway);
  }
  const written = object.status?.ancestors ?? [];
  const missing = targets.find(({ service, port }) => {
    const ports = model.serviceByHost.get(hostOf(service))?.ports;
    return ports === undefined || (port !== "" && !ports.some(({ name }) => name === port));
  });
  const none =
    missing && `there is no Service ${missing.service}${missing.port && ` with a port named ${missing.port}`}`;
  const verdict = accepted.ok && none ? { ok: false, reason: "TargetNotFound", message: none } : accepted;
  const own = [...gateways.values()].map(({ gateway: { metadata } }) => {
    const { name, namespace = "default" } = metadata;
    const ancestorRef = { group: gatewayGroup, kind: "Gateway", namespace, name };
    const before = written.find(
      (one) => one.controllerName === controllerName && Bun.deepEquals(one.ancestorRef, ancestorRef),
    );
    const verdicts = { Accepted: verdict, ResolvedRefs: resolved };
    return { ancestorRef, controllerName, conditions: merged(before?.conditions, verdicts, object.metadata, now) };
  });
  const others = written.filter((one) => one.controllerName !== controllerName);
  return { ancestors: [...own, ...others].slice(0, ancestorsMax) };
}

const resourceOf = ({ route }: RouteState): Resource<never> =>
  ({
    HTTPRoute: resources.httpRoutes,
    GRPCRoute: resources.grpcRoutes,
    TLSRoute: resources.tlsRoutes,
    TCPRoute: resources.tcpRoutes,
  })[route.kind as "HTTPRoute"] as Resource<never>;

/** Conditions in their order, with others' left in place. A time stays until the status changes. */
function merged(
  written: readonly Written[] | undefined,
  verdicts: Readonly<Record<string, Verdict>>,
  { generation = 1 }: Pick<ObjectMeta, "generation">,
  now: string,
  inverted = new Set<string>(),
): Condition[] {
  const foreign = (written ?? []).filter(({ type }) => !(type in verdicts)) as Condition[];
  const own = Object.entries(verdicts).map(([type, { ok, reason, message }]): Condition => {
    const status = ok !== inverted.has(type) ? "True" : "False";
    const before = written?.find((condition) => condition.type === type);
    return {
      type,
      status,
      reason,
      message: message.slice(0, conditionMessageMax),
      observedGeneration: generation,
      lastTransitionTime: before?.status === status ? (before.lastTransitionTime ?? now) : now,
    };
  });
  return [...own, ...foreign];
}

/** A listener's conflict is bad news: "True" when there is one. */
const badNews = new Set(["Conflicted", "PartiallyInvalid"]);

function attachedRoutes(routes: readonly RouteState[]): ReadonlyMap<ListenerState, number> {
  const counts = new Map<ListenerState, number>();
  for (const { parents } of routes) {
    const attached = new Set(parents.flatMap(({ attachments }) => attachments.map(({ listener }) => listener)));
    for (const listener of attached) counts.set(listener, (counts.get(listener) ?? 0) + 1);
  }
  return counts;
}

function gatewayStatus(
  model: Model,
  state: GatewayState,
  services: ReadonlyMap<string, Service>,
  counts: ReadonlyMap<ListenerState, number>,
  now: string,
): object {
  const { gateway, accepted, listeners } = state;
  const { metadata, status } = gateway;
  const { addresses, programmed } = programmedVerdict(model, state, services);
  const before = status?.listeners ?? [];
  return {
    ...status,
    ...(addresses.length > 0 || status?.addresses ? { addresses } : {}),
    conditions: merged(status?.conditions, { Accepted: accepted, Programmed: programmed }, metadata, now),
    listeners: listeners.map((listener) => ({
      name: listener.spec.name,
      attachedRoutes: counts.get(listener) ?? 0,
      supportedKinds: listener.kinds.map((kind) => ({ group: gatewayGroup, kind })),
      conditions: merged(
        before.find(({ name }) => name === listener.spec.name)?.conditions,
        {
          Accepted: listener.accepted,
          Conflicted: listener.conflicted,
          Programmed: listenerProgrammed(state, listener),
          ResolvedRefs: listener.resolved,
        },
        metadata,
        now,
        badNews,
      ),
    })),
  };
}

function listenerProgrammed({ accepted }: GatewayState, listener: ListenerState): Verdict {
  if (isUsable(listener) && accepted.ok) return passed("Programmed");
  const why = [listener.accepted, listener.conflicted, listener.resolved].find(({ ok }) => !ok);
  return { ok: false, reason: "Invalid", message: why?.message ?? "the Gateway is not accepted" };
}

type Address = NonNullable<NonNullable<KubernetesGateway["status"]>["addresses"]>[number];

/** Programmed: it has an address, and a pod that serves it. */
function programmedVerdict(
  model: Model,
  { accepted, listeners, services: keys, pods, unusable }: GatewayState,
  services: ReadonlyMap<string, Service>,
): { addresses: Address[]; programmed: Verdict } {
  const no = (reason: string, message: string): Verdict => ({ ok: false, reason, message });
  const found = keys.flatMap((key) => services.get(key) ?? []);
  const addresses = found.flatMap((service) => addressesOf(service, model.config.clusterDomain));
  if (!accepted.ok || !listeners.some(isUsable))
    return { addresses, programmed: no("Invalid", "no listener can serve") };
  if (unusable.length > 0)
    return {
      addresses,
      programmed: no("AddressNotUsable", `Failed to assign to any requested addresses: ${unusable.join("; ")}`),
    };
  if (addresses.length === 0) {
    const message = `Failed to assign an address: ${keys.map((key) => `Service ${key} has none yet`).join("; ")}`;
    return { addresses, programmed: no("AddressNotAssigned", message) };
  }
  const isServed = model.workloads.some(
    ({ pod, gateway, namespace, labels }) =>
      gateway &&
      pod.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") &&
      pods.some(
        (wanted) => wanted.namespace === namespace && Object.entries(wanted.labels).every(([k, v]) => labels[k] === v),
      ),
  );
  if (!isServed) return { addresses, programmed: no("Pending", "no pod of the gateway is ready") };
  const ports = [...new Set(listeners.filter(isUsable).map(({ spec }) => spec.port))];
  const assigned = found.flatMap(({ metadata }) =>
    ports.map((port) => hostPort(`${metadata.name}.${metadata.namespace}.svc.${model.config.clusterDomain}`, port)),
  );
  return {
    addresses,
    programmed: passed("Programmed", `Resource programmed, assigned to service(s) ${assigned.join(" and ")}`),
  };
}

/** What a load balancer gave; a Service without one is reached by its name. */
function addressesOf({ metadata, spec, status }: Service, clusterDomain: string): Address[] {
  if (spec?.type !== "LoadBalancer")
    return [{ type: "Hostname", value: `${metadata.name}.${metadata.namespace}.svc.${clusterDomain}` }];
  return (status?.loadBalancer?.ingress ?? []).flatMap(({ ip, hostname }): Address[] =>
    ip ? [{ type: "IPAddress", value: ip }] : hostname ? [{ type: "Hostname", value: hostname }] : [],
  );
}

function routeStatus({ route, parents, resolved, partiallyInvalid }: RouteState, now: string) {
  const written = route.status?.parents ?? [];
  const own = parents.map(({ ref, accepted }: ParentState) => ({
    parentRef: ref,
    controllerName,
    conditions: merged(
      written.find((parent) => parent.controllerName === controllerName && Bun.deepEquals(parent.parentRef, ref))
        ?.conditions,
      {
        Accepted: accepted,
        ResolvedRefs: resolved,
        ...(partiallyInvalid !== undefined && {
          PartiallyInvalid: { ok: false, reason: "UnsupportedValue", message: partiallyInvalid },
        }),
      },
      route.metadata,
      now,
      badNews,
    ).filter(({ type }) => type !== "PartiallyInvalid" || partiallyInvalid !== undefined),
  }));
  return { parents: [...own, ...written.filter((parent) => parent.controllerName !== controllerName)] };
}
