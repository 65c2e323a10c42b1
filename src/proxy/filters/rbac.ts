// Authorization of requests (envoy.filters.http.rbac): 403 for what the policies do not allow; shadow policies only tell.

import { type RBAC, RBACPerRouteSchema, RBACSchema } from "#gen/xds/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { Filter, FilterDeps, FilterFactory, FilterRequest } from "../filter.ts";
import { rbacCounts } from "./rbac_counts.ts";
import { compilePolicies, decide, type Policies, type Verdict } from "./rbac_policy.ts";

export interface Rbac {
  enforced: Policies | undefined;
  shadow: Policies | undefined;
  /** Before the keys of the dynamic metadata; Istio tells its dry-run policies apart by it. */
  enforcedPrefix: string;
  shadowPrefix: string;
}

/** Both kinds of RBAC filter have these fields. */
type RbacMessage = Pick<RBAC, "rules" | "shadowRules" | "shadowRulesStatPrefix" | "matcher" | "shadowMatcher">;

export function compileRbac(message: RbacMessage, enforcedPrefix: string): Rbac {
  if (message.matcher !== undefined || message.shadowMatcher !== undefined)
    throw new MeshbedError("RBAC_UNSUPPORTED", "RBAC by matcher trees is not supported, only rules and shadow_rules");
  return {
    enforced: message.rules && compilePolicies(message.rules),
    shadow: message.shadowRules && compilePolicies(message.shadowRules),
    enforcedPrefix,
    shadowPrefix: message.shadowRulesStatPrefix,
  };
}

/** RESPONSE_CODE_DETAILS and, for connections, CONNECTION_TERMINATION_DETAILS. White space would break log lines apart. */
export const detailsOf = (policy: string): string =>
  `rbac_access_denied_matched_policy[${policy === "" ? "none" : policy.replace(/\s/g, "_")}]`;

/** Envoy's keys under the filter's name. */
export function tell(
  told: Record<string, string>,
  prefix: string,
  mode: "enforced" | "shadow",
  verdict: Verdict,
): void {
  if (verdict.policy !== "") told[`${prefix}${mode}_effective_policy_id`] = verdict.policy;
  told[`${prefix}${mode}_engine_result`] = verdict.allowed ? "allowed" : "denied";
}

function create(name: string, config: RBAC, deps: FilterDeps): Filter {
  const chainWide = compileRbac(config, config.rulesStatPrefix);
  const counts = rbacCounts("http", chainWide.shadowPrefix, deps);
  return {
    name,
    onRequest(exchange) {
      const rbac = (exchange.settings(name) as Rbac | undefined) ?? chainWide;
      const { enforced, shadow } = rbac;
      if (enforced === undefined && shadow === undefined) return "continue";
      // Several RBAC filters (deny, then allow) write under one name.
      const told = { ...(exchange.metadata("envoy.filters.http.rbac") as Record<string, string> | undefined) };
      if (shadow !== undefined) {
        const would = decide(shadow, exchange);
        tell(told, rbac.shadowPrefix, "shadow", would);
        counts?.shadow(would.allowed);
      }
      const verdict = enforced && decide(enforced, exchange);
      if (verdict !== undefined) {
        tell(told, rbac.enforcedPrefix, "enforced", verdict);
        if (enforced!.action === "log") hintLog(exchange, verdict.policy !== "");
        else counts?.enforced(verdict.allowed);
      }
      exchange.setMetadata("envoy.filters.http.rbac", told);
      if (verdict === undefined || verdict.allowed) return "continue";
      exchange.reply(403, "RBAC: access denied", "UAEX", "", detailsOf(verdict.policy));
      return "stop";
    },
  };
}

/** AuthorizationPolicy's AUDIT: an access log may be filtered by it. */
function hintLog(exchange: FilterRequest, wanted: boolean): void {
  const common = exchange.metadata("envoy.common") as Record<string, unknown> | undefined;
  exchange.setMetadata("envoy.common", { ...common, access_log_hint: wanted });
}

export const rbacFactory: FilterFactory<typeof RBACSchema, typeof RBACPerRouteSchema> = {
  config: RBACSchema,
  perRoute: RBACPerRouteSchema,
  create,
  // Settings without policies switch the filter off on this route.
  settings: ({ rbac }): Rbac =>
    rbac
      ? compileRbac(rbac, rbac.rulesStatPrefix)
      : { enforced: undefined, shadow: undefined, enforcedPrefix: "", shadowPrefix: "" },
};
