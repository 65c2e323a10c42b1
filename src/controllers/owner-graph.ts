// The graph the garbage collector works on: every object by uid, and who names whom as owner.

import { type KubeObject, keyOf } from "../api/object.ts";
import type { Resource } from "../api/resources.ts";

export interface GraphNode {
  resource: Resource;
  object: KubeObject;
}

/** Bounded by the informers' caches it mirrors. */
export class OwnerGraph {
  readonly #nodes = new Map<string, GraphNode>();
  readonly #dependents = new Map<string, Set<string>>();

  get(uid: string): GraphNode | undefined {
    return this.#nodes.get(uid);
  }
  uids(): Iterable<string> {
    return this.#nodes.keys();
  }
  dependentsOf(uid: string): GraphNode[] {
    const uids = this.#dependents.get(uid);
    return uids ? [...uids].flatMap((each) => this.#nodes.get(each) ?? []) : [];
  }

  set(resource: Resource, object: KubeObject): void {
    const { uid } = object.metadata;
    const old = this.#nodes.get(uid);
    if (old !== undefined) this.#unlink(old.object);
    this.#nodes.set(uid, { resource, object });
    for (const owner of object.metadata.ownerReferences ?? []) {
      const dependents = this.#dependents.get(owner.uid);
      if (dependents) dependents.add(uid);
      else this.#dependents.set(owner.uid, new Set([uid]));
    }
  }

  remove(object: KubeObject): void {
    if (this.#nodes.delete(object.metadata.uid)) this.#unlink(object);
  }

  #unlink(object: KubeObject): void {
    for (const owner of object.metadata.ownerReferences ?? []) {
      const dependents = this.#dependents.get(owner.uid);
      dependents?.delete(object.metadata.uid);
      if (dependents?.size === 0) this.#dependents.delete(owner.uid);
    }
  }
}

export type OwnerState = "solid" | "waiting" | "dangling";

export type CollectorAction =
  | { kind: "keep" }
  /** Let go of owners that are gone or waiting for their dependents to go; another owner keeps the object. */
  | { kind: "unlink"; ownerUids: Set<string> }
  | { kind: "delete"; policy: "Orphan" | "Background" | "Foreground" };

export const orphanFinalizer = "orphan";
export const foregroundFinalizer = "foregroundDeletion";

/** What to do with an object, given the state of each of its owners (Kubernetes' attemptToDeleteItem). */
export function plan(
  object: KubeObject,
  owners: ReadonlyMap<string, OwnerState>,
  hasDependents: boolean,
): CollectorAction {
  const states = [...owners.values()];
  if (states.length === 0 || states.every((state) => state === "solid")) return { kind: "keep" };
  if (states.includes("solid"))
    return {
      kind: "unlink",
      ownerUids: new Set([...owners].filter(([, state]) => state !== "solid").map(([uid]) => uid)),
    };
  if (states.includes("waiting") && hasDependents) return { kind: "delete", policy: "Foreground" };
  const finalizers = object.metadata.finalizers ?? [];
  if (finalizers.includes(orphanFinalizer)) return { kind: "delete", policy: "Orphan" };
  return { kind: "delete", policy: finalizers.includes(foregroundFinalizer) ? "Foreground" : "Background" };
}

/** "pods default/web-1", for log lines. */
export const nameOf = ({ resource, object }: GraphNode): string => `${resource.plural} ${keyOf(object)}`;
