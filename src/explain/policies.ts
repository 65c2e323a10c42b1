// Verdicts of AuthorizationPolicies and PeerAuthentications on one request: policy by policy, rule by rule, and which part of a rule did not hold.

import { create } from "@bufbuild/protobuf";
import { RBAC_Action as Action, type RBAC, RBACSchema } from "#gen/xds/envoy/config/rbac/v3/rbac_pb.js";
import type { AuthorizationRule } from "../api/security.ts";
import type { AuthorizationPolicy } from "../api/types.ts";
import { policiesFor } from "../mesh/translate-security.ts";
import { ruleOf } from "../mesh/translate-security-rules.ts";
import type { Model, Workload } from "../mesh/types.ts";
import { compilePolicies, decide, type Subject } from "../proxy/filters/rbac_policy.ts";
import type { Step, World } from "./types.ts";

/** How a translated policy names its rule. */
const ruleName = /ns\[([^\]]*)\]-policy\[([^\]]*)\]-rule\[(\d+)\]/;

export interface PolicyRule {
  object: AuthorizationPolicy;
  rule: AuthorizationRule | undefined;
  index: number;
}

/** The rule behind a policy's name; undefined for one that Istio puts in by itself. */
export function policyRule(model: Model, name: string): PolicyRule | undefined {
  const [, namespace, policy, index] = ruleName.exec(name) ?? [];
  const object = model.authorizationPolicies.find(
    ({ metadata }) => metadata.namespace === namespace && metadata.name === policy,
  );
  return object && { object, rule: object.spec?.rules?.[Number(index)], index: Number(index) };
}

export const ruleField = (index: number): string => `spec.rules[${index}]`;

/** What one RBAC filter says, rule by rule. */
export function verdictSteps(model: Model, world: World, rules: RBAC, subject: Subject, forTcp: boolean): Step[] {
  const verdict = decide(compilePolicies(rules), subject);
  const what = rules.action === Action.DENY ? "DENY" : rules.action === Action.LOG ? "AUDIT" : "ALLOW";
  const steps = Object.entries(rules.policies)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, policy]): Step => {
      const alone = create(RBACSchema, { action: Action.ALLOW, policies: { [name]: policy } });
      const holds = decide(compilePolicies(alone), subject).allowed;
      const source = policyRule(model, name);
      if (source === undefined) return { label: what, text: `${name} ${holds ? "matches" : "does not match"}` };
      const { object, rule, index } = source;
      const key = `${object.metadata.namespace}/${object.metadata.name}`;
      const at = world.places.of(object, rule ? ruleField(index) : "spec");
      const missed = holds || rule === undefined ? [] : partsThatMiss(object, rule, subject, forTcp);
      const why =
        rule === undefined
          ? "has no rules, so nothing matches"
          : holds
            ? "matches"
            : `does not match: ${missed.join("; ")}`;
      const bad = holds && what === "DENY";
      return {
        label: `${what} ${key}`,
        text: `rule ${index} ${why}`,
        at,
        mark: bad ? "no" : holds ? "yes" : "warning",
      };
    });
  const none = what === "ALLOW" && !verdict.allowed;
  if (none)
    steps.push({ label: "ALLOW", text: "no rule of any ALLOW policy matches, so the request is denied", mark: "no" });
  return steps;
}

/** Which of from, to and when did not hold, each asked alone by the proxy's own tests. */
function partsThatMiss(
  { metadata, spec }: AuthorizationPolicy,
  rule: AuthorizationRule,
  subject: Subject,
  forTcp: boolean,
): string[] {
  const context = { forTcp, lenient: spec?.action === "DENY", namespace: metadata.namespace ?? "" };
  const holds = (part: AuthorizationRule): boolean => {
    const policy = ruleOf(part, context);
    if (policy === undefined) return false;
    const message = create(RBACSchema, { action: Action.ALLOW, policies: { one: policy } });
    return decide(compilePolicies(message), subject).allowed;
  };
  const missed: string[] = [];
  if (rule.from && !holds({ from: rule.from }))
    missed.push(`from ${fieldsText(rule.from.map((one) => one.source))}: the caller is ${callerText(subject)}`);
  if (rule.to && !holds({ to: rule.to }))
    missed.push(`to ${fieldsText(rule.to.map((one) => one.operation))}: the request is ${requestText(subject)}`);
  for (const condition of rule.when ?? [])
    if (!holds({ when: [condition] }))
      missed.push(
        `when ${condition.key} ${fieldsText([{ values: condition.values, notValues: condition.notValues }])}`,
      );
  return missed.length === 0 ? ["its parts hold for themselves, but not together"] : missed;
}

const fieldsText = (alternatives: readonly (object | undefined)[]): string =>
  alternatives
    .map((one) =>
      Object.entries(one ?? {})
        .filter(([, values]) => values !== undefined)
        .map(([field, values]) => `${field} ${(values as unknown[]).join(", ")}`)
        .join(" and "),
    )
    .join(" or ");

function callerText({ connection, remoteAddress }: Subject): string {
  const { identity, authenticated } = connection.peer;
  const who = authenticated ? identity.principal : "nobody known (no mTLS)";
  return `${who} at ${connection.remoteAddress}${remoteAddress === connection.remoteAddress ? "" : ` for ${remoteAddress}`}`;
}

const requestText = ({ request, connection }: Subject): string =>
  request === undefined
    ? `a connection to port ${connection.localPort}`
    : `${request.method} ${request.pathOnly} to ${request.host}`;

/** The PeerAuthentications about a workload, most general first, as text with places. */
export function peerAuthenticationSteps(model: Model, world: World, workload: Workload): Step[] {
  return policiesFor(model.peerAuthentications, model, workload).map((object): Step => {
    const { namespace, name } = object.metadata;
    const ports = Object.entries(object.spec?.portLevelMtls ?? {}).map(([port, { mode }]) => `port ${port} ${mode}`);
    const text = [object.spec?.mtls?.mode ?? "UNSET (inherits)", ...ports].join(", ");
    return { label: `PeerAuthentication ${namespace}/${name}`, text, at: world.places.of(object, "spec.mtls") };
  });
}
