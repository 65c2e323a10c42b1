// One response, from the store or the origin: freshness, collapsing of equal requests, stale answers.

import type { Disk } from "./disk.ts";
import type { Fetched, Fetcher, Wanted } from "./fetcher.ts";
import { mayServeOnError, parseCacheControl, usabilityOf } from "./freshness.ts";
import type { CacheStatus, Entry, Meta, Source } from "./types.ts";

export type Obtained =
  | { kind: "stored"; meta: Meta; source: Source; status: CacheStatus }
  /** Straight from the origin, not kept. */
  | { kind: "passed"; response: Response; status: CacheStatus }
  | { kind: "failed"; reason: string; status: CacheStatus };

/** Waiting for another client's fetch of the same; then everyone for themselves. */
const collapseWaitMs = 5000;

export interface Store {
  obtain(request: Request, wanted: Wanted): Promise<Obtained>;
  /** Something changed the resource. */
  invalidate(target: string): void;
  /** Whether all these slices are there and fresh. */
  hasFresh(request: Request, target: string, suffixes: readonly string[]): boolean;
  /** Takes over what an earlier process left; how much it was. */
  load(): Promise<number>;
  readonly fetching: number;
}

export function createStore(disk: Disk, fetcher: Fetcher): Store {
  const inFlight = new Map<string, Promise<Fetched>>();

  function fetchShared(key: string, request: Request, wanted: Wanted, stale: Entry | undefined): Promise<Fetched> {
    const fetching = fetcher.fetch(request, wanted, stale).finally(() => {
      if (inFlight.get(key) === fetching) inFlight.delete(key);
    });
    inFlight.set(key, fetching);
    return fetching;
  }

  /** In the background; somebody was served the stale one meanwhile. */
  async function update(key: string, request: Request, wanted: Wanted, stale: Entry): Promise<void> {
    const settled = settle(disk, await fetchShared(key, request, wanted, stale), key, stale);
    if (settled?.kind === "passed") await settled.response.body?.cancel();
  }

  async function waitFor(
    running: Promise<Fetched>,
    key: string,
    request: Request,
    wanted: Wanted,
    stale: Entry | undefined,
  ): Promise<Obtained> {
    const shared = await Promise.race([running, Bun.sleep(collapseWaitMs).then(() => undefined)]);
    if (shared !== undefined && shared.kind !== "unkept") {
      const settled = settle(disk, shared, key, stale);
      // What another client's fetch brought, this one had not to fetch.
      if (settled?.kind === "stored") return settled.status === "STALE" ? settled : { ...settled, status: "HIT" };
      if (settled !== undefined) return settled;
    }
    return alone(request, wanted, key, stale);
  }

  async function alone(request: Request, wanted: Wanted, key: string, stale: Entry | undefined): Promise<Obtained> {
    const settled = settle(disk, await fetcher.fetch(request, wanted, stale), key, stale);
    return settled ?? { kind: "failed", reason: "the answer went to another request", status: "MISS" };
  }

  return {
    async obtain(request, wanted) {
      const key = fetcher.keyOf(request, wanted);
      const control = parseCacheControl(request.headers.get("cache-control") ?? request.headers.get("pragma"));
      const stored = disk.get(key);
      const running = inFlight.get(key);
      if (stored !== undefined) {
        const usability = usabilityOf(stored.meta, control, Date.now());
        if (usability === "fresh") return fromEntry(stored, "HIT");
        if (usability === "stale while revalidate") {
          if (running !== undefined) return fromEntry(stored, "UPDATING");
          void update(key, request, wanted, stored);
          return fromEntry(stored, "STALE");
        }
      }
      if (control.has("only-if-cached")) {
        return { kind: "passed", response: new Response("Not in the cache.\n", { status: 504 }), status: "MISS" };
      }
      if (running !== undefined) return waitFor(running, key, request, wanted, stored);
      return (
        settle(disk, await fetchShared(key, request, wanted, stored), key, stored) ??
        alone(request, wanted, key, stored)
      );
    },
    invalidate: (target) => disk.removeResource(target),
    hasFresh: (request, target, suffixes) =>
      suffixes.every((suffix) => {
        const entry = disk.peek(fetcher.keyOf(request, { target, suffix, range: undefined }));
        return entry !== undefined && usabilityOf(entry.meta, new Map(), Date.now()) === "fresh";
      }),
    load: () => disk.load((meta) => fetcher.rememberVary(meta.key.split(/[#\n]/, 1)[0] ?? "", meta.vary)),
    get fetching() {
      return inFlight.size;
    },
  };
}

const fromEntry = (entry: Entry, status: CacheStatus): Obtained => ({
  kind: "stored",
  meta: entry.meta,
  source: { kind: "file", entry },
  status,
});

/** What a finished fetch means for a request that knows `stale`. Undefined: the answer cannot be shared and somebody has it. */
function settle(disk: Disk, fetched: Fetched, key: string, stale: Entry | undefined): Obtained | undefined {
  const status: CacheStatus = stale === undefined ? "MISS" : "EXPIRED";
  const rescue = stale !== undefined && mayServeOnError(stale.meta, Date.now()) ? fromEntry(stale, "STALE") : undefined;
  switch (fetched.kind) {
    case "refreshed":
      return fromEntry(fetched.entry, "REVALIDATED");
    case "failed":
      return rescue ?? { kind: "failed", reason: fetched.reason, status };
    case "stored":
      return { kind: "stored", meta: fetched.meta, source: fetched.source, status };
    case "unkept": {
      if (fetched.taken) return undefined;
      fetched.taken = true;
      if (fetched.response.status >= 500 && rescue !== undefined) {
        void fetched.response.body?.cancel();
        return rescue;
      }
      // The newest answer may not be kept: neither may the old one be served any more. Unless the origin only fails.
      if (fetched.response.status < 500) disk.remove(key);
      return { kind: "passed", response: fetched.response, status };
    }
  }
}
