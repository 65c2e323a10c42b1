// Sends a file: whole, as one range, or as several (RFC 9110 §14), with validators and without reading it into memory.

import { contentRange, decideRange, ifRangeHolds, multipartOf, notModified } from "../shared/ranges.ts";

/** Parts of a multipart answer are read in pieces of this size. */
const pieceBytes = 256 * 1024;

/** Undefined when there is no such file. `headers` (Content-Type, Cache-Control, …) are sent with every answer. */
export async function sendFile(
  request: Request,
  path: string,
  headers: Readonly<Record<string, string>>,
): Promise<Response | undefined> {
  const file = Bun.file(path);
  const found = await file.stat().catch(() => undefined);
  if (found === undefined || !found.isFile()) return undefined;
  const sizeBytes = found.size;
  // The same on every replica, because it is the same file on the same volume.
  const etag = `"${sizeBytes.toString(16)}-${Math.floor(found.mtimeMs).toString(16)}"`;
  const lastModified = found.mtime.toUTCString();
  const common = { ...headers, ETag: etag, "Last-Modified": lastModified, "Accept-Ranges": "bytes" };

  if (notModified(request.headers, etag, lastModified)) return new Response(null, { status: 304, headers: common });
  // A Range on HEAD has no meaning (RFC 9110 §14.2).
  const usable = request.method === "GET" && ifRangeHolds(request.headers.get("if-range"), etag, lastModified);
  const decision = decideRange(usable ? request.headers.get("range") : null, sizeBytes);

  if (decision.kind === "unsatisfiable") {
    return new Response("The requested range lies outside the file.\n", {
      status: 416,
      headers: {
        ...common,
        "Content-Type": "text/plain",
        "Content-Range": `bytes */${sizeBytes}`,
        "Cache-Control": "no-store",
      },
    });
  }
  if (decision.kind === "whole") {
    // slice(): Bun answers a Range by itself when it is given a whole file, also where If-Range forbids it.
    return new Response(file.slice(0, sizeBytes), { headers: { ...common, "Content-Length": String(sizeBytes) } });
  }
  const [first, ...others] = decision.ranges;
  if (first !== undefined && others.length === 0) {
    return new Response(file.slice(first.first, first.last + 1), {
      status: 206,
      headers: { ...common, "Content-Range": contentRange(first, sizeBytes) },
    });
  }
  const boundary = crypto.randomUUID();
  const multipart = multipartOf(
    decision.ranges,
    sizeBytes,
    headers["Content-Type"] ?? "application/octet-stream",
    boundary,
  );
  async function* parts(): AsyncGenerator<Uint8Array> {
    for (const [i, range] of (decision.kind === "ranges" ? decision.ranges : []).entries()) {
      yield Buffer.from(multipart.heads[i] ?? "");
      for (let at = range.first; at <= range.last; at += pieceBytes) {
        yield await file.slice(at, Math.min(range.last + 1, at + pieceBytes)).bytes();
      }
    }
    yield Buffer.from(multipart.tail);
  }
  return new Response(parts() as unknown as BodyInit, {
    status: 206,
    headers: { ...common, "Content-Type": multipart.contentType, "Content-Length": String(multipart.lengthBytes) },
  });
}
