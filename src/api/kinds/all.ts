// Every kind the API serves. One that nothing acts on is not in the list, so applying it is refused, never ignored; what of Istio's is
// accepted and not carried out says so in its status.

import type { KindDefinition } from "../kind.ts";
import { configMapKind, secretKind, serviceAccountKind } from "./config.ts";
import { endpointSliceKind, leaseKind } from "./coordination.ts";
import { endpointsKind } from "./endpoints.ts";
import { eventKind } from "./event.ts";
import {
  backendTlsPolicyKind,
  gatewayClassKind,
  grpcRouteKind,
  httpRouteKind,
  kubernetesGatewayKind,
  referenceGrantKind,
  tcpRouteKind,
  tlsRouteKind,
} from "./gateway-api.ts";
import { destinationRuleKind, gatewayKind, virtualServiceKind } from "./istio.ts";
import {
  envoyFilterKind,
  proxyConfigKind,
  serviceEntryKind,
  sidecarKind,
  wasmPluginKind,
  workloadEntryKind,
  workloadGroupKind,
} from "./istio-more.ts";
import { namespaceKind } from "./namespace.ts";
import { nodeKind } from "./node.ts";
import { podKind } from "./pod.ts";
import { authorizationPolicyKind, peerAuthenticationKind, requestAuthenticationKind } from "./security.ts";
import { serviceKind } from "./service.ts";
import { persistentVolumeClaimKind, persistentVolumeKind, storageClassKind } from "./storage.ts";
import { telemetryKind } from "./telemetry.ts";
import { daemonSetKind, deploymentKind, replicaSetKind } from "./workloads.ts";

export const allKinds: readonly KindDefinition[] = [
  configMapKind,
  endpointsKind,
  eventKind,
  namespaceKind,
  nodeKind,
  persistentVolumeClaimKind,
  persistentVolumeKind,
  podKind,
  secretKind,
  serviceAccountKind,
  serviceKind,
  daemonSetKind,
  deploymentKind,
  replicaSetKind,
  leaseKind,
  endpointSliceKind,
  storageClassKind,
  destinationRuleKind,
  gatewayKind,
  virtualServiceKind,
  authorizationPolicyKind,
  peerAuthenticationKind,
  requestAuthenticationKind,
  telemetryKind,
  serviceEntryKind,
  sidecarKind,
  workloadEntryKind,
  workloadGroupKind,
  envoyFilterKind,
  proxyConfigKind,
  wasmPluginKind,
  gatewayClassKind,
  kubernetesGatewayKind,
  httpRouteKind,
  grpcRouteKind,
  tlsRouteKind,
  tcpRouteKind,
  referenceGrantKind,
  backendTlsPolicyKind,
];
