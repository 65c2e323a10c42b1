// One fetch from the origin into the store: conditional where something stale is known, bounded in number and in memory.

import type { Disk } from "./disk.ts";
import { freshnessOf } from "./freshness.ts";
import { endToEnd, type Origin, sharedHeaders } from "./origin.ts";
import type { Entry, Freshness, Meta, Source } from "./types.ts";

export interface Wanted {
  /** Path and query. */
  target: string;
  /** "" or "#<n>". */
  suffix: string;
  /** Of a slice, inclusive. */
  range: { first: number; last: number } | undefined;
}

export type Fetched =
  | { kind: "stored"; meta: Meta; source: Source }
  /** The origin confirmed what was stored. */
  | { kind: "refreshed"; entry: Entry }
  /** Not kept; the body can be sent once, by whoever sets `taken`. */
  | { kind: "unkept"; response: Response; taken: boolean }
  | { kind: "failed"; reason: string };

export interface Fetcher {
  /** The key under which an answer to this request is stored, as far as its Vary is known. */
  keyOf(request: Request, wanted: Wanted): string;
  /** For entries that an earlier process left. */
  rememberVary(target: string, vary: readonly string[]): void;
  fetch(request: Request, wanted: Wanted, stale: Entry | undefined): Promise<Fetched>;
}

/** Larger bodies that are no slices pass through without being kept. */
const wholeBytesMax = 8 * 1024 * 1024;
/** Even where a tiny slice is expected, an error page may be so long. */
const bodyBytesMin = 64 * 1024;
/** Fetches into memory at the same time; more wait. */
const fetchesMax = 32;
/** Resources whose Vary is remembered. */
const variesMax = 4096;

export function createFetcher(disk: Disk, origin: Origin): Fetcher {
  const varies = new Map<string, string[]>();
  const limit = createLimit(fetchesMax);
  const self: Fetcher = {
    keyOf(request, wanted) {
      let key = wanted.target + wanted.suffix;
      for (const name of varies.get(wanted.target) ?? []) key += `\n${name}:${request.headers.get(name) ?? ""}`;
      return key;
    },
    rememberVary(target, vary) {
      const known = varies.get(target) ?? [];
      const names = [...new Set([...known, ...vary])].sort();
      if (names.length === known.length) return;
      varies.delete(target);
      varies.set(target, names);
      for (const oldest of varies.keys()) {
        if (varies.size <= variesMax) break;
        varies.delete(oldest);
      }
    },
    async fetch(request, wanted, stale) {
      const release = await limit();
      try {
        const requestedAtMs = Date.now();
        const response = await origin.read("GET", wanted.target, headersFor(request, wanted, stale));
        const status = response.status === 304 ? 200 : response.status;
        const freshness = freshnessOf(status, response.headers, requestedAtMs, Date.now());
        if (response.status !== 304 || stale === undefined) return await keep(request, wanted, response, freshness);
        await response.body?.cancel();
        refresh(stale, response, freshness);
        return { kind: "refreshed", entry: stale };
      } catch (error) {
        return { kind: "failed", reason: (error as Error).message };
      } finally {
        release();
      }
    },
  };

  async function keep(
    request: Request,
    wanted: Wanted,
    response: Response,
    freshness: Freshness | undefined,
  ): Promise<Fetched> {
    const slice = wanted.range === undefined ? undefined : sliceOf(response, wanted.range.first);
    // A part that is not what was asked for, or the whole where a part was, is not kept.
    const odd = response.status === 206 ? slice === undefined : wanted.range !== undefined && response.status === 200;
    const bytesMax = wanted.range === undefined ? wholeBytesMax : wanted.range.last - wanted.range.first + 1;
    if (freshness === undefined || odd) return { kind: "unkept", response, taken: false };
    const read = await readUpTo(response, Math.max(bytesMax, bodyBytesMin));
    if (read.kind === "longer") return { kind: "unkept", response: read.response, taken: false };
    const vary = (response.headers.get("vary") ?? "")
      .toLowerCase()
      .split(",")
      .map((name) => name.trim());
    self.rememberVary(wanted.target, vary.filter(Boolean));
    const meta: Meta = {
      ...freshness,
      key: self.keyOf(request, wanted),
      status: response.status,
      headers: endToEnd(response.headers),
      etag: response.headers.get("etag") ?? undefined,
      lastModified: response.headers.get("last-modified") ?? undefined,
      vary: vary.filter(Boolean),
      slice,
      bodyBytes: read.bytes.length,
    };
    const entry = await disk.put(meta, read.bytes);
    const source: Source = entry === undefined ? { kind: "memory", bytes: read.bytes } : { kind: "file", entry };
    return { kind: "stored", meta, source };
  }
  return self;
}

function headersFor(request: Request, wanted: Wanted, stale: Entry | undefined): Headers {
  const headers = sharedHeaders(request);
  if (wanted.range !== undefined) headers.set("range", `bytes=${wanted.range.first}-${wanted.range.last}`);
  if (stale?.meta.etag !== undefined) headers.set("if-none-match", stale.meta.etag);
  else if (stale?.meta.lastModified !== undefined) headers.set("if-modified-since", stale.meta.lastModified);
  return headers;
}

/** RFC 9111 §4.3.4. On disk the old times stay; after a restart the entry is asked about once more. */
function refresh(entry: Entry, response: Response, freshness: Freshness | undefined): void {
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

type Read = { kind: "whole"; bytes: Uint8Array<ArrayBuffer> } | { kind: "longer"; response: Response };

/** The whole body, or a response that gives it all when it is longer than `bytesMax`. Throws when the body is cut off. */
async function readUpTo(response: Response, bytesMax: number): Promise<Read> {
  if (response.body === null) return { kind: "whole", bytes: new Uint8Array(0) };
  const announced = response.headers.get("content-length");
  if (announced !== null && Number(announced) > bytesMax) return { kind: "longer", response };
  const reader = response.body.getReader();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    bytes += value.length;
    if (bytes > bytesMax) {
      const { status, headers } = response;
      return {
        kind: "longer",
        response: new Response(rest(chunks, reader) as unknown as BodyInit, { status, headers }),
      };
    }
  }
  if (announced !== null && Number(announced) !== bytes) throw new Error("the origin's answer was cut off");
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return { kind: "whole", bytes: whole };
}

async function* rest(
  chunks: Uint8Array[],
  reader: ReadableStreamDefaultReader<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks.splice(0);
    for (;;) {
      const next = await reader.read();
      if (next.done) return;
      yield next.value;
    }
  } finally {
    await reader.cancel();
  }
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
