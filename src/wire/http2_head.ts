// Message heads of HTTP/2 (RFC 9113 §8) as HTTP/1.1 heads, which is the form everything behind the codec works on. Never repairs: refuses.

import type { FieldSink, HpackDecoder } from "./hpack_decoder.ts";
import { classes, type Head, scanRequestHead, scanResponseHead, tokenChar, valueChar } from "./http1_head.ts";
import { reasonOf } from "./reasons.ts";

export type HeadKind = "request" | "response" | "trailers";

/** Room for the longest list of fields, and for one more field that makes it too long. */
const fieldsCapacityBytes = 512 * 1024;
/** A field block, with all its CONTINUATION frames, longer than this loses its connection. */
export const fieldBlockBytesMax = 96 * 1024;
const fields = Buffer.allocUnsafeSlow(fieldsCapacityBytes);
const colon = 58;

/** What HTTP/1.1 says about connections has no place here (RFC 9113 §8.2.2). */
const connectionFields = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]);
/** Their lengths, so that most names are told apart by that alone. */
const connectionLengths = new Uint8Array(64);
for (const name of [...connectionFields, "te", "host", "cookie"]) connectionLengths[name.length] = 1;

/** Decodes one field block at a time; the process has one, as its contents never outlive the call. */
class HeadReader implements FieldSink {
  full = false;
  #kind: HeadKind = "request";
  #malformed = false;
  #bytes = 0;
  #bytesMax = 0;
  #count = 0;
  #countMax = 0;
  /** Where the fields proper begin, and end so far. */
  #end = 0;
  #method: string | undefined;
  #path: string | undefined;
  #scheme: string | undefined;
  #authority: string | undefined;
  #status: string | undefined;
  #host: string | undefined;
  #cookies: string[] | undefined;

  begin(kind: HeadKind, bytesMax: number, countMax: number): void {
    this.full = false;
    this.#kind = kind;
    this.#malformed = false;
    this.#bytes = 0;
    this.#bytesMax = bytesMax;
    this.#count = 0;
    this.#countMax = countMax;
    this.#end = 0;
    this.#method = undefined;
    this.#path = undefined;
    this.#scheme = undefined;
    this.#authority = undefined;
    this.#status = undefined;
    this.#host = undefined;
    this.#cookies = undefined;
  }

  onField(buffer: Buffer, from: number, nameEnd: number, to: number): number {
    this.#bytes += to - from - 2;
    this.#count++;
    if (this.#bytes > this.#bytesMax || this.#count > this.#countMax) {
      this.full = true;
      return from;
    }
    const valueStart = nameEnd + 2;
    if (!isValue(buffer, valueStart, to)) return this.#refuse(from);
    if (buffer[from] === colon) {
      this.#pseudo(buffer.latin1Slice(from, nameEnd), buffer.latin1Slice(valueStart, to));
      return from;
    }
    if (!isName(buffer, from, nameEnd)) return this.#refuse(from);
    if (connectionLengths[nameEnd - from] === 1 && !this.#special(buffer, from, nameEnd, to)) return from;
    this.#end = to + 2;
    return this.#end;
  }

  /** They come first, once each, and only those the message has (RFC 9113 §8.3). */
  #pseudo(name: string, value: string): void {
    const isRequest = this.#kind === "request";
    if (this.#end > 0 || this.#host !== undefined || this.#cookies !== undefined) this.#malformed = true;
    else if (isRequest && name === ":method" && this.#method === undefined) this.#method = value;
    else if (isRequest && name === ":path" && this.#path === undefined) this.#path = value;
    else if (isRequest && name === ":scheme" && this.#scheme === undefined) this.#scheme = value;
    else if (isRequest && name === ":authority" && this.#authority === undefined) this.#authority = value;
    else if (this.#kind === "response" && name === ":status" && this.#status === undefined) this.#status = value;
    else this.#malformed = true;
  }

  /** Fields with rules of their own; false: not copied. */
  #special(buffer: Buffer, from: number, nameEnd: number, to: number): boolean {
    const name = buffer.latin1Slice(from, nameEnd);
    const value = buffer.latin1Slice(nameEnd + 2, to);
    if (connectionFields.has(name) || (name === "te" && value.toLowerCase() !== "trailers")) {
      this.#malformed = true;
      return false;
    }
    if (this.#kind !== "request") return true;
    if (name === "host") {
      if (this.#host !== undefined) this.#malformed = true;
      this.#host = value;
      return false;
    }
    if (name !== "cookie") return true;
    // Split for compression's sake; HTTP/1.1 knows one field only (RFC 9113 §8.2.3).
    this.#cookies ??= [];
    this.#cookies.push(value);
    return false;
  }
  #refuse(from: number): number {
    this.#malformed = true;
    return from;
  }

  /** The whole block has been read: scans it into `head`. */
  finish(head: Head): "ok" | "malformed" | "too large" {
    if (this.#malformed) return "malformed";
    if (this.full) return "too large";
    const start = this.#kind === "request" ? this.#requestStart() : this.#responseStart();
    if (start === undefined) return "malformed";
    const bytes = Buffer.allocUnsafe(start.length + this.#end + 2);
    bytes.latin1Write(start, 0, start.length);
    fields.copy(bytes, start.length, 0, this.#end);
    bytes.latin1Write("\r\n", start.length + this.#end, 2);
    const scanned =
      this.#kind === "request"
        ? scanRequestHead(head, bytes, 0, bytes.length)
        : scanResponseHead(head, bytes, 0, bytes.length);
    return scanned === bytes.length ? "ok" : "malformed";
  }

  #requestStart(): string | undefined {
    const method = this.#method;
    const path = this.#path;
    const authority = this.#authority;
    if (method === undefined) return undefined;
    // RFC 9113 §8.3.1: a Host field that says something else than :authority.
    if (authority !== undefined && this.#host !== undefined && authority !== this.#host) return undefined;
    const host = authority ?? this.#host;
    const cookie = this.#cookies === undefined ? "" : `cookie: ${this.#cookies.join("; ")}\r\n`;
    const lines = host === undefined ? cookie : `host: ${host}\r\n${cookie}`;
    if (method === "CONNECT") {
      if (path !== undefined || this.#scheme !== undefined || authority === undefined) return undefined;
      return `CONNECT ${authority} HTTP/1.1\r\n${lines}`;
    }
    if (path === undefined || !(path.startsWith("/") || (path === "*" && method === "OPTIONS"))) return undefined;
    if (this.#scheme !== "http" && this.#scheme !== "https") return undefined;
    return `${method} ${path} HTTP/1.1\r\n${lines}`;
  }
  #responseStart(): string | undefined {
    const status = this.#status;
    // 101 does not exist here (RFC 9113 §8.6).
    if (status === undefined || !/^[1-9]\d\d$/.test(status) || status === "101") return undefined;
    return `HTTP/1.1 ${status} ${reasonOf(Number(status))}\r\n`;
  }

  /** A trailer section as HTTP/1.1 writes it, empty line included; undefined when it is malformed. */
  section(): Buffer | undefined {
    if (this.#malformed || this.full) return undefined;
    fields.latin1Write("\r\n", this.#end, 2);
    return Buffer.from(fields.subarray(0, this.#end + 2));
  }

  decode(decoder: HpackDecoder, block: Buffer, from: number, to: number): boolean {
    return decoder.decode(block, from, to, fields, this);
  }
}

/** Shared: `begin`, `decode`, then `finish` or `section`, all in one call of the connection's. */
export const headReader = new HeadReader();

/** RFC 9113 §8.2.1: lower case. */
function isName(buffer: Buffer, from: number, to: number): boolean {
  if (from === to) return false;
  for (let i = from; i < to; i++) {
    const c = buffer[i]!;
    if ((classes[c]! & tokenChar) === 0 || (c >= 65 && c <= 90)) return false;
  }
  return true;
}
/** RFC 9113 §8.2.1: no line ends, and no white space around it. */
function isValue(buffer: Buffer, from: number, to: number): boolean {
  if (from === to) return true;
  const first = buffer[from]!;
  const last = buffer[to - 1]!;
  if (first === 32 || first === 9 || last === 32 || last === 9) return false;
  for (let i = from; i < to; i++) if ((classes[buffer[i]!]! & valueChar) === 0) return false;
  return true;
}
