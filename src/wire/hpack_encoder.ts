// HPACK's sending side (RFC 7541): fields that repeat go into the table, those that don't are sent as they are, secrets are never indexed.

import { huffmanEncode, huffmanLength } from "./hpack_huffman.ts";
import { entryOverheadBytes, staticTable, tableBytesDefault } from "./hpack_table.ts";

const staticLines = new Map<string, number>();
const staticNames = new Map<string, number>();
for (let index = staticTable.length - 1; index > 0; index--) {
  const [name, value] = staticTable[index]!;
  staticLines.set(`${name}: ${value}`, index);
  staticNames.set(name, index);
}

/** Another value nearly every time: an entry would only drive out others. */
const changing = new Set([
  ...[":path", "age", "content-length", "content-range", "etag", "if-modified-since", "if-none-match", "last-modified"],
  ...["location", "range", "referer", "x-request-id", "traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid"],
  ...["x-b3-parentspanid", "x-forwarded-for", "x-envoy-upstream-service-time", "grpc-timeout", "grpc-message"],
]);
/** Could be guessed by who may add fields beside them (RFC 7541 §7.1). */
const secret = new Set(["authorization", "proxy-authorization", "cookie", "set-cookie"]);
/** Longer values are not kept. */
const keptBytesMax = 512;

const literal = { withoutIndex: 0x00, neverIndexed: 0x10, indexed: 0x40 } as const;

export class HpackEncoder {
  /** Line to the number of its insertion, counted from 1. */
  readonly #numbers = new Map<string, number>();
  /** Oldest first. */
  readonly #lines: string[] = [];
  #inserted = 0;
  #bytes = 0;
  #bytesMax = tableBytesDefault;
  /** Sizes to tell at the next block's beginning: the smallest since the last, and the last. */
  #update: { least: number; last: number } | undefined;

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. */
  limit(bytesMax: number): void {
    const size = Math.min(bytesMax, tableBytesDefault);
    if (size === this.#bytesMax) return;
    this.#update = { least: Math.min(size, this.#update?.least ?? size), last: size };
    this.#bytesMax = size;
    this.#evict(0);
  }

  /** Before the first field of each block. Returns the offset past what it wrote, as `field` does. */
  begin(out: Buffer, at: number): number {
    const update = this.#update;
    if (update === undefined) return at;
    this.#update = undefined;
    const past = update.least < update.last ? writeInteger(out, at, 0x20, 0x1f, update.least) : at;
    return writeInteger(out, past, 0x20, 0x1f, update.last);
  }

  /** `name` in lower case; both latin1. */
  field(name: string, value: string, out: Buffer, at: number): number {
    const line = `${name}: ${value}`;
    const fixed = staticLines.get(line);
    if (fixed !== undefined) return writeInteger(out, at, 0x80, 0x7f, fixed);
    const number = this.#numbers.get(line);
    if (number !== undefined) return writeInteger(out, at, 0x80, 0x7f, staticTable.length + this.#inserted - number);
    if (secret.has(name)) return writeLiteral(out, at, literal.neverIndexed, name, value);
    if (line.length > keptBytesMax || changing.has(name))
      return writeLiteral(out, at, literal.withoutIndex, name, value);
    const past = writeLiteral(out, at, literal.indexed, name, value);
    this.#add(line);
    return past;
  }

  #add(line: string): void {
    const size = sizeOf(line);
    this.#evict(size);
    if (size > this.#bytesMax) return;
    this.#lines.push(line);
    this.#numbers.set(line, ++this.#inserted);
    this.#bytes += size;
  }
  #evict(size: number): void {
    while (this.#lines.length > 0 && this.#bytes + size > this.#bytesMax) {
      const line = this.#lines.shift()!;
      this.#bytes -= sizeOf(line);
      this.#numbers.delete(line);
    }
  }
}

const sizeOf = (line: string): number => line.length - ": ".length + entryOverheadBytes;

function writeLiteral(out: Buffer, at: number, kind: number, name: string, value: string): number {
  const mask = kind === literal.indexed ? 0x3f : 0x0f;
  const index = staticNames.get(name);
  let i = at;
  if (index !== undefined) i = writeInteger(out, i, kind, mask, index);
  else {
    out[i++] = kind;
    i = writeString(out, i, name, true);
  }
  // Coding pays for what is kept; what is sent once is sent as it is, which is cheaper for both sides.
  return writeString(out, i, value, kind === literal.indexed);
}

function writeString(out: Buffer, at: number, text: string, code: boolean): number {
  if (code) {
    const length = huffmanLength(text);
    if (length < text.length) return huffmanEncode(text, out, writeInteger(out, at, 0x80, 0x7f, length));
  }
  const i = writeInteger(out, at, 0, 0x7f, text.length);
  return i + out.latin1Write(text, i, text.length);
}

/** RFC 7541 §5.1. */
function writeInteger(out: Buffer, at: number, pattern: number, mask: number, value: number): number {
  if (value < mask) {
    out[at] = pattern | value;
    return at + 1;
  }
  let i = at;
  out[i++] = pattern | mask;
  let rest = value - mask;
  for (; rest >= 0x80; rest >>>= 7) out[i++] = (rest & 0x7f) | 0x80;
  out[i++] = rest;
  return i;
}
