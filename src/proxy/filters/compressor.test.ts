// Compression: negotiation and eligibility as tables, bodies through a running proxy.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { brotliDecompressSync, createGunzip, gunzipSync } from "node:zlib";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { BrotliSchema } from "#gen/xds/envoy/extensions/compression/brotli/compressor/v3/brotli_pb.js";
import { GzipSchema } from "#gen/xds/envoy/extensions/compression/gzip/compressor/v3/gzip_pb.js";
import {
  CompressorPerRouteSchema,
  CompressorSchema,
} from "#gen/xds/envoy/extensions/filters/http/compressor/v3/compressor_pb.js";
import type { FilterResponse } from "../filter.ts";
import { pack, prefix, raw, toCluster, until } from "../fixture.ts";
import { chooseCoding } from "./accept_encoding.ts";
import { isCompressible } from "./compressor.ts";
import { FilterFixture, httpFilter } from "./fixture.ts";

describe("the coding", () => {
  const both = [
    { coding: "gzip", first: false },
    { coding: "br", first: false },
  ];
  const cases: [string | undefined, string | undefined][] = [
    [undefined, undefined],
    ["", undefined],
    ["gzip", "gzip"],
    ["br, gzip", "gzip"],
    ["gzip;q=0.5, br", "br"],
    ["GZIP ; q=0.5, br;q=0.4", "gzip"],
    ["gzip;q=0", undefined],
    ["*", "gzip"],
    ["gzip;q=0, *", "br"],
    ["*;q=0", undefined],
    ["identity, gzip;q=0.5", undefined],
    ["identity;q=0.1, br;q=0.2", "br"],
    ["gzip;q=2", undefined],
    ["deflate", undefined],
    ["xgzip", undefined],
  ];
  for (const [accepted, want] of cases)
    test(`for ${JSON.stringify(accepted)} is ${want ?? "none"}`, () =>
      expect(chooseCoding(accepted, both)).toBe(want as string));
  test("among equals is the one that is to come first", () => {
    expect(chooseCoding("gzip, br", [both[0]!, { coding: "br", first: true }])).toBe("br");
  });
});

describe("an answer", () => {
  const settings = { lengthMin: 30, types: new Set(["text/html"]), avoidsEtags: true };
  const good = { "content-type": "text/html; charset=utf-8", "content-length": "30" };
  const cases: [string, Record<string, string | undefined>, Partial<FilterResponse>, boolean][] = [
    ["of the right kind and length", {}, {}, true],
    ["that is too short", { "content-length": "29" }, {}, false],
    ["of unknown length in chunks", { "content-length": undefined }, { framing: "chunked" }, true],
    ["that ends with its connection", { "content-length": undefined }, { framing: "close" }, false],
    ["of another type", { "content-type": "video/mp4" }, {}, false],
    ["without a type", { "content-type": undefined }, {}, false],
    ["that is coded already", { "content-encoding": "br" }, {}, false],
    ["that must stay as it is", { "cache-control": "public, no-transform" }, {}, false],
    ["with an entity tag", { etag: '"x"' }, {}, false],
    ["that is a part", { "content-range": "bytes 0-1/2" }, { status: 206 }, false],
  ];
  for (const [name, fields, more, want] of cases)
    test(`${name} ${want ? "may" : "may not"} be compressed`, () => {
      const all: Record<string, string | undefined> = { ...good, ...fields };
      const answer = {
        status: 200,
        framing: "length",
        header: (field: string) => all[field],
        ...more,
      } as FilterResponse;
      expect(isCompressible(settings, answer)).toBe(want);
    });
});

describe("through a proxy", () => {
  const fixture = new FilterFixture();
  beforeAll(() => fixture.start());
  afterAll(() => fixture.stop());
  type Init = MessageInitShape<typeof CompressorSchema>;
  const gzip = { name: "gzip", typedConfig: pack(GzipSchema, {}) };
  const brotli = { name: "br", typedConfig: pack(BrotliSchema, {}) };
  const filters = (more: object = {}) => ({
    httpFilters: [gzip, brotli].map((compressorLibrary) =>
      httpFilter(compressorLibrary.name, CompressorSchema, { compressorLibrary, ...more } as Init),
    ),
  });
  const everything = [{ match: prefix("/"), action: toCluster("a") }];
  const page = "<p>the same again and again</p>".repeat(20_000);
  const html =
    (headers: Record<string, string> = {}) =>
    () =>
      new Response(page, { headers: { "content-type": "text/html", ...headers } });
  const ask = async (accepted: string, path = "/") => {
    const answer = await fetch(fixture.base + path, {
      headers: { "accept-encoding": accepted },
      decompress: false,
    } as RequestInit);
    const { headers } = answer;
    const field = (name: string) => headers.get(name);
    return { bytes: Buffer.from(await answer.arrayBuffer()), coding: field("content-encoding"), field };
  };

  test("a body arrives whole in the coding that was asked for, without length and strong entity tag", async () => {
    await fixture.serve(filters(), everything);
    fixture.backend.answer = html({ etag: '"strong"' });
    const zipped = await ask("gzip");
    expect([zipped.coding, zipped.field("vary"), zipped.field("etag"), zipped.field("content-length")]).toEqual([
      "gzip",
      "Accept-Encoding",
      null,
      null,
    ]);
    expect(gunzipSync(zipped.bytes).toString() === page).toBe(true);
    expect(zipped.bytes.length).toBeLessThan(page.length / 20);
    fixture.backend.answer = html({ etag: 'W/"weak"', vary: "Origin" });
    const small = await ask("gzip;q=0.1, br");
    expect([small.coding, small.field("etag"), small.field("vary")]).toEqual([
      "br",
      'W/"weak"',
      "Origin, Accept-Encoding",
    ]);
    expect(brotliDecompressSync(small.bytes).toString() === page).toBe(true);
    const plain = await ask("identity");
    expect([plain.coding, plain.field("vary"), plain.bytes.toString() === page]).toEqual([
      null,
      "Origin, Accept-Encoding",
      true,
    ]);
  });

  test("a route can switch it off; the server need not know what the client accepts", async () => {
    const off = pack(CompressorPerRouteSchema, { override: { case: "disabled", value: true } });
    await fixture.serve(filters({ responseDirectionConfig: { removeAcceptEncodingHeader: true } }), [
      { match: prefix("/off"), action: toCluster("a"), typedPerFilterConfig: { gzip: off, br: off } },
      ...everything,
    ]);
    const told: (string | null)[] = [];
    fixture.backend.answer = ({ headers }) => {
      told.push(headers.get("accept-encoding"));
      return html()();
    };
    expect([(await ask("gzip", "/off")).coding, (await ask("gzip")).coding]).toEqual([null, "gzip"]);
    expect(told).toEqual(["gzip", null]);
  });

  test("what a slow server has sent so far arrives before it goes on", async () => {
    await fixture.serve(filters(), everything);
    const { promise: later, resolve: goOn } = Promise.withResolvers<void>();
    fixture.backend.answer = () =>
      new Response(
        (async function* () {
          yield Buffer.from("first ");
          await later;
          yield Buffer.from("second");
        })() as unknown as ReadableStream,
        { headers: { "content-type": "text/plain" } },
      );
    const answer = await fetch(fixture.base, {
      headers: { "accept-encoding": "gzip" },
      decompress: false,
    } as RequestInit);
    const gunzip = createGunzip();
    let text = "";
    gunzip.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    const reader = answer.body!.getReader();
    const pump = (async () => {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        gunzip.write(value);
      }
    })();
    await until("the first part", () => text === "first ");
    goOn();
    await pump;
    await until("all of it", () => text === "first second");
  });

  test("a client that leaves midway leaves nothing behind, and the next one is served", async () => {
    await fixture.serve(filters(), everything);
    const random = Buffer.from(crypto.getRandomValues(new Uint8Array(65_536)))
      .toString("hex")
      .repeat(100);
    fixture.backend.answer = () => new Response(random, { headers: { "content-type": "text/plain" } });
    const ask = "GET / HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n";
    for (let i = 0; i < 3; i++) await raw(fixture.port, ask, (text) => text.length > 100_000);
    fixture.backend.answer = html();
    const answer = await fetch(fixture.base, { headers: { "accept-encoding": "gzip" } });
    expect((await answer.text()) === page).toBe(true);
  });
});
