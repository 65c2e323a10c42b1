// Admission: what happens to an object between decoding and storing, as an explicit list of steps.

import { completeNamespace, requireNamespace } from "./admission-namespace.ts";
import { completePod, requireServiceAccount } from "./admission-pod.ts";
import { assignServiceAddresses, keepServiceFields } from "./admission-service.ts";
import { invalid } from "./failure.ts";
import type { AdmissionRequest, CoreDeps } from "./types.ts";

type AdmissionStep = (deps: CoreDeps, request: AdmissionRequest) => void;

const steps: readonly AdmissionStep[] = [
  // Nothing else is worth doing in a namespace that is not there or on its way out.
  requireNamespace,
  // Kubernetes sets defaults while decoding, so every later step may rely on them.
  (_, { kind, object }) => kind.applyDefaults(object),
  completeNamespace,
  keepServiceFields,
  completePod,
  requireServiceAccount,
  // Validation sees the finished object.
  (_, { kind, object, old }) => {
    const errors = kind.validate(object, old);
    if (errors.length > 0) throw invalid(kind, object.metadata.name, errors);
  },
  // Last, because it takes addresses that a refusal would have to give back.
  assignServiceAddresses,
];

/** Throws ApiFailure when a step refuses; what earlier steps took is given back. */
export function admit(deps: CoreDeps, request: AdmissionRequest): void {
  try {
    for (const step of steps) step(deps, request);
  } catch (error) {
    for (const undo of request.undo.reverse()) undo();
    throw error;
  }
}
