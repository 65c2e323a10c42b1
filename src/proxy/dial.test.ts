// Dialling pods from the address that the kernel lets past the proxy: ports chosen here, taken ones passed over.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { TCPSocketListener } from "bun";
import { realClock } from "../kernel/clock.ts";
import { Dial } from "./dial.ts";
import { PodSource } from "./pod_source.ts";

const from = "127.0.0.9";
let server: TCPSocketListener<unknown>;
const seen: { address: string; port: number }[] = [];
beforeAll(() => {
  server = Bun.listen<unknown>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: ({ remoteAddress: address, remotePort: port }) => void seen.push({ address, port }),
      data() {},
    },
  });
});
afterAll(() => server.stop(true));

/** "connected", or why not. */
function dial(port: number, source: PodSource): Promise<string> {
  const runtime = { clock: realClock, podSource: () => source };
  const transport = { host: "127.0.0.1", port, tls: undefined, connectTarget: undefined };
  return new Promise((resolve) => {
    new Dial(transport, 1_000, "", runtime, {
      onDialed: () => resolve("connected"),
      onDialFailed: (reason) => resolve(reason),
    });
  });
}

test("a connection comes from the given address, each from the next port; a port that is listened on is passed over", async () => {
  const source = new PodSource(from, 0.5);
  expect(await dial(server.port, source)).toBe("connected");
  const first = seen.at(-1)!;
  expect(first.address).toBe(from);
  const taken = Bun.listen({ hostname: from, port: first.port + 1, socket: { data() {} } });
  expect(await dial(server.port, source)).toBe("connected");
  expect(seen.at(-1)).toEqual({ address: from, port: first.port + 2 });
  taken.stop(true);
});

test("the last port is followed by the first", () => {
  const source = new PodSource(from, 0.999_999);
  const ports = Array.from({ length: 3 }, () => source.nextPort());
  expect(ports.every((port) => port >= 32_768 && port <= 65_535)).toBe(true);
  expect(new Set(ports).size).toBe(3);
});

test("a refused connection fails at once, not after trying other ports", async () => {
  const unused = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = unused;
  unused.stop(true);
  const source = new PodSource(from, 0.25);
  const before = source.nextPort();
  expect(await dial(port, source)).not.toBe("connected");
  expect(source.nextPort()).toBe(before + 2);
});
