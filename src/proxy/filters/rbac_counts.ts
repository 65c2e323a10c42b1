// How often policies allowed and denied, and would have in a dry run: Envoy's rbac counters with the labels Istio gives them.

import type { Counter, Labels } from "../../kernel/metrics.ts";
import type { FilterDeps } from "../filter.ts";

const help = "Requests and connections by what authorization policies say of them";
const name = { http: "envoy_http_rbac", network: "envoy_tcp_rbac" } as const;

export interface RbacCounts {
  enforced(allowed: boolean): void;
  shadow(allowed: boolean): void;
}

/** `shadowPrefix` tells Istio's dry runs from rules that only mark requests; those are not counted. Nothing is without an owner. */
export function rbacCounts(
  kind: "http" | "network",
  shadowPrefix: string,
  { owner, runtime }: Pick<FilterDeps, "owner" | "runtime">,
): RbacCounts | undefined {
  if (owner === undefined) return undefined;
  const [, action] = /^istio_dry_run_(allow|deny)_$/.exec(shadowPrefix) ?? [];
  const result = (allowed: boolean): string => (allowed ? "allowed" : "denied");
  /** Of the identity the counters were made for: it is known some time after the configuration. */
  let of = owner.identity;
  let counters = new Map<string, Counter>();
  const count = (labels: Labels, key: string): void => {
    if (of !== owner.identity) {
      of = owner.identity;
      counters = new Map();
    }
    let counter = counters.get(key);
    if (counter === undefined) {
      counter = runtime.metrics.counter(name[kind], help, {
        workload: of.workload,
        namespace: of.namespace,
        ...labels,
      });
      counters.set(key, counter);
    }
    counter.value++;
  };
  return {
    enforced: (allowed) => count({ authz_enforce_result: result(allowed) }, result(allowed)),
    shadow(allowed) {
      if (action === undefined) return;
      const labels = { authz_dry_run_action: action, authz_dry_run_result: result(allowed) };
      count(labels, `shadow ${result(allowed)}`);
    },
  };
}
