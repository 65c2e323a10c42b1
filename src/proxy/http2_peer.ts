// A peer of the proxy that says what a test wants, frame by frame, as client or as server. Nothing at run time imports it.

import type { ClientHttp2Session, IncomingHttpHeaders } from "node:http2";
import { FrameCollector, settings } from "../wire/http2_fixture.ts";
import { frameType, preface } from "../wire/http2_frames.ts";

export interface RawPeer extends FrameCollector {
  closed: boolean;
  write(...parts: Uint8Array[]): void;
  end(): void;
}
/** A client that says what it is told to, frame by frame. */
export async function peer(port: number, ...first: Uint8Array[]): Promise<RawPeer> {
  const collector = new FrameCollector() as RawPeer;
  collector.closed = false;
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data(_socket, chunk) {
        collector.push(Buffer.from(chunk));
      },
      end(ended) {
        collector.closed = true;
        ended.end();
      },
      close() {
        collector.closed = true;
      },
    },
  });
  collector.write = (...parts) => void socket.write(Buffer.concat(parts));
  collector.end = () => void socket.terminate();
  if (first.length > 0) collector.write(...first);
  return collector;
}
/** A server that answers each request head with frames by hand. */
export async function handServer(
  onHead: (streamId: number, write: (...parts: Uint8Array[]) => void) => void,
): Promise<{ port: number; stop(): void }> {
  const listening = Bun.listen<{ collector: FrameCollector; skip: number; seen: number }>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        socket.data = { collector: new FrameCollector(), skip: preface.length, seen: 0 };
        socket.write(settings());
      },
      data(socket, chunk) {
        const peer = socket.data;
        const skipped = Math.min(peer.skip, chunk.length);
        peer.skip -= skipped;
        peer.collector.push(Buffer.from(chunk.subarray(skipped)));
        const heads = peer.collector.of(frameType.headers);
        for (; peer.seen < heads.length; peer.seen++)
          onHead(heads[peer.seen]!.streamId, (...parts) => void socket.write(Buffer.concat(parts)));
      },
    },
  });
  return { port: listening.port, stop: () => listening.stop(true) };
}

/** A whole answer by node:http2. */
export function ask(
  session: ClientHttp2Session,
  head: Record<string, string>,
  body?: Buffer,
): Promise<{ status: number; head: IncomingHttpHeaders; body: Buffer; trailers: IncomingHttpHeaders }> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":path": "/", ...head }, { endStream: body === undefined });
    const chunks: Buffer[] = [];
    let answer: IncomingHttpHeaders = {};
    let trailers: IncomingHttpHeaders = {};
    stream.on("response", (fields) => {
      answer = fields;
    });
    stream.on("trailers", (fields) => {
      trailers = fields;
    });
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", reject);
    stream.on("end", () =>
      resolve({ status: Number(answer[":status"]), head: answer, body: Buffer.concat(chunks), trailers }),
    );
    if (body) stream.end(body);
  });
}
