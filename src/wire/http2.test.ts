// Two ends of HTTP/2 joined by a pipe that cuts, delays and blocks as a seed says: whatever it does, every message arrives whole.

import { expect, test } from "bun:test";
import { type Random, seededRandom } from "../kernel/random.ts";
import { Head, scanRequestHead } from "./http1_head.ts";
import { newEdits } from "./http1_write.ts";
import { Http2Connection, type Http2Limits, type Http2Observer } from "./http2_connection.ts";
import { data, frame, getFields, headers, hello, number32 } from "./http2_fixture.ts";
import { frameType } from "./http2_frames.ts";
import type { Http2Stream, StreamUser } from "./http2_stream.ts";
import { writeLocalBlock, writeRequestBlock } from "./http2_write.ts";
import type { OwnedSocket } from "./socket.ts";

const limits: Http2Limits = {
  streamsMax: 100,
  streamWindowBytes: 65_535,
  connectionWindowBytes: 70_000,
  headBytesMax: 60_000,
  headersMax: 100,
};

/** One direction: takes what it likes, hands on what it likes. */
class Pipe {
  readonly socket: OwnedSocket;
  bytes: Buffer = Buffer.alloc(0);
  blocked = false;

  constructor(random: Random) {
    const pipe = this;
    this.socket = {
      write(data: Buffer, from: number, length: number): number {
        if (pipe.blocked) return 0;
        const count = random.next() < 0.3 ? Math.floor(random.next() * length) : length;
        pipe.blocked = count < length;
        pipe.bytes = Buffer.concat([pipe.bytes, data.subarray(from, from + count)]);
        return count;
      },
      shutdown() {},
      terminate() {},
    } as unknown as OwnedSocket;
  }
  /** Memory of its own: the reader may let it go. */
  take(random: Random): Buffer {
    const count = random.next() < 0.5 ? this.bytes.length : Math.ceil(random.next() * this.bytes.length);
    const taken = Buffer.from(this.bytes.subarray(0, count));
    this.bytes = this.bytes.subarray(count);
    return taken;
  }
}

/** Collects a message; sends one as room allows, and stops reading now and then. */
class End implements StreamUser {
  readonly head = new Head();
  readonly isHead = false;
  stream!: Http2Stream;
  readonly #random: Random;
  readonly chunks: Buffer[] = [];
  trailers = "";
  ended = false;
  paused = false;
  #body: Buffer | undefined;
  #trailersOut = "";
  #sent = 0;
  onComplete: () => void = () => {};

  constructor(random: Random) {
    this.#random = random;
  }
  send(body: Buffer, trailers: string): void {
    this.#body = body;
    this.#trailersOut = trailers;
    this.onRoom();
  }
  onRoom(): void {
    const body = this.#body;
    if (body === undefined) return;
    let room = true;
    while (room && this.#sent < body.length) {
      const next = Math.min(body.length, this.#sent + 1 + Math.floor(this.#random.next() * 30_000));
      room = this.stream.write(body, this.#sent, next);
      this.#sent = next;
    }
    if (this.#sent < body.length) return;
    this.#body = undefined;
    this.stream.end(this.#trailersOut);
  }
  onHead(ended: boolean): void {
    if (ended) this.onEnd(undefined);
  }
  onHeadTooLarge(): void {
    throw new Error("too large");
  }
  onData(chunk: Buffer, from: number, to: number): boolean {
    this.chunks.push(Buffer.from(chunk.subarray(from, to)));
    if (this.#random.next() < 0.1) {
      this.paused = true;
      this.stream.pause();
    }
    return true;
  }
  onEnd(trailers: Buffer | undefined): void {
    this.trailers = trailers === undefined ? "" : trailers.latin1Slice(0, trailers.length - 2);
    this.ended = true;
    this.onComplete();
  }
  onReset(code: number, how: string): void {
    throw new Error(`reset ${code} ${how}`);
  }
}

const observer = (accept: (stream: Http2Stream) => StreamUser): Http2Observer => ({
  nowMs: () => 0,
  accept,
  onStreamClosed() {},
  onSettings() {},
  onGoAway() {},
  onFailed(code, why) {
    throw new Error(`failed ${code} ${why}`);
  },
});

function run(seed: number): void {
  const random = seededRandom(seed);
  const toServer = new Pipe(random);
  const toClient = new Pipe(random);
  const ends: End[] = [];
  const client = new Http2Connection(
    toServer.socket,
    false,
    limits,
    observer(() => {
      throw new Error("a server opened a stream");
    }),
  );
  const server = new Http2Connection(
    toClient.socket,
    true,
    limits,
    observer((stream) => {
      const end = new End(random);
      ends.push(end);
      end.stream = stream;
      end.onComplete = () => {
        stream.sendHead(writeLocalBlock(server.encoder, 200, `x-path: ${end.head.target()}\r\n`), false);
        end.send(Buffer.concat(end.chunks), end.trailers);
      };
      return end;
    }),
  );
  const requests = Array.from({ length: 1 + Math.floor(random.next() * 8) }, (_, i) => {
    const end = new End(random);
    ends.push(end);
    const body = Buffer.alloc(random.next() < 0.3 ? 0 : Math.floor(random.next() * 150_000), i + 65);
    for (let at = 0; at < body.length; at += 1_009) body[at] = Math.floor(random.next() * 256);
    const trailers = random.next() < 0.5 ? "" : `x-sum: ${body.length}\r\ngrpc-status: 0\r\n`;
    const head = new Head();
    const text = Buffer.from(
      `POST /${i} HTTP/1.1\r\nhost: a\r\nx-long: ${"y".repeat(Math.floor(random.next() * 40_000))}\r\n\r\n`,
    );
    expect(scanRequestHead(head, text, 0, text.length)).toBe(text.length);
    const pseudo = { method: "POST", scheme: "http", authority: "a", path: `/${i}` };
    end.stream = client.open(end);
    end.stream.sendHead(writeRequestBlock(client.encoder, pseudo, head, newEdits()), false);
    end.send(body, trailers);
    return { end, body, trailers, path: `/${i}` };
  });

  for (let steps = 0; requests.some(({ end }) => !end.ended); steps++) {
    if (steps > 200_000) throw new Error("it does not come to an end");
    for (const [pipe, to, from] of [
      [toServer, server, client],
      [toClient, client, server],
    ] as const) {
      if (pipe.bytes.length > 0 && random.next() < 0.7) to.onData(pipe.take(random));
      if (pipe.blocked && random.next() < 0.5) {
        pipe.blocked = false;
        from.onDrain();
      }
    }
    for (const end of ends)
      if (end.paused && random.next() < 0.2) {
        end.paused = false;
        end.stream.resume();
      }
    // Otherwise done at the end of the loop's turn.
    if (random.next() < 0.5) client.output.flush();
    if (random.next() < 0.5) server.output.flush();
  }
  for (const { end, body, trailers, path } of requests) {
    expect(end.head.get("x-path")).toBe(path);
    expect(Buffer.concat(end.chunks).equals(body)).toBe(true);
    expect(end.trailers).toBe(trailers);
  }
  expect(client.streams.size).toBe(0);
}

test("messages arrive whole through 60 unruly pipes", () => {
  for (let seed = 1; seed <= 60; seed++)
    try {
      run(seed);
    } catch (cause) {
      throw new Error(`seed ${seed}: ${cause}`, { cause });
    }
});

/** Says what it got; never wants anything else. */
function echo(stream: Http2Stream, encoder: () => Http2Connection): StreamUser {
  let over = false;
  return {
    head: new Head(),
    isHead: false,
    onHead(ended) {
      stream.sendHead(writeLocalBlock(encoder().encoder, 200, ""), false);
      if (ended) stream.end("");
    },
    onHeadTooLarge: () => stream.reset(0),
    onData(chunk, from, to) {
      if (!stream.write(chunk, from, to)) stream.pause();
      return true;
    },
    onEnd: () => stream.end("x-end: 1\r\n"),
    onRoom: () => stream.resume(),
    onReset() {
      expect(over).toBe(false);
      over = true;
    },
  };
}

test("damaged frames end streams or the connection, and never throw", () => {
  for (let seed = 1; seed <= 400; seed++) {
    const random = seededRandom(seed);
    const pick = (count: number): number => Math.floor(random.next() * count);
    const pipe = new Pipe(random);
    let failed = 0;
    const server: Http2Connection = new Http2Connection(pipe.socket, true, limits, {
      ...observer((stream) => echo(stream, () => server)),
      onFailed() {
        failed++;
      },
    });
    const frames: Buffer[] = [hello];
    for (let i = 0, id = 1; i < 30; i++, id += pick(2) * 2)
      frames.push(
        [
          () => headers(id, [...getFields, ["x", "y".repeat(pick(50))]], pick(64)),
          () => data(id, Buffer.alloc(pick(300)), pick(16)),
          () => frame(pick(12), pick(256), pick(8), Buffer.alloc(pick(20), pick(256))),
          () => frame(frameType.windowUpdate, 0, id, number32(pick(100_000))),
          () => frame(frameType.rstStream, 0, id, number32(pick(14))),
        ][pick(5)]!(),
      );
    const bytes = Buffer.concat(frames);
    for (let flips = pick(6); flips > 0; flips--)
      bytes[hello.length + pick(bytes.length - hello.length)]! ^= 1 << pick(8);
    try {
      for (let at = 0; at < bytes.length; ) {
        const next = Math.min(bytes.length, at + 1 + pick(200));
        server.onData(Buffer.from(bytes.subarray(at, next)));
        at = next;
        if (pipe.blocked && random.next() < 0.5) {
          pipe.blocked = false;
          server.onDrain();
        }
      }
      server.closed();
      expect(failed).toBeLessThanOrEqual(1);
      expect(server.streams.size).toBe(0);
    } catch (cause) {
      throw new Error(`seed ${seed}: ${cause}`, { cause });
    }
  }
});
