// What Istio's policies share: a selector or target references (Istio pkg/config/validation validatePolicyTargetReferences).

import { child, forbidden, invalid, notSupported, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { Attached, WorkloadSelector } from "../security.ts";
import { exclusive } from "./istio-rules.ts";
import { validateLabels } from "./metadata.ts";

const targetRefsMax = 16;

/** What a policy may be attached to. */
const targetKinds = [
  "core/Service",
  "gateway.networking.k8s.io/Gateway",
  "gateway.networking.k8s.io/GatewayClass",
  "gateway.networking.k8s.io/HTTPRoute",
  "networking.istio.io/ServiceEntry",
];

export function validateSelector(selector: WorkloadSelector | undefined): FieldError[] {
  const path = "spec.selector.matchLabels";
  const errors = validateLabels(selector?.matchLabels, path);
  for (const [key, value] of Object.entries(selector?.matchLabels ?? {}))
    if (key.includes("*") || value.includes("*"))
      errors.push(invalid(path, `${key}: ${value}`, "wildcard is not supported in selector"));
  return errors;
}

export function validateAttached(spec: Attached): FieldError[] {
  const errors = [
    ...exclusive(spec, "spec", ["selector", "targetRef", "targetRefs"]),
    ...validateSelector(spec.selector),
  ];
  const refs = spec.targetRefs ?? (spec.targetRef ? [spec.targetRef] : []);
  if (refs.length > targetRefsMax) errors.push(forbidden("spec.targetRefs", `at most ${targetRefsMax} are allowed`));
  refs.forEach(({ group, kind, name, namespace }, i) => {
    const path = spec.targetRefs ? child("spec.targetRefs", i) : "spec.targetRef";
    if (!kind) errors.push(required(child(path, "kind")));
    if (!name) errors.push(required(child(path, "name")));
    if (kind && !targetKinds.includes(`${group || "core"}/${kind}`))
      errors.push(notSupported(child(path, "kind"), `${group || "core"}/${kind}`, targetKinds));
    if (namespace) errors.push(forbidden(child(path, "namespace"), "cross namespace referencing is not supported"));
  });
  return errors;
}
