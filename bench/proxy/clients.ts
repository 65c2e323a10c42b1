// Our own clients, on bare sockets: requests on a fixed schedule (open loop), and connections that stay idle.

import type { Socket } from "bun";
import { realClock } from "../../src/kernel/clock.ts";
import { smallBody } from "./backend.ts";
import type { Beat } from "./metronome.ts";

const request = Buffer.from("GET /small HTTP/1.1\r\nhost: bench.test\r\n\r\n");
const bodyEnd = Buffer.from(smallBody.slice(-2));
const openMaxMs = 10_000;

/** The last bytes of the body were in this chunk: a head alone ends differently. */
const endsAnswer = (chunk: Uint8Array): boolean => chunk.at(-2) === bodyEnd[0] && chunk.at(-1) === bodyEnd[1];

interface Pending {
  /** When the request under way ought to have been sent; NaN: none is. */
  intendedMs: number;
}

const nowMs = (): number => performance.timeOrigin + performance.now();
/** Until the thread runs. */
const headStartMs = 200;
/** After the last request, for answers that are late. */
const patienceMs = 3_000;

export interface OpenLoop {
  requestsPerSecond: number;
  seconds: number;
  /** Requests wait for a free one; the wait counts. */
  connections: number;
}

/** Latencies in milliseconds, ascending, counted from when each request was due. Throws when one stays without an answer. */
export async function openLoop(
  port: number,
  { requestsPerSecond, seconds, connections }: OpenLoop,
): Promise<Float64Array> {
  const ticks = Math.round(requestsPerSecond * seconds);
  const latenciesMs = new Float64Array(ticks);
  const due: number[] = [];
  const free: Socket<Pending>[] = [];
  const done = Promise.withResolvers<void>();
  let answered = 0;
  const send = (socket: Socket<Pending>, intendedMs: number): void => {
    socket.data.intendedMs = intendedMs;
    socket.write(request);
  };
  const sockets = await openAll(port, connections, {
    data(socket, chunk) {
      if (!endsAnswer(chunk)) return;
      latenciesMs[answered++] = nowMs() - socket.data.intendedMs;
      if (answered === ticks) done.resolve();
      const next = due.shift();
      if (next === undefined) free.push(socket);
      else send(socket, next);
    },
    close: () => done.reject(new Error("a connection was closed under the open-loop load")),
  });
  free.push(...sockets);
  const metronome = new Worker(new URL("./metronome.ts", import.meta.url));
  const periodMs = 1000 / requestsPerSecond;
  const startMs = nowMs() + headStartMs;
  metronome.onmessage = ({ data: i }) => {
    const socket = free.pop();
    if (socket) send(socket, startMs + i * periodMs);
    else due.push(startMs + i * periodMs);
  };
  metronome.postMessage({ startMs, periodMs, beats: ticks } satisfies Beat);
  const cancel = realClock.after(headStartMs + seconds * 1000 + patienceMs, () =>
    done.reject(new Error(`${ticks - answered} of ${ticks} requests got no answer`)),
  );
  try {
    await done.promise;
  } finally {
    cancel();
    metronome.terminate();
    for (const socket of sockets) socket.terminate();
  }
  return latenciesMs.sort();
}

interface Handlers {
  data(socket: Socket<Pending>, chunk: Buffer): void;
  close(): void;
}

const openAll = (port: number, count: number, handlers: Handlers): Promise<Socket<Pending>[]> =>
  Promise.all(
    Array.from({ length: count }, () =>
      Bun.connect<Pending>({ hostname: "127.0.0.1", port, data: { intendedMs: Number.NaN }, socket: handlers }),
    ),
  );

/** Connections that have made one request each and then say nothing more. */
export interface IdleConnections {
  close(): void;
}

const openAtOnce = 100;

export async function openIdle(port: number, count: number): Promise<IdleConnections> {
  const sockets: Socket<Pending>[] = [];
  let answered = 0;
  let lost = 0;
  const handlers: Handlers = {
    data: (_socket, chunk) => void (endsAnswer(chunk) && answered++),
    close: () => void lost++,
  };
  const deadlineMs = realClock.monotonicMs() + openMaxMs;
  while (sockets.length < count) {
    const batch = await openAll(port, Math.min(openAtOnce, count - sockets.length), handlers);
    sockets.push(...batch);
    for (const socket of batch) socket.write(request);
    while (answered < sockets.length) {
      if (lost > 0 || realClock.monotonicMs() > deadlineMs)
        throw new Error(`of ${count} idle connections ${answered} were answered and ${lost} lost`);
      await realClock.sleep(1);
    }
  }
  return { close: () => sockets.forEach((socket) => void socket.terminate()) };
}
