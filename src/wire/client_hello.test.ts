// ClientHellos as real clients write them, cut and damaged.
import { describe, expect, test } from "bun:test";
import { connect } from "node:tls";
import { seededRandom } from "../kernel/random.ts";
import { sniffClientHello } from "./client_hello.ts";

/** What a TLS client sends first. */
async function helloOf(options: { servername?: string; ALPNProtocols?: string[] }): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, chunk) {
        resolve(Buffer.from(chunk));
        socket.terminate();
      },
    },
  });
  const client = connect({ host: "127.0.0.1", port: server.port, ...options });
  client.on("error", () => {});
  const hello = await promise;
  client.destroy();
  server.stop(true);
  return hello;
}

/** The same handshake message in records of at most `size` bytes (RFC 8446 §5.1 allows it). */
function refragment(hello: Buffer, size: number): Buffer {
  const message = hello.subarray(5, 5 + hello.readUInt16BE(3));
  const records: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size);
    records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part);
  }
  return Buffer.concat(records);
}

describe("a ClientHello", () => {
  test("tells server name and protocols", async () => {
    const hello = await helloOf({ servername: "Video.Example", ALPNProtocols: ["h2", "http/1.1"] });
    expect(sniffClientHello(hello)).toEqual({ serverName: "video.example", alpn: ["h2", "http/1.1"] });
    for (const size of [1, 7, 100]) {
      expect(sniffClientHello(refragment(hello, size))).toEqual({
        serverName: "video.example",
        alpn: ["h2", "http/1.1"],
      });
    }
  });
  test("without extensions of ours has an empty name", async () => {
    expect(sniffClientHello(await helloOf({}))).toEqual({ serverName: "", alpn: [] });
  });
  test("is waited for until its last byte", async () => {
    const hello = await helloOf({ servername: "a.example" });
    for (let cut = 0; cut < hello.length; cut++)
      expect({ cut, result: sniffClientHello(hello.subarray(0, cut)) }).toEqual({ cut, result: "more" });
  });
  test("that is damaged never throws, and plain text is told at its first byte", async () => {
    const hello = await helloOf({ servername: "a.example", ALPNProtocols: ["http/1.1"] });
    for (let seed = 0; seed < 5_000; seed++) {
      const random = seededRandom(seed);
      const damaged = Buffer.from(hello);
      for (let i = 1 + random.below(4); i > 0; i--) damaged[random.below(damaged.length)] = random.below(256);
      const result = sniffClientHello(damaged.subarray(0, 1 + random.below(damaged.length)));
      if (typeof result === "object") expect(typeof result.serverName).toBe("string");
    }
    expect(sniffClientHello(Buffer.from("G"))).toBeUndefined();
    expect(sniffClientHello(Buffer.from([22, 3, 1, 0, 0]))).toBeUndefined();
  });
});
