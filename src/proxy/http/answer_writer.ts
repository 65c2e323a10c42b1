// Writes answers to one HTTP/1.1 client: heads by slices, bodies in the framing the client understands, small pieces in one write.

import type { Framing } from "../../wire/http1_body.ts";
import { type Head, known } from "../../wire/http1_head.ts";
import { coalescedBodyBytesMax, type HeaderEdits, newEdits, scratch, writeFields } from "../../wire/http1_write.ts";
import type { SocketWriter } from "../../wire/socket.ts";

/** An interim answer has no body, whatever its fields say. */
const interimEdits = newEdits();
interimEdits.dropIds[known.contentLength] = 1;
interimEdits.dropIds[known.transferEncoding] = 1;

const continueLine = Buffer.from("HTTP/1.1 100 Continue\r\n\r\n");

/** HTTP/1.0 knows no chunks: an answer without a length ends with its connection. `minor` is the client's. */
export function endsConnection(framing: Framing, minor: number): boolean {
  return minor === 0 && (framing === "close" || framing === "chunked");
}

function statusLine(head: Head): void {
  scratch.clear();
  scratch.text("HTTP/1.1");
  scratch.copy(head.buffer, head.start + 8, head.fieldsStart);
}

export class AnswerWriter {
  readonly #writer: SocketWriter;
  /** Something waits in `scratch` for what comes next. */
  #corked = false;
  /** The body comes bare and goes in chunks. */
  #enchunk = false;

  constructor(writer: SocketWriter) {
    this.#writer = writer;
  }

  continue(): void {
    this.flush();
    this.#writer.write(continueLine, 0, continueLine.length, "kept");
  }
  /** 1xx other than 101. */
  interim(head: Head): void {
    this.flush();
    statusLine(head);
    writeFields(scratch, head, interimEdits);
    this.#writer.write(scratch.buffer, 0, scratch.length, "reused");
  }

  head(head: Head, edits: HeaderEdits, framing: Framing, minor: number, keepAlive: boolean, trailers: boolean): void {
    this.flush();
    statusLine(head);
    this.#enchunk = false;
    if (framing === "close" || (framing === "chunked" && minor === 0)) {
      edits.dropIds[known.transferEncoding] = 1;
      this.#enchunk = minor === 1;
      if (this.#enchunk) edits.added += "transfer-encoding: chunked\r\n";
    } else if (framing === "none") {
      // Nothing follows: no reader shall be told otherwise (RFC 9112 §6.1, RFC 9110 §8.6).
      edits.dropIds[known.transferEncoding] = 1;
      if (head.status === 204) edits.dropIds[known.contentLength] = 1;
    } else if (trailers && framing === "chunked") {
      const trailer = head.get("trailer");
      if (trailer !== undefined) edits.added += `trailer: ${trailer}\r\n`;
    }
    if (!keepAlive) edits.added += "connection: close\r\n";
    else if (minor === 0) edits.added += "connection: keep-alive\r\n";
    writeFields(scratch, head, edits);
    this.#corked = true;
  }

  /** False: the client is full. */
  body(chunk: Buffer, from: number, to: number, kind: "kept" | "read"): boolean {
    if (from >= to) return !this.#writer.blocked;
    if (this.#enchunk) {
      if (!this.#corked) scratch.clear();
      this.#corked = true;
      scratch.text(`${(to - from).toString(16)}\r\n`);
    }
    if (this.#corked && scratch.length + to - from <= coalescedBodyBytesMax) scratch.copy(chunk, from, to);
    else {
      this.flush();
      this.#writer.write(chunk, from, to, kind);
      if (this.#enchunk) {
        scratch.clear();
        this.#corked = true;
      }
    }
    if (this.#enchunk) scratch.text("\r\n");
    return !this.#writer.blocked;
  }

  /** `trailers`: a section with its empty line. */
  finish(trailers: Buffer | undefined): void {
    if (this.#enchunk) {
      if (!this.#corked) scratch.clear();
      this.#corked = true;
      this.#enchunk = false;
      scratch.text("0\r\n");
      if (trailers === undefined) scratch.text("\r\n");
      else scratch.copy(trailers, 0, trailers.length);
    }
    this.flush();
  }

  flush(): void {
    if (!this.#corked) return;
    this.#corked = false;
    this.#writer.write(scratch.buffer, 0, scratch.length, "reused");
  }

  /** 101, or a 2xx to CONNECT: after it the bytes mean something else. */
  tunnelHead(head: Head, edits: HeaderEdits): void {
    this.flush();
    statusLine(head);
    if (head.status === 101) {
      const protocol = head.upgradeIndex < 0 ? "" : head.value(head.upgradeIndex);
      scratch.text(`connection: upgrade\r\nupgrade: ${protocol}\r\n`);
    }
    edits.dropIds[known.contentLength] = 1;
    edits.dropIds[known.transferEncoding] = 1;
    writeFields(scratch, head, edits);
    this.#writer.write(scratch.buffer, 0, scratch.length, "reused");
  }
  /** The same without a server's head: CONNECT ends here. */
  established(headers: string): void {
    this.flush();
    const bytes = Buffer.from(`HTTP/1.1 200 OK\r\n${headers}\r\n`, "latin1");
    this.#writer.write(bytes, 0, bytes.length, "kept");
  }
}
