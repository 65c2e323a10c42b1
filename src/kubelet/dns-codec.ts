// DNS messages as bytes (RFC 1035 §4, RFC 6891 EDNS): strict on what comes in, compressing only the question's name on what goes out. Pure.

export const typeNumbers = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, TXT: 16, AAAA: 28, SRV: 33, ANY: 255 } as const;
export const rcodes = { ok: 0, formatError: 1, serverFailure: 2, nameError: 3, notImplemented: 4, refused: 5 } as const;

export interface Question {
  id: number;
  recursionDesired: boolean;
  /** Lower case, without the final dot; "" is the root. */
  name: string;
  type: number;
  class: number;
  /** Largest UDP answer the client takes. */
  sizeBytesMax: number;
  hasEdns: boolean;
  /** Name, type and class as sent, echoed in the answer with the case the client chose. */
  raw: Uint8Array;
}

export type RecordData =
  | { type: "A"; address: string }
  | { type: "CNAME" | "PTR" | "NS"; target: string }
  | { type: "SRV"; priority: number; weight: number; port: number; target: string }
  | { type: "TXT"; text: string }
  | { type: "SOA"; primary: string; mailbox: string; serial: number; minimumSeconds: number };

export type ResourceRecord = RecordData & { name: string; ttlSeconds: number };

export interface Answer {
  rcode: number;
  authoritative: boolean;
  answers: readonly ResourceRecord[];
  authority: readonly ResourceRecord[];
  additional: readonly ResourceRecord[];
}

const headerBytes = 12;
const nameBytesMax = 255;
/** A query of ours or of any resolver is far smaller. */
const queryBytesMax = 4_096;
const plainUdpBytes = 512;
/** What is safe without fragments on any link (DNS flag day 2020). */
const ednsUdpBytesMax = 1_232;
const optType = 41;
/** Records read from an answer at most. */
const recordsMax = 128;

/** "malformed": answer FORMERR with this id; "ignored": not a query, say nothing. */
export type ParsedQuery =
  | { kind: "query"; question: Question }
  | { kind: "malformed"; id: number; rcode: number }
  | { kind: "ignored" };

export function parseQuery(message: Uint8Array): ParsedQuery {
  if (message.length < headerBytes) return { kind: "ignored" };
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const id = view.getUint16(0);
  const flags = view.getUint16(2);
  if (flags & 0x8000) return { kind: "ignored" }; // an answer: replying could start a loop
  if (message.length > queryBytesMax) return { kind: "malformed", id, rcode: rcodes.formatError };
  if ((flags >> 11) & 0xf) return { kind: "malformed", id, rcode: rcodes.notImplemented };
  const [questions, answers, authority, additional] = [4, 6, 8, 10].map((at) => view.getUint16(at)) as [
    number,
    number,
    number,
    number,
  ];
  const malformed: ParsedQuery = { kind: "malformed", id, rcode: rcodes.formatError };
  if (questions !== 1 || answers !== 0 || authority !== 0 || additional > 4) return malformed;
  const read = readName(message, headerBytes, false);
  if (read === undefined || read.end + 4 > message.length) return malformed;
  const end = read.end + 4;
  const edns = readEdns(message, view, end, additional);
  if (edns === undefined) return malformed;
  return {
    kind: "query",
    question: {
      id,
      recursionDesired: (flags & 0x0100) !== 0,
      name: read.name.toLowerCase(),
      type: view.getUint16(read.end),
      class: view.getUint16(read.end + 2),
      ...edns,
      raw: message.slice(headerBytes, end),
    },
  };
}

function readEdns(
  message: Uint8Array,
  view: DataView,
  start: number,
  count: number,
): { sizeBytesMax: number; hasEdns: boolean } | undefined {
  let at = start;
  let found: number | undefined;
  for (let i = 0; i < count; i++) {
    const name = readName(message, at, false);
    if (name === undefined || name.end + 10 > message.length) return undefined;
    const type = view.getUint16(name.end);
    const end = name.end + 10 + view.getUint16(name.end + 8);
    if (end > message.length) return undefined;
    if (type === optType) {
      if (found !== undefined || name.name !== "") return undefined; // RFC 6891 §6.1.1: one, at the root
      found = view.getUint16(name.end + 2);
    }
    at = end;
  }
  if (found === undefined) return { sizeBytesMax: plainUdpBytes, hasEdns: false };
  return { sizeBytesMax: Math.min(Math.max(found, plainUdpBytes), ednsUdpBytesMax), hasEdns: true };
}

/**
 * Reads a name at `start`. Pointers (only with `compressed`) must point backwards, each further back than the last, so they cannot
 * loop. Undefined when it is not a valid name. A label with a dot or a control character in it counts as invalid.
 */
export function readName(
  message: Uint8Array,
  start: number,
  compressed: boolean,
): { name: string; end: number } | undefined {
  const labels: string[] = [];
  let at = start;
  let end: number | undefined;
  let lowest = start;
  let sizeBytes = 1;
  for (;;) {
    const length = message[at];
    if (length === undefined) return undefined;
    if (length === 0) return { name: labels.join("."), end: end ?? at + 1 };
    if ((length & 0xc0) === 0xc0) {
      const low = message[at + 1];
      if (!compressed || low === undefined) return undefined;
      const target = ((length & 0x3f) << 8) | low;
      if (target >= lowest || target < headerBytes) return undefined;
      end ??= at + 2;
      lowest = target;
      at = target;
      continue;
    }
    if (length & 0xc0 || at + 1 + length > message.length) return undefined;
    sizeBytes += length + 1;
    if (sizeBytes > nameBytesMax) return undefined;
    let label = "";
    for (let i = at + 1; i <= at + length; i++) {
      const byte = message[i]!;
      if (byte <= 0x20 || byte === 0x2e || byte >= 0x7f) return undefined;
      label += String.fromCharCode(byte);
    }
    labels.push(label);
    at += length + 1;
  }
}

/** Bytes of a name; throws on labels that do not fit (our own names always do). */
export function encodeName(name: string): Uint8Array {
  const bytes: number[] = [];
  for (const label of name === "" ? [] : name.replace(/\.$/, "").split(".")) {
    if (label.length === 0 || label.length > 63) throw new Error(`invalid DNS name ${JSON.stringify(name)}`);
    bytes.push(label.length, ...Buffer.from(label, "latin1"));
  }
  bytes.push(0);
  if (bytes.length > nameBytesMax) throw new Error(`DNS name too long: ${JSON.stringify(name)}`);
  return Uint8Array.from(bytes);
}

const uint16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff];
const uint32 = (value: number): number[] => [...uint16(value >>> 16), ...uint16(value & 0xffff)];

function encodeData(record: RecordData): number[] {
  switch (record.type) {
    case "A":
      return record.address.split(".").map(Number);
    case "CNAME":
    case "PTR":
    case "NS":
      return [...encodeName(record.target)];
    case "SRV":
      return [
        ...uint16(record.priority),
        ...uint16(record.weight),
        ...uint16(record.port),
        ...encodeName(record.target),
      ];
    case "TXT":
      return [record.text.length & 0xff, ...Buffer.from(record.text.slice(0, 255), "latin1")];
    case "SOA":
      return [
        ...encodeName(record.primary),
        ...encodeName(record.mailbox),
        ...[record.serial, 7200, 1800, 86_400, record.minimumSeconds].flatMap(uint32),
      ];
  }
}

/** The answer's bytes; over `sizeBytesMax` only the head with TC set, so that the client asks again over TCP. */
export function encodeAnswer(question: Question, answer: Answer, sizeBytesMax: number): Uint8Array {
  const records = [...answer.answers, ...answer.authority, ...answer.additional];
  const body: number[] = [];
  for (const record of records) {
    if (record.name === question.name) body.push(0xc0, headerBytes);
    else body.push(...encodeName(record.name));
    const data = encodeData(record);
    body.push(...uint16(typeNumbers[record.type]), 0, 1, ...uint32(record.ttlSeconds), ...uint16(data.length), ...data);
  }
  const opt = question.hasEdns ? [0, ...uint16(optType), ...uint16(ednsUdpBytesMax), 0, 0, 0, 0, 0, 0] : [];
  const fits = headerBytes + question.raw.length + body.length + opt.length <= sizeBytesMax;
  const flags =
    0x8000 |
    (answer.authoritative ? 0x0400 : 0) |
    (fits ? 0 : 0x0200) |
    (question.recursionDesired ? 0x0100 : 0) |
    0x0080 |
    answer.rcode;
  const counts = fits ? [answer.answers.length, answer.authority.length, answer.additional.length] : [0, 0, 0];
  counts[2]! += question.hasEdns ? 1 : 0;
  const head = [...uint16(question.id), ...uint16(flags), ...uint16(1), ...counts.flatMap(uint16)];
  return Uint8Array.from([...head, ...question.raw, ...(fits ? body : []), ...opt]);
}

/** The answer to a message whose question could not be read. */
export const encodeFailure = (id: number, rcode: number): Uint8Array =>
  Uint8Array.from([...uint16(id), ...uint16(0x8080 | rcode), 0, 0, 0, 0, 0, 0, 0, 0]);

/** A query of our own, with EDNS so that large answers fit. */
export function encodeQuery(id: number, name: string, type: number): Uint8Array {
  const opt = [0, ...uint16(optType), ...uint16(ednsUdpBytesMax), 0, 0, 0, 0, 0, 0];
  return Uint8Array.from([
    ...uint16(id),
    1,
    0,
    0,
    1,
    0,
    0,
    0,
    0,
    0,
    1,
    ...encodeName(name),
    ...uint16(type),
    0,
    1,
    ...opt,
  ]);
}

/** A and CNAME records of an answer's first section; undefined when the message is malformed. */
export function parseAnswer(message: Uint8Array): { rcode: number; records: ResourceRecord[] } | undefined {
  if (message.length < headerBytes) return undefined;
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  if ((view.getUint16(2) & 0x8000) === 0 || view.getUint16(4) !== 1) return undefined;
  const count = view.getUint16(6);
  const asked = readName(message, headerBytes, false);
  if (asked === undefined || count > recordsMax) return undefined;
  let at = asked.end + 4;
  const records: ResourceRecord[] = [];
  for (let i = 0; i < count; i++) {
    const owner = readName(message, at, true);
    if (owner === undefined || owner.end + 10 > message.length) return undefined;
    const type = view.getUint16(owner.end);
    const ttlSeconds = view.getUint32(owner.end + 4) & 0x7fffffff;
    const start = owner.end + 10;
    const length = view.getUint16(owner.end + 8);
    at = start + length;
    if (at > message.length) return undefined;
    const name = owner.name.toLowerCase();
    if (type === typeNumbers.A && length === 4)
      records.push({ name, ttlSeconds, type: "A", address: [...message.subarray(start, at)].join(".") });
    else if (type === typeNumbers.CNAME) {
      const target = readName(message, start, true);
      if (target === undefined || target.end > at) return undefined;
      records.push({ name, ttlSeconds, type: "CNAME", target: target.name.toLowerCase() });
    }
  }
  return { rcode: view.getUint16(2) & 0xf, records };
}
