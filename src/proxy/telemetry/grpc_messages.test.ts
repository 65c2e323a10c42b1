// Counting gRPC messages in bodies that come in pieces.

import { expect, test } from "bun:test";
import { seededRandom } from "../../kernel/random.ts";
import { GrpcMessages } from "./grpc_messages.ts";

test("messages are counted however they are cut", () => {
  const seed = 5;
  const random = seededRandom(seed);
  const messages = new GrpcMessages();
  for (let round = 0; round < 300; round++) {
    const count = Math.floor(random.next() * 6);
    const parts = Array.from({ length: count }, () => {
      const length = random.next() < 0.3 ? 0 : Math.floor(random.next() * 400);
      const bytes = Buffer.alloc(5 + length, 1);
      bytes.writeUInt32BE(length, 1);
      return bytes;
    });
    const all = Buffer.concat(parts);
    messages.reset();
    for (let at = 0; at < all.length; ) {
      const next = Math.min(all.length, at + 1 + Math.floor(random.next() * 100));
      messages.see(all, at, next);
      at = next;
    }
    expect({ seed, round, count: messages.count }).toEqual({ seed, round, count });
  }
});
