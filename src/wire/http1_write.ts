// Writes message heads by copying slices of the received head, so that what is not changed is not touched. One shared buffer.

import { type Head, headerCountMax, known } from "./http1_head.ts";

/** Changes to a head on its way through. `added` holds complete lines ("name: value\r\n"), so that one write places them all. */
export interface HeaderEdits {
  /** Lower-case names to leave out, or undefined for none. */
  removed: string[] | undefined;
  added: string;
  /** Known header ids to leave out: 1 at the id's index. */
  readonly dropIds: Uint8Array;
}

export function newEdits(): HeaderEdits {
  return { removed: undefined, added: "", dropIds: new Uint8Array(32) };
}
export function clearEdits(edits: HeaderEdits): void {
  edits.removed = undefined;
  edits.added = "";
  edits.dropIds.fill(0);
}

/** Instead of whatever is there. `name` in lower case. */
export function setHeader(edits: HeaderEdits, name: string, value: string): void {
  removeHeader(edits, name);
  edits.added += `${name}: ${value}\r\n`;
}

/** Also takes back what an earlier step added. */
export function removeHeader(edits: HeaderEdits, name: string): void {
  if (edits.removed === undefined) edits.removed = [name];
  else if (!edits.removed.includes(name)) edits.removed = [...edits.removed, name];
  if (edits.added.includes(`${name}: `))
    edits.added = edits.added
      .split("\r\n")
      .filter((line) => line !== "" && !line.startsWith(`${name}: `))
      .map((line) => `${line}\r\n`)
      .join("");
}

/** Heads and small bodies are put together here before one write; the capacity covers the largest head plus added lines. */
const capacityBytes = 512 * 1024;
/** Bodies up to this size ride in the same write as their head; larger ones are written from where they are. */
export const coalescedBodyBytesMax = 32 * 1024;
/** Added header lines beyond this are a configuration error; the writer refuses them. */
export const addedBytesMax = 64 * 1024;

export class HeadWriter {
  readonly buffer: Buffer = Buffer.allocUnsafeSlow(capacityBytes);
  length = 0;

  clear(): void {
    this.length = 0;
  }
  text(latin1: string): void {
    this.length += this.buffer.latin1Write(latin1, this.length, latin1.length);
  }
  copy(source: Buffer, from: number, to: number): void {
    if (to > from) this.length += source.copy(this.buffer, this.length, from, to);
  }
}

/** The process's one writer: its contents never outlive the callback that filled it. */
export const scratch = new HeadWriter();

/** Fields that speak about this connection only and are never forwarded (RFC 9110 §7.6.1). */
const hopByHop = new Uint8Array(32);
for (const id of [
  known.connection,
  known.keepAlive,
  known.proxyConnection,
  known.te,
  known.trailer,
  known.upgrade,
  known.proxyAuthenticate,
  known.http2Settings,
])
  hopByHop[id] = 1;

const skipped = new Uint8Array(headerCountMax);

/** Marks what not to copy with 1: hop-by-hop fields, `dropIds`, names listed in Connection, names removed by configuration. Good until the next call. */
export function markFields(head: Head, edits: HeaderEdits): Uint8Array {
  const { ids, count } = head;
  for (let i = 0; i < count; i++) {
    const id = ids[i]!;
    skipped[i] = hopByHop[id]! | edits.dropIds[id]!;
  }
  const { removed } = edits;
  if (removed !== undefined)
    for (let i = 0; i < count; i++) for (const name of removed) if (head.nameIs(i, name)) skipped[i] = 1;
  // A peer may name only fields the proxy attaches no meaning to: `Connection: host` must not hide the Host field.
  if (head.connectionNames !== undefined)
    for (let i = 0; i < count; i++)
      if (ids[i] === known.other) for (const name of head.connectionNames) if (head.nameIs(i, name)) skipped[i] = 1;
  return skipped;
}

/** Copies the fields that stay, whole runs at a time, then the added lines and the empty line. */
export function writeFields(out: HeadWriter, head: Head, edits: HeaderEdits): void {
  markFields(head, edits);
  const { spans, count, buffer } = head;
  let runStart = -1;
  for (let i = 0; i < count; i++) {
    if (skipped[i] === 1) {
      if (runStart >= 0) out.copy(buffer, runStart, spans[i * 4]!);
      runStart = -1;
    } else if (runStart < 0) runStart = spans[i * 4]!;
  }
  if (runStart >= 0) out.copy(buffer, runStart, head.end - 2);
  if (edits.added !== "") out.text(edits.added);
  out.text("\r\n");
}
