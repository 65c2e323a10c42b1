// The snapshots of gRPC clients without a proxy, and the name tables; remembered like those of sidecars.

import type { Cluster } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import type { ClusterLoadAssignment } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { type Snapshot, typeUrls } from "../xds/types.ts";
import type { Group } from "./memo.ts";
import { endpoints, everybody, group, outboundClusters, type Pass, rulesOf, servicesFor } from "./outbound.ts";
import type { Audience } from "./sidecar-scope.ts";
import { nameTable } from "./translate-names.ts";
import { apiListeners, proxylessCluster, proxylessEndpoints, proxylessRoutes } from "./translate-proxyless.ts";

/** What the client behind "sidecar~<ip>~<pod>.<ns>~<ns>.svc.<domain>" is told; undefined: that is no such node id. */
export function proxylessSnapshot(pass: Pass, nodeId: string): Snapshot | undefined {
  const { memo, model, objects } = pass;
  const namespace = /^[^~]*~[^~]*~[^~]*~([^~.]+)\.svc\./.exec(nodeId)?.[1];
  if (namespace === undefined) return undefined;
  const { labels = {}, nodeName = "" } = model.workloadByNodeId.get(nodeId) ?? {};
  const to = everybody(pass, namespace);
  const services = servicesFor(pass, to);
  const rules = rulesOf(pass, to);
  const clusters = outboundClusters(pass, to);
  const assignments = endpoints(pass, { namespace, labels, nodeName }, to);
  const key = JSON.stringify([namespace, labels]);
  return {
    resources: {
      [typeUrls.listener]: memo.get(`proxyless-listeners|${namespace}`, [services], () =>
        group(pass, typeUrls.listener, apiListeners(services)),
      ),
      [typeUrls.route]: memo.get(`proxyless-routes|${key}`, [services, rules, objects.destinationRules], () =>
        group(pass, typeUrls.route, proxylessRoutes(model, services, rules, { namespace, labels, key })),
      ),
      [typeUrls.cluster]: memo.get(`proxyless-clusters|${namespace}`, [clusters], () => {
        const made = clusters.resources.flatMap(({ message }) => proxylessCluster(message as Cluster) ?? []);
        return group(pass, typeUrls.cluster, made);
      }),
      [typeUrls.endpoint]: memo.get(`proxyless-endpoints|${key}`, [assignments], () => {
        const made = assignments.resources.map(({ message }) => proxylessEndpoints(message as ClusterLoadAssignment));
        return group(pass, typeUrls.endpoint, made);
      }),
    },
  };
}

/** The names that these clients may ask for. */
export function names(pass: Pass, to: Audience): Group {
  const { memo, model, objects } = pass;
  const services = servicesFor(pass, to);
  return memo.get(`names|${to.key}`, [services, objects.endpointSlices, objects.pods], () =>
    group(pass, typeUrls.nameTable, [nameTable(model, services)]),
  );
}
