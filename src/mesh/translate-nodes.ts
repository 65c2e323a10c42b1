// A node's own stream: its workloads, and plain TCP for pods outside the mesh and for node ports (what kube-proxy does). Pure.

import { create } from "@bufbuild/protobuf";
import {
  type Cluster,
  ClusterSchema,
  Cluster_DiscoveryType as Discovery,
  Cluster_LbPolicy as Lb,
} from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import type { Listener } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import { type Workload as WorkloadMessage, WorkloadSchema } from "#gen/xds/meshbed/workload/v1/workload_pb.js";
import type { Node } from "../api/types.ts";
import { adsSource, durationOf } from "./envoy.ts";
import { tcpProxy } from "./filters.ts";
import { outboundName } from "./translate-clusters.ts";
import { inboundPorts, outboundListener, portListeners } from "./translate-listeners.ts";
import type { Model, ServiceModel, Workload } from "./types.ts";

const connectTimeoutMs = 10_000;

/** Pods of the node with an address of their own. */
export function nodeWorkloads(model: Model, nodeName: string): WorkloadMessage[] {
  return model.workloads
    .filter(({ nodeName: on, pod }) => on === nodeName && pod.spec?.hostNetwork !== true)
    .map((workload) => {
      const { key, ip, injected, nodeId } = workload;
      return create(WorkloadSchema, {
        name: key,
        address: ip,
        nodeId: injected ? nodeId : "",
        ports: reachablePorts(model, workload),
      });
    });
}

/** What its containers say they listen on and, as a pod outside the mesh has no inbound chains, what services lead to. */
function reachablePorts(model: Model, workload: Workload): number[] {
  const ports = new Set<number>();
  for (const container of workload.pod.spec?.containers ?? [])
    for (const { containerPort, protocol } of container.ports ?? [])
      if (protocol === undefined || protocol === "TCP") ports.add(containerPort);
  if (!workload.injected) for (const { containerPort } of inboundPorts(model, workload)) ports.add(containerPort);
  return [...ports].sort((a, b) => a - b);
}

/** One plain cluster per service port, endpoints picked at random as kube-proxy does. */
export function plainClusters(service: ServiceModel): Cluster[] {
  return service.ports
    .filter((port) => port.protocol !== "udp")
    .map((port) => {
      const name = outboundName(port.port, "", service.host);
      return create(ClusterSchema, {
        name,
        clusterDiscoveryType: { case: "type", value: Discovery.EDS },
        edsClusterConfig: { edsConfig: adsSource, serviceName: name },
        connectTimeout: durationOf(connectTimeoutMs),
        lbPolicy: Lb.RANDOM,
      });
    });
}

/** A listener per service address and port. */
export function plainListeners(service: ServiceModel): Listener[] {
  return service.addresses.flatMap((address) =>
    service.ports
      .filter((port) => port.protocol !== "udp")
      .map(({ port }) => {
        const cluster = outboundName(port, "", service.host);
        const filter = tcpProxy(cluster, [{ name: cluster, weight: 1 }]);
        return outboundListener({ name: `${address}_${port}`, address, port, filters: [filter], bind: false });
      }),
  );
}

/** Listeners that belong to this node: its node ports and, in `ports` mode, those of its pods outside the mesh. */
export function ownListeners(model: Model, node: Node, nodeIp: string): Listener[] {
  const listeners: Listener[] = [];
  const { mode } = model.config;
  // In `ports` mode all nodes share one address: the first one serves the node ports.
  if (mode === "namespaces" || model.nodes[0]?.metadata.name === node.metadata.name)
    for (const service of model.services)
      for (const { port, nodePort, protocol } of service.ports) {
        if (nodePort === undefined || protocol === "udp") continue;
        const cluster = outboundName(port, "", service.host);
        const filter = tcpProxy(cluster, [{ name: cluster, weight: 1 }]);
        const name = `${nodeIp}_${nodePort}`;
        listeners.push(outboundListener({ name, address: nodeIp, port: nodePort, filters: [filter], bind: true }));
      }
  if (mode === "ports")
    for (const workload of model.workloads)
      if (workload.nodeName === node.metadata.name && !workload.injected)
        listeners.push(...portListeners(model, workload, undefined));
  return listeners;
}
