// Which xDS client may ask for which node id: the configuration of a workload holds its private key.

import type { NodeMetadata } from "../xds/push.ts";
import type { Peer } from "../xds/server.ts";
import type { Model } from "./types.ts";

const nodePrefix = "system:node:";

/** What makes a client a gRPC client without a proxy (Istio: node metadata GENERATOR). */
export const isProxyless = (metadata: NodeMetadata): boolean => metadata["GENERATOR"] === "grpc";

/**
 * Nodes get their own stream and those of the pods that run on them (as Kubernetes' NodeRestriction); administrators any. Anybody
 * gets what a gRPC client is told: services and where they are, no key and no certificate.
 */
export function mayAsk(peer: Peer, nodeId: string, metadata: NodeMetadata, model: Model): boolean {
  if (isProxyless(metadata)) return true;
  if (peer.organizations.includes("system:masters")) return true;
  if (!peer.organizations.includes("system:nodes") || !peer.commonName.startsWith(nodePrefix)) return false;
  const nodeName = peer.commonName.slice(nodePrefix.length);
  const [role, , name] = nodeId.split("~");
  if (role === "node") return name === nodeName;
  const workload = model.workloadByNodeId.get(nodeId);
  // Of a pod that is not known yet there is nothing to tell.
  return workload === undefined || workload.nodeName === nodeName;
}
