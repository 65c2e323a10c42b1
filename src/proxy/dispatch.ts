// A connection on a shared wildcard socket: whose is it, and which listener does it belong to? The decision is pure.

import type { CompiledListener } from "./compile/listener.ts";
import type { XdsNode } from "./xds_node.ts";

/** A pod of this node, as the node's stream lists it. */
export interface LocalWorkload {
  name: string;
  address: string;
  /** Listened for beside those that the sidecar has chains for. */
  ports: readonly number[];
  /** Undefined: not in the mesh. */
  sidecar: XdsNode | undefined;
}

export type Dispatch =
  | { kind: "listener"; node: XdsNode; listener: CompiledListener }
  /** Straight to where the caller wanted to go. */
  | { kind: "passthrough"; node: XdsNode }
  /** The caller, or its configuration, is not known yet. */
  | { kind: "wait" }
  | { kind: "refuse" };

export interface DispatchTable {
  nodeIp: string;
  /** The node's own listeners: services for pods outside the mesh, node ports. */
  own: XdsNode;
  workload(address: string): LocalWorkload | undefined;
}

/** ISTIO: outbound belongs to the caller, inbound to the pod that is called; a caller outside the mesh gets plain TCP. */
export function dispatch(table: DispatchTable, remote: string, local: string, port: number): Dispatch {
  const caller = table.workload(remote);
  if (caller?.sidecar) {
    const { sidecar } = caller;
    if (!sidecar.isReady) return { kind: "wait" };
    const listener = sidecar.outboundListener(local, port);
    return listener ? { kind: "listener", node: sidecar, listener } : { kind: "passthrough", node: sidecar };
  }
  const called = table.workload(local);
  if (called) {
    if (!called.sidecar) return { kind: "passthrough", node: table.own };
    if (!called.sidecar.isReady) return { kind: "wait" };
    const listener = called.sidecar.inboundListener(local, port);
    if (listener) return { kind: "listener", node: called.sidecar, listener };
    return { kind: "passthrough", node: table.own };
  }
  const listener = table.own.outboundListener(local, port);
  if (caller)
    return listener ? { kind: "listener", node: table.own, listener } : { kind: "passthrough", node: table.own };
  const isNode = remote === table.nodeIp || remote === local;
  if (isNode || local === table.nodeIp)
    return listener ? { kind: "listener", node: table.own, listener } : { kind: "refuse" };
  return { kind: "wait" };
}
