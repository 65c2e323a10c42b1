// Deploys the Gateways of the Gateway API, and brings the classes that name this mesh. What it made goes with the Gateway.

import {
  controllerName,
  defaultClassName,
  isDeployed,
  isOurs,
  waypointClassName,
  waypointController,
} from "../api/gateway-classes.ts";
import { type Draft, keyOf, type ObjectMeta } from "../api/object.ts";
import type { Resource } from "../api/resources.ts";
import { deployments, gatewayClasses, kubernetesGateways, serviceAccounts, services } from "../api/resources.ts";
import type { GatewayClass, KubernetesGateway, Service } from "../api/types.ts";
import { deleteObject } from "../client/delete.ts";
import { type IndexedInformer, isAlreadyExists, type ReconcileResult, TerminalError } from "../client/types.ts";
import { gatewayObjects, madeFromAnnotation } from "./gateway-objects.ts";
import { controllerOf } from "./ownership.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

type Mode = "namespaces" | "ports";
type Made = { metadata: ObjectMeta };

export function gatewayDeploymentController(deps: ControllerDeps, mode: Mode): Controller {
  const { informers } = deps;
  const cache = informers.of(kubernetesGateways);
  const classes = informers.of(gatewayClasses);
  const made = [informers.of(serviceAccounts), informers.of(deployments), informers.of(services)] as const;
  return runController(deps, {
    name: "gateway-deployment",
    reconcile: (key) => reconcile(deps, mode, key),
    needs: [cache, classes, ...made],
    keys: () => cache.list().map(keyOf),
    watch: (enqueue) => [
      cache.onChange((current, old) => enqueue(keyOf((current ?? old)!))),
      classes.onChange(() => {
        for (const gateway of cache.list()) enqueue(keyOf(gateway));
      }),
      ...made.map((informer) =>
        (informer as IndexedInformer<Made>).onChange((current, old) => {
          const object = (current ?? old)!;
          const owner = controllerOf(object);
          if (owner?.kind === "Gateway") enqueue(`${object.metadata.namespace}/${owner.name}`);
        }),
      ),
    ],
  });
}

async function reconcile(deps: ControllerDeps, mode: Mode, key: string): Promise<ReconcileResult> {
  const { informers } = deps;
  const gateway = informers.of(kubernetesGateways).get(key);
  // The garbage collector removes what was made for it.
  if (gateway === undefined || gateway.metadata.deletionTimestamp !== undefined) return { kind: "done" };
  if (!isOurs(gateway, informers.of(gatewayClasses).list())) return { kind: "done" };
  const { account, deployment, service } = gatewayObjects(gateway, mode);
  const wanted: readonly [Resource, Draft<Made>][] = [
    [serviceAccounts, account],
    [
      services,
      withNodePorts(service, informers.of(services).get(`${service.metadata.namespace}/${service.metadata.name}`)),
    ],
    [deployments, deployment],
  ] as never;
  for (const [resource, object] of wanted)
    if (isDeployed(gateway)) await ensure(deps, gateway, resource as Resource<Made>, object);
    else await remove(deps, gateway, resource as Resource<Made>, object.metadata.name!);
  return { kind: "done" };
}

async function ensure(
  deps: ControllerDeps,
  gateway: KubernetesGateway,
  resource: Resource<Made>,
  object: Draft<Made>,
): Promise<void> {
  const cache = deps.informers.of(resource);
  const { namespace, name = "" } = object.metadata;
  const present = cache.get(`${namespace}/${name}`);
  if (present === undefined) {
    try {
      cache.observe(await deps.client.create(resource, object));
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
    return;
  }
  if (controllerOf(present)?.uid !== gateway.metadata.uid)
    throw new TerminalError(
      `${resource.kind} ${namespace}/${name} exists and is not Gateway ${gateway.metadata.name}'s`,
    );
  if (present.metadata.annotations?.[madeFromAnnotation] === object.metadata.annotations?.[madeFromAnnotation]) return;
  cache.observe(await deps.client.patch(resource, namespace, name, object));
}

/** The Gateway has been given pods of somebody else's since. */
async function remove(
  deps: ControllerDeps,
  gateway: KubernetesGateway,
  resource: Resource<Made>,
  name: string,
): Promise<void> {
  const present = deps.informers.of(resource).get(`${gateway.metadata.namespace}/${name}`);
  if (present !== undefined && controllerOf(present)?.uid === gateway.metadata.uid)
    await deleteObject(deps.client, resource, present);
}

/** A port keeps its node port. */
function withNodePorts(service: Draft<Service>, present: Service | undefined): Draft<Service> {
  if (present === undefined || service.spec?.type === "ClusterIP") return service;
  const known = new Map((present.spec?.ports ?? []).map(({ port, nodePort }) => [port, nodePort]));
  const ports = (service.spec?.ports ?? []).map((port) => {
    const nodePort = known.get(port.port);
    return nodePort ? { ...port, nodePort } : port;
  });
  return { ...service, spec: { ...service.spec, ports } };
}

const classesOfIstio: readonly { name: string; controllerName: string; description: string }[] = [
  { name: defaultClassName, controllerName, description: "The default Istio GatewayClass" },
  { name: waypointClassName, controllerName: waypointController, description: "Istio waypoints: not carried out here" },
];

/** Istio brings its classes itself, and again when somebody deletes them. */
export function gatewayClassController(deps: ControllerDeps): Controller {
  const cache = deps.informers.of(gatewayClasses);
  return runController(deps, {
    name: "gateway-class",
    needs: [cache],
    keys: () => classesOfIstio.map(({ name }) => name),
    async reconcile(name) {
      const spec = classesOfIstio.find((each) => each.name === name);
      if (spec === undefined || cache.get(name) !== undefined) return { kind: "done" };
      const { controllerName: controller, description } = spec;
      const object: Draft<GatewayClass> = {
        apiVersion: "gateway.networking.k8s.io/v1",
        kind: "GatewayClass",
        metadata: { name },
        spec: { controllerName: controller, description },
      };
      try {
        cache.observe(await deps.client.create(gatewayClasses, object));
      } catch (error) {
        if (!isAlreadyExists(error)) throw error;
      }
      return { kind: "done" };
    },
    watch(enqueue) {
      for (const { name } of classesOfIstio) enqueue(name);
      return [cache.onChange((_current, old) => old && enqueue(old.metadata.name))];
    },
  });
}
