// Asks the machine's resolvers for names outside the cluster. Only those known to answer are waited for.

import type { Clock } from "../kernel/clock.ts";
import type { Random } from "../kernel/random.ts";
import { encodeQuery, typeNumbers } from "./dns-codec.ts";

/** Resolvers give up after 5 s; one that takes this long is of no use. */
const answerTimeoutMs = 1_500;
/** A silent resolver is tried again in the background this often at most; meanwhile questions are refused at once. */
const retryAfterMs = 10_000;
/** Questions under way; more are refused. */
const pendingMax = 512;

export interface Forwarder {
  /** Resolves when every resolver was tried once. */
  readonly started: Promise<void>;
  /** The answer to `query` (a whole message), with the query's id; undefined: nobody answered. */
  ask(query: Uint8Array): Promise<Uint8Array | undefined>;
  close(): void;
}

interface Pending {
  id: number;
  resolve: (answer: Uint8Array | undefined) => void;
}

export function createForwarder(
  upstreams: readonly string[],
  deps: { clock: Clock; random: Random; port?: number },
): Forwarder {
  const { clock, random, port = 53 } = deps;
  const answering = new Set<string>();
  const triedAtMs = new Map<string, number>();
  const pending = new Map<string, Pending>();
  let socket: Promise<Bun.udp.Socket<"buffer">> | undefined;

  const open = () =>
    Bun.udpSocket({
      binaryType: "buffer",
      socket: {
        data: (_socket, message, fromPort, from) => {
          if (message.length < 12) return;
          // Address, port and a random id have to match: a forged answer has to guess all of them.
          const key = `${from}:${fromPort}/${message.readUInt16BE(0)}`;
          const found = pending.get(key);
          if (found === undefined) return;
          pending.delete(key);
          const answer = Uint8Array.from(message);
          new DataView(answer.buffer).setUint16(0, found.id);
          found.resolve(answer);
        },
        error: () => {},
      },
    });

  const askOne = async (upstream: string, query: Uint8Array): Promise<Uint8Array | undefined> => {
    socket ??= open();
    const opened = await socket;
    let id = random.below(65_536);
    while (pending.has(`${upstream}:${port}/${id}`)) id = random.below(65_536);
    const message = Uint8Array.from(query);
    const view = new DataView(message.buffer);
    const original = view.getUint16(0);
    view.setUint16(0, id);
    const key = `${upstream}:${port}/${id}`;
    const { promise, resolve } = Promise.withResolvers<Uint8Array | undefined>();
    pending.set(key, { id: original, resolve });
    const cancel = clock.after(answerTimeoutMs, () => resolve(undefined));
    try {
      if (!opened.send(message, port, upstream)) return undefined;
      return await promise;
    } catch {
      return undefined; // no route: the usual case inside an isolated node
    } finally {
      cancel();
      pending.delete(key);
    }
  };

  /** Finds out whether a resolver answers at all, by asking for the root's name servers. */
  const tryOut = async (upstream: string) => {
    triedAtMs.set(upstream, clock.now());
    if ((await askOne(upstream, encodeQuery(0, "", typeNumbers.NS))) !== undefined) answering.add(upstream);
  };
  const started = Promise.all(upstreams.map(tryOut)).then(() => {});

  return {
    started,
    async ask(query) {
      for (const upstream of upstreams) {
        if (pending.size >= pendingMax) return undefined;
        if (!answering.has(upstream)) {
          if (clock.now() - triedAtMs.get(upstream)! >= retryAfterMs) void tryOut(upstream);
          continue;
        }
        const answer = await askOne(upstream, query);
        if (answer !== undefined) return answer;
        answering.delete(upstream);
        triedAtMs.set(upstream, clock.now());
      }
      return undefined;
    },
    close() {
      void socket?.then((opened) => opened.close());
      for (const { resolve } of pending.values()) resolve(undefined);
      pending.clear();
    },
  };
}
