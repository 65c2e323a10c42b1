// All that policies put before a workload's own filters, in the order in which they are asked (Istio: CUSTOM, tokens, AUDIT, DENY, ALLOW). Pure.

import type { Cluster } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import type { Filter } from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import type { HttpFilter } from "./filters.ts";
import { policiesFor } from "./translate-security.ts";
import { customHttp, customNetwork } from "./translate-security-custom.ts";
import { jwtResources } from "./translate-security-jwt.ts";
import { httpRbac, networkRbac } from "./translate-security-rbac.ts";
import type { Model, Workload } from "./types.ts";

export interface SecurityChain {
  http: readonly HttpFilter[];
  tcp: readonly Filter[];
  /** That its filters fetch keys through. */
  clusters: Cluster[];
}

export function securityChain(model: Model, workload: Workload): SecurityChain {
  const authorization = policiesFor(model.authorizationPolicies, model, workload);
  const authentication = policiesFor(model.requestAuthentications, model, workload);
  const jwt = jwtResources(model, authentication, workload);
  return {
    http: [...customHttp(model, authorization), ...jwt.filters, ...httpRbac(authorization, model)],
    tcp: [...customNetwork(model, authorization), ...networkRbac(authorization, model)],
    clusters: jwt.clusters,
  };
}
