// Every check, in one list.

import * as destinationRules from "./check-destination-rules.ts";
import * as gateways from "./check-gateways.ts";
import * as injection from "./check-injection.ts";
import * as others from "./check-others.ts";
import * as security from "./check-security.ts";
import * as services from "./check-services.ts";
import * as virtualServices from "./check-virtual-services.ts";
import type { Check } from "./types.ts";

export const checks: Readonly<Record<string, Check>> = {
  destinations: virtualServices.checkDestinations,
  gatewaysOfRules: virtualServices.checkGatewaysOfRules,
  delegates: virtualServices.checkDelegates,
  sharedHosts: virtualServices.checkSharedHosts,
  subsetsAtGateways: virtualServices.checkSubsetsAtGateways,
  httpPorts: virtualServices.checkHttpPorts,
  faults: virtualServices.checkFaults,
  destinationHosts: destinationRules.checkDestinationHosts,
  subsets: destinationRules.checkSubsets,
  unusedSubsets: destinationRules.checkUnusedSubsets,
  overridden: destinationRules.checkOverridden,
  serverCertificates: destinationRules.checkServerCertificates,
  mutualTls: destinationRules.checkMutualTls,
  gatewayPods: gateways.checkGatewayPods,
  conflictingGateways: gateways.checkConflictingGateways,
  credentials: gateways.checkCredentials,
  routesOfGateways: gateways.checkRoutesOfGateways,
  portNames: services.checkPortNames,
  selectors: services.checkSelectors,
  sharedPorts: services.checkSharedPorts,
  namespaces: injection.checkNamespaces,
  podSpecs: injection.checkPodSpecs,
  annotations: injection.checkAnnotations,
  policySelectors: security.checkPolicySelectors,
  gatewayApiSelectors: security.checkGatewayApiSelectors,
  policyNamespaces: security.checkPolicyNamespaces,
  providers: security.checkProviders,
  httpRules: security.checkHttpRules,
  tokens: security.checkTokens,
  shadowedPeerAuthentications: security.checkShadowedPeerAuthentications,
  emptyPolicies: security.checkEmptyPolicies,
  claimRouting: security.checkClaimRouting,
  sidecars: others.checkSidecars,
  telemetries: others.checkTelemetries,
  envoyFilters: others.checkEnvoyFilters,
  serviceEntries: others.checkServiceEntries,
  conditions: others.checkConditions,
  carriedOut: others.checkCarriedOut,
};

/** Those that only speak of Services, pods and namespaces, or that need more than the mesh watches. */
const notOfRules = new Set([
  "portNames",
  "selectors",
  "sharedPorts",
  "namespaces",
  "podSpecs",
  "annotations",
  "conditions",
]);

/** Checks that speak of Istio's objects: for their statuses. */
export const ruleChecks: readonly Check[] = Object.entries(checks).flatMap(([name, check]) =>
  notOfRules.has(name) ? [] : [check],
);
