// HPACK against the examples of RFC 7541 appendix C, against itself (seeded), and against what may not be accepted.

import { expect, test } from "bun:test";
import { seededRandom } from "../kernel/random.ts";
import { type FieldSink, HpackDecoder } from "./hpack_decoder.ts";
import { HpackEncoder } from "./hpack_encoder.ts";
import { huffmanDecode, huffmanEncode, huffmanLength } from "./hpack_huffman.ts";

const out = Buffer.alloc(256 * 1024);

/** undefined: refused. */
function decode(decoder: HpackDecoder, hex: string | Buffer): string[] | undefined {
  const block = typeof hex === "string" ? Buffer.from(hex.replaceAll(" ", ""), "hex") : hex;
  const lines: string[] = [];
  const sink: FieldSink = {
    full: false,
    onField(buffer, from, nameEnd, to) {
      expect(buffer.latin1Slice(nameEnd, nameEnd + 2)).toBe(": ");
      expect(buffer.latin1Slice(to, to + 2)).toBe("\r\n");
      lines.push(buffer.latin1Slice(from, to));
      return to + 2;
    },
  };
  return decoder.decode(block, 0, block.length, out, sink) ? lines : undefined;
}

const www = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
const requests = [
  www,
  [...www, "cache-control: no-cache"],
  [":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"],
];
const date = "date: Mon, 21 Oct 2013 20:13:21 GMT";
const location = "location: https://www.example.com";
const answers = [
  [":status: 302", "cache-control: private", date, location],
  [":status: 307", "cache-control: private", date, location],
  [
    ":status: 200",
    "cache-control: private",
    "date: Mon, 21 Oct 2013 20:13:22 GMT",
    location,
    "content-encoding: gzip",
    "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
  ],
];

test.each([
  [
    "C.3 requests without Huffman coding",
    4096,
    [
      "828684410f7777772e6578616d706c652e636f6d",
      "828684be58086e6f2d6361636865",
      "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ],
    requests,
  ],
  [
    "C.4 requests with Huffman coding",
    4096,
    [
      "828684418cf1e3c2e5f23a6ba0ab90f4ff",
      "828684be5886a8eb10649cbf",
      "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ],
    requests,
  ],
  [
    "C.5 answers without Huffman coding, with eviction",
    256,
    [
      "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
      "4803333037c1c0bf",
      "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
    ],
    answers,
  ],
  [
    "C.6 answers with Huffman coding, with eviction",
    256,
    [
      "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
      "4883640effc1c0bf",
      "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    ],
    answers,
  ],
])("RFC 7541 %s", (_name, size, blocks, expected) => {
  const decoder = new HpackDecoder(size);
  expect(blocks.map((block) => decode(decoder, block))).toEqual(expected);
});

test.each([
  ["400a637573746f6d2d6b65790d637573746f6d2d686561646572", "custom-key: custom-header"],
  ["040c2f73616d706c652f70617468", ":path: /sample/path"],
  ["100870617373776f726406736563726574", "password: secret"],
  ["82", ":method: GET"],
])("RFC 7541 C.2 field %s", (block, line) => {
  expect(decode(new HpackDecoder(), block)).toEqual([line]);
});

test.each([
  ["index 0", "80"],
  ["an index past both tables", "be"],
  ["a name index past both tables", "7e0161"],
  ["a string longer than the block", "0005616263"],
  ["an integer without an end", "7fffff"],
  ["an integer that overflows", "1fffffffffff7f0161"],
  ["a table larger than ours", "3fe21f"],
  ["a table size after a field", "8220"],
  ["a block that ends in a name", "00"],
  ["Huffman padding of zeros", "008118018161"],
  ["Huffman padding of more than seven bits", "0082 1fff 0161"],
  ["EOS inside a Huffman string", "0084 ffffffff 0161"],
])("%s is refused", (_name, block) => {
  expect(decode(new HpackDecoder(), block)).toBeUndefined();
});

test("a table size at a block's beginning empties the table", () => {
  const decoder = new HpackDecoder();
  expect(decode(decoder, "400161 0162")).toEqual(["a: b"]);
  expect(decode(decoder, "be")).toEqual(["a: b"]);
  expect(decode(decoder, "20 3fe11f")).toEqual([]);
  expect(decode(decoder, "be")).toBeUndefined();
});

test("a full sink gets nothing more, and the table is kept all the same", () => {
  const decoder = new HpackDecoder();
  const block = Buffer.from("400161016240016301644001650166", "hex");
  let seen = 0;
  const sink = {
    full: false,
    onField(_buffer: Buffer, from: number) {
      seen++;
      sink.full = true;
      return from;
    },
  };
  expect(decoder.decode(block, 0, block.length, out, sink)).toBe(true);
  expect(seen).toBe(1);
  expect(decode(decoder, "bebfc0")).toEqual(["e: f", "c: d", "a: b"]);
});

test("any bytes survive Huffman coding", () => {
  const random = seededRandom(7541);
  const coded = Buffer.alloc(4096);
  const back = Buffer.alloc(4096);
  for (let round = 0; round < 500; round++) {
    const bytes = Buffer.alloc(Math.floor(random.next() * 200));
    for (let i = 0; i < bytes.length; i++) bytes[i] = Math.floor(random.next() * 256);
    const text = bytes.latin1Slice(0, bytes.length);
    const end = huffmanEncode(text, coded, 0);
    expect(end).toBe(huffmanLength(text));
    expect(back.latin1Slice(0, huffmanDecode(coded, 0, end, back, 0))).toBe(text);
  }
});

test("what the encoder writes the decoder reads, whatever repeats and however the table changes", () => {
  const seed = 20261124;
  const random = seededRandom(seed);
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random.next() * list.length)]!;
  const names = [":path", ":method", "content-type", "cookie", "x-a", "x-b", "date", "x-request-id", "accept-encoding"];
  const block = Buffer.alloc(64 * 1024);
  for (let round = 0; round < 2_000; round++) {
    if (random.next() < 0.05) encoder.limit(pick([0, 40, 100, 500, 4096, 1_000_000]));
    let end = encoder.begin(block, 0);
    const lines: string[] = [];
    for (let i = Math.floor(random.next() * 12); i > 0; i--) {
      const name = pick(names);
      const value = pick([
        "GET",
        "/",
        "gzip, deflate",
        "",
        "v".repeat(Math.floor(random.next() * 700)),
        `${round}`,
        "\xe9\xff",
      ]);
      lines.push(`${name}: ${value}`);
      end = encoder.field(name, value, block, end);
    }
    expect({ seed, round, lines: decode(decoder, Buffer.from(block.subarray(0, end))) }).toEqual({
      seed,
      round,
      lines,
    });
  }
});

test("any bytes at all are refused or read, and never throw", () => {
  const seed = 77;
  const random = seededRandom(seed);
  for (let round = 0; round < 3_000; round++) {
    const decoder = new HpackDecoder();
    for (let blocks = 0; blocks < 3; blocks++) {
      const bytes = Buffer.alloc(Math.floor(random.next() * 60));
      for (let i = 0; i < bytes.length; i++) bytes[i] = Math.floor(random.next() * 256);
      if (decode(decoder, bytes) === undefined) break;
    }
  }
});

test("a repeated head takes a byte a field, and a secret is never kept", () => {
  const encoder = new HpackEncoder();
  const block = Buffer.alloc(4096);
  const fields = [
    [":method", "GET"],
    [":scheme", "https"],
    [":authority", "www.example.com"],
    ["user-agent", "curl/8"],
    ["accept", "*/*"],
  ] as const;
  const write = (): number => fields.reduce((at, [name, value]) => encoder.field(name, value, block, at), 0);
  expect(write()).toBeGreaterThan(20);
  expect(write()).toBe(fields.length);
  const at = encoder.field("authorization", "Bearer abc", block, 0);
  expect(block[0]! & 0xf0).toBe(0x10);
  expect(encoder.field("authorization", "Bearer abc", block, 0)).toBe(at);
});
