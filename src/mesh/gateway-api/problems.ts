// What routes and gateways of the Gateway API ask for and do not get, beside what their statuses say. Pure.

import { waypointClassName } from "../../api/gateway-classes.ts";
import type { KubernetesGateway } from "../../api/types.ts";
import type { Model, Problem } from "../types.ts";

export function gatewayApiProblems({ gatewayApi }: Model): Problem[] {
  const problems: Problem[] = [];
  for (const { route, notices, parents, resolved, partiallyInvalid } of gatewayApi.routes) {
    const say = (reason: string, field: string, message: string): number =>
      problems.push({ object: route, reason, field, message });
    for (const { field, message } of notices) say("NotCarriedOut", field, message);
    if (partiallyInvalid !== undefined) say("NotCarriedOut", "spec.rules", partiallyInvalid);
    if (!resolved.ok) say("ReferenceNotFound", "spec.rules", `spec.rules: ${resolved.message}`);
    parents.forEach(({ accepted }, index) => {
      const field = `spec.parentRefs[${index}]`;
      if (!accepted.ok) say(accepted.reason, field, `${field}: ${accepted.message}`);
    });
  }
  for (const { gateway, listeners, unusable } of gatewayApi.gateways) {
    const say = (reason: string, field: string, message: string): number =>
      problems.push({ object: gateway, reason, field, message: `${field}: ${message}` });
    if (gateway.spec.tls?.frontend) say("NotCarriedOut", "spec.tls.frontend", "clients are not asked for certificates");
    for (const message of unusable) say("AddressNotUsable", "spec.addresses", message);
    listeners.forEach(({ accepted, conflicted, resolved }, index) => {
      for (const verdict of [accepted, conflicted, resolved])
        if (!verdict.ok) say(verdict.reason, `spec.listeners[${index}]`, verdict.message);
    });
  }
  return problems;
}

export function backendTlsProblems({ backendTls }: Model): Problem[] {
  return backendTls.states.flatMap(({ object, accepted, resolved }) => {
    const say = (reason: string, field: string, message: string): Problem => ({
      object,
      reason,
      field,
      message: `${field}: ${message}`,
    });
    const refs = "spec.validation.caCertificateRefs";
    return [
      ...(resolved.ok ? [] : [say("ReferenceNotFound", refs, resolved.message)]),
      ...(accepted.ok || !resolved.ok ? [] : [say(accepted.reason, "spec.targetRefs", accepted.message)]),
      ...(object.spec.options ? [say("NotCarriedOut", "spec.options", "no option is carried out")] : []),
    ];
  });
}

export const waypointProblems = (object: KubernetesGateway): Problem[] =>
  object.spec.gatewayClassName === waypointClassName
    ? [
        {
          object,
          reason: "NotCarriedOut",
          field: "spec.gatewayClassName",
          message: "spec.gatewayClassName: waypoints are not carried out: pods have sidecars here",
        },
      ]
    : [];
