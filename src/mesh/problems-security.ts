// What of the security kinds is not carried out as written. Pure.

import type { Attached } from "../api/security.ts";
import type { AuthorizationPolicy, PeerAuthentication, RequestAuthentication } from "../api/types.ts";
import { collect, type Report } from "./problems.ts";
import { isGateway, targetRefsOf } from "./translate-security.ts";
import { findProvider } from "./translate-security-custom.ts";
import { jwksUriOf } from "./translate-security-jwt.ts";
import { isDryRun } from "./translate-security-rbac.ts";
import type { Model, Problem } from "./types.ts";

export const targetProblems = (spec: Attached | undefined, report: Report): void => {
  for (const ref of targetRefsOf(spec))
    if (!isGateway(ref))
      report("spec.targetRefs", `${ref.kind} ${ref.name} is for waypoints, and there are none: the policy is not used`);
};

export const authorizationPolicyProblems = (object: AuthorizationPolicy, model: Model): Problem[] =>
  collect(object, (report) => {
    targetProblems(object.spec, report);
    portsModeProblem(model, "spec", report);
    if (object.spec?.action === "CUSTOM" && isDryRun(object))
      report("metadata.annotations", "istio.io/dry-run has no effect on CUSTOM");
  });

/** Depends on MeshConfig and services: whom a CUSTOM policy asks. */
export const providerProblems = (object: AuthorizationPolicy, model: Model): Problem[] =>
  collect(object, (report) => {
    if (object.spec?.action !== "CUSTOM") return;
    const name = object.spec.provider?.name ?? "";
    const provider = findProvider(model, name);
    if (typeof provider === "string") report("spec.provider.name", `${provider}: what the rules are about is denied`);
    else if (provider.asked.includeRequestBodyInCheck)
      report("spec.provider.name", `"${name}" is not shown bodies: includeRequestBodyInCheck is not carried out`);
  });

/** Every process listens on 127.0.0.1 itself: only what comes by the mesh meets its policies. */
const portsModeProblem = ({ config }: Model, field: string, report: Report): void => {
  if (config.mode === "ports")
    report(field, "without namespaces nothing stands before a process: who dials its own port is asked nothing");
};

export const requestAuthenticationProblems = (object: RequestAuthentication, model: Model): Problem[] =>
  collect(object, (report) => {
    targetProblems(object.spec, report);
    portsModeProblem(model, "spec", report);
    object.spec?.jwtRules?.forEach((rule, index) => {
      if (!rule.jwks && jwksUriOf(rule) === undefined)
        report(`spec.jwtRules[${index}].jwksUri`, "keys are not looked for at the issuer: its tokens are refused");
    });
  });

export function peerAuthenticationProblems(object: PeerAuthentication, { config }: Model): Problem[] {
  if (config.mode !== "ports") return [];
  return collect(object, (report) => {
    const { mtls, portLevelMtls = {} } = object.spec ?? {};
    const modes = { "spec.mtls.mode": mtls?.mode };
    for (const [port, level] of Object.entries(portLevelMtls))
      Object.assign(modes, { [`spec.portLevelMtls.${port}.mode`]: level.mode });
    for (const [field, mode] of Object.entries(modes))
      if (mode === "STRICT") report(field, "without namespaces nothing stands before a process: it takes plain text");
  });
}
