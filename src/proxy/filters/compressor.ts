// Compresses answers (envoy.filters.http.compressor) with gzip or brotli where the client takes them and the content gains by it.

import { BrotliSchema } from "#gen/xds/envoy/extensions/compression/brotli/compressor/v3/brotli_pb.js";
import { GzipSchema } from "#gen/xds/envoy/extensions/compression/gzip/compressor/v3/gzip_pb.js";
import {
  type Compressor,
  CompressorPerRouteSchema,
  CompressorSchema,
} from "#gen/xds/envoy/extensions/filters/http/compressor/v3/compressor_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { unpack } from "../compile/any.ts";
import { flagOf } from "../compile/fraction.ts";
import type { Filter, FilterFactory, FilterRequest, FilterResponse } from "../filter.ts";
import { chooseCoding, type OfferedCoding } from "./accept_encoding.ts";
import { brotliMaker, CompressedBody, gzipMaker } from "./compress_body.ts";

/** Envoy's default. */
const lengthMin = 30;

/** Envoy's list with its synonyms. */
const contentTypes = [
  "text/html",
  "text/plain",
  "text/css",
  "text/xml",
  "text/javascript",
  "text/x-javascript",
  "text/ecmascript",
  "application/javascript",
  "application/x-javascript",
  "application/ecmascript",
  "application/json",
  "application/x-json",
  "application/xml",
  "application/xhtml+xml",
  "image/svg+xml",
];

interface Settings {
  enabled: boolean;
  lengthMin: number;
  types: ReadonlySet<string>;
  avoidsEtags: boolean;
  removesAcceptEncoding: boolean;
}

interface Overrides {
  disabled: boolean;
  removesAcceptEncoding: boolean | undefined;
}

function compile(message: Compressor): Settings {
  const { responseDirectionConfig: response, requestDirectionConfig: request } = message;
  if (request !== undefined && flagOf(request.commonConfig?.enabled, false))
    throw new MeshbedError("COMPRESSOR_UNSUPPORTED", "compression of requests is not supported");
  // The fields outside response_direction_config are their older form.
  const common = response?.commonConfig;
  const types = common?.contentType.length ? common.contentType : message.contentType;
  return {
    enabled: flagOf(common?.enabled ?? message.runtimeEnabled, true),
    lengthMin: common?.minContentLength ?? message.contentLength ?? lengthMin,
    types: new Set((types.length > 0 ? types : contentTypes).map((type) => type.toLowerCase())),
    avoidsEtags: response?.disableOnEtagHeader ?? message.disableOnEtagHeader,
    removesAcceptEncoding: response?.removeAcceptEncodingHeader ?? message.removeAcceptEncodingHeader,
  };
}

function libraryOf(message: Compressor): { coding: string; make: ReturnType<typeof gzipMaker> } {
  const config = message.compressorLibrary?.typedConfig;
  const gzip = config && unpack(config, GzipSchema);
  if (gzip) return { coding: "gzip", make: gzipMaker(gzip) };
  const brotli = config && unpack(config, BrotliSchema);
  if (brotli) return { coding: "br", make: brotliMaker(brotli) };
  throw new MeshbedError("COMPRESSOR_UNSUPPORTED", `compressor library ${config?.typeUrl ?? "none"} is not supported`);
}

/** Whether the content itself may be compressed, whoever asks. */
export function isCompressible(
  settings: Omit<Settings, "enabled" | "removesAcceptEncoding">,
  answer: FilterResponse,
): boolean {
  const { framing, status } = answer;
  if (answer.header("content-encoding") !== undefined) return false;
  // A part of a content is a part of what is not compressed (RFC 9110 §14.4).
  if (status === 206 || answer.header("content-range") !== undefined) return false;
  const type = answer.header("content-type")?.replace(/;.*/, "").trim().toLowerCase();
  if (type === undefined || !settings.types.has(type)) return false;
  if (/(^|,)\s*no-transform\s*(,|$)/i.test(answer.header("cache-control") ?? "")) return false;
  if (settings.avoidsEtags && answer.header("etag") !== undefined) return false;
  const length = answer.header("content-length");
  return length === undefined ? framing === "chunked" || framing === "none" : Number(length) >= settings.lengthMin;
}

/** Filter state that all compressors of a chain share: what they offer, and what the client accepts. */
const state = "envoy.filters.http.compressor";

interface Negotiation {
  accepted: string | undefined;
  offers: OfferedCoding[];
}

class CompressorFilter implements Filter {
  readonly name: string;
  readonly #settings: Settings;
  readonly #offer: OfferedCoding;
  readonly #make: ReturnType<typeof gzipMaker>;

  constructor(name: string, config: Compressor) {
    this.name = name;
    this.#settings = compile(config);
    const { coding, make } = libraryOf(config);
    this.#offer = { coding, first: config.chooseFirst };
    this.#make = make;
  }

  onRequest(exchange: FilterRequest): "continue" {
    const overrides = exchange.settings(this.name) as Overrides | undefined;
    if (!this.#settings.enabled || overrides?.disabled) return "continue";
    let negotiation = exchange.filterState(state) as Negotiation | undefined;
    if (negotiation === undefined) {
      negotiation = { accepted: exchange.request.header("accept-encoding"), offers: [] };
      exchange.setFilterState(state, negotiation);
    }
    negotiation.offers.push(this.#offer);
    if (overrides?.removesAcceptEncoding ?? this.#settings.removesAcceptEncoding)
      exchange.removeRequestHeader("accept-encoding");
    return "continue";
  }

  onResponse(exchange: FilterRequest, response: FilterResponse): void {
    const negotiation = exchange.filterState(state) as Negotiation | undefined;
    if (!negotiation?.offers.includes(this.#offer) || response.framing === "local") return;
    if (!isCompressible(this.#settings, response)) return;
    const { coding } = this.#offer;
    const chosen = chooseCoding(negotiation.accepted, negotiation.offers) === coding;
    if (chosen && response.transformBody((sink) => new CompressedBody(this.#make, sink))) {
      response.removeHeader("content-length");
      response.addHeader(`content-encoding: ${coding}\r\n`);
      // A strong validator is one of other bytes than those that are sent now.
      if (!response.header("etag")?.startsWith("W/")) response.removeHeader("etag");
    }
    // Also where nothing was compressed: a cache must know that it might have been. One of the chain's compressors says so.
    if (negotiation.offers[0] === this.#offer) varyByEncoding(response);
  }
}

function varyByEncoding(response: FilterResponse): void {
  const vary = response.header("vary");
  if (vary !== undefined && /(^|,)\s*(accept-encoding|\*)\s*(,|$)/i.test(vary)) return;
  response.removeHeader("vary");
  response.addHeader(vary === undefined ? "vary: Accept-Encoding\r\n" : `vary: ${vary}, Accept-Encoding\r\n`);
}

export const compressorFactory: FilterFactory<typeof CompressorSchema, typeof CompressorPerRouteSchema> = {
  config: CompressorSchema,
  perRoute: CompressorPerRouteSchema,
  create: (name, config) => new CompressorFilter(name, config),
  settings: ({ override }): Overrides => ({
    disabled: override.case === "disabled" && override.value,
    removesAcceptEncoding:
      override.case === "overrides" ? override.value.responseDirectionConfig?.removeAcceptEncodingHeader : undefined,
  }),
};
