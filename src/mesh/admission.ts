// Which xDS client may ask for which node id: the configuration of a workload holds its private key.

import type { Peer } from "../xds/server.ts";
import type { Model } from "./types.ts";

const nodePrefix = "system:node:";

/** Nodes get their own stream and those of the pods that run on them (as Kubernetes' NodeRestriction); administrators any. */
export function mayAsk(peer: Peer, nodeId: string, model: Model): boolean {
  if (peer.organizations.includes("system:masters")) return true;
  if (!peer.organizations.includes("system:nodes") || !peer.commonName.startsWith(nodePrefix)) return false;
  const nodeName = peer.commonName.slice(nodePrefix.length);
  const [role, , name] = nodeId.split("~");
  if (role === "node") return name === nodeName;
  const workload = model.workloadByNodeId.get(nodeId);
  // Of a pod that is not known yet there is nothing to tell.
  return workload === undefined || workload.nodeName === nodeName;
}
