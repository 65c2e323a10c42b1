// A load generator that forgives nothing: an open loop of requests on kept and new connections, where a connection that ends without a
// whole answer is a failure, also one that was kept. For this room's tests.

import type { Socket } from "bun";
import { realClock } from "../kernel/clock.ts";
import { ChunkedScanner, responseFraming } from "../wire/http1_body.ts";
import { Head, scanResponseHead } from "../wire/http1_head.ts";

export interface StrictRequest {
  port: number;
  tls?: boolean;
  method?: string;
  path?: string;
  body?: string;
  /** On a connection of its own. */
  fresh?: boolean;
  headers?: string;
}

export interface StrictAnswer {
  status: number;
  bodyBytes: number;
  /** First bytes of the body. */
  text: string;
}

interface State {
  request: StrictRequest;
  /** Before the body. */
  head: Buffer;
  inBody: boolean;
  status: number;
  close: boolean;
  text: string;
  /** Undefined: chunked. */
  bytesLeft: number | undefined;
  readonly chunked: ChunkedScanner;
  bodyBytes: number;
  settle: { resolve(answer: StrictAnswer): void; reject(error: Error): void } | undefined;
  ready: (socket: ClientSocket) => void;
}
type ClientSocket = Socket<State>;

const textBytesMax = 256;

export class StrictClient {
  /** Kept connections by port, least recently used first. */
  readonly #idle = new Map<number, ClientSocket[]>();
  /** Subject serial numbers of certificates seen, for TLS. */
  readonly certificates = new Set<string>();
  connections = 0;

  /** Rejects when no whole answer came. A body that only the connection's end ends counts as broken. */
  async request(request: StrictRequest): Promise<StrictAnswer> {
    const idle = this.#idle.get(request.port);
    const kept = request.fresh ? undefined : idle?.shift();
    const socket = kept ?? (await this.#connect(request));
    const { promise, resolve, reject } = Promise.withResolvers<StrictAnswer>();
    Object.assign(socket.data, { request, head: Buffer.alloc(0), inBody: false, text: "", bodyBytes: 0 });
    socket.data.settle = { resolve, reject };
    const { method = "GET", path = "/", body = "", headers = "" } = request;
    const length = method === "GET" ? "" : `content-length: ${body.length}\r\n`;
    const text = `${method} ${path} HTTP/1.1\r\nhost: app.test\r\n${length}${headers}\r\n${body}`;
    if (socket.write(text) !== text.length) throw new Error("a request of this size was expected to fit");
    return promise;
  }

  #connect({ port, tls }: StrictRequest): Promise<ClientSocket> {
    const { promise, resolve, reject } = Promise.withResolvers<ClientSocket>();
    const data = { chunked: new ChunkedScanner(), settle: undefined, ready: resolve } as unknown as State;
    const lost = (socket: ClientSocket, why: string): void => {
      const idle = this.#idle.get(port)?.indexOf(socket) ?? -1;
      if (idle >= 0) this.#idle.get(port)!.splice(idle, 1);
      const { settle } = socket.data;
      socket.data.settle = undefined;
      settle?.reject(
        new Error(`${why} (${socket.data.inBody ? `${socket.data.bodyBytes} bytes of a body` : "no answer"})`),
      );
      reject(new Error(why));
    };
    this.connections++;
    Bun.connect<State>({
      hostname: "127.0.0.1",
      port,
      data,
      ...(tls && { tls: { rejectUnauthorized: false } }),
      socket: {
        open: (socket) => {
          if (!tls) socket.data.ready(socket);
        },
        handshake: (socket) => {
          this.certificates.add(socket.getPeerX509Certificate()?.serialNumber ?? "");
          socket.data.ready(socket);
        },
        data: (socket, chunk) => this.#onData(socket, chunk),
        end: (socket) => lost(socket, "connection closed"),
        close: (socket, error) => lost(socket, error ? `connection lost: ${error.message}` : "connection lost"),
        error: (socket, error) => lost(socket, error.message),
        connectError: (socket, error) => lost(socket, `not connected: ${error.message}`),
      },
    }).catch(reject);
    return promise;
  }

  #onData(socket: ClientSocket, chunk: Buffer): void {
    const { data } = socket;
    const body = data.inBody ? chunk : readHead(data, chunk);
    const done = body === undefined ? false : readBody(data, body);
    if (done === false) return;
    const { settle, request, status, text, bodyBytes } = data;
    data.settle = undefined;
    if (done === "broken" || settle === undefined) {
      settle?.reject(new Error("not one whole answer, or more than that"));
      socket.terminate();
      return;
    }
    if (data.close || request.fresh) socket.end();
    else {
      if (!this.#idle.has(request.port)) this.#idle.set(request.port, []);
      this.#idle.get(request.port)!.push(socket);
    }
    settle.resolve({ status, bodyBytes, text });
  }

  close(): void {
    for (const sockets of this.#idle.values()) for (const socket of sockets.splice(0)) socket.terminate();
  }
}

/** What of the chunk is body, once the head is complete. */
function readHead(data: State, chunk: Buffer): Buffer | undefined {
  data.head = Buffer.concat([data.head, chunk]);
  const head = new Head();
  const end = scanResponseHead(head, data.head, 0, data.head.length);
  if (end === 0) return undefined;
  const framing = end < 0 ? "close" : responseFraming(head, false);
  data.inBody = true;
  data.status = head.status;
  data.close = framing === "close" || !head.keepAlive;
  data.bytesLeft =
    framing === "chunked" ? undefined : framing === "length" ? head.contentLength : framing === "none" ? 0 : -1;
  data.chunked.reset();
  return data.head.subarray(Math.max(end, 0));
}

function readBody(data: State, chunk: Buffer): boolean | "broken" {
  if (data.text.length < textBytesMax) data.text += chunk.toString("latin1", 0, textBytesMax);
  if (data.bytesLeft === undefined) {
    const to = data.chunked.scan(chunk, 0, chunk.length, false);
    data.bodyBytes = data.chunked.payloadBytes;
    return to < chunk.length ? "broken" : data.chunked.done;
  }
  data.bytesLeft -= chunk.length;
  data.bodyBytes += chunk.length;
  return data.bytesLeft < 0 ? "broken" : data.bytesLeft === 0;
}

export interface Outcome {
  sent: number;
  /** By status. */
  statuses: Record<number, number>;
  /** What went wrong, with how often. */
  failures: Record<string, number>;
  latenciesMs: number[];
}

/** Sends `perSecond` requests a second, whatever the answers do, until `stop`, which waits for the last answer. */
export function openLoop(
  client: StrictClient,
  perSecond: number,
  next: (index: number) => StrictRequest & { expectBytes?: number },
): { stop(): Promise<Outcome>; readonly outcome: Outcome } {
  const outcome: Outcome = { sent: 0, statuses: {}, failures: {}, latenciesMs: [] };
  const underway = new Set<Promise<void>>();
  const fail = (what: string): void => {
    outcome.failures[what] = (outcome.failures[what] ?? 0) + 1;
  };
  const one = async (request: StrictRequest & { expectBytes?: number }): Promise<void> => {
    const startMs = realClock.monotonicMs();
    try {
      const { status, bodyBytes, text } = await client.request(request);
      outcome.statuses[status] = (outcome.statuses[status] ?? 0) + 1;
      if (status !== 200) fail(`${request.method ?? "GET"} ${status} ${text.slice(0, 90)}`);
      else if (request.expectBytes !== undefined && bodyBytes !== request.expectBytes) fail(`${bodyBytes} bytes`);
    } catch (error) {
      fail(`${request.method ?? "GET"} ${(error as Error).message}`);
    }
    outcome.latenciesMs.push(realClock.monotonicMs() - startMs);
  };
  const startMs = realClock.monotonicMs();
  const cancel = realClock.every(5, () => {
    const due = ((realClock.monotonicMs() - startMs) * perSecond) / 1_000;
    while (outcome.sent < due) {
      const sending = one(next(outcome.sent++)).finally(() => underway.delete(sending));
      underway.add(sending);
    }
  });
  return {
    outcome,
    async stop() {
      cancel();
      await Promise.all(underway);
      return outcome;
    },
  };
}
