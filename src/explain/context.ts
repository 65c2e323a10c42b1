// What every step of an explanation needs: the world's translation, and its nodes compiled on demand.

import { createTranslator, type Translator } from "../mesh/translator.ts";
import type { Model, Workload } from "../mesh/types.ts";
import { createDryNode, type DryNode } from "./dry_node.ts";
import { withTestKey } from "./tokens.ts";
import type { World } from "./types.ts";

export interface Context {
  readonly world: World;
  readonly model: Model;
  /** Of a sidecar or gateway. */
  node(workload: Workload): Promise<DryNode>;
  /** A node's own listeners, which serve pods outside the mesh. */
  ownNode(name: string, ip: string): Promise<DryNode>;
  close(): void;
}

/** Kept: nodes of one configuration are asked again and again. */
export function createContext(world: World): Context {
  const translator = createTranslator({
    config: {
      mode: world.mode,
      clusterDomain: "cluster.local",
      trustDomain: "cluster.local",
      rootNamespace: "istio-system",
    },
    rootsPem: "",
    certificateOf: () => undefined,
  });
  translator.update(withTestKey(world.objects));
  const nodes = new Map<string, Promise<DryNode>>();
  const dry = (nodeId: string, about: string, identity: string): Promise<DryNode> => {
    let found = nodes.get(nodeId);
    if (found === undefined) {
      found = build(translator, nodeId, about, identity, world.nowMs);
      nodes.set(nodeId, found);
    }
    return found;
  };
  return {
    world,
    model: translator.model,
    node: ({ nodeId, about, identity }) => dry(nodeId, about, identity),
    ownNode: (name, ip) => dry(`node~${ip}~${name}~cluster.local`, "", "unknown"),
    close() {
      for (const node of nodes.values()) node.then((one) => one.close());
    },
  };
}

function build(translator: Translator, nodeId: string, about: string, identity: string, nowMs: number) {
  const snapshot = translator.snapshot(nodeId) ?? { resources: {} };
  return createDryNode({ nodeId, snapshot, about, identity, nowMs });
}
