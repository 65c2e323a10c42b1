// Every problem there is in a model: the one list that events, status and analysis are made from.

import { backendTlsProblems, gatewayApiProblems, waypointProblems } from "./gateway-api/problems.ts";
import { destinationRuleProblems, gatewayProblems, modelProblems, virtualServiceProblems } from "./problems.ts";
import {
  entryConflicts,
  serviceEntryProblems,
  sidecarProblems,
  workloadEntryProblems,
  workloadGroupProblems,
} from "./problems-egress.ts";
import { envoyFilterProblems, proxyConfigProblems, wasmPluginProblems } from "./problems-extensions.ts";
import {
  authorizationPolicyProblems,
  peerAuthenticationProblems,
  providerProblems,
  requestAuthenticationProblems,
} from "./problems-security.ts";
import { telemetryProblems } from "./problems-telemetry.ts";
import type { MeshObjects, Model, Problem } from "./types.ts";

/** What depends on one object alone is found once per object. */
export function createProblemFinder(): (model: Model, objects: MeshObjects) => Problem[] {
  const known = new WeakMap<object, Problem[]>();
  const once = <O extends object>(objects: Iterable<O>, problemsOf: (object: O) => Problem[]): Problem[] => {
    const all: Problem[] = [];
    for (const object of objects) {
      let problems = known.get(object);
      if (problems === undefined) {
        problems = problemsOf(object);
        known.set(object, problems);
      }
      for (const problem of problems) all.push(problem);
    }
    return all;
  };
  return (model, objects) => [
    ...once(
      model.ruleSets.map(({ object }) => object),
      virtualServiceProblems,
    ),
    ...once(
      [...model.policiesByHost.values()].flat().map(({ object }) => object),
      destinationRuleProblems,
    ),
    ...once(model.gateways, gatewayProblems),
    ...once(model.authorizationPolicies, (object) => authorizationPolicyProblems(object, model)),
    ...model.authorizationPolicies.flatMap((object) => providerProblems(object, model)),
    ...once(model.requestAuthentications, (object) => requestAuthenticationProblems(object, model)),
    ...once(model.peerAuthentications, (object) => peerAuthenticationProblems(object, model)),
    ...model.telemetries.flatMap((object) => telemetryProblems(object, model)),
    ...once(objects.envoyFilters, envoyFilterProblems),
    ...once(objects.wasmPlugins, wasmPluginProblems),
    ...once(objects.proxyConfigs, proxyConfigProblems),
    ...once(objects.serviceEntries, serviceEntryProblems),
    ...once(objects.workloadEntries, workloadEntryProblems),
    ...once(objects.workloadGroups, workloadGroupProblems),
    ...once(objects.sidecars, sidecarProblems),
    ...entryConflicts(model, objects.serviceEntries),
    ...backendTlsProblems(model),
    ...once(objects.kubernetesGateways, waypointProblems),
    ...gatewayApiProblems(model),
    ...modelProblems(model),
  ];
}
