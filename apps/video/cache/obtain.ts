// One stored response, from the store or the origin: freshness, collapsing of equal requests, revalidation, stale answers.

import type { Disk } from "./disk.ts";
import { freshnessOf, mayServeOnError, parseCacheControl, usabilityOf } from "./freshness.ts";
import { endToEnd, type Origin, sharedHeaders } from "./origin.ts";
import type { CacheStatus, Entry, Meta, Source } from "./types.ts";

export type Obtained =
  | { kind: "stored"; meta: Meta; source: Source; status: CacheStatus }
  /** Straight from the origin, not kept. */
  | { kind: "passed"; response: Response; status: CacheStatus }
  | { kind: "failed"; reason: string; status: CacheStatus };

export interface Wanted {
  /** Path and query. */
  target: string;
  /** "" or "#<n>". */
  suffix: string;
  /** Of a slice, inclusive. */
  range: { first: number; last: number } | undefined;
}

/** Larger bodies that are no slices pass through without being kept. */
const wholeBytesMax = 8 * 1024 * 1024;
/** Waiting for another client's fetch of the same; then everyone for themselves. */
const collapseWaitMs = 5000;
/** Fetches into memory at the same time; more wait. */
const fetchesMax = 32;
/** Resources whose Vary is remembered. */
const variesMax = 4096;

type Fetched =
  | { kind: "stored"; meta: Meta; source: Source }
  | { kind: "refreshed"; entry: Entry }
  | { kind: "unkept"; response: Response; taken: boolean }
  | { kind: "failed"; reason: string };

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

export function createStore(disk: Disk, origin: Origin): Store {
  const inFlight = new Map<string, Promise<Fetched>>();
  const varies = new Map<string, string[]>();
  const limit = createLimit(fetchesMax);

  function keyOf(request: Request, wanted: Wanted): string {
    const names = varies.get(wanted.target) ?? [];
    let key = wanted.target + wanted.suffix;
    for (const name of names) key += `\n${name}:${request.headers.get(name) ?? ""}`;
    return key;
  }

  function rememberVary(target: string, vary: string[]): void {
    const known = varies.get(target) ?? [];
    const names = [...new Set([...known, ...vary])].sort();
    if (names.length === known.length) return;
    varies.delete(target);
    varies.set(target, names);
    for (const oldest of varies.keys()) {
      if (varies.size <= variesMax) break;
      varies.delete(oldest);
    }
  }

  async function fetchNow(request: Request, wanted: Wanted, stale: Entry | undefined): Promise<Fetched> {
    const release = await limit();
    try {
      const headers = sharedHeaders(request);
      if (wanted.range !== undefined) headers.set("range", `bytes=${wanted.range.first}-${wanted.range.last}`);
      if (stale?.meta.etag !== undefined) headers.set("if-none-match", stale.meta.etag);
      else if (stale?.meta.lastModified !== undefined) headers.set("if-modified-since", stale.meta.lastModified);
      const requestedAtMs = Date.now();
      const response = await origin.read("GET", wanted.target, headers);
      const freshness = freshnessOf(
        response.status === 304 ? 200 : response.status,
        response.headers,
        requestedAtMs,
        Date.now(),
      );
      if (response.status === 304 && stale !== undefined) {
        await response.body?.cancel();
        refresh(stale, response, freshness);
        return { kind: "refreshed", entry: stale };
      }
      return await keep(request, wanted, response, freshness);
    } catch (error) {
      return { kind: "failed", reason: (error as Error).message };
    } finally {
      release();
    }
  }

  async function keep(
    request: Request,
    wanted: Wanted,
    response: Response,
    freshness: ReturnType<typeof freshnessOf>,
  ): Promise<Fetched> {
    const slice = wanted.range === undefined ? undefined : sliceOf(response, wanted.range.first);
    // A slice that is not what was asked for, or a part nobody asked for, is not kept.
    const odd = response.status === 206 ? slice === undefined : wanted.range !== undefined && response.status === 200;
    const bytesMax = wanted.range === undefined ? wholeBytesMax : wanted.range.last - wanted.range.first + 1;
    const announced = Number(response.headers.get("content-length") ?? 0);
    if (freshness === undefined || odd || announced > Math.max(bytesMax, 64 * 1024)) {
      return { kind: "unkept", response, taken: false };
    }
    const read = await readUpTo(response, Math.max(bytesMax, 64 * 1024));
    if (read.kind === "longer") return { kind: "unkept", response: read.response, taken: false };
    const vary = (response.headers.get("vary") ?? "")
      .toLowerCase()
      .split(",")
      .map((name) => name.trim())
      .filter(Boolean);
    rememberVary(wanted.target, vary);
    const meta: Meta = {
      ...freshness,
      key: keyOf(request, wanted),
      status: response.status,
      headers: endToEnd(response.headers),
      etag: response.headers.get("etag") ?? undefined,
      lastModified: response.headers.get("last-modified") ?? undefined,
      vary,
      slice,
      bodyBytes: read.bytes.length,
    };
    const entry = await disk.put(meta, read.bytes);
    return {
      kind: "stored",
      meta,
      source: entry === undefined ? { kind: "memory", bytes: read.bytes } : { kind: "file", entry },
    };
  }

  function fetchShared(key: string, request: Request, wanted: Wanted, stale: Entry | undefined): Promise<Fetched> {
    const fetching = fetchNow(request, wanted, stale).finally(() => inFlight.delete(key));
    inFlight.set(key, fetching);
    return fetching;
  }

  async function update(key: string, request: Request, wanted: Wanted, stale: Entry): Promise<void> {
    const fetched = await fetchShared(key, request, wanted, stale);
    if (fetched.kind !== "unkept") return;
    await fetched.response.body?.cancel();
    // It may not be kept any more, or the origin fails: only the first ends what is stored.
    if (fetched.response.status < 500) disk.remove(key);
  }

  function settle(fetched: Fetched, key: string, stale: Entry | undefined): Obtained | undefined {
    const status: CacheStatus = stale === undefined ? "MISS" : "EXPIRED";
    const rescued = stale !== undefined && mayServeOnError(stale.meta, Date.now()) ? stale : undefined;
    switch (fetched.kind) {
      case "stored":
        if (rescued !== undefined && fetched.meta.status >= 500) return fromEntry(rescued, "STALE");
        return { kind: "stored", meta: fetched.meta, source: fetched.source, status };
      case "refreshed":
        return fromEntry(fetched.entry, "REVALIDATED");
      case "failed":
        return rescued === undefined ? { kind: "failed", reason: fetched.reason, status } : fromEntry(rescued, "STALE");
      case "unkept": {
        if (fetched.taken) return undefined;
        fetched.taken = true;
        if (fetched.response.status >= 500 && rescued !== undefined) {
          void fetched.response.body?.cancel();
          return fromEntry(rescued, "STALE");
        }
        if (fetched.response.status < 500) disk.remove(key);
        return { kind: "passed", response: fetched.response, status };
      }
    }
  }

  return {
    async obtain(request, wanted) {
      const key = keyOf(request, wanted);
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
      if (running !== undefined) {
        const shared = await Promise.race([running, Bun.sleep(collapseWaitMs).then(() => undefined)]);
        // What another client's fetch brought, this one had not to fetch.
        if (shared?.kind === "stored" || shared?.kind === "refreshed" || shared?.kind === "failed") {
          const settled = settle(shared, key, stored);
          if (settled !== undefined)
            return settled.kind === "stored" && settled.status !== "STALE" ? { ...settled, status: "HIT" } : settled;
        }
        const alone = settle(await fetchNow(request, wanted, stored), key, stored);
        if (alone !== undefined) return alone;
      }
      const settled = settle(await fetchShared(key, request, wanted, stored), key, stored);
      return settled ?? { kind: "failed", reason: "the answer was taken by another request", status: "MISS" };
    },
    invalidate(target) {
      disk.removeResource(target);
    },
    hasFresh(request, target, suffixes) {
      return suffixes.every((suffix) => {
        const entry = disk.peek(keyOf(request, { target, suffix, range: undefined }));
        return entry !== undefined && usabilityOf(entry.meta, new Map(), Date.now()) === "fresh";
      });
    },
    load: () => disk.load((meta) => rememberVary(meta.key.split(/[#\n]/, 1)[0] ?? "", meta.vary)),
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

/** RFC 9111 §4.3.4. On disk the old times stay; after a restart the entry is asked about once more. */
function refresh(entry: Entry, response: Response, freshness: ReturnType<typeof freshnessOf>): void {
  const updated = new Map(entry.meta.headers);
  for (const [name, value] of endToEnd(response.headers)) {
    if (name !== "content-range" && name !== "content-type" && name !== "content-encoding") updated.set(name, value);
  }
  entry.meta.headers = [...updated];
  if (freshness !== undefined) Object.assign(entry.meta, freshness);
}

function sliceOf(response: Response, first: number): Meta["slice"] {
  if (response.status !== 206) return undefined;
  const match = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get("content-range") ?? "");
  return match === null || Number(match[1]) !== first ? undefined : { offset: first, totalBytes: Number(match[2]) };
}

/** The whole body, or a response that gives it all when it is longer than `bytesMax`. Throws when the body is cut off. */
async function readUpTo(
  response: Response,
  bytesMax: number,
): Promise<{ kind: "whole"; bytes: Uint8Array<ArrayBuffer> } | { kind: "longer"; response: Response }> {
  if (response.body === null) return { kind: "whole", bytes: new Uint8Array(0) };
  const reader = response.body.getReader();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    bytes += value.length;
    if (bytes > bytesMax) {
      const rest = (async function* () {
        yield* chunks.splice(0);
        for (;;) {
          const next = await reader.read();
          if (next.done) return;
          yield next.value;
        }
      })();
      const { status, headers } = response;
      return { kind: "longer", response: new Response(rest as unknown as BodyInit, { status, headers }) };
    }
  }
  const announced = response.headers.get("content-length");
  if (announced !== null && Number(announced) !== bytes) throw new Error("the origin's answer was cut off");
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return { kind: "whole", bytes: whole };
}

/** At most `max` holders at a time; the rest wait in order. */
function createLimit(max: number): () => Promise<() => void> {
  let held = 0;
  const waiting: (() => void)[] = [];
  const release = (): void => {
    const next = waiting.shift();
    if (next === undefined) held -= 1;
    else next();
  };
  return async () => {
    if (held < max) held += 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    return release;
  };
}
