// The ADS client (delta): one HTTP/2 connection, one stream per node id. Speaks gRPC itself: the library costs 40 ms at every start.

import http2 from "node:http2";
import type { Cancel, Clock } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { Random } from "../kernel/random.ts";
import { decodeDeltaResponse, deltaPath, encodeDeltaRequest } from "./codec.ts";
import { createDeframer, frame } from "./frames.ts";
import { createSharedDecoder, type Decoder } from "./shared_decoder.ts";
import { createSubscriber, type Subscriber } from "./subscribe.ts";
import type { XdsConnection } from "./types.ts";

/** PEM strings. */
export interface AdsTls {
  ca: string;
  cert: string;
  key: string;
}

const backoffBaseMs = 50;
const backoffMaxMs = 5_000;
/** A peer that vanished without a word is noticed after at most two of these. */
const pingPeriodMs = 5_000;
/** Streams of one process; a node holds far fewer pods. */
const streamsMax = 1_000;
/** Flow control: large enough that a full push needs no round trip. */
const windowSizeBytes = 4 * 1024 * 1024;

/** Full jitter over an exponential: between 50 ms × 2^n / 2 and 50 ms × 2^n, at most 5 s. */
export function backoffMs(attempt: number, random: Random): number {
  const ceilingMs = Math.min(backoffMaxMs, backoffBaseMs * 2 ** Math.min(attempt, 16));
  return ceilingMs / 2 + random.next() * (ceilingMs / 2);
}

/** Connects when the first node is opened. `address` is "host:port" of the control plane. */
export function connectAds(options: {
  address: string;
  tls: AdsTls;
  log: Log;
  clock: Clock;
  random: Random;
}): XdsConnection {
  const { address, log, clock, random } = options;
  const decoder = createSharedDecoder();
  const streams = new Set<AdsStream>();
  let session: http2.ClientHttp2Session | undefined;
  let cancelPing: Cancel | undefined;
  let closed = false;

  function connect(): http2.ClientHttp2Session {
    if (session !== undefined) return session;
    const fresh = http2.connect(`https://${address}`, {
      ca: options.tls.ca,
      cert: options.tls.cert,
      key: options.tls.key,
      settings: { initialWindowSize: windowSizeBytes, enablePush: false },
    });
    session = fresh;
    const forget = (): void => {
      if (session !== fresh) return;
      session = undefined;
      cancelPing?.();
      for (const stream of streams) stream.lost("connection closed");
    };
    fresh.on("error", (error) => {
      log.debug("xds connection failed", { address, error: messageOf(error) });
      forget();
      fresh.destroy();
    });
    fresh.on("goaway", forget);
    fresh.on("close", forget);
    fresh.on("connect", () => log.info("xds connected", { address }));
    cancelPing = watchPings(fresh, clock);
    return fresh;
  }

  return {
    open(nodeId, metadata = {}) {
      if (closed) throw new Error("the xds connection is closed");
      if (streams.size >= streamsMax) throw new Error(`more than ${streamsMax} xds streams`);
      const subscriber = createSubscriber({
        nodeId,
        metadata,
        log: log.with({ node: nodeId }),
        onClose: () => {
          streams.delete(stream);
          stream.close();
        },
      });
      const stream = createAdsStream({ subscriber, connect, decoder, log: log.with({ node: nodeId }), clock, random });
      streams.add(stream);
      stream.start();
      return subscriber;
    },
    close() {
      closed = true;
      for (const stream of streams) stream.close();
      streams.clear();
      cancelPing?.();
      session?.destroy();
      session = undefined;
    },
  };
}

/** Destroys the session when a ping stays unanswered for a whole period. */
function watchPings(session: http2.ClientHttp2Session, clock: Clock): Cancel {
  let unanswered = false;
  return clock.every(pingPeriodMs, () => {
    if (unanswered || session.destroyed) {
      session.destroy();
      return;
    }
    unanswered = true;
    session.ping((error) => {
      if (!error) unanswered = false;
    });
  });
}

interface AdsStream {
  start(): void;
  lost(reason: string): void;
  close(): void;
}

/** waiting → open → waiting …: one stream at a time, the next after a back-off. */
function createAdsStream(options: {
  subscriber: Subscriber;
  connect: () => http2.ClientHttp2Session;
  decoder: Decoder;
  log: Log;
  clock: Clock;
  random: Random;
}): AdsStream {
  const { subscriber, log, clock, random } = options;
  let stream: http2.ClientHttp2Stream | undefined;
  let cancelRetry: Cancel | undefined;
  let attempt = 0;
  let closed = false;

  function start(): void {
    cancelRetry = undefined;
    if (closed) return;
    let fresh: http2.ClientHttp2Stream;
    try {
      fresh = options.connect().request({
        ":method": "POST",
        ":path": deltaPath,
        "content-type": "application/grpc",
        te: "trailers",
        "user-agent": "meshbed",
      });
    } catch (error) {
      lost(messageOf(error));
      return;
    }
    stream = fresh;
    const lostHere = (reason: string) => {
      if (stream === fresh) lost(reason);
    };
    const deframe = createDeframer((message) => {
      attempt = 0;
      subscriber.receive(decodeDeltaResponse(message, options.decoder, subscriber.held));
    });
    fresh.on("data", (chunk: Buffer) => {
      if (stream !== fresh) return;
      try {
        deframe(chunk);
      } catch (error) {
        fresh.destroy();
        lostHere(messageOf(error));
      }
    });
    fresh.on("response", (headers) => {
      if (headers[":status"] !== 200) lostHere(`HTTP status ${headers[":status"]}`);
      else if (headers["grpc-status"] !== undefined) lostHere(grpcReason(headers));
    });
    fresh.on("trailers", (headers) => lostHere(grpcReason(headers)));
    fresh.on("error", (error) => lostHere(messageOf(error)));
    fresh.on("close", () => lostHere("stream closed"));
    subscriber.opened((request) => {
      if (stream === fresh && !fresh.destroyed) fresh.write(frame(encodeDeltaRequest(request)));
    });
  }

  function lost(reason: string): void {
    if (closed || cancelRetry !== undefined) return;
    stream = undefined;
    subscriber.lost();
    const delayMs = backoffMs(attempt++, random);
    log.debug("xds stream lost", { reason, retryMs: Math.round(delayMs) });
    cancelRetry = clock.after(delayMs, start);
  }

  return {
    start,
    lost,
    close() {
      closed = true;
      cancelRetry?.();
      subscriber.lost();
      stream?.close();
      stream = undefined;
    },
  };
}

const grpcReason = (headers: http2.IncomingHttpHeaders): string =>
  `grpc-status ${headers["grpc-status"] ?? "?"} ${headers["grpc-message"] ?? ""}`.trim();
