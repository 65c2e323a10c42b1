// Objects of the Gateway API → what became of each, kept as long as what it follows from stays the same.

import { isOurs } from "../../api/gateway-classes.ts";
import { keyOf } from "../../api/object.ts";
import { sameItems } from "../memo.ts";
import type { Derived, MeshObjects } from "../types.ts";
import { byAgeAndName, type RouteInputs, routeState } from "./attach.ts";
import { backendResolver } from "./backends.ts";
import { createDerivation } from "./derive.ts";
import { grantsOf } from "./grants.ts";
import { classStates, gatewayState } from "./listeners.ts";
import type { GatewayApiState, Route, RouteState } from "./types.ts";

export type GatewayApiObjects = Pick<
  MeshObjects,
  | "gatewayClasses"
  | "kubernetesGateways"
  | "httpRoutes"
  | "grpcRoutes"
  | "tlsRoutes"
  | "tcpRoutes"
  | "referenceGrants"
  | "namespaces"
  | "services"
  | "serviceEntries"
  | "secrets"
>;

/** Answers the same for the same lists. */
export function createGatewayApi(): (
  objects: GatewayApiObjects,
  config: { clusterDomain: string },
) => { gatewayApi: GatewayApiState; derived: Derived } {
  let inputs: readonly unknown[] | undefined;
  let result: { gatewayApi: GatewayApiState; derived: Derived } | undefined;
  let around: readonly unknown[] = [];
  let surroundings: Surroundings | undefined;
  const derive = createDerivation();
  return (objects, { clusterDomain }) => {
    const next = inputsOf(objects);
    if (result === undefined || inputs === undefined || !sameItems(inputs, next)) {
      inputs = next;
      const others = inputsAround(objects);
      if (surroundings === undefined || !sameItems(around, others))
        surroundings = surroundingsOf(objects, clusterDomain);
      around = others;
      const gatewayApi = stateOf(objects, surroundings);
      result = { gatewayApi, derived: derive(gatewayApi, clusterDomain) };
    }
    return result;
  };
}

/** All that a route's state follows from, beside the route. */
interface Surroundings extends Pick<GatewayApiState, "classes" | "gateways"> {
  inputs: RouteInputs;
  known: WeakMap<Route, RouteState>;
}

const inputsAround = (objects: GatewayApiObjects): unknown[] => [
  ...[objects.gatewayClasses, objects.kubernetesGateways, objects.referenceGrants],
  ...[objects.namespaces, objects.services, objects.serviceEntries, objects.secrets],
];

const inputsOf = (objects: GatewayApiObjects): unknown[] => {
  const own = [objects.gatewayClasses, objects.kubernetesGateways, objects.referenceGrants];
  const routes = [objects.httpRoutes, objects.grpcRoutes, objects.tlsRoutes, objects.tcpRoutes];
  // Without any of these nothing else matters.
  return [...own, ...routes].every(({ length }) => length === 0) ? [] : [...inputsAround(objects), ...routes];
};

function surroundingsOf(objects: GatewayApiObjects, clusterDomain: string): Surroundings {
  const { gatewayClasses, kubernetesGateways, services, serviceEntries, referenceGrants } = objects;
  const isGranted = grantsOf(referenceGrants);
  const secrets = new Map(objects.secrets.map((secret) => [keyOf(secret), secret]));
  const gateways = kubernetesGateways
    .filter((gateway) => isOurs(gateway, gatewayClasses))
    .map((gateway) => gatewayState(gateway, { services, secrets, isGranted, clusterDomain }));
  const byKey = <O extends { metadata: { name: string; namespace?: string } }>(list: readonly O[]) =>
    new Map(list.map((object) => [keyOf(object as never), object]));
  const inputs: RouteInputs = {
    gateways: new Map(gateways.map((gateway) => [gateway.key, gateway])),
    gatewayByKey: byKey(kubernetesGateways),
    namespaces: new Map(objects.namespaces.map((namespace) => [namespace.metadata.name, namespace])),
    services: byKey(services),
    serviceEntries: byKey(serviceEntries),
    resolve: backendResolver(services, serviceEntries, isGranted, clusterDomain),
  };
  return { classes: classStates(gatewayClasses), gateways, inputs, known: new WeakMap() };
}

function stateOf(objects: GatewayApiObjects, { classes, gateways, inputs, known }: Surroundings): GatewayApiState {
  const all: Route[] = [...objects.httpRoutes, ...objects.grpcRoutes, ...objects.tlsRoutes, ...objects.tcpRoutes];
  const routes = all.toSorted(byAgeAndName).map((route) => {
    const state = known.get(route) ?? routeState(route, inputs);
    known.set(route, state);
    return state;
  });
  return { classes, gateways, routes };
}
