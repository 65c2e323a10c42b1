// Turns stored responses into replies: conditions, ranges, Age; and replies into what the server library sends.

import { type ByteRange, contentRange, decideRange, ifRangeHolds, multipartOf, notModified } from "../shared/ranges.ts";
import { ageMs } from "./freshness.ts";
import { endToEnd } from "./origin.ts";
import type { CacheStatus, Meta, Reply, Source } from "./types.ts";

/** Where the bytes of a representation come from: `from` and `to` as in slice(). */
export type ReadBody = (from: number, to: number) => Reply["body"];

export interface Representation {
  meta: Meta;
  totalBytes: number;
  read: ReadBody;
  /** The status for these ranges, once it is known which are asked for. */
  cacheStatus: (ranges: readonly ByteRange[]) => CacheStatus;
}

/** Fields of a stored 206 that describe the part, not the whole. */
const partFields = new Set(["content-range", "accept-ranges", "age"]);

export function replyFrom(request: Request, { meta, totalBytes, read, cacheStatus }: Representation): Reply {
  const headers: [string, string][] = meta.headers.filter(([name]) => !partFields.has(name));
  headers.push(["Age", String(Math.floor(ageMs(meta, Date.now()) / 1000))]);
  const whole = [{ first: 0, last: totalBytes - 1 }];
  const complete = meta.status === 200 || meta.status === 206;
  if (complete && notModified(request.headers, meta.etag, meta.lastModified)) {
    return { status: 304, headers, cacheStatus: cacheStatus([]), body: { kind: "none" } };
  }
  if (!complete) {
    const body = totalBytes === 0 ? ({ kind: "none" } as const) : read(0, totalBytes);
    return { status: meta.status, headers, cacheStatus: cacheStatus(whole), body };
  }
  headers.push(["Accept-Ranges", "bytes"]);
  const usable =
    request.method === "GET" && ifRangeHolds(request.headers.get("if-range"), meta.etag, meta.lastModified);
  const decision = decideRange(usable ? request.headers.get("range") : null, totalBytes);
  if (decision.kind === "unsatisfiable") {
    headers.push(["Content-Range", `bytes */${totalBytes}`]);
    return { status: 416, headers, cacheStatus: cacheStatus([]), body: { kind: "none" } };
  }
  if (decision.kind === "whole") {
    return { status: 200, headers, cacheStatus: cacheStatus(whole), body: read(0, totalBytes) };
  }
  const [first, second] = decision.ranges;
  if (first !== undefined && second === undefined) {
    headers.push(["Content-Range", contentRange(first, totalBytes)]);
    return { status: 206, headers, cacheStatus: cacheStatus(decision.ranges), body: read(first.first, first.last + 1) };
  }
  return multipartReply(meta, headers, decision.ranges, totalBytes, read, cacheStatus(decision.ranges));
}

function multipartReply(
  meta: Meta,
  headers: [string, string][],
  ranges: readonly ByteRange[],
  totalBytes: number,
  read: ReadBody,
  cacheStatus: CacheStatus,
): Reply {
  const type = meta.headers.find(([name]) => name === "content-type")?.[1] ?? "application/octet-stream";
  const multipart = multipartOf(ranges, totalBytes, type, crypto.randomUUID());
  async function* chunks(): AsyncGenerator<Uint8Array> {
    for (const [i, range] of ranges.entries()) {
      yield Buffer.from(multipart.heads[i] ?? "");
      yield* chunksOf(read(range.first, range.last + 1));
    }
    yield Buffer.from(multipart.tail);
  }
  return {
    status: 206,
    headers: [...headers.filter(([name]) => name !== "content-type"), ["content-type", multipart.contentType]],
    cacheStatus,
    body: { kind: "chunks", chunks: chunks(), lengthBytes: multipart.lengthBytes },
  };
}

/** Pieces in which files are read where they cannot be handed to the kernel as a whole. */
const pieceBytes = 256 * 1024;

export async function* chunksOf(body: Reply["body"]): AsyncGenerator<Uint8Array> {
  if (body.kind === "bytes") yield body.bytes;
  else if (body.kind === "chunks") yield* body.chunks;
  else if (body.kind === "file") {
    const file = Bun.file(body.path);
    for (let at = body.from; at < body.to; at += pieceBytes) {
      yield await file.slice(at, Math.min(body.to, at + pieceBytes)).bytes();
    }
  }
}

/** `from` and `to` within the stored body. */
export function readSource(source: Source, from: number, to: number): Reply["body"] {
  if (source.kind === "memory") return { kind: "bytes", bytes: source.bytes.subarray(from, to) };
  const { entry } = source;
  if (entry.hot !== undefined) return { kind: "bytes", bytes: entry.hot.subarray(from, to) };
  return { kind: "file", path: entry.path, from: entry.bodyOffset + from, to: entry.bodyOffset + to };
}

export function passedReply(response: Response, cacheStatus: CacheStatus): Reply {
  const headers = endToEnd(response.headers);
  const length = response.headers.get("content-length");
  // Told again, because the length is the framing of a passed body, not one of its end-to-end fields.
  if (length !== null) headers.push(["Content-Length", length]);
  return {
    status: response.status,
    headers,
    cacheStatus,
    body: response.body === null ? { kind: "none" } : { kind: "stream", stream: response.body },
  };
}

export function failureReply(status: 502 | 504, cacheStatus: CacheStatus): Reply {
  const text =
    status === 502 ? "The web server cannot be reached at the moment.\n" : "The web server did not answer in time.\n";
  return {
    status,
    headers: [
      ["content-type", "text/plain; charset=utf-8"],
      ["cache-control", "no-store"],
      ["retry-after", "1"],
    ],
    cacheStatus,
    body: { kind: "bytes", bytes: new TextEncoder().encode(text) },
  };
}

export function toResponse(reply: Reply, method: string, via: string): Response {
  const headers = new Headers(reply.headers);
  headers.set("X-Cache-Status", reply.cacheStatus);
  headers.append("Via", via);
  const { body, status } = reply;
  const init = { status, headers };
  switch (body.kind) {
    case "none":
      return new Response(null, init);
    case "bytes":
      if (!headers.has("content-type")) headers.set("content-type", "application/octet-stream");
      return new Response(body.bytes, init);
    case "file":
      // Otherwise the runtime proposes the cache's file name for some types.
      if (!headers.has("content-disposition")) headers.set("content-disposition", "inline");
      return new Response(Bun.file(body.path).slice(body.from, body.to), init);
    case "stream":
      if (method !== "HEAD") return new Response(body.stream, init);
      // The fields are all a HEAD wants; the length is among them.
      void body.stream.cancel();
      return new Response(null, init);
    case "chunks":
      if (method === "HEAD") {
        if (body.lengthBytes !== undefined) headers.set("Content-Length", String(body.lengthBytes));
        return new Response(null, init);
      }
      return new Response(body.chunks as unknown as BodyInit, init);
  }
}
