// Says each problem once: a warning in the log and an Event on the object.

import { keyOf } from "../api/object.ts";
import type { EventRecorder } from "../client/event-recorder.ts";
import type { Log } from "../kernel/log.ts";
import { destinationRuleProblems, gatewayProblems, modelProblems, virtualServiceProblems } from "./problems.ts";
import {
  authorizationPolicyProblems,
  peerAuthenticationProblems,
  requestAuthenticationProblems,
  telemetryProblems,
} from "./problems-security.ts";
import type { Model, Problem } from "./types.ts";

/** Problems remembered as said; past this all are forgotten and may be said once more. */
const saidMax = 10_000;

export interface Reporter {
  /** Looks at what changed since the last call. */
  report(model: Model): void;
}

export function createReporter(events: EventRecorder, log: Log): Reporter {
  const seen = new WeakSet<object>();
  const said = new Set<string>();

  function say({ object, reason, message }: Problem): void {
    const id = `${object.metadata.uid} ${reason} ${message}`;
    if (said.has(id)) return;
    if (said.size >= saidMax) said.clear();
    said.add(id);
    log.warn("configuration not carried out", { kind: object.kind, object: keyOf(object), reason, detail: message });
    events.record(object, "Warning", reason, message);
  }

  const once = <O extends object>(object: O, problemsOf: (object: O) => Problem[]): void => {
    if (seen.has(object)) return;
    seen.add(object);
    for (const problem of problemsOf(object)) say(problem);
  };

  return {
    report(model) {
      for (const { object } of model.ruleSets) once(object, virtualServiceProblems);
      for (const policies of model.policiesByHost.values())
        for (const { object } of policies) once(object, destinationRuleProblems);
      for (const gateway of model.gateways) once(gateway, gatewayProblems);
      for (const policy of model.authorizationPolicies) once(policy, authorizationPolicyProblems);
      for (const policy of model.requestAuthentications) once(policy, requestAuthenticationProblems);
      for (const policy of model.peerAuthentications)
        once(policy, (object) => peerAuthenticationProblems(object, model));
      for (const telemetry of model.telemetries) once(telemetry, telemetryProblems);
      for (const problem of modelProblems(model)) say(problem);
    },
  };
}
