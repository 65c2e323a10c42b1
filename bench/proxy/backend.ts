// The backend behind every subject: bare sockets, so that the load core is not the bottleneck. GET /large is 1 MiB, everything else
// 13 bytes; an upload is read to its end before it is answered. Takes one request at a time per connection, whose head comes in one piece.

import type { Socket } from "bun";

export const largeBytes = 1024 * 1024;
export const smallBody = "hello, world\n";

interface State {
  /** Bytes of an upload still to come. */
  uploadRest: number;
  /** Of the answer still to be written. */
  answer: Uint8Array;
}

const answerWith = (body: Uint8Array): Uint8Array =>
  Buffer.concat([
    Buffer.from(`HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${body.length}\r\n\r\n`),
    body,
  ]);
const none = new Uint8Array(0);
const small = answerWith(Buffer.from(smallBody));
const large = answerWith(Buffer.alloc(largeBytes, "x"));

function write(socket: Socket<State>, bytes: Uint8Array): void {
  const written = socket.write(bytes);
  socket.data.answer = written < bytes.length ? bytes.subarray(Math.max(0, written)) : none;
}

function receive(socket: Socket<State>, chunk: Buffer): void {
  const state = socket.data;
  if (state.uploadRest > 0) {
    state.uploadRest -= chunk.length;
    if (state.uploadRest <= 0) write(socket, small);
    return;
  }
  const isUpload = chunk[0] === 0x50;
  if (!isUpload) return write(socket, chunk.latin1Slice(4, 10) === "/large" ? large : small);
  const headEnd = chunk.indexOf("\r\n\r\n");
  const length = /content-length: *(\d+)/i.exec(chunk.latin1Slice(0, headEnd));
  state.uploadRest = headEnd + 4 + Number(length?.[1]) - chunk.length;
  if (!(state.uploadRest > 0)) write(socket, small);
}

export function serveBackend(port: number): void {
  Bun.listen<State>({
    hostname: "127.0.0.1",
    port,
    socket: {
      open(socket) {
        socket.data = { uploadRest: 0, answer: none };
      },
      data: receive,
      drain: (socket) => void (socket.data.answer.length > 0 && write(socket, socket.data.answer)),
    },
  });
}
