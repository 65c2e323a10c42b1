// Fills new namespaces (default ServiceAccount, root CA) and empties the ones being deleted.

import { keyOf } from "../api/object.ts";
import { configMaps, namespaces, type Resource, serviceAccounts } from "../api/resources.ts";
import type { ConfigMap, Namespace, ServiceAccount } from "../api/types.ts";
import { deleteObject, ignoreNotFound } from "../client/delete.ts";
import { ApiError, type IndexedInformer, isAlreadyExists, isNotFound, type ReconcileResult } from "../client/types.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

const rootCaName = "kube-root-ca.crt";
const finalizer = "kubernetes";
/** How soon to look again whether a namespace being deleted is empty; changes of pods wake it earlier in practice. */
const emptyCheckMs = 100;
const listPageMax = 500;

interface Self extends ControllerDeps {
  cache: IndexedInformer<Namespace>;
  accounts: IndexedInformer<ServiceAccount>;
  maps: IndexedInformer<ConfigMap>;
  clusterCaPem: string;
}

/** `clusterCaPem` is published in every namespace as ConfigMap kube-root-ca.crt. */
export function namespaceController(deps: ControllerDeps, clusterCaPem: string): Controller {
  const cache = deps.informers.of(namespaces);
  const accounts = deps.informers.of(serviceAccounts);
  const maps = deps.informers.of(configMaps);
  const self: Self = { ...deps, cache, accounts, maps, clusterCaPem };
  return runController(deps, {
    name: "namespace",
    reconcile: (key) => reconcile(self, key),
    needs: [cache, accounts, maps],
    keys: () => cache.list().map(keyOf),
    delayMaxMs: 30_000,
    watch: (enqueue) => [
      cache.onChange((current, old) => enqueue(keyOf((current ?? old)!))),
      // Someone removed or changed what every namespace has.
      accounts.onChange((current, old) => {
        if (current === undefined && old?.metadata.name === "default") enqueue(old.metadata.namespace!);
      }),
      maps.onChange((current, old) => {
        const { name, namespace } = (current ?? old)!.metadata;
        if (name === rootCaName) enqueue(namespace!);
      }),
    ],
  });
}

async function reconcile(self: Self, key: string): Promise<ReconcileResult> {
  const { cache } = self;
  const namespace = cache.get(key);
  if (namespace === undefined) return { kind: "done" };
  if (namespace.metadata.deletionTimestamp === undefined) await fill(self, key);
  else if (namespace.spec?.finalizers?.includes(finalizer) === true) return empty(self, namespace);
  return { kind: "done" };
}

async function fill(self: Self, namespace: string): Promise<void> {
  const { client, accounts, maps, clusterCaPem } = self;
  const writes: Promise<void>[] = [];
  const settle = (write: Promise<{ observe: () => void }>) =>
    writes.push(
      write.then(
        ({ observe }) => observe(),
        (error) => {
          // Created by another meanwhile, or the namespace is on its way out: both are fine.
          if (!isAlreadyExists(error) && !isNotFound(error) && !(error instanceof ApiError && error.status === 403))
            throw error;
        },
      ),
    );
  if (accounts.get(`${namespace}/default`) === undefined) {
    const draft = { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "default", namespace } };
    settle(client.create(serviceAccounts, draft).then((made) => ({ observe: () => accounts.observe(made) })));
  }
  const map = maps.get(`${namespace}/${rootCaName}`);
  const data = { "ca.crt": clusterCaPem };
  if (map === undefined) {
    const annotations = {
      "kubernetes.io/description": "Contains a CA bundle that can be used to verify the API server",
    };
    const draft = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: rootCaName, namespace, annotations },
      data,
    };
    settle(client.create(configMaps, draft).then((made) => ({ observe: () => maps.observe(made) })));
  } else if (!Bun.deepEquals(map.data, data)) {
    const write = client.update(configMaps, { ...map, data });
    settle(write.then((made) => ({ observe: () => maps.observe(made) })));
  }
  await Promise.all(writes);
}

/** Deletes everything in it, once each; when nothing is left, lets the namespace go. */
async function empty(self: Self, namespace: Namespace): Promise<ReconcileResult> {
  const { client, cache } = self;
  const { name } = namespace.metadata;
  const counts = await Promise.all(
    (await client.discover())
      .filter((resource) => resource.namespaced)
      .map((resource) => emptyOf(self, resource, name)),
  );
  const remaining = counts.filter(({ left }) => left > 0);
  await report(self, namespace, remaining);
  if (remaining.length > 0) return { kind: "again", afterMs: emptyCheckMs };
  const finalizers = (namespace.spec?.finalizers ?? []).filter((each) => each !== finalizer);
  await client
    .update(namespaces, { ...(cache.get(name) ?? namespace), spec: { ...namespace.spec, finalizers } }, "finalize")
    .catch(ignoreNotFound);
  return { kind: "done" };
}

async function emptyOf(
  self: Self,
  resource: Resource,
  namespace: string,
): Promise<{ resource: Resource; left: number }> {
  const { client } = self;
  let left = 0;
  let page: string | undefined;
  do {
    const list = await client.list(resource, { namespace, limit: listPageMax, ...(page && { continue: page }) });
    left += list.items.length;
    page = list.continue;
    const fresh = list.items.filter((item) => item.metadata.deletionTimestamp === undefined);
    await Promise.all(fresh.map((item) => deleteObject(client, resource, item, { propagationPolicy: "Background" })));
  } while (page !== undefined);
  return { resource, left };
}

async function report(
  self: Self,
  namespace: Namespace,
  remaining: { resource: Resource; left: number }[],
): Promise<void> {
  const { client, clock } = self;
  const text = remaining.map(
    ({ resource, left }) => `${resource.plural}.${resource.group} has ${left} resource instances`,
  );
  const message =
    remaining.length === 0
      ? "All content successfully removed"
      : `Some resources are remaining: ${text.sort().join(", ")}`.replaceAll(". has", " has");
  const status = remaining.length === 0 ? "False" : "True";
  const reason = remaining.length === 0 ? "ContentRemoved" : "SomeResourcesRemain";
  const present = namespace.status?.conditions?.find(({ type }) => type === "NamespaceContentRemaining");
  if (namespace.status?.phase === "Terminating" && present?.message === message) return;
  const lastTransitionTime = `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;
  const conditions = [{ type: "NamespaceContentRemaining", status, reason, message, lastTransitionTime }];
  await client
    .patch(
      namespaces,
      undefined,
      namespace.metadata.name,
      { status: { phase: "Terminating", conditions } },
      { subresource: "status" },
    )
    .catch(ignoreNotFound);
}
