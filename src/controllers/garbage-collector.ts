// Deletes what its owners left behind, in the background or (finalizer foregroundDeletion) before the owner goes; or orphans it.

import type { KubeObject, OwnerReference } from "../api/object.ts";
import type { Resource } from "../api/resources.ts";
import { deleteObject, ignoreNotFound } from "../client/delete.ts";
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
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

/** How often new kinds are looked for. */
const discoveryPeriodMs = 10_000;
const discoveryRetryMs = 200;
/** An owner of a kind nobody serves (yet) is looked at again after this long. */
const unknownKindMs = 30_000;

interface Self extends ControllerDeps {
  graph: OwnerGraph;
  /** By plural and group; bounded by the kinds the server has. */
  watched: Map<string, Resource>;
  enqueue(uid: string): void;
  stops: (() => void)[];
  stopping: AbortSignal;
}

export function garbageCollector(deps: ControllerDeps): Controller {
  const graph = new OwnerGraph();
  const stopping = new AbortController();
  const { promise: synced, resolve: markSynced } = Promise.withResolvers<void>();
  const self: Self = {
    ...deps,
    graph,
    watched: new Map(),
    enqueue: () => {},
    stops: [() => stopping.abort()],
    stopping: stopping.signal,
  };
  return runController(deps, {
    name: "garbage-collector",
    reconcile: (uid) => reconcile(self, uid),
    needs: [{ synced }],
    keys: () => graph.uids(),
    delayMaxMs: 30_000,
    watch(enqueue) {
      self.enqueue = enqueue;
      void discoverForever(self, markSynced);
      return [
        () => {
          for (const stop of self.stops) stop();
        },
      ];
    },
  });
}

async function discoverForever(self: Self, markSynced: () => void): Promise<void> {
  const { client, informers, clock, log, watched, stopping } = self;
  while (!stopping.aborted) {
    let waitMs = discoveryPeriodMs;
    try {
      for (const resource of await client.discover()) follow(self, resource);
      await Promise.all([...watched.values()].map((resource) => informers.of(resource).synced));
      markSynced();
    } catch (error) {
      log.debug("discovery failed", { error: messageOf(error) });
      waitMs = discoveryRetryMs;
    }
    await clock.sleep(waitMs, stopping);
  }
}

function follow(self: Self, resource: Resource): void {
  const { informers, watched, stops, stopping } = self;
  const id = `${resource.plural}.${resource.group}`;
  // Events have no owners and change all the time.
  if (stopping.aborted || watched.has(id) || resource.kind === "Event") return;
  watched.set(id, resource);
  const informer = informers.of(resource);
  for (const object of informer.list()) take(self, resource, object, undefined);
  stops.push(informer.onChange((current, old) => take(self, resource, current, old)));
}

function take(self: Self, resource: Resource, current: KubeObject | undefined, old: KubeObject | undefined): void {
  const { graph, enqueue } = self;
  if (old !== undefined && old.metadata.uid !== current?.metadata.uid) {
    graph.remove(old);
    for (const { object } of graph.dependentsOf(old.metadata.uid)) enqueue(object.metadata.uid);
    // An owner in foreground deletion may have waited for just this one.
    for (const owner of old.metadata.ownerReferences ?? [])
      if (isHolding(graph.get(owner.uid)?.object)) enqueue(owner.uid);
  }
  if (current === undefined) return;
  graph.set(resource, current);
  const { uid, ownerReferences } = current.metadata;
  if (isHolding(current)) enqueue(uid);
  else if (ownerReferences?.some((owner) => isGoneOrHolding(graph.get(owner.uid)?.object))) enqueue(uid);
}

async function reconcile(self: Self, uid: string): Promise<ReconcileResult> {
  const { client, log, graph } = self;
  const node = graph.get(uid);
  if (node === undefined) return { kind: "done" };
  const { metadata } = node.object;
  if (metadata.deletionTimestamp !== undefined) {
    if (metadata.finalizers?.includes(orphanFinalizer)) await orphan(self, node);
    else if (metadata.finalizers?.includes(foregroundFinalizer)) await foreground(self, node);
    return { kind: "done" };
  }
  const owners = new Map<string, OwnerState>();
  for (const owner of metadata.ownerReferences ?? []) {
    const state = await stateOf(self, owner, metadata.namespace);
    if (state === undefined) return { kind: "again", afterMs: unknownKindMs };
    owners.set(owner.uid, state);
  }
  const action = plan(node.object, owners, graph.dependentsOf(uid).length > 0);
  switch (action.kind) {
    case "keep":
      break;
    case "unlink":
      await unlink(self, node, action.ownerUids);
      break;
    case "delete":
      log.debug("collecting", { object: nameOf(node), policy: action.policy });
      await deleteObject(client, node.resource, node.object, {
        resourceVersion: metadata.resourceVersion,
        propagationPolicy: action.policy,
      });
  }
  return { kind: "done" };
}

/** A missing owner counts as dangling only when the server, not just the cache, does not have it. Undefined: unknown kind. */
async function stateOf(
  self: Self,
  owner: OwnerReference,
  namespace: string | undefined,
): Promise<OwnerState | undefined> {
  const { client, graph, watched } = self;
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

async function orphan(self: Self, node: GraphNode): Promise<void> {
  const { graph } = self;
  const owner = new Set([node.object.metadata.uid]);
  await Promise.all(graph.dependentsOf(node.object.metadata.uid).map((dependent) => unlink(self, dependent, owner)));
  await dropFinalizer(self, node, orphanFinalizer);
}

async function foreground(self: Self, node: GraphNode): Promise<void> {
  const { graph, enqueue } = self;
  const { uid } = node.object.metadata;
  const dependents = graph.dependentsOf(uid);
  const blocking = dependents.some(({ object }) =>
    object.metadata.ownerReferences?.some((owner) => owner.uid === uid && owner.blockOwnerDeletion === true),
  );
  if (!blocking) return dropFinalizer(self, node, foregroundFinalizer);
  for (const { object } of dependents) enqueue(object.metadata.uid);
}

/** The revision goes along in both patches: lists are replaced whole, and someone else's entry must survive. */
async function unlink(self: Self, { resource, object }: GraphNode, ownerUids: ReadonlySet<string>): Promise<void> {
  const { client, informers } = self;
  const { namespace, name, resourceVersion, uid } = object.metadata;
  const { ownerReferences } = (releasePatch(object, ownerUids) as { metadata: { ownerReferences: unknown } }).metadata;
  const patched = await client
    .patch(resource, namespace, name, { metadata: { uid, resourceVersion, ownerReferences } })
    .catch(ignoreNotFound);
  if (patched !== undefined) informers.of(resource).observe(patched);
}

async function dropFinalizer(self: Self, { resource, object }: GraphNode, finalizer: string): Promise<void> {
  const { client } = self;
  const { namespace, name, resourceVersion, uid } = object.metadata;
  const left = (object.metadata.finalizers ?? []).filter((each) => each !== finalizer);
  const finalizers = left.length > 0 ? left : null;
  await client
    .patch(resource, namespace, name, { metadata: { uid, resourceVersion, finalizers } })
    .catch(ignoreNotFound);
}

const isForeground = (object: KubeObject) =>
  object.metadata.deletionTimestamp !== undefined && object.metadata.finalizers?.includes(foregroundFinalizer) === true;

const isGoneOrHolding = (owner: KubeObject | undefined) => owner === undefined || isHolding(owner);

/** Being deleted, and held by one of the collector's own finalizers. */
function isHolding(object: KubeObject | undefined): boolean {
  if (object?.metadata.deletionTimestamp === undefined) return false;
  return [orphanFinalizer, foregroundFinalizer].some((each) => object.metadata.finalizers?.includes(each));
}
