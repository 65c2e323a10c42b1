// HPACK's receiving side (RFC 7541): turns a field block into lines as HTTP/1.1 writes them. What fields mean is the sink's concern.

import { huffmanDecode } from "./hpack_huffman.ts";
import { entryOverheadBytes, staticTable, tableBytesDefault } from "./hpack_table.ts";

/** Receives one field after the other, each as "name: value\r\n" in one buffer. */
export interface FieldSink {
  /** Too much already: what is left is decoded for the table's sake only. */
  readonly full: boolean;
  /** The line is `buffer[from, to + 2)`, its name ends at `nameEnd`. Returns where the next line goes: `to + 2`, or `from` to drop it. */
  onField(buffer: Buffer, from: number, nameEnd: number, to: number): number;
}

interface Entry {
  /** "name: value\r\n" */
  line: Buffer;
  nameLength: number;
}

const staticEntries: readonly Entry[] = staticTable.map(([name, value]) => ({
  line: Buffer.from(`${name}: ${value}\r\n`, "latin1"),
  nameLength: name.length,
}));
const dynamicStart = staticEntries.length;
/** ": " and the line's end. */
const lineExtraBytes = 4;

/** Larger integers are refused: nothing we accept is that long. */
const integerMax = 2 ** 24;

/** `out` must have room for what a block of this size can grow to by Huffman decoding. */
export const expandedBytesMax = (blockBytes: number): number => blockBytes * 2;

export class HpackDecoder {
  /** Oldest first. */
  readonly #entries: Entry[] = [];
  #bytes = 0;
  /** What the peer said it uses; never above `#bytesLimit`. */
  #bytesMax: number;
  readonly #bytesLimit: number;
  #at = 0;
  #failed = false;

  constructor(bytesLimit: number = tableBytesDefault) {
    this.#bytesMax = bytesLimit;
    this.#bytesLimit = bytesLimit;
  }

  /** Decodes a whole block into `out`. False: it is malformed, and the connection is lost (COMPRESSION_ERROR). */
  decode(block: Buffer, from: number, to: number, out: Buffer, sink: FieldSink): boolean {
    this.#at = from;
    this.#failed = false;
    let position = 0;
    let first = true;
    while (this.#at < to) {
      const byte = block[this.#at]!;
      if (byte >= 0x80) {
        const entry = this.#entry(this.#integer(block, to, 0x7f));
        if (entry === undefined) return false;
        if (!sink.full) position = put(entry, out, position, sink);
      } else if ((byte & 0xe0) === 0x20) {
        // Only at a block's beginning (RFC 7541 §4.2).
        const size = this.#integer(block, to, 0x1f);
        if (!first || this.#failed || size > this.#bytesLimit) return false;
        this.#bytesMax = size;
        this.#evict(0);
        continue;
      } else position = this.#literal(block, to, byte, out, position, sink);
      first = false;
      if (this.#failed) return false;
    }
    return true;
  }

  #literal(block: Buffer, to: number, byte: number, out: Buffer, position: number, sink: FieldSink): number {
    const indexed = byte >= 0x40;
    const index = this.#integer(block, to, indexed ? 0x3f : 0x0f);
    let nameEnd: number;
    if (index === 0) nameEnd = this.#string(block, to, out, position);
    else {
      const entry = this.#entry(index);
      if (entry === undefined) return this.#fail(position);
      nameEnd = position + entry.line.copy(out, position, 0, entry.nameLength);
    }
    if (this.#failed) return position;
    out[nameEnd] = 58;
    out[nameEnd + 1] = 32;
    const end = this.#string(block, to, out, nameEnd + 2);
    if (this.#failed) return position;
    out[end] = 13;
    out[end + 1] = 10;
    if (indexed) this.#add(out, position, nameEnd, end);
    return sink.full ? position : sink.onField(out, position, nameEnd, end);
  }

  #add(out: Buffer, from: number, nameEnd: number, to: number): void {
    const size = to - from - 2 + entryOverheadBytes;
    this.#evict(size);
    if (size > this.#bytesMax) return;
    const line = Buffer.allocUnsafeSlow(to + 2 - from);
    out.copy(line, 0, from, to + 2);
    this.#entries.push({ line, nameLength: nameEnd - from });
    this.#bytes += size;
  }
  /** Makes room for `size` more. */
  #evict(size: number): void {
    while (this.#entries.length > 0 && this.#bytes + size > this.#bytesMax) {
      const { line } = this.#entries.shift()!;
      this.#bytes -= line.length - lineExtraBytes + entryOverheadBytes;
    }
  }

  #entry(index: number): Entry | undefined {
    if (index === 0 || this.#failed) return undefined;
    return index < dynamicStart ? staticEntries[index] : this.#entries[this.#entries.length - 1 - index + dynamicStart];
  }

  /** RFC 7541 §5.1. */
  #integer(block: Buffer, to: number, mask: number): number {
    let value = block[this.#at++]! & mask;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      if (this.#at >= to || shift > 21) return this.#fail(0);
      const byte = block[this.#at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (value > integerMax) return this.#fail(0);
      if (byte < 0x80) return value;
    }
  }
  /** RFC 7541 §5.2; into `out` at `position`. Returns the offset past it. */
  #string(block: Buffer, to: number, out: Buffer, position: number): number {
    if (this.#at >= to) return this.#fail(position);
    const coded = block[this.#at]! >= 0x80;
    const length = this.#integer(block, to, 0x7f);
    const start = this.#at;
    const end = start + length;
    if (this.#failed || end > to) return this.#fail(position);
    this.#at = end;
    if (!coded) return position + block.copy(out, position, start, end);
    const past = huffmanDecode(block, start, end, out, position);
    return past < 0 ? this.#fail(position) : past;
  }
  #fail(value: number): number {
    this.#failed = true;
    return value;
  }
}

function put(entry: Entry, out: Buffer, position: number, sink: FieldSink): number {
  const { line, nameLength } = entry;
  line.copy(out, position, 0, line.length);
  return sink.onField(out, position, position + nameLength, position + line.length - 2);
}
