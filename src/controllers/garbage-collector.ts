// Deletes what its owners left behind, in the background or (finalizer foregroundDeletion) before the owner goes; or orphans it.

import type { KubeObject, OwnerReference } from "../api/object.ts";
import type { Resource } from "../api/resources.ts";
import { runReconciler } from "../client/runner.ts";
import { isNotFound, type ReconcileResult } from "../client/types.ts";
import { messageOf } from "../kernel/errors.ts";
import {
  foregroundFinalizer,
  type GraphNode,
  nameOf,
  OwnerGraph,
  type OwnerState,
  orphanFinalizer,
  plan,
} from "./owner-graph.ts";
import { releasePatch } from "./ownership.ts";
import type { Controller, ControllerDeps } from "./types.ts";

/** How often new kinds are looked for. */
const discoveryPeriodMs = 10_000;
const discoveryRetryMs = 200;
/** An owner of a kind nobody serves (yet) is looked at again after this long. */
const unknownKindMs = 30_000;

export function garbageCollector(deps: ControllerDeps): Controller {
  const { client, informers, clock, random, log } = deps;
  const graph = new OwnerGraph();
  const watched = new Map<string, Resource>();
  const stops: (() => void)[] = [];
  const { promise: ready, resolve: markReady } = Promise.withResolvers<void>();
  const stopping = new AbortController();
  const runner = runReconciler({
    reconciler: { name: "garbage-collector", reconcile },
    clock,
    random,
    log,
    ready,
    delayMaxMs: 30_000,
    allKeys: () => graph.uids(),
  });
  void discoverForever();

  async function discoverForever(): Promise<void> {
    while (!stopping.signal.aborted) {
      let waitMs = discoveryPeriodMs;
      try {
        for (const resource of await client.discover()) follow(resource);
        await Promise.all([...watched.values()].map((resource) => informers.of(resource).synced));
        markReady();
      } catch (error) {
        log.debug("discovery failed", { error: messageOf(error) });
        waitMs = discoveryRetryMs;
      }
      await clock.sleep(waitMs, stopping.signal);
    }
  }

  function follow(resource: Resource): void {
    const id = `${resource.plural}.${resource.group}`;
    // Events have no owners and change all the time.
    if (stopping.signal.aborted || watched.has(id) || resource.kind === "Event") return;
    watched.set(id, resource);
    const informer = informers.of(resource);
    for (const object of informer.list()) take(resource, object, undefined);
    stops.push(informer.onChange((current, old) => take(resource, current, old)));
  }

  function take(resource: Resource, current: KubeObject | undefined, old: KubeObject | undefined): void {
    if (old !== undefined && old.metadata.uid !== current?.metadata.uid) {
      graph.remove(old);
      for (const { object } of graph.dependentsOf(old.metadata.uid)) runner.enqueue(object.metadata.uid);
      // An owner in foreground deletion may have waited for just this one.
      for (const owner of old.metadata.ownerReferences ?? [])
        if (isHolding(graph.get(owner.uid)?.object)) runner.enqueue(owner.uid);
    }
    if (current === undefined) return;
    graph.set(resource, current);
    const { uid, ownerReferences } = current.metadata;
    if (isHolding(current)) runner.enqueue(uid);
    else if (ownerReferences?.some((owner) => isGoneOrHolding(graph.get(owner.uid)?.object))) runner.enqueue(uid);
  }

  const isGoneOrHolding = (owner: KubeObject | undefined) => owner === undefined || isHolding(owner);

  async function reconcile(uid: string): Promise<ReconcileResult> {
    const node = graph.get(uid);
    if (node === undefined) return { kind: "done" };
    const { metadata } = node.object;
    if (metadata.deletionTimestamp !== undefined) {
      if (metadata.finalizers?.includes(orphanFinalizer)) await orphan(node);
      else if (metadata.finalizers?.includes(foregroundFinalizer)) await foreground(node);
      return { kind: "done" };
    }
    const owners = new Map<string, OwnerState>();
    for (const owner of metadata.ownerReferences ?? []) {
      const state = await stateOf(owner, metadata.namespace);
      if (state === undefined) return { kind: "again", afterMs: unknownKindMs };
      owners.set(owner.uid, state);
    }
    const action = plan(node.object, owners, graph.dependentsOf(uid).length > 0);
    switch (action.kind) {
      case "keep":
        break;
      case "unlink":
        await unlink(node, action.ownerUids);
        break;
      case "delete":
        log.debug("collecting", { object: nameOf(node), policy: action.policy });
        await client
          .delete(node.resource, metadata.namespace, metadata.name, {
            uid,
            resourceVersion: metadata.resourceVersion,
            propagationPolicy: action.policy,
          })
          .catch(ignoreNotFound);
    }
    return { kind: "done" };
  }

  /** A missing owner counts as dangling only when the server, not just the cache, does not have it. Undefined: unknown kind. */
  async function stateOf(owner: OwnerReference, namespace: string | undefined): Promise<OwnerState | undefined> {
    const known = graph.get(owner.uid);
    if (known !== undefined) return isForeground(known.object) ? "waiting" : "solid";
    const group = owner.apiVersion.includes("/") ? owner.apiVersion.slice(0, owner.apiVersion.indexOf("/")) : "";
    const resource = [...watched.values()].find((each) => each.group === group && each.kind === owner.kind);
    if (resource === undefined) return undefined;
    if (resource.namespaced && namespace === undefined) return "solid"; // invalid, and not ours to punish
    try {
      const found = await client.get(resource, resource.namespaced ? namespace : undefined, owner.name);
      if (found.metadata.uid !== owner.uid) return "dangling";
      return isForeground(found) ? "waiting" : "solid";
    } catch (error) {
      if (isNotFound(error)) return "dangling";
      throw error;
    }
  }

  async function orphan(node: GraphNode): Promise<void> {
    const owner = new Set([node.object.metadata.uid]);
    await Promise.all(graph.dependentsOf(node.object.metadata.uid).map((dependent) => unlink(dependent, owner)));
    await dropFinalizer(node, orphanFinalizer);
  }

  async function foreground(node: GraphNode): Promise<void> {
    const { uid } = node.object.metadata;
    const dependents = graph.dependentsOf(uid);
    const blocking = dependents.some(({ object }) =>
      object.metadata.ownerReferences?.some((owner) => owner.uid === uid && owner.blockOwnerDeletion === true),
    );
    if (!blocking) return dropFinalizer(node, foregroundFinalizer);
    for (const { object } of dependents) runner.enqueue(object.metadata.uid);
  }

  /** The revision goes along in both patches: lists are replaced whole, and someone else's entry must survive. */
  async function unlink({ resource, object }: GraphNode, ownerUids: ReadonlySet<string>): Promise<void> {
    const { namespace, name, resourceVersion, uid } = object.metadata;
    const { ownerReferences } = (releasePatch(object, ownerUids) as { metadata: { ownerReferences: unknown } })
      .metadata;
    const patched = await client
      .patch(resource, namespace, name, { metadata: { uid, resourceVersion, ownerReferences } })
      .catch(ignoreNotFound);
    if (patched !== undefined) informers.of(resource).observe(patched);
  }

  async function dropFinalizer({ resource, object }: GraphNode, finalizer: string): Promise<void> {
    const { namespace, name, resourceVersion, uid } = object.metadata;
    const left = (object.metadata.finalizers ?? []).filter((each) => each !== finalizer);
    const finalizers = left.length > 0 ? left : null;
    await client
      .patch(resource, namespace, name, { metadata: { uid, resourceVersion, finalizers } })
      .catch(ignoreNotFound);
  }

  return {
    name: "garbage-collector",
    idle: runner.idle,
    stop() {
      stopping.abort();
      runner.stop();
      for (const stop of stops) stop();
    },
  };
}

function ignoreNotFound(error: unknown): undefined {
  if (!isNotFound(error)) throw error;
  return undefined;
}

const isForeground = (object: KubeObject) =>
  object.metadata.deletionTimestamp !== undefined && object.metadata.finalizers?.includes(foregroundFinalizer) === true;

/** Being deleted, and held by one of the collector's own finalizers. */
function isHolding(object: KubeObject | undefined): boolean {
  if (object?.metadata.deletionTimestamp === undefined) return false;
  return [orphanFinalizer, foregroundFinalizer].some((each) => object.metadata.finalizers?.includes(each));
}
