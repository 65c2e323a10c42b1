// One gRPC method of a service (a collector, an authorizer), over a kept HTTP/2 connection to an endpoint of a cluster. node:http2 is loaded by the first call.

import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from "node:http2";
import { Duplex } from "node:stream";
import { MeshbedError } from "../../kernel/errors.ts";
import { type OwnedSocket, type SocketOwner, SocketWriter } from "../../wire/socket.ts";
import { pick } from "../balancing/balance.ts";
import type { Runtime } from "../chain.ts";
import { Dial } from "../dial.ts";
import { callerFields } from "../telemetry/edges.ts";
import type { ClusterSlot, WorkloadIdentity } from "./cluster.ts";

export interface GrpcMethod {
  slot: ClusterSlot;
  authority: string;
  /** "/package.Service/Method" */
  path: string;
  metadata: Readonly<Record<string, string>>;
  timeoutMs: number;
}

interface Reply {
  status: string;
  reply: Buffer;
}

const replyBytesMax = 1024 * 1024;

export class GrpcClient {
  readonly #method: GrpcMethod;
  readonly #caller: () => WorkloadIdentity;
  readonly #runtime: Runtime;
  #session: Promise<ClientHttp2Session> | undefined;

  constructor(method: GrpcMethod, caller: () => WorkloadIdentity, runtime: Runtime) {
    this.#method = method;
    this.#caller = caller;
    this.#runtime = runtime;
  }

  /** The answer's message; empty without one. Rejects unless the service answers OK. */
  async call(message: Uint8Array): Promise<Buffer> {
    const { path, metadata, authority, timeoutMs } = this.#method;
    this.#session ??= this.#connect();
    try {
      const session = await this.#session;
      const stream = session.request({
        ":method": "POST",
        ":path": path,
        ":authority": authority,
        "content-type": "application/grpc",
        te: "trailers",
        ...metadata,
      });
      const { status, reply } = await this.#exchange(stream, message, timeoutMs);
      if (status !== "0") throw this.#failure(`it answered with gRPC status ${status}`);
      return reply;
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #exchange(stream: ClientHttp2Stream, message: Uint8Array, timeoutMs: number): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const cancel = this.#runtime.clock.after(timeoutMs, () => reject(this.#failure(`no answer in ${timeoutMs} ms`)));
      let status = "none";
      const chunks: Buffer[] = [];
      let bytes = 0;
      const see = (headers: IncomingHttpHeaders): void => {
        status = String(headers["grpc-status"] ?? status);
      };
      stream.on("response", see).on("trailers", see).on("error", reject);
      stream.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > replyBytesMax) reject(this.#failure(`its answer is above ${replyBytesMax} bytes`));
        else chunks.push(chunk);
      });
      stream.on("close", () => {
        cancel();
        // A prefix of five bytes, then the message.
        resolve({ status, reply: Buffer.concat(chunks).subarray(5) });
      });
      // Length-prefixed message: not compressed, four bytes of length.
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(message.length, 1);
      stream.end(Buffer.concat([prefix, message]));
    });
  }

  #connect(): Promise<ClientHttp2Session> {
    const opening = this.#open();
    const forget = (): void => {
      if (this.#session === opening) this.#session = undefined;
    };
    // An error of a call reaches the call's stream as well.
    opening.then((session) => session.on("error", forget).on("close", forget), forget);
    return opening;
  }

  #open(): Promise<ClientHttp2Session> {
    const { slot, authority } = this.#method;
    const { random } = this.#runtime;
    const cluster = slot.current;
    const endpoint = cluster && pick(slot, random, undefined);
    if (!cluster || !endpoint)
      return Promise.reject(this.#failure(cluster ? "it has no healthy endpoint" : "there is no such cluster"));
    const { transport } = endpoint;
    const caller = transport.connectTarget === undefined ? "" : callerFields(this.#caller());
    return new Promise((resolve, reject) => {
      new Dial(transport, cluster.connectTimeoutMs, caller, this.#runtime, {
        onDialFailed: (reason) => reject(this.#failure(reason)),
        onDialed: (socket, rest) => {
          const stream = new SocketStream(socket, rest);
          const { connect } = require("node:http2") as typeof import("node:http2");
          resolve(connect(`http://${authority}`, { createConnection: () => stream }));
        },
      });
    });
  }

  #failure(why: string): MeshbedError {
    return new MeshbedError("COLLECTOR_FAILED", `cluster ${this.#method.slot.name}, ${this.#method.path}: ${why}`);
  }

  close(): void {
    const session = this.#session;
    this.#session = undefined;
    session?.then(
      (open) => open.destroy(),
      () => {},
    );
  }
}

/** A dialled socket as the stream that node:http2 wants. */
class SocketStream extends Duplex implements SocketOwner {
  readonly #socket: OwnedSocket;
  readonly #writer: SocketWriter;
  #drained: (() => void) | undefined;

  constructor(socket: OwnedSocket, rest: Buffer | undefined) {
    super();
    this.#socket = socket;
    this.#writer = new SocketWriter(socket);
    socket.data = this;
    if (rest) this.push(rest);
  }

  override _read(): void {
    this.#socket.resume();
  }
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    if (this.#writer.write(chunk, 0, chunk.length, "kept")) done();
    else this.#drained = done;
  }
  override _final(done: () => void): void {
    this.#writer.end();
    done();
  }
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.terminate();
    done(error);
  }

  onData(chunk: Buffer): void {
    if (!this.push(Buffer.from(chunk))) this.#socket.pause();
  }
  onDrain(): void {
    if (!this.#writer.flush()) return;
    const done = this.#drained;
    this.#drained = undefined;
    done?.();
  }
  onEnd(): void {
    this.push(null);
  }
  onClose(): void {
    this.destroy();
  }
}
