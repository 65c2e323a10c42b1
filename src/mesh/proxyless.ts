// The snapshots of gRPC clients without a proxy, and the name tables; remembered like those of sidecars.

import type { Cluster } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import type { ClusterLoadAssignment } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { type Snapshot, typeUrls } from "../xds/types.ts";
import type { Group } from "./memo.ts";
import { endpoints, group, outboundClusters, type Pass, rulesOf, servicesFor } from "./outbound.ts";
import { nameTable } from "./translate-names.ts";
import { apiListeners, proxylessCluster, proxylessEndpoints, proxylessRoutes } from "./translate-proxyless.ts";

/** What the client behind "sidecar~<ip>~<pod>.<ns>~<ns>.svc.<domain>" is told; undefined: that is no such node id. */
export function proxylessSnapshot(pass: Pass, nodeId: string): Snapshot | undefined {
  const { memo, model, objects } = pass;
  const namespace = /^[^~]*~[^~]*~[^~]*~([^~.]+)\.svc\./.exec(nodeId)?.[1];
  if (namespace === undefined) return undefined;
  const { labels = {}, nodeName = "" } = model.workloadByNodeId.get(nodeId) ?? {};
  const services = servicesFor(pass, namespace);
  const clusters = outboundClusters(pass, namespace);
  const assignments = endpoints(pass, { namespace, labels, nodeName });
  const key = JSON.stringify([namespace, labels]);
  return {
    resources: {
      [typeUrls.listener]: memo.get(`proxyless-listeners|${namespace}`, [services], () =>
        group(pass, typeUrls.listener, apiListeners(services)),
      ),
      [typeUrls.route]: memo.get(
        `proxyless-routes|${key}`,
        [services, objects.virtualServices, objects.destinationRules],
        () => {
          const rules = rulesOf(pass, namespace);
          return group(pass, typeUrls.route, proxylessRoutes(model, services, rules, { namespace, labels, key }));
        },
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

/** The names that clients of a namespace may ask for. */
export function names(pass: Pass, namespace: string): Group {
  const { memo, model, objects } = pass;
  const services = servicesFor(pass, namespace);
  return memo.get(`names|${namespace}`, [services, objects.endpointSlices, objects.pods], () =>
    group(pass, typeUrls.nameTable, [nameTable(model, services)]),
  );
}
