// The store in memory: same contract and test suite as the durable one, for tests and throw-away clusters.

import { createCommitQueue, type Write, type WriteResult } from "./commit.ts";
import type { ListPage, ListQuery, Store, StoreEntry, StoreEvent } from "./types.ts";
import { checkRevision, createWatchHub } from "./watch.ts";

export function createMemoryStore(): Store {
  /** Every write since the last compaction, by revision. */
  let log: StoreEvent[] = [];
  /** Writes of a key that are still readable, oldest first. */
  const keys = new Map<string, StoreEvent[]>();
  let revision = 1;
  let compactedRevision = 0;
  let published: StoreEvent[] = [];

  const hub = createWatchHub(
    (prefix, after, limit) => {
      const events: StoreEvent[] = [];
      for (let i = firstAfter(log, after); i < log.length && events.length < limit; i++)
        if (log[i]!.key.startsWith(prefix)) events.push(log[i]!);
      return events;
    },
    () => revision,
  );

  function write(one: Write): WriteResult {
    const live = liveEntry(keys.get(one.key), revision);
    const actualRevision = live?.revision ?? 0;
    if (actualRevision !== one.expectedRevision || (one.value === undefined && live === undefined))
      return { kind: "conflict", actualRevision };
    revision++;
    const event: StoreEvent = {
      type: one.value === undefined ? "delete" : "put",
      key: one.key,
      revision,
      value: one.value ?? live!.value,
      previous: live,
    };
    log.push(event);
    const history = keys.get(one.key);
    if (history === undefined) keys.set(one.key, [event]);
    else history.push(event);
    published.push(event);
    return { kind: "written", revision };
  }

  const queue = createCommitQueue(
    (writes) => {
      published = [];
      return writes.map(write);
    },
    () => hub.publish(published),
  );

  return {
    get revision() {
      return revision;
    },
    get compactedRevision() {
      return compactedRevision;
    },
    get: (key) => liveEntry(keys.get(key), revision),
    list(prefix, query = {}) {
      const at = query.revision ?? revision;
      checkRevision(at, revision, compactedRevision);
      return listAt(keys, prefix, query, at);
    },
    put: (key, value, expectedRevision) => queue.submit({ key, value, expectedRevision }),
    delete: (key, expectedRevision) => queue.submit({ key, value: undefined, expectedRevision }),
    watch(prefix, from) {
      checkRevision(from, revision, compactedRevision);
      return hub.open(prefix, from);
    },
    compact(to) {
      const target = Math.min(to, revision);
      if (target <= compactedRevision) return;
      for (const [key, events] of keys) {
        const newest = firstAfter(events, target) - 1;
        const from = newest >= 0 && events[newest]!.type === "delete" ? newest + 1 : Math.max(0, newest);
        if (from === events.length) keys.delete(key);
        else if (from > 0) keys.set(key, events.slice(from));
      }
      log = log.slice(firstAfter(log, target));
      compactedRevision = target;
      hub.compacted(target);
    },
    async close() {
      queue.close();
      hub.close();
    },
  };
}

/** Index of the first event after `revision`; the events are ordered by revision. */
function firstAfter(events: readonly StoreEvent[], revision: number): number {
  let low = 0;
  let high = events.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (events[middle]!.revision <= revision) low = middle + 1;
    else high = middle;
  }
  return low;
}

function liveEntry(events: readonly StoreEvent[] | undefined, revision: number): StoreEntry | undefined {
  const event = events?.[firstAfter(events, revision) - 1];
  return event?.type === "put" ? { key: event.key, value: event.value, revision: event.revision } : undefined;
}

function listAt(keys: ReadonlyMap<string, StoreEvent[]>, prefix: string, query: ListQuery, revision: number): ListPage {
  const after = query.after ?? "";
  const entries: StoreEntry[] = [];
  for (const [key, events] of keys) {
    if (!key.startsWith(prefix) || key <= after) continue;
    const entry = liveEntry(events, revision);
    if (entry !== undefined) entries.push(entry);
  }
  entries.sort((a, b) => (a.key < b.key ? -1 : 1));
  const count = Math.min(entries.length, query.limit ?? entries.length);
  return { entries: entries.slice(0, count), revision, remaining: entries.length - count };
}
