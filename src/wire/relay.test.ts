// Two sockets joined: every byte arrives in order, a slow reader slows the writer, half-close passes through.
import { describe, expect, test } from "bun:test";
import { realClock } from "../kernel/clock.ts";
import { relay } from "./relay.ts";
import { nobody, type OwnedSocket, ownedHandlers, type SocketOwner, SocketWriter } from "./socket.ts";

interface Joined {
  port: number;
  backend: { port: number; stop(force: boolean): void };
  closed(): boolean;
  fromFirst(): number;
  stop(): void;
}

/** A listener whose connections are relayed to `backend`. */
function joined(backend: Joined["backend"]): Joined {
  let closed = false;
  let fromFirst = 0;
  const listener = Bun.listen<SocketOwner>({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen: true,
    socket: {
      ...ownedHandlers,
      open(first: OwnedSocket) {
        first.data = nobody;
        first.pause();
        const options = { hostname: "127.0.0.1", port: backend.port, socket: ownedHandlers, allowHalfOpen: true };
        const dialing: SocketOwner = {
          ...nobody,
          onOpen(second) {
            const writers = { first: new SocketWriter(first), second: new SocketWriter(second) };
            const observer = {
              onBytes(isFirst: boolean, count: number) {
                if (isFirst) fromFirst += count;
              },
              onRelayClosed() {
                closed = true;
              },
            };
            relay(first, second, writers, {}, observer);
          },
        };
        void Bun.connect({ ...options, data: dialing });
      },
    },
  });
  return {
    port: listener.port,
    backend,
    closed: () => closed,
    fromFirst: () => fromFirst,
    stop() {
      listener.stop(true);
      backend.stop(true);
    },
  };
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 2_000 && !condition(); i++) await realClock.sleep(2);
  expect(condition()).toBeTrue();
}

const mebibyte = 1024 * 1024;

describe("a relay", () => {
  test("holds a fast writer back to the pace of a reader that has stopped", async () => {
    let reader: Bun.Socket<undefined> | undefined;
    let read = 0;
    const backend = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          reader = socket;
          socket.pause();
        },
        data(_socket, chunk) {
          read += chunk.length;
        },
      },
    });
    const through = joined(backend);
    const block = Buffer.alloc(mebibyte, 7);
    const total = 64 * mebibyte;
    let sent = 0;
    const more = (socket: Bun.Socket<undefined>): void => {
      while (sent < total) {
        const written = socket.write(block, 0, Math.min(block.length, total - sent));
        if (written <= 0) return;
        sent += written;
      }
    };
    const client = await Bun.connect({ hostname: "127.0.0.1", port: through.port, socket: { data() {}, drain: more } });
    more(client);
    await until(() => reader !== undefined);
    await realClock.sleep(300);
    // The kernel's buffers on four sockets, and one read: far from everything.
    expect(through.fromFirst()).toBeLessThan(24 * mebibyte);
    expect(sent).toBeLessThan(48 * mebibyte);
    reader!.resume();
    await until(() => read === total);
    client.end();
    await until(through.closed);
    through.stop();
  });

  test("passes a half-close on and the answer back", async () => {
    let request = "";
    const backend = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      allowHalfOpen: true,
      socket: {
        data(_socket, chunk) {
          request += chunk.toString();
        },
        end(socket) {
          socket.end(`got ${request}`);
        },
      },
    } as Bun.TCPSocketListenOptions<undefined>);
    const through = joined(backend);
    let answer = "";
    let ended = false;
    const options = {
      hostname: "127.0.0.1",
      port: through.port,
      allowHalfOpen: true,
      socket: {
        data(_socket: unknown, chunk: Buffer) {
          answer += chunk.toString();
        },
        // Both directions have ended by then: Bun reports that as the close.
        close() {
          ended = true;
        },
      },
    };
    const client = await Bun.connect(options as Bun.TCPSocketConnectOptions<undefined>);
    client.write("hello");
    client.shutdown();
    await until(() => ended);
    expect(answer).toBe("got hello");
    await until(through.closed);
    through.stop();
  });

  test("ends for the client when the server breaks the connection, and the other way round", async () => {
    for (const breaker of ["server", "client"] as const) {
      let server: Bun.Socket<undefined> | undefined;
      let serverClosed = false;
      let clientClosed = false;
      const backend = Bun.listen({
        hostname: "127.0.0.1",
        port: 0,
        socket: {
          open(socket) {
            server = socket;
          },
          data() {},
          close() {
            serverClosed = true;
          },
        },
      });
      const through = joined(backend);
      const client = await Bun.connect({
        hostname: "127.0.0.1",
        port: through.port,
        socket: {
          data() {},
          close() {
            clientClosed = true;
          },
        },
      });
      await until(() => server !== undefined);
      if (breaker === "server") server!.terminate();
      else client.terminate();
      await until(() => serverClosed && clientClosed && through.closed());
      through.stop();
    }
  });
});
