// A gRPC service and its client from @grpc/grpc-js, the foreign peers of the gRPC tests. Nothing at run time imports it.

import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  Client,
  type ClientDuplexStream,
  credentials,
  type Metadata,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { HttpProtocolOptionsSchema } from "#gen/xds/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { realClock } from "../kernel/clock.ts";
import { pack } from "./fixture.ts";

const same = (bytes: Buffer): Buffer => bytes;
const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
  path: `/test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});
const service = {
  unary: method("Unary", false, false),
  collect: method("Collect", true, false),
  repeat: method("Repeat", false, true),
  chat: method("Chat", true, true),
  fail: method("Fail", false, false),
  hang: method("Hang", false, false),
} satisfies ServiceDefinition;

const messageBytesMax = 64 * 1024 * 1024;
const options = { "grpc.max_receive_message_length": messageBytesMax, "grpc.max_send_message_length": messageBytesMax };

export interface EchoServer {
  port: number;
  /** Calls that have begun, and that were given up by their client. */
  calls: number;
  cancelled: number;
  /** The next calls are answered with this status. */
  failures: { code: status; count: number };
  stop(): void;
}

export async function startEcho(host = "127.0.0.1"): Promise<EchoServer> {
  const server = new Server(options);
  const echo: EchoServer = {
    port: 0,
    calls: 0,
    cancelled: 0,
    failures: { code: status.UNAVAILABLE, count: 0 },
    stop: () => server.forceShutdown(),
  };
  server.addService(service, {
    unary(
      call: { request: Buffer; metadata: Metadata; sendMetadata(m: Metadata): void },
      done: (error: unknown, value?: Buffer, trailers?: Metadata) => void,
    ) {
      echo.calls++;
      const { failures } = echo;
      if (failures.count > 0) {
        failures.count--;
        done({ code: failures.code, details: "as told" });
        return;
      }
      const trailers = call.metadata.clone();
      trailers.set("echo-size", String(call.request.length));
      done(null, call.request, trailers);
    },
    collect(call: AsyncIterable<Buffer>, done: (error: unknown, value?: Buffer) => void) {
      void (async () => {
        let bytes = 0;
        for await (const message of call) bytes += message.length;
        done(null, Buffer.from(String(bytes)));
      })();
    },
    async repeat(call: {
      request: Buffer;
      write(b: Buffer): boolean;
      once(e: string, f: () => void): void;
      end(): void;
    }) {
      const [count, size] = String(call.request).split(" ").map(Number);
      for (let i = 0; i < count!; i++)
        if (!call.write(Buffer.alloc(size!, i))) await new Promise<void>((resolve) => call.once("drain", resolve));
      call.end();
    },
    chat(call: { on(e: string, f: (m: Buffer) => void): void; write(m: Buffer): void; end(): void }) {
      call.on("data", (message) => call.write(message));
      call.on("end", () => call.end());
    },
    fail(_call: unknown, done: (error: unknown) => void) {
      done({ code: status.FAILED_PRECONDITION, details: "50% of ünusual text" });
    },
    hang(call: { on(e: string, f: () => void): void }) {
      echo.calls++;
      call.on("cancelled", () => {
        echo.cancelled++;
      });
    },
  } as never);
  echo.port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${host}:0`, ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    );
  });
  return echo;
}

export class EchoClient extends Client {
  constructor(port: number, host = "127.0.0.1") {
    super(`${host}:${port}`, credentials.createInsecure(), options);
  }
  unary(
    name: "unary" | "fail" | "hang",
    message: Buffer,
    deadlineMs?: number,
  ): Promise<{ value: Buffer; trailers: Metadata }> {
    return new Promise((resolve, reject) => {
      let value: Buffer;
      const { path } = service[name];
      const call = this.makeUnaryRequest(path, same, same, message, this.#options(deadlineMs), (error, answer) => {
        if (error) reject(error);
        else value = answer!;
      });
      call.on("status", ({ code, metadata }) => {
        if (code === status.OK) resolve({ value, trailers: metadata });
      });
    });
  }
  #options(deadlineMs: number | undefined): { deadline?: number } {
    return deadlineMs === undefined ? {} : { deadline: realClock.now() + deadlineMs };
  }
  collect(messages: readonly Buffer[]): Promise<string> {
    return new Promise((resolve, reject) => {
      const call = this.makeClientStreamRequest(service.collect.path, same, same, (error, answer) => {
        if (error) reject(error);
        else resolve(String(answer));
      });
      for (const message of messages) call.write(message);
      call.end();
    });
  }
  repeat(count: number, size: number): AsyncIterable<Buffer> {
    return this.makeServerStreamRequest(service.repeat.path, same, same, Buffer.from(`${count} ${size}`));
  }
  chat(): ClientDuplexStream<Buffer, Buffer> {
    return this.makeBidiStreamRequest(service.chat.path, same, same);
  }
  /** Given up after `ms`. */
  hang(ms: number): Promise<ServiceError> {
    return new Promise((resolve) => {
      const call = this.makeUnaryRequest(service.hang.path, same, same, Buffer.from("x"), (error) => resolve(error!));
      realClock.after(ms, () => call.cancel());
    });
  }
}

/** A cluster's `typedExtensionProtocolOptions`. */
export const protocolOptions = (
  init: MessageInitShape<typeof HttpProtocolOptionsSchema>["upstreamProtocolOptions"],
) => ({
  typedExtensionProtocolOptions: {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(HttpProtocolOptionsSchema, {
      upstreamProtocolOptions: init!,
    }),
  },
});
export const http2Options = (init: { maxConcurrentStreams?: number } = {}) =>
  protocolOptions({
    case: "explicitHttpConfig",
    value: { protocolConfig: { case: "http2ProtocolOptions", value: init } },
  });
