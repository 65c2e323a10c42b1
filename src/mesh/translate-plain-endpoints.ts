// The endpoints that a node's own listeners lead to, in plain text, without those whose policies that way would not meet. Pure.

import { create } from "@bufbuild/protobuf";
import type { LbEndpoint } from "#gen/xds/envoy/config/endpoint/v3/endpoint_components_pb.js";
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignmentSchema,
} from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { typeUrls } from "../xds/types.ts";
import { type Group, groupOf } from "./memo.ts";
import { endpoints, type Pass } from "./outbound.ts";
import { policiesFor } from "./translate-security.ts";
import type { Model } from "./types.ts";

/**
 * A node reaches its own pods directly: their inbound listeners see nothing of it. Those of other nodes do, so a pod with policies
 * is left to the clients of other nodes and to those in the mesh.
 */
export function plainEndpoints(pass: Pass, nodeName: string): Group {
  const all = endpoints(pass, undefined);
  const { memo, model, objects, interner } = pass;
  const { authorizationPolicies, requestAuthentications } = objects;
  // In `ports` mode all pods share an address, and nothing stands before any of them.
  if (authorizationPolicies.length + requestAuthentications.length === 0 || model.config.mode === "ports") return all;
  return memo.get(`plain-endpoints|${nodeName}`, [all, authorizationPolicies, requestAuthentications], () => {
    const guarded = guardedAddresses(model, nodeName);
    return groupOf(
      all.resources.map((resource) => {
        const message = resource.message as ClusterLoadAssignment;
        const isGuarded = message.endpoints.some((group) =>
          group.lbEndpoints.some((each) => guarded.has(addressOf(each))),
        );
        return isGuarded ? interner.named(typeUrls.endpoint, without(message, guarded)) : resource;
      }),
    );
  });
}

function guardedAddresses(model: Model, nodeName: string): ReadonlySet<string> {
  const policies = [...model.authorizationPolicies, ...model.requestAuthentications];
  const guarded = model.workloads.filter(
    (workload) =>
      workload.nodeName === nodeName && workload.injected && policiesFor(policies, model, workload).length > 0,
  );
  return new Set(guarded.map(({ ip }) => ip));
}

function addressOf({ hostIdentifier }: LbEndpoint): string {
  const address = hostIdentifier.case === "endpoint" ? hostIdentifier.value.address?.address : undefined;
  return address?.case === "socketAddress" ? address.value.address : "";
}

function without(message: ClusterLoadAssignment, guarded: ReadonlySet<string>): ClusterLoadAssignment {
  const groups = message.endpoints.flatMap((group) => {
    const lbEndpoints = group.lbEndpoints.filter((endpoint) => !guarded.has(addressOf(endpoint)));
    return lbEndpoints.length === 0 ? [] : [{ ...group, lbEndpoints, loadBalancingWeight: lbEndpoints.length }];
  });
  return create(ClusterLoadAssignmentSchema, { clusterName: message.clusterName, endpoints: groups });
}
