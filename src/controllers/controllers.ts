// Starts every controller of the cluster, as an explicit list over shared informers.

import { createEventRecorder } from "../client/event-recorder.ts";
import { createInformers } from "../client/informers.ts";
import type { Client } from "../client/types.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import type { Random } from "../kernel/random.ts";
import { daemonSetController } from "./daemonset.ts";
import { deploymentController } from "./deployment.ts";
import { endpointsController } from "./endpoints.ts";
import { endpointSliceController } from "./endpointslice.ts";
import { eventExpiryController } from "./event-expiry.ts";
import { garbageCollector } from "./garbage-collector.ts";
import { gatewayClassController, gatewayDeploymentController } from "./gateway-deployment.ts";
import { controllerIndexes } from "./indexes.ts";
import { namespaceController } from "./namespace.ts";
import { nodeCidrController } from "./node-cidr.ts";
import { nodeLifecycleController } from "./node-lifecycle.ts";
import { podGarbageController } from "./pod-gc.ts";
import { replicaSetController } from "./replicaset.ts";
import { serviceEntryAddressController } from "./service-entry-addresses.ts";
import { serviceStatusController } from "./service-status.ts";
import { taintEvictionController } from "./taint-eviction.ts";
import type { Controller, ControllerDeps } from "./types.ts";
import { volumeClaimController } from "./volume-claims.ts";

export interface ControllersOptions {
  client: Client;
  clock: Clock;
  random: Random;
  log: Log;
  /** A node whose lease was not renewed for so long is NotReady. Default 4,000 ms. */
  nodeGraceMs?: number;
  /** Pods without a toleration time of their own leave a lost node after this. Default 1,000 ms. */
  evictionDelayMs?: number;
  /** Absolute folder for dynamically provisioned volumes. */
  volumesDir: string;
  /** The pod network, of which nodes without a podCIDR get a /24 each. */
  nodeCidr: string;
  /** Published as ConfigMap kube-root-ca.crt in every namespace. */
  clusterCaPem: string;
  /** Whether pods have addresses of their own (the default) or ports of the machine. */
  mode?: "namespaces" | "ports";
}

/** Runs until stop(); controllers wait for their informers, so the API server may come later. */
export function startControllers(options: ControllersOptions): { stop(): void; idle(): boolean } {
  const { client, clock, random, nodeGraceMs = 4_000, evictionDelayMs = 1_000 } = options;
  const log = options.log.with({ component: "controllers" });
  const informers = createInformers({ client, clock, random, log }, controllerIndexes);
  const recorderOf = (component: string) => createEventRecorder({ client, component, clock, log });
  const deps: ControllerDeps = { client, informers, clock, random, log, recorderOf };
  const controllers: readonly Controller[] = [
    // First what others wait for: namespaces' accounts, nodes' networks.
    namespaceController(deps, options.clusterCaPem),
    nodeCidrController(deps, options.nodeCidr),
    // Workloads, from the top down.
    deploymentController(deps),
    replicaSetController(deps),
    daemonSetController(deps),
    volumeClaimController(deps, options.volumesDir),
    // What pods look like from outside.
    endpointSliceController(deps),
    endpointsController(deps),
    serviceStatusController(deps),
    // Gateways of the Gateway API.
    gatewayClassController(deps),
    gatewayDeploymentController(deps, options.mode ?? "namespaces"),
    serviceEntryAddressController(deps),
    // Failure: a lost node, then its pods, then what nobody removes.
    nodeLifecycleController(deps, nodeGraceMs),
    taintEvictionController(deps, evictionDelayMs),
    podGarbageController(deps, nodeGraceMs),
    garbageCollector(deps),
    eventExpiryController(deps),
  ];
  return {
    idle: () => controllers.every((controller) => controller.idle()),
    stop() {
      for (const controller of controllers) controller.stop();
      informers.stop();
    },
  };
}
