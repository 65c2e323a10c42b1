// AuthorizationPolicies → RBAC filters, for requests and for connections (Istio pilot/pkg/security/authz). Pure.

import { create } from "@bufbuild/protobuf";
import type { Filter } from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import { RBAC_Action as Action, type RBAC, RBACSchema } from "#gen/xds/envoy/config/rbac/v3/rbac_pb.js";
import { RBACSchema as HttpRbacSchema } from "#gen/xds/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { RBACSchema as NetworkRbacSchema } from "#gen/xds/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import type { AuthorizationPolicy } from "../api/types.ts";
import { pack } from "./envoy.ts";
import { type HttpFilter, httpFilter, networkFilter } from "./filters.ts";
import { never, type RbacPolicy, ruleOf } from "./translate-security-rules.ts";
import { trustDomainsOf } from "./trust-domains.ts";
import type { Model } from "./types.ts";

/** The rules of one action: those that decide, and those of a dry run, which only tell. */
interface Rules {
  enforced: RBAC | undefined;
  shadow: RBAC | undefined;
  shadowPrefix: string;
}

/** In the order they are asked: what is noted, what is forbidden, what is allowed. */
const actions = [
  { names: ["AUDIT"], action: Action.LOG, shadowPrefix: "" },
  { names: ["DENY"], action: Action.DENY, shadowPrefix: "istio_dry_run_deny_" },
  { names: ["ALLOW", undefined], action: Action.ALLOW, shadowPrefix: "istio_dry_run_allow_" },
];

/** Filters of an HTTP chain for the policies of one workload. */
export function httpRbac(policies: readonly AuthorizationPolicy[], model: Model): HttpFilter[] {
  return rulesOf(policies, false, trustDomainsOf(model)).map(({ enforced, shadow, shadowPrefix }) =>
    httpFilter(
      "envoy.filters.http.rbac",
      pack(HttpRbacSchema, {
        ...(enforced && { rules: enforced }),
        ...(shadow && { shadowRules: shadow, shadowRulesStatPrefix: shadowPrefix }),
      }),
    ),
  );
}

/** Filters of a TCP chain: rules about requests never allow and always deny. */
export const networkRbac = (policies: readonly AuthorizationPolicy[], model: Model): Filter[] =>
  rulesOf(policies, true, trustDomainsOf(model)).map(({ enforced, shadow, shadowPrefix }) =>
    networkRbacFilter(enforced, shadow, shadowPrefix),
  );

export const networkRbacFilter = (enforced: RBAC | undefined, shadow?: RBAC, shadowPrefix = ""): Filter =>
  networkFilter(
    "envoy.filters.network.rbac",
    pack(NetworkRbacSchema, {
      statPrefix: "tcp.",
      ...(enforced && { rules: enforced }),
      ...(shadow && { shadowRules: shadow, shadowRulesStatPrefix: shadowPrefix }),
    }),
  );

/** PeerAuthentication STRICT: only who has proved to be somebody of the mesh may connect. */
export const strictFilter: Filter = networkFilter(
  "envoy.filters.network.rbac",
  pack(NetworkRbacSchema, {
    statPrefix: "peer_authentication.",
    rules: {
      action: Action.ALLOW,
      policies: {
        istio_converted_static_strict: {
          permissions: [{ rule: { case: "any", value: true } }],
          principals: [
            {
              identifier: {
                case: "authenticated",
                value: { principalName: { matchPattern: { case: "prefix", value: "spiffe://" } } },
              },
            },
          ],
        },
      },
    },
  }),
);

export const isDryRun = ({ metadata }: AuthorizationPolicy): boolean =>
  ["1", "t", "true"].includes(metadata.annotations?.["istio.io/dry-run"]?.toLowerCase() ?? "");

function rulesOf(policies: readonly AuthorizationPolicy[], forTcp: boolean, trustDomains: readonly string[]): Rules[] {
  return actions.flatMap(({ names, action, shadowPrefix }) => {
    const own = policies.filter(({ spec }) => names.includes(spec?.action));
    if (own.length === 0) return [];
    const enforced = rbacOf(
      own.filter((policy) => !isDryRun(policy)),
      action,
      forTcp,
      trustDomains,
    );
    const shadow = rbacOf(own.filter(isDryRun), action, forTcp, trustDomains);
    return [{ enforced, shadow, shadowPrefix }];
  });
}

/** Undefined without a policy; with policies of which no rule is left, ALLOW allows nothing. `named`: what a rule is called. */
export function rbacOf(
  policies: readonly AuthorizationPolicy[],
  action: Action,
  forTcp: boolean,
  trustDomains: readonly string[],
  named = (text: string): string => text,
): RBAC | undefined {
  if (policies.length === 0) return undefined;
  const all: Record<string, RbacPolicy> = {};
  for (const { metadata, spec } of policies) {
    const rules = spec?.rules ?? [];
    const name = (index: number) => named(`ns[${metadata.namespace}]-policy[${metadata.name}]-rule[${index}]`);
    const context = {
      forTcp,
      lenient: action !== Action.ALLOW,
      namespace: metadata.namespace ?? "",
      trustDomains,
    };
    if (rules.length === 0) all[name(0)] = never;
    rules.forEach((rule, index) => {
      const policy = ruleOf(rule, context);
      if (policy) all[name(index)] = policy;
    });
  }
  return create(RBACSchema, { action, policies: all });
}
