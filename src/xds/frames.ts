// gRPC message framing (gRPC over HTTP/2, "Length-Prefixed-Message"): one flag byte, four length bytes, the message.

import { MeshbedError } from "../kernel/errors.ts";

/** A longer message ends the stream. */
export const messageSizeBytesMax = 64 * 1024 * 1024;
const headBytes = 5;

export function frame(message: Uint8Array): Buffer {
  const buffer = Buffer.allocUnsafe(headBytes + message.length);
  buffer[0] = 0;
  buffer.writeUInt32BE(message.length, 1);
  buffer.set(message, headBytes);
  return buffer;
}

/** Collects chunks into whole messages; holds at most one unfinished message. */
export function createDeframer(onMessage: (message: Uint8Array) => void): (chunk: Buffer) => void {
  let chunks: Buffer[] = [];
  let heldBytes = 0;
  let neededBytes = headBytes;
  return (chunk) => {
    chunks.push(chunk);
    heldBytes += chunk.length;
    if (heldBytes < neededBytes) return;
    let buffer = chunks.length === 1 ? chunk : Buffer.concat(chunks, heldBytes);
    neededBytes = headBytes;
    while (buffer.length >= headBytes) {
      if (buffer[0] !== 0) throw new MeshbedError("GRPC_COMPRESSED", "a compressed gRPC message was not asked for");
      const lengthBytes = buffer.readUInt32BE(1);
      if (lengthBytes > messageSizeBytesMax)
        throw new MeshbedError("GRPC_MESSAGE_TOO_LARGE", `a gRPC message of ${lengthBytes} bytes`);
      neededBytes = headBytes + lengthBytes;
      if (buffer.length < neededBytes) break;
      onMessage(buffer.subarray(headBytes, neededBytes));
      buffer = buffer.subarray(neededBytes);
      neededBytes = headBytes;
    }
    chunks = buffer.length === 0 ? [] : [buffer];
    heldBytes = buffer.length;
  };
}
