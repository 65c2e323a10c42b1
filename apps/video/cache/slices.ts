// Large files in slices: any range is put together from slices that are fetched and kept one by one, as nginx's slice module does.

import { type ByteRange, decideRange } from "../shared/ranges.ts";
import type { Wanted } from "./fetcher.ts";
import type { Obtained, Store } from "./obtain.ts";
import { chunksOf, failureReply, passedReply, readSource, replyFrom } from "./reply.ts";
import type { CacheStatus, Meta, Reply, Source } from "./types.ts";

/** Sizes are remembered for so many resources, for ranges that count from the end. */
const sizesMax = 4096;

export interface Slices {
  reply(request: Request, target: string): Promise<Reply>;
}

/** Everything the functions below share. */
interface Slicer {
  store: Store;
  sliceBytes: number;
  sizes: Map<string, number>;
}

export function createSlices(store: Store, sliceBytes: number): Slices {
  const slicer: Slicer = { store, sliceBytes, sizes: new Map() };
  return {
    async reply(request, target) {
      const n = firstSlice(slicer, request, target);
      let obtained = await store.obtain(request, wanted(slicer, target, n));
      // Beyond the end: the size is in slice 0, and with it the proper answer.
      if (n > 0 && obtained.kind === "passed" && obtained.response.status === 416) {
        await obtained.response.body?.cancel();
        obtained = await store.obtain(request, wanted(slicer, target, 0));
      }
      if (obtained.kind === "failed") return failureReply(502, obtained.status);
      if (obtained.kind === "passed") return passedReply(obtained.response, obtained.status);
      return represent(slicer, request, target, obtained);
    },
  };
}

function wanted({ sliceBytes }: Slicer, target: string, n: number): Wanted {
  return { target, suffix: `#${n}`, range: { first: n * sliceBytes, last: (n + 1) * sliceBytes - 1 } };
}

function rememberSize({ sizes }: Slicer, target: string, totalBytes: number): void {
  sizes.delete(target);
  sizes.set(target, totalBytes);
  for (const oldest of sizes.keys()) {
    if (sizes.size <= sizesMax) break;
    sizes.delete(oldest);
  }
}

/** The slice to begin with: the one that holds the first byte asked for, as far as that is known yet. */
function firstSlice({ sizes, sliceBytes }: Slicer, request: Request, target: string): number {
  const header = request.headers.get("range");
  const size = sizes.get(target);
  if (size !== undefined) {
    const decision = decideRange(header, size);
    return decision.kind === "ranges" ? Math.floor((decision.ranges[0]?.first ?? 0) / sliceBytes) : 0;
  }
  const start = /^\s*bytes\s*=\s*(\d{1,15})-\d*\s*$/i.exec(header ?? "")?.[1];
  return start === undefined ? 0 : Math.floor(Number(start) / sliceBytes);
}

/** Slices after the first are not worth an answer of their own: when one cannot be had, the connection is cut. */
async function sliceAt(slicer: Slicer, request: Request, target: string, n: number, first: Meta): Promise<Source> {
  const obtained = await slicer.store.obtain(request, wanted(slicer, target, n));
  if (obtained.kind !== "stored" || obtained.meta.slice === undefined) {
    if (obtained.kind === "passed") await obtained.response.body?.cancel();
    throw new Error(`slice ${n} of ${target} cannot be had`);
  }
  const { meta, source } = obtained;
  if (meta.etag !== first.etag || meta.slice?.totalBytes !== first.slice?.totalBytes) {
    slicer.store.invalidate(target);
    throw new Error(`${target} changed while it was sent`);
  }
  return source;
}

/** A stretch of the representation that begins with a slice already at hand. */
interface Stretch {
  from: number;
  to: number;
  first: Meta;
  source: Source;
}

async function* stream(slicer: Slicer, request: Request, target: string, stretch: Stretch): AsyncGenerator<Uint8Array> {
  const { sliceBytes } = slicer;
  const { from, to, first } = stretch;
  const known = Math.floor((first.slice?.offset ?? 0) / sliceBytes);
  const last = Math.floor((to - 1) / sliceBytes);
  let ahead: Promise<Source> | undefined;
  for (let n = Math.floor(from / sliceBytes); n <= last; n += 1) {
    const source: Source = n === known ? stretch.source : await (ahead ?? sliceAt(slicer, request, target, n, first));
    ahead = n < last ? sliceAt(slicer, request, target, n + 1, first) : undefined;
    // When the client leaves, nobody waits for it any more.
    ahead?.catch(() => undefined);
    const offset = n * sliceBytes;
    yield* chunksOf(readSource(source, Math.max(0, from - offset), Math.min(sliceBytes, to - offset)));
  }
}

function represent(
  slicer: Slicer,
  request: Request,
  target: string,
  { meta, source, status }: Extract<Obtained, { kind: "stored" }>,
): Reply {
  if (meta.slice === undefined) {
    const read = (from: number, to: number): Reply["body"] => readSource(source, from, to);
    return replyFrom(request, { meta, totalBytes: meta.bodyBytes, read, cacheStatus: () => status });
  }
  const { offset, totalBytes } = meta.slice;
  rememberSize(slicer, target, totalBytes);
  return replyFrom(request, {
    meta,
    totalBytes,
    read: (from, to) =>
      from >= offset && to <= offset + meta.bodyBytes
        ? readSource(source, from - offset, to - offset)
        : {
            kind: "chunks",
            chunks: stream(slicer, request, target, { from, to, first: meta, source }),
            lengthBytes: to - from,
          },
    cacheStatus: (ranges) => statusOf(slicer, request, target, ranges, status),
  });
}

/** HIT only when nothing at all has to be fetched. */
function statusOf(
  { store, sliceBytes }: Slicer,
  request: Request,
  target: string,
  ranges: readonly ByteRange[],
  first: CacheStatus,
): CacheStatus {
  if (first !== "HIT") return first;
  const suffixes: string[] = [];
  for (const range of ranges) {
    for (let n = Math.floor(range.first / sliceBytes); n <= Math.floor(range.last / sliceBytes); n += 1) {
      suffixes.push(`#${n}`);
    }
  }
  return store.hasFresh(request, target, suffixes) ? "HIT" : "MISS";
}
