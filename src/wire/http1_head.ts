// Scans an HTTP/1.1 message head in place (RFC 9112, strict): offsets into the buffer, no header objects. Never repairs: refuses.

declare global {
  interface Buffer {
    /** Node's native methods behind toString("latin1") and write(…, "latin1"): no argument checks, no encoding look-up. */
    latin1Slice(start: number, end: number): string;
    latin1Write(text: string, offset: number, length: number): number;
  }
}

/** Header fields the proxy itself acts on; 0 is any other. */
export const known = {
  other: 0,
  host: 1,
  contentLength: 2,
  transferEncoding: 3,
  connection: 4,
  keepAlive: 5,
  proxyConnection: 6,
  te: 7,
  trailer: 8,
  upgrade: 9,
  expect: 10,
  xForwardedFor: 11,
  xForwardedProto: 12,
  xRequestId: 13,
  server: 14,
  date: 15,
  proxyAuthenticate: 16,
  upstreamServiceTime: 17,
  http2Settings: 18,
  xForwardedClientCert: 19,
  /** Any x-envoy-* field without an id of its own. */
  envoy: 20,
  contentType: 21,
} as const;

const knownNames: readonly (readonly [string, number])[] = [
  ["host", known.host],
  ["content-length", known.contentLength],
  ["transfer-encoding", known.transferEncoding],
  ["connection", known.connection],
  ["keep-alive", known.keepAlive],
  ["proxy-connection", known.proxyConnection],
  ["te", known.te],
  ["trailer", known.trailer],
  ["upgrade", known.upgrade],
  ["expect", known.expect],
  ["x-forwarded-for", known.xForwardedFor],
  ["x-forwarded-proto", known.xForwardedProto],
  ["x-request-id", known.xRequestId],
  ["server", known.server],
  ["date", known.date],
  ["x-envoy-upstream-service-time", known.upstreamServiceTime],
  ["http2-settings", known.http2Settings],
  ["x-forwarded-client-cert", known.xForwardedClientCert],
  ["content-type", known.contentType],
];

/** Candidates by name length, so that most names are told apart by their length alone. */
const knownByLength: { id: number; bytes: Uint8Array }[][] = [];
for (const [name, id] of knownNames) {
  const bytes = new TextEncoder().encode(name);
  knownByLength[bytes.length] ??= [];
  knownByLength[bytes.length]!.push({ id, bytes });
}

/** More fields than this are refused with 431 (Envoy: max_headers_count). */
export const headerCountMax = 100;
/** Longer request heads are refused with 431, response heads with 502 (Envoy: 60 KiB and 80 KiB). */
export const requestHeadBytesMax = 60 * 1024;
export const responseHeadBytesMax = 80 * 1024;

/** What `scanHead` returns below zero; 0 is "more bytes needed". */
export const headError = { malformed: -1, tooLarge: -2, version: -3, notImplemented: -4 } as const;

/** What a byte may be part of (RFC 9110 §5.6.2, §5.5; RFC 9112 §3.2). */
export const tokenChar = 1;
export const valueChar = 2;
const targetChar = 4;
export const classes = new Uint8Array(256);
for (let c = 0x21; c < 0x7f; c++) classes[c] = valueChar | targetChar;
for (let c = 0x80; c < 0x100; c++) classes[c] = valueChar;
classes[0x20] = valueChar;
classes[0x09] = valueChar;
for (const c of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
  classes[c.charCodeAt(0)]! |= tokenChar;
// A fragment never belongs on the wire, and filters that match on the path would see another path than the backend (CVE-2021-39156).
classes["#".charCodeAt(0)]! &= ~targetChar;

const cr = 13;
const lf = 10;
const space = 32;
const tab = 9;

/** A scanned head. One object is reused for many messages; offsets are into `buffer`, which must stay untouched while they are read. */
export class Head {
  buffer: Buffer = empty;
  start = 0;
  /** Just past the empty line. */
  end = 0;
  methodEnd = 0;
  targetStart = 0;
  targetEnd = 0;
  /** First byte of the first field line. */
  fieldsStart = 0;
  /** HTTP/1.x */
  minor = 1;
  status = 0;
  count = 0;
  /** Four offsets per field: name start, name end, value start, value end. */
  readonly spans = new Int32Array(headerCountMax * 4);
  readonly ids = new Uint8Array(headerCountMax);
  /** Index of the Host field, or -1. */
  hostIndex = -1;
  /** -1 when there is none. */
  contentLength = -1;
  chunked = false;
  keepAlive = true;
  /** `Connection: close` was said; it wins over keep-alive. */
  close = false;
  /** Bit `1 << id` is set for every known field that is there, bit 0 for any other. */
  mask = 0;
  /** `Connection: upgrade` together with an Upgrade field. */
  upgrade = false;
  upgradeIndex = -1;
  expectContinue = false;
  /** Lower-case names listed in Connection besides close, keep-alive and upgrade; to be removed when forwarding. */
  connectionNames: string[] | undefined;

  method(): string {
    return this.buffer.latin1Slice(this.start, this.methodEnd);
  }
  target(): string {
    return this.buffer.latin1Slice(this.targetStart, this.targetEnd);
  }
  name(index: number): string {
    return this.buffer.latin1Slice(this.spans[index * 4]!, this.spans[index * 4 + 1]!).toLowerCase();
  }
  value(index: number): string {
    return this.buffer.latin1Slice(this.spans[index * 4 + 2]!, this.spans[index * 4 + 3]!);
  }
  /** Value of the first field with this lower-case name; several are joined by a comma (RFC 9110 §5.2). */
  get(name: string): string | undefined {
    let found: string | undefined;
    for (let i = 0; i < this.count; i++)
      if (this.nameIs(i, name)) found = found === undefined ? this.value(i) : `${found},${this.value(i)}`;
    return found;
  }
  nameIs(index: number, lowerCase: string): boolean {
    const from = this.spans[index * 4]!;
    if (this.spans[index * 4 + 1]! - from !== lowerCase.length) return false;
    return sameIgnoringCase(this.buffer, from, lowerCase);
  }
}

const empty: Buffer = Buffer.alloc(0);

function sameIgnoringCase(buffer: Buffer, from: number, lowerCase: string): boolean {
  for (let i = 0; i < lowerCase.length; i++) {
    let c = buffer[from + i]!;
    if (c >= 65 && c <= 90) c |= 32;
    if (c !== lowerCase.charCodeAt(i)) return false;
  }
  return true;
}

function reset(head: Head, buffer: Buffer, start: number): void {
  head.buffer = buffer;
  head.start = start;
  head.count = 0;
  head.hostIndex = -1;
  head.contentLength = -1;
  head.chunked = false;
  head.close = false;
  head.mask = 0;
  head.upgrade = false;
  head.upgradeIndex = -1;
  head.expectContinue = false;
  head.connectionNames = undefined;
}

/** Drops the reference to the buffer, so that an idle connection's head keeps no bytes alive. */
export function releaseHead(head: Head): void {
  head.buffer = empty;
}

/** For a head that is read after the bytes that came with it have been handed on. */
export function keepHead(head: Head): void {
  head.buffer = Buffer.from(head.buffer.subarray(0, head.end));
}

/**
 * Scans a request head in `buffer[from, to)` into `head`. Returns the offset past the head, 0 when bytes are missing,
 * or a headError. One empty line before the request line is skipped (RFC 9112 §2.2).
 */
export function scanRequestHead(head: Head, buffer: Buffer, from: number, to: number): number {
  let i = from;
  if (buffer[i] === cr && i < to) {
    if (i + 1 >= to) return 0;
    if (buffer[i + 1] !== lf) return headError.malformed;
    i += 2;
  }
  reset(head, buffer, i);
  while (i < to && classes[buffer[i]!]! & tokenChar) i++;
  if (i >= to) return incomplete(from, to, requestHeadBytesMax);
  if (buffer[i] !== space || i === head.start) return headError.malformed;
  head.methodEnd = i;
  head.targetStart = ++i;
  while (i < to && classes[buffer[i]!]! & targetChar) i++;
  if (i >= to) return incomplete(from, to, requestHeadBytesMax);
  if (buffer[i] !== space || i === head.targetStart) return headError.malformed;
  head.targetEnd = i++;
  if (to - i < 10) return incomplete(from, to, requestHeadBytesMax);
  const version = scanVersion(head, buffer, i);
  if (version < 0) return version;
  i += 8;
  if (buffer[i] !== cr || buffer[i + 1] !== lf) return headError.malformed;
  head.fieldsStart = i + 2;
  const end = scanFields(head, buffer, i + 2, to);
  if (end === 0) return incomplete(from, to, requestHeadBytesMax);
  if (end < 0) return end;
  if (end - from > requestHeadBytesMax) return headError.tooLarge;
  return checkFraming(head, end);
}

/** As `scanRequestHead`, for a response head. */
export function scanResponseHead(head: Head, buffer: Buffer, from: number, to: number): number {
  let i = from;
  reset(head, buffer, i);
  if (to - i < 14) return 0;
  const version = scanVersion(head, buffer, i);
  if (version < 0) return version;
  i += 8;
  const a = buffer[i + 1]! - 48;
  const b = buffer[i + 2]! - 48;
  const c = buffer[i + 3]! - 48;
  if (buffer[i] !== space || a < 1 || a > 9 || b < 0 || b > 9 || c < 0 || c > 9) return headError.malformed;
  head.status = a * 100 + b * 10 + c;
  i += 4;
  if (buffer[i] !== space && buffer[i] !== cr) return headError.malformed;
  while (i < to && classes[buffer[i]!]! & valueChar) i++;
  if (i + 1 >= to) return incomplete(from, to, responseHeadBytesMax);
  if (buffer[i] !== cr || buffer[i + 1] !== lf) return headError.malformed;
  head.fieldsStart = i + 2;
  const end = scanFields(head, buffer, i + 2, to);
  if (end === 0) return incomplete(from, to, responseHeadBytesMax);
  if (end < 0) return end;
  if (end - from > responseHeadBytesMax) return headError.tooLarge;
  return checkFraming(head, end);
}

function incomplete(from: number, to: number, bytesMax: number): number {
  return to - from > bytesMax ? headError.tooLarge : 0;
}

/** "HTTP/1.0" or "HTTP/1.1" at `i`; a well-formed other version is refused with 505. */
function scanVersion(head: Head, buffer: Buffer, i: number): number {
  if (
    buffer[i] !== 72 ||
    buffer[i + 1] !== 84 ||
    buffer[i + 2] !== 84 ||
    buffer[i + 3] !== 80 ||
    buffer[i + 4] !== 47 ||
    buffer[i + 6] !== 46
  )
    return headError.malformed;
  const major = buffer[i + 5]! - 48;
  const minor = buffer[i + 7]! - 48;
  if (major < 0 || major > 9 || minor < 0 || minor > 9) return headError.malformed;
  if (major !== 1 || minor > 1) return headError.version;
  head.minor = minor;
  head.keepAlive = minor === 1;
  return 0;
}

/** Field lines up to and including the empty line. */
function scanFields(head: Head, buffer: Buffer, from: number, to: number): number {
  const { spans, ids } = head;
  let i = from;
  for (;;) {
    if (i + 1 >= to) return 0;
    if (buffer[i] === cr) {
      if (buffer[i + 1] !== lf) return headError.malformed;
      head.end = i + 2;
      return i + 2;
    }
    const nameStart = i;
    while (i < to && classes[buffer[i]!]! & tokenChar) i++;
    if (i >= to) return 0;
    // Also refuses obs-fold (a line that starts with a space) and white space before the colon.
    if (buffer[i] !== 58 || i === nameStart) return headError.malformed;
    const nameEnd = i++;
    while (i < to && (buffer[i] === space || buffer[i] === tab)) i++;
    const valueStart = i;
    while (i < to && classes[buffer[i]!]! & valueChar) i++;
    if (i + 1 >= to) return i < to && buffer[i] !== cr ? headError.malformed : 0;
    if (buffer[i] !== cr || buffer[i + 1] !== lf) return headError.malformed;
    let valueEnd = i;
    while (valueEnd > valueStart && (buffer[valueEnd - 1] === space || buffer[valueEnd - 1] === tab)) valueEnd--;
    i += 2;
    const index = head.count;
    if (index >= headerCountMax) return headError.tooLarge;
    const at = index * 4;
    spans[at] = nameStart;
    spans[at + 1] = nameEnd;
    spans[at + 2] = valueStart;
    spans[at + 3] = valueEnd;
    head.count = index + 1;
    const id = idOf(buffer, nameStart, nameEnd);
    ids[index] = id;
    head.mask |= 1 << id;
    if (id !== 0 && id <= known.expect) {
      const error = interpret(head, buffer, id, index, valueStart, valueEnd);
      if (error < 0) return error;
    }
  }
}

function idOf(buffer: Buffer, from: number, to: number): number {
  const candidates = knownByLength[to - from];
  if (candidates === undefined) return isEnvoyName(buffer, from, to) ? known.envoy : 0;
  for (let k = 0; k < candidates.length; k++) {
    const { bytes, id } = candidates[k]!;
    let j = 0;
    while (j < bytes.length && (buffer[from + j]! | 32) === bytes[j]) j++;
    if (j === bytes.length) return id;
  }
  return isEnvoyName(buffer, from, to) ? known.envoy : 0;
}

function isEnvoyName(buffer: Buffer, from: number, to: number): boolean {
  if ((buffer[from]! | 32) !== 120 || to - from < 9 || buffer[from + 1] !== 45) return false;
  return sameIgnoringCase(buffer, from, "x-envoy-");
}

function interpret(head: Head, buffer: Buffer, id: number, index: number, from: number, to: number): number {
  switch (id) {
    case known.host:
      if (head.hostIndex >= 0) return headError.malformed;
      head.hostIndex = index;
      return 0;
    case known.contentLength:
      if (head.contentLength >= 0 || hasTabBeside(head, buffer, index)) return headError.malformed;
      head.contentLength = decimal(buffer, from, to);
      return head.contentLength < 0 ? headError.malformed : 0;
    case known.transferEncoding:
      if (head.chunked || hasTabBeside(head, buffer, index)) return headError.malformed;
      if (to - from !== 7 || !sameIgnoringCase(buffer, from, "chunked")) return headError.notImplemented;
      head.chunked = true;
      return 0;
    case known.connection:
      return connectionOptions(head, buffer.latin1Slice(from, to));
    case known.upgrade:
      // A list of protocols, which a server may answer with any of: only one can be decided on.
      if (head.upgradeIndex >= 0) return headError.malformed;
      head.upgradeIndex = index;
      return 0;
    case known.expect:
      if (to - from !== 12 || !sameIgnoringCase(buffer, from, "100-continue")) return 0;
      head.expectContinue = true;
      return 0;
    default:
      return 0;
  }
}

/** Legal white space (RFC 9110 §5.6.3), but around a value that frames the message parsers disagree about it: llhttp refuses one behind. */
function hasTabBeside({ spans }: Head, buffer: Buffer, index: number): boolean {
  const at = index * 4;
  for (let i = spans[at + 1]!; i < spans[at + 2]!; i++) if (buffer[i] === tab) return true;
  for (let i = spans[at + 3]!; buffer[i] !== cr; i++) if (buffer[i] === tab) return true;
  return false;
}

/**
 * Scans a trailer section in `buffer[from, to)`, empty line included, into `head`'s fields. As for heads: the offset past it,
 * 0, or a headError.
 */
export function scanTrailers(head: Head, buffer: Buffer, from: number, to: number): number {
  reset(head, buffer, from);
  head.fieldsStart = from;
  return scanFields(head, buffer, from, to);
}

/** A non-negative decimal of at most 15 digits (exact in a double), or -1. */
function decimal(buffer: Buffer, from: number, to: number): number {
  if (from === to || to - from > 15) return -1;
  let value = 0;
  for (let i = from; i < to; i++) {
    const digit = buffer[i]! - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}

function connectionOptions(head: Head, value: string): number {
  for (const part of value === "keep-alive" ? [value] : value.toLowerCase().split(",")) {
    const option = part.trim();
    if (option === "close") head.close = true;
    else if (option === "keep-alive") head.keepAlive = true;
    else if (option === "upgrade") head.upgrade = true;
    else if (option !== "") {
      head.connectionNames ??= [];
      head.connectionNames.push(option);
    }
  }
  return 0;
}

/** What two parsers could frame differently is refused (RFC 9112 §6.1, §6.3). */
function checkFraming(head: Head, end: number): number {
  if (head.chunked && (head.contentLength >= 0 || head.minor === 0)) return headError.malformed;
  if (head.close) head.keepAlive = false;
  // RFC 9110 §7.8: in HTTP/1.0 an upgrade is ignored.
  if (head.upgradeIndex < 0 || head.minor === 0) head.upgrade = false;
  return end;
}
