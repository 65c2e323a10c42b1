// Compresses a body on its way with a zlib stream. What has come in is flushed out, so that slow answers arrive as they are made.

import { type BrotliCompress, constants, createBrotliCompress, createGzip, type Gzip } from "node:zlib";
import {
  type Brotli,
  Brotli_EncoderMode as Mode,
} from "#gen/xds/envoy/extensions/compression/brotli/compressor/v3/brotli_pb.js";
import type { Gzip as GzipMessage } from "#gen/xds/envoy/extensions/compression/gzip/compressor/v3/gzip_pb.js";
import { Gzip_CompressionStrategy as Strategy } from "#gen/xds/envoy/extensions/compression/gzip/compressor/v3/gzip_pb.js";
import type { BodySink, BodyTransform } from "../filter.ts";

type Compressor = Gzip | BrotliCompress;

const strategies: Record<Strategy, number> = {
  [Strategy.DEFAULT_STRATEGY]: constants.Z_DEFAULT_STRATEGY,
  [Strategy.FILTERED]: constants.Z_FILTERED,
  [Strategy.HUFFMAN_ONLY]: constants.Z_HUFFMAN_ONLY,
  [Strategy.RLE]: constants.Z_RLE,
  [Strategy.FIXED]: constants.Z_FIXED,
};

/** Envoy's defaults. */
export function gzipMaker(message: GzipMessage): () => Compressor {
  const options = {
    memLevel: message.memoryLevel ?? 5,
    level: message.compressionLevel || constants.Z_DEFAULT_COMPRESSION,
    strategy: strategies[message.compressionStrategy],
    windowBits: message.windowBits ?? 12,
    chunkSize: message.chunkSize ?? 4096,
  };
  return () => createGzip(options);
}

export function brotliMaker(message: Brotli): () => Compressor {
  const { params, chunkSize } = {
    chunkSize: message.chunkSize ?? 4096,
    params: {
      [constants.BROTLI_PARAM_QUALITY]: message.quality ?? 3,
      [constants.BROTLI_PARAM_MODE]:
        message.encoderMode === Mode.TEXT
          ? constants.BROTLI_MODE_TEXT
          : message.encoderMode === Mode.FONT
            ? constants.BROTLI_MODE_FONT
            : constants.BROTLI_MODE_GENERIC,
      [constants.BROTLI_PARAM_LGWIN]: message.windowBits ?? 18,
      [constants.BROTLI_PARAM_LGBLOCK]: message.inputBlockBits ?? 24,
      [constants.BROTLI_PARAM_DISABLE_LITERAL_CONTEXT_MODELING]: message.disableLiteralContextModeling ? 1 : 0,
    },
  };
  return () => createBrotliCompress({ params, chunkSize });
}

export class CompressedBody implements BodyTransform {
  readonly #stream: Compressor;
  #flushing = false;
  #unflushed = false;

  constructor(make: () => Compressor, sink: BodySink) {
    const stream = make();
    this.#stream = stream;
    stream.on("data", (chunk: Buffer) => {
      if (!sink.push(chunk)) stream.pause();
    });
    stream.on("drain", () => sink.onRoom());
    stream.on("end", () => sink.end());
    // Destroyed by `abort`, or out of memory: what has been sent stays a broken stream, which every decoder reports.
    stream.on("error", () => sink.end());
  }

  write(chunk: Buffer, from: number, to: number): boolean {
    const room = this.#stream.write(Buffer.from(chunk.subarray(from, to)));
    this.#unflushed = true;
    this.#flush();
    return room;
  }
  /** One flush at a time: what comes while the stream is busy goes out with the next one. */
  #flush(): void {
    if (this.#flushing || !this.#unflushed) return;
    this.#flushing = true;
    this.#unflushed = false;
    this.#stream.flush(() => {
      this.#flushing = false;
      this.#flush();
    });
  }
  end(): void {
    this.#unflushed = false;
    this.#stream.end();
  }
  onDrain(): void {
    this.#stream.resume();
  }
  abort(): void {
    this.#stream.removeAllListeners("end").removeAllListeners("data").removeAllListeners("drain");
    this.#stream.destroy();
  }
}
