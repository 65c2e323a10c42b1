// One request on a shared HTTP/2 connection to an endpoint: the upstream codec's contract over a stream.

import { ChunkedScanner } from "../../wire/http1_body.ts";
import { Head } from "../../wire/http1_head.ts";
import { h2Error } from "../../wire/http2_frames.ts";
import type { Http2Stream, StreamUser } from "../../wire/http2_stream.ts";
import { writeRequestBlock } from "../../wire/http2_write.ts";
import type { Http2UpstreamConnection } from "./h2_upstream.ts";
import type { SentRequest, Upstream, UpstreamUser } from "./upstream_contract.ts";

/** Interim answers before the final one; a server that sends more has lost its way. */
const interimMax = 16;

export class Http2Request implements Upstream, StreamUser {
  readonly http1 = undefined;
  readonly head = new Head();
  readonly #connection: Http2UpstreamConnection;
  /** Others had used the connection before. */
  readonly #reused: boolean;
  #user: UpstreamUser | undefined;
  #stream: Http2Stream | undefined;
  /** Of a client that speaks HTTP/1.1: takes the chunk framing off its body. */
  #chunks: ChunkedScanner | undefined;
  /** What is left of a body of known length. */
  #left = 0;
  #bare = false;
  #answering = false;
  #interims = 0;
  /** Waits for the end of the read to be flushed. */
  touched = false;

  constructor(connection: Http2UpstreamConnection, reused: boolean) {
    this.#connection = connection;
    this.#reused = reused;
  }

  get localAddress(): string {
    return this.#connection.localAddress;
  }
  get isHead(): boolean {
    return this.#user?.isHead ?? false;
  }
  use(user: UpstreamUser): void {
    this.#user = user;
  }

  // ---- the request ----

  send({ request, requestEdits }: SentRequest, parts: readonly Buffer[] | undefined): boolean {
    const { h2 } = this.#connection;
    const { head, isBare } = request;
    const stream = h2.open(this);
    this.#connection.unreserve();
    this.#stream = stream;
    this.#bare = isBare;
    const { method, scheme, authority, path } = request;
    const block = writeRequestBlock(h2.encoder, { method, scheme, authority, path }, head, requestEdits);
    if (!isBare && head.chunked) {
      this.#chunks = new ChunkedScanner();
      this.#chunks.reset(true);
    } else if (!isBare) this.#left = Math.max(head.contentLength, 0);
    const hasBody = isBare || this.#chunks !== undefined || this.#left > 0;
    stream.sendHead(block, !hasBody);
    let room = !h2.output.blocked;
    if (parts !== undefined) for (const part of parts) room = this.write(part, 0, part.length);
    return room;
  }

  write(chunk: Buffer, from: number, to: number): boolean {
    const stream = this.#stream!;
    const chunks = this.#chunks;
    if (chunks !== undefined) return this.#writeChunks(stream, chunks, chunk, from, to);
    const room = stream.write(chunk, from, to);
    if (this.#bare) return room;
    this.#left -= to - from;
    if (this.#left <= 0) stream.end("");
    return room;
  }
  #writeChunks(stream: Http2Stream, chunks: ChunkedScanner, chunk: Buffer, from: number, to: number): boolean {
    // The client's codec has scanned it before: it is well-formed. Behind the last chunk come its trailers.
    if (chunks.done) return true;
    chunks.scan(chunk, from, to, false);
    let room = true;
    const { ranges } = chunks;
    for (let i = 0; i < ranges.length; i += 2) room = stream.write(chunk, ranges[i]!, ranges[i + 1]!);
    if (chunks.done) stream.end(linesOf(chunks.takeTrailers()));
    return room;
  }
  end(trailers: Buffer | undefined): void {
    this.#stream!.end(trailers === undefined ? "" : linesOf(trailers));
  }
  onRoom(): void {
    this.#user?.onUpstreamDrain();
  }

  // ---- the answer ----

  onHead(ended: boolean): void {
    const user = this.#user;
    const { head } = this;
    if (user === undefined) return;
    if (head.status < 200) {
      if (++this.#interims > interimMax) this.#lose("protocol");
      else user.onInterim(head);
      return;
    }
    this.#answering = true;
    this.#touch();
    const isEmpty = ended || user.isHead || head.status === 204 || head.status === 304;
    const framing = isEmpty ? "none" : head.contentLength >= 0 ? "length" : "close";
    if (user.onResponseHead(head, framing) && ended) this.#finish();
  }
  onHeadTooLarge(): void {
    this.#lose("protocol");
  }
  onData(chunk: Buffer, from: number, to: number): boolean {
    const user = this.#user;
    if (user === undefined) return true;
    this.#touch();
    return user.onResponseBody(chunk, from, to);
  }
  onEnd(trailers: Buffer | undefined): void {
    if (trailers !== undefined) this.#user?.onResponseTrailers(trailers);
    this.#finish();
  }
  #finish(): void {
    const user = this.#user;
    if (user === undefined) return;
    this.#touch();
    user.onResponseEnd();
  }
  #touch(): void {
    if (this.touched) return;
    this.touched = true;
    this.#flushed = this.#user;
    this.#connection.touched.push(this);
  }
  /** Whoever is to be told, even when the answer's end has come with the same read. */
  #flushed: UpstreamUser | undefined;
  flush(): void {
    this.touched = false;
    const user = this.#flushed;
    this.#flushed = undefined;
    user?.onResponseFlush();
  }

  onReset(code: number, how: "remote" | "protocol" | "connection"): void {
    const user = this.#user;
    this.#user = undefined;
    if (user === undefined) return;
    if (how === "remote" && code === h2Error.refusedStream && !this.#answering) user.onUpstreamLost("refused");
    else if (how === "protocol") user.onUpstreamLost("protocol");
    else if (this.#answering) user.onUpstreamLost("midway");
    else if (how === "remote") user.onUpstreamLost("remote");
    else user.onUpstreamLost(this.#reused ? "stale" : "reset");
  }
  #lose(how: "protocol"): void {
    const user = this.#user;
    this.#user = undefined;
    this.#stream?.reset(h2Error.protocol);
    user?.onUpstreamLost(how);
  }

  pause(): void {
    this.#stream?.pause();
  }
  resume(): void {
    this.#stream?.resume();
  }

  release(): void {
    this.#user = undefined;
  }
  abandon(): void {
    this.#user = undefined;
    this.#stream?.reset(h2Error.cancel);
    if (this.#stream === undefined) this.#connection.unreserve();
  }
  close(): void {
    this.abandon();
  }
}

/** A trailer section without its empty line. */
const linesOf = (section: Buffer): string => section.latin1Slice(0, Math.max(section.length - 2, 0));
