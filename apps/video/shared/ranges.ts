// Byte ranges (RFC 9110 §14): parsing, merging, and the headers and parts of the answer. Pure; touches no file.

/** Inclusive, as on the wire. */
export interface ByteRange {
  first: number;
  last: number;
}

export type RangeDecision =
  | { kind: "whole" }
  | { kind: "ranges"; ranges: readonly ByteRange[] }
  | { kind: "unsatisfiable" };

/** More ranges than this in one request are refused with 416 (CVE-2011-3192). */
export const rangesMax = 200;
/** A longer header cannot be an honest request. */
const headerCharsMax = 8 * 1024;

/**
 * What a Range header asks of a representation of `sizeBytes`. Without a header, with another unit, or with a syntax error the header is
 * ignored (RFC 9110 §14.2). Overlapping and touching ranges are merged, in the order they start.
 */
export function decideRange(header: string | null, sizeBytes: number): RangeDecision {
  if (header === null) return { kind: "whole" };
  if (header.length > headerCharsMax) return { kind: "unsatisfiable" };
  const match = /^\s*bytes\s*=(.*)$/i.exec(header);
  if (match?.[1] === undefined) return { kind: "whole" };
  const specs = match[1].split(",").map((part) => part.trim());
  const wanted: ByteRange[] = [];
  let count = 0;
  for (const spec of specs) {
    if (spec === "") continue;
    count += 1;
    const parsed = parseSpec(spec, sizeBytes);
    if (parsed === "invalid") return { kind: "whole" };
    if (parsed !== "outside") wanted.push(parsed);
  }
  if (count === 0) return { kind: "whole" };
  if (count > rangesMax || wanted.length === 0) return { kind: "unsatisfiable" };
  return { kind: "ranges", ranges: merge(wanted) };
}

function parseSpec(spec: string, sizeBytes: number): ByteRange | "invalid" | "outside" {
  const match = /^(\d{0,15})-(\d{0,15})$/.exec(spec);
  if (match === null) return "invalid";
  const [, from = "", to = ""] = match;
  if (from === "") {
    if (to === "") return "invalid";
    const suffix = Number(to);
    if (suffix === 0 || sizeBytes === 0) return "outside";
    return { first: Math.max(0, sizeBytes - suffix), last: sizeBytes - 1 };
  }
  const first = Number(from);
  if (to !== "" && Number(to) < first) return "invalid";
  if (first >= sizeBytes) return "outside";
  return { first, last: to === "" ? sizeBytes - 1 : Math.min(Number(to), sizeBytes - 1) };
}

function merge(ranges: ByteRange[]): ByteRange[] {
  const sorted = [...ranges].sort((a, b) => a.first - b.first);
  const merged: ByteRange[] = [];
  for (const range of sorted) {
    const previous = merged.at(-1);
    if (previous !== undefined && range.first <= previous.last + 1) previous.last = Math.max(previous.last, range.last);
    else merged.push({ ...range });
  }
  return merged;
}

export const contentRange = (range: ByteRange, sizeBytes: number): string =>
  `bytes ${range.first}-${range.last}/${sizeBytes}`;

/** A 206 with several parts (RFC 9110 §14.6): the text before each part, the text after all, and the length of it all. */
export interface Multipart {
  contentType: string;
  heads: readonly string[];
  tail: string;
  lengthBytes: number;
}

export function multipartOf(
  ranges: readonly ByteRange[],
  sizeBytes: number,
  partType: string,
  boundary: string,
): Multipart {
  const heads = ranges.map(
    (range, i) =>
      `${i === 0 ? "" : "\r\n"}--${boundary}\r\nContent-Type: ${partType}\r\nContent-Range: ${contentRange(range, sizeBytes)}\r\n\r\n`,
  );
  const tail = `\r\n--${boundary}--\r\n`;
  let lengthBytes = tail.length;
  for (const head of heads) lengthBytes += head.length;
  for (const range of ranges) lengthBytes += range.last - range.first + 1;
  return { contentType: `multipart/byteranges; boundary=${boundary}`, heads, tail, lengthBytes };
}

/** If-Range (RFC 9110 §13.1.5): true when the Range header may be honoured. Tags must match strongly, dates exactly. */
export function ifRangeHolds(
  header: string | null,
  etag: string | undefined,
  lastModified: string | undefined,
): boolean {
  if (header === null) return true;
  const value = header.trim();
  if (value.startsWith('"')) return etag !== undefined && value === etag;
  if (value.startsWith("W/")) return false;
  return lastModified !== undefined && Date.parse(value) === Date.parse(lastModified);
}

/** If-None-Match, else If-Modified-Since (RFC 9110 §13.2.2): true when a GET or HEAD is answered 304. */
export function notModified(headers: Headers, etag: string | undefined, lastModified: string | undefined): boolean {
  const ifNoneMatch = headers.get("if-none-match");
  if (ifNoneMatch !== null) {
    if (ifNoneMatch.trim() === "*") return true;
    if (etag === undefined) return false;
    const bare = etag.replace(/^W\//, "");
    return ifNoneMatch.split(",").some((tag) => tag.trim().replace(/^W\//, "") === bare);
  }
  const since = headers.get("if-modified-since");
  if (since === null || lastModified === undefined) return false;
  const sinceMs = Date.parse(since);
  return !Number.isNaN(sinceMs) && Date.parse(lastModified) <= sinceMs;
}
