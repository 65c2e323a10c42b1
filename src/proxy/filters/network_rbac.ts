// Authorization of connections (envoy.filters.network.rbac): what the policies do not allow is closed before a byte is read.

import { RBACSchema } from "#gen/xds/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import type { ConnectionInfo } from "../chain.ts";
import type { NetworkFilterFactory } from "../filter.ts";
import { compileRbac } from "./rbac.ts";
import { rbacCounts } from "./rbac_counts.ts";
import { decide, type Subject } from "./rbac_policy.ts";

export const networkRbacFactory: NetworkFilterFactory<typeof RBACSchema> = {
  config: RBACSchema,
  create(name, config, deps) {
    const { runtime } = deps;
    const { enforced, shadow, shadowPrefix } = compileRbac(config, "");
    const counts = rbacCounts("network", shadowPrefix, deps);
    const nothing = (): undefined => undefined;
    const subjectOf = (connection: ConnectionInfo): Subject => ({
      request: undefined,
      connection,
      remoteAddress: connection.remoteAddress,
      metadata: nothing,
      filterState: nothing,
    });
    return {
      name,
      allowsOn: (connection) => enforced === undefined || decide(enforced, subjectOf(connection)).allowed,
      onConnection(connection) {
        const { remoteAddress } = connection;
        const subject = subjectOf(connection);
        const verdict = enforced && decide(enforced, subject);
        const would = shadow && decide(shadow, subject).allowed;
        if (would !== undefined) counts?.shadow(would);
        if (would === false) runtime.log.debug("connection would be denied", { filter: name, from: remoteAddress });
        if (verdict && enforced.action !== "log") counts?.enforced(verdict.allowed);
        if (verdict === undefined || verdict.allowed) return "continue";
        runtime.log.debug("connection denied", { filter: name, from: remoteAddress, policy: verdict.policy });
        return "close";
      },
    };
  },
};
