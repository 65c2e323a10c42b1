// Keeps a cache of one resource current: list, then watch from there; resumes at its revision, lists again when that is gone.

import type { ObjectMeta, Status } from "../api/object.ts";
import type { Resource } from "../api/resources.ts";
import { type Clock, timestamp } from "../kernel/clock.ts";
import { MeshbedError, messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { Random } from "../kernel/random.ts";
import { type ChangeHandler, ObjectCache } from "./object-cache.ts";
import { ApiError, type Client, type IndexedInformer, type Indexes, type InformerOptions, isGone } from "./types.ts";

export interface InformerDeps {
  client: Client;
  clock: Clock;
  random: Random;
  log: Log;
}

const listPageMax = 500;
/** A list longer than this is refused with an error in the log and tried again later; the cache keeps its last state. */
const objectsMax = 200_000;
const backoffBaseMs = 50;
const backoffMaxMs = 2_000;
/** After this many broken watches in a row the cache lists again instead of trusting its revision. */
const resumesMax = 5;

/** Starts at once; call stop() to end it. */
export function createInformer<T>(
  deps: InformerDeps,
  resource: Resource<T>,
  options: InformerOptions = {},
  indexes: Indexes<T> = {},
): IndexedInformer<T> {
  const handlers = new Set<ChangeHandler<T>>();
  const abort = new AbortController();
  const cache = new ObjectCache<T>(indexes, (current, old) => {
    for (const handler of handlers)
      try {
        handler(current, old);
      } catch (error) {
        deps.log.error("change handler failed", { resource: resource.plural, error: messageOf(error) });
      }
  });
  const { promise: synced, resolve: markSynced } = Promise.withResolvers<void>();
  void follow(deps, resource, options, cache, abort.signal, markSynced);
  return {
    get: (key) => cache.get(key),
    list: () => cache.list(),
    by: (name, value) => cache.by(name, value),
    observe: (object) => cache.observe(object),
    observeDeleting: (key, uid) => cache.observeDeleting(key, uid, timestamp(deps.clock)),
    synced,
    onChange(handler) {
      handlers.add(handler);
      return () => handlers.delete(handler);
    },
    stop: () => abort.abort(),
  };
}

async function follow<T>(
  deps: InformerDeps,
  resource: Resource<T>,
  options: InformerOptions,
  cache: ObjectCache<T>,
  signal: AbortSignal,
  markSynced: () => void,
): Promise<void> {
  const { clock, random } = deps;
  const log = deps.log.with({ resource: resource.plural });
  let revision: string | undefined;
  let failures = 0;
  while (!signal.aborted) {
    try {
      if (revision === undefined) {
        const { items, resourceVersion } = await listAll(deps.client, resource, options);
        if (signal.aborted) return;
        cache.replace(items, resourceVersion);
        revision = resourceVersion;
        markSynced();
      }
      for await (const event of deps.client.watch(resource, { ...options, resourceVersion: revision, signal })) {
        if (signal.aborted) return;
        if (event.type === "ERROR") {
          const status = event.object as unknown as Status;
          throw new ApiError(status.code ?? 500, status);
        }
        const { resourceVersion } = (event.object as { metadata: ObjectMeta }).metadata;
        if (event.type === "BOOKMARK") cache.advance(resourceVersion);
        else cache.apply(event.type, event.object);
        revision = resourceVersion;
        failures = 0;
      }
      // The server ended the watch: ordinary after a while, but not again and again without an event.
      failures++;
    } catch (error) {
      if (signal.aborted) return;
      failures++;
      if (error instanceof ApiError) revision = undefined;
      log[isGone(error) || failures < 3 ? "debug" : "warn"]("watch broke", { failures, error: messageOf(error) });
    }
    if (failures > resumesMax) revision = undefined;
    if (failures > 1) {
      const delayMs = Math.min(backoffMaxMs, backoffBaseMs * 2 ** Math.min(failures - 2, 20));
      await clock.sleep(delayMs * (0.5 + 0.5 * random.next()), signal);
    }
  }
}

async function listAll<T>(client: Client, resource: Resource<T>, options: InformerOptions) {
  const items: T[] = [];
  let token: string | undefined;
  for (;;) {
    const page = await client.list(resource, { ...options, limit: listPageMax, ...(token && { continue: token }) });
    items.push(...page.items);
    if (items.length > objectsMax)
      throw new MeshbedError("CACHE_FULL", `more than ${objectsMax} ${resource.plural}: not cached`);
    if (page.continue === undefined) return { items, resourceVersion: page.resourceVersion };
    token = page.continue;
  }
}
