// Message heads on their way out by HTTP/2: fields of an HTTP/1.1 head, with its changes, as a field block.

import type { HpackEncoder } from "./hpack_encoder.ts";
import { type Head, known } from "./http1_head.ts";
import { addedBytesMax, type HeaderEdits, markFields } from "./http1_write.ts";

/** Holds the one block that is being written: the largest head, and added lines. */
const capacityBytes = 512 * 1024;
export const fieldBlock: Buffer = Buffer.allocUnsafeSlow(capacityBytes);

const isConnectionField = /^(?:connection|keep-alive|proxy-connection|transfer-encoding|upgrade|te)$/;

/** Writes a block into `fieldBlock`; each returns its length. */
export function writeRequestBlock(
  encoder: HpackEncoder,
  pseudo: { method: string; scheme: string; authority: string; path: string },
  head: Head,
  edits: HeaderEdits,
): number {
  let at = encoder.begin(fieldBlock, 0);
  at = encoder.field(":method", pseudo.method, fieldBlock, at);
  at = encoder.field(":scheme", pseudo.scheme, fieldBlock, at);
  at = encoder.field(":authority", pseudo.authority, fieldBlock, at);
  at = encoder.field(":path", pseudo.path, fieldBlock, at);
  at = writeHeadFields(encoder, head, edits, at);
  // The one value of TE that a connection of HTTP/2 has room for; gRPC servers insist on it.
  if (asksForTrailers(head)) at = encoder.field("te", "trailers", fieldBlock, at);
  return at;
}

export function writeResponseBlock(encoder: HpackEncoder, head: Head, edits: HeaderEdits): number {
  let at = encoder.begin(fieldBlock, 0);
  at = encoder.field(":status", String(head.status), fieldBlock, at);
  return writeHeadFields(encoder, head, edits, at);
}

/** `lines`: complete header lines. */
export function writeLocalBlock(encoder: HpackEncoder, status: number, lines: string): number {
  let at = encoder.begin(fieldBlock, 0);
  at = encoder.field(":status", String(status), fieldBlock, at);
  return writeLines(encoder, lines, at);
}

export function writeTrailerBlock(encoder: HpackEncoder, lines: string): number {
  return writeLines(encoder, lines, encoder.begin(fieldBlock, 0));
}

function writeHeadFields(encoder: HpackEncoder, head: Head, edits: HeaderEdits, start: number): number {
  const skipped = markFields(head, edits);
  const { ids, count } = head;
  let at = start;
  for (let i = 0; i < count; i++) {
    const id = ids[i]!;
    if (skipped[i] === 1 || id === known.transferEncoding || id === known.host) continue;
    at = encoder.field(head.name(i), head.value(i), fieldBlock, at);
  }
  return edits.added === "" ? at : writeLines(encoder, edits.added, at);
}

function writeLines(encoder: HpackEncoder, lines: string, start: number): number {
  let at = start;
  // As in HTTP/1.1: more is a configuration error.
  const length = Math.min(lines.length, addedBytesMax);
  for (let from = 0; from < length; ) {
    const colon = lines.indexOf(":", from);
    const end = lines.indexOf("\r\n", from);
    if (end < 0 || colon < 0 || colon > end) break;
    const name = lines.slice(from, colon).toLowerCase();
    if (!isConnectionField.test(name)) at = encoder.field(name, lines.slice(colon + 1, end).trim(), fieldBlock, at);
    from = end + 2;
  }
  return at;
}

function asksForTrailers(head: Head): boolean {
  if ((head.mask & (1 << known.te)) === 0) return false;
  return /(?:^|,)[ \t]*trailers[ \t]*(?:,|$)/i.test(head.get("te") ?? "");
}
