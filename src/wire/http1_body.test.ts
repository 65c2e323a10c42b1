// Chunked bodies: any cutting of a valid one yields its payload, any malformed one is refused. Seeds are printed on failure.
import { describe, expect, test } from "bun:test";
import { type Random, seededRandom } from "../kernel/random.ts";
import { ChunkedScanner, responseFraming } from "./http1_body.ts";
import { Head, scanResponseHead } from "./http1_head.ts";

function encode(random: Random, payload: Buffer): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  while (at < payload.length) {
    const size = Math.min(payload.length - at, 1 + random.below(200));
    const zeros = "0".repeat(random.below(3));
    const digits = random.below(2) ? size.toString(16) : size.toString(16).toUpperCase();
    const extension = random.below(4) === 0 ? `;name="a b";x${"y".repeat(random.below(20))}` : "";
    parts.push(Buffer.from(`${zeros}${digits}${extension}\r\n`), payload.subarray(at, at + size), Buffer.from("\r\n"));
    at += size;
  }
  const trailers = random.below(3) === 0 ? "x-sum: 1\r\nx-more: two\r\n" : "";
  parts.push(Buffer.from(`0${random.below(4) === 0 ? ";last" : ""}\r\n${trailers}\r\n`));
  return Buffer.concat(parts);
}

interface Outcome {
  out: Buffer;
  /** Bytes of the input that belong to the body; -1 when refused. */
  consumed: number;
  done: boolean;
}

/** Scans `input` in pieces as `random` cuts them. */
function scanAll(random: Random, input: Buffer, raw: boolean): Outcome {
  const scanner = new ChunkedScanner();
  const out: Buffer[] = [];
  let at = 0;
  while (at < input.length && !scanner.done) {
    const to = Math.min(input.length, at + 1 + random.below(random.below(4) === 0 ? 500 : 8));
    const end = scanner.scan(input, at, to, raw);
    if (end < 0) return { out: Buffer.concat(out), consumed: -1, done: false };
    for (let i = 0; i < scanner.ranges.length; i += 2)
      out.push(input.subarray(scanner.ranges[i]!, scanner.ranges[i + 1]!));
    at = end;
  }
  return { out: Buffer.concat(out), consumed: at, done: scanner.done };
}

/** A second, plain reading of a chunked body without extensions and trailers. */
function decodePlain(input: Buffer): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (;;) {
    const line = input.indexOf("\r\n", at);
    const size = Number.parseInt(input.toString("latin1", at, line), 16);
    if (!/^[0-9a-f]+$/i.test(input.toString("latin1", at, line))) throw new Error("a size line that is no size");
    if (size === 0) {
      expect(input.toString("latin1", line)).toBe("\r\n\r\n");
      return Buffer.concat(parts);
    }
    parts.push(input.subarray(line + 2, line + 2 + size));
    expect(input.toString("latin1", line + 2 + size, line + 4 + size)).toBe("\r\n");
    at = line + 4 + size;
  }
}

describe("chunked bodies", () => {
  test("give their payload and end where they end, whatever the cuts", () => {
    for (let seed = 0; seed < 2_000; seed++) {
      const random = seededRandom(seed);
      const payload = Buffer.from(Array.from({ length: random.below(1_000) }, () => random.below(256)));
      const input = Buffer.concat([encode(random, payload), Buffer.from("GET / HTTP/1.1")]);
      const bare = scanAll(random, input, false);
      const raw = scanAll(random, input, true);
      if (!bare.out.equals(payload)) throw new Error(`seed ${seed}: payload differs`);
      if (!decodePlain(raw.out).equals(payload)) throw new Error(`seed ${seed}: forwarded bytes differ`);
      expect({ seed, bare: bare.consumed, raw: raw.consumed, done: bare.done && raw.done }).toEqual({
        seed,
        bare: input.length - 14,
        raw: input.length - 14,
        done: true,
      });
    }
  });

  /** What a raw scan that keeps trailers gives: body and trailer section. */
  function withTrailers(random: Random, input: string): { body: string; trailers: string } {
    const scanner = new ChunkedScanner();
    scanner.reset(true);
    const bytes = Buffer.from(input, "latin1");
    let body = "";
    for (let at = 0; !scanner.done; ) {
      const end = scanner.scan(bytes, at, Math.min(bytes.length, at + 1 + random.below(9)), true);
      if (end < 0) throw new Error(`refused at ${at}`);
      for (let i = 0; i < scanner.ranges.length; i += 2)
        body += bytes.latin1Slice(scanner.ranges[i]!, scanner.ranges[i + 1]!);
      at = end;
    }
    return { body, trailers: scanner.takeTrailers().toString("latin1") };
  }

  test("keep their trailers where that is asked for, but none that would change the message's meaning", () => {
    const sent =
      "X-Sum: 1\r\ncontent-length: 5\r\nTransfer-Encoding: chunked\r\nhost: b\r\nAuthorization: x\r\nset-cookie: a=b\r\n" +
      "grpc-status:  0 \r\nx-forwarded-for: 10.0.0.1\r\n";
    for (let seed = 0; seed < 100; seed++) {
      const kept = withTrailers(seededRandom(seed), `3;ext\r\nabc\r\n0;last\r\n${sent}\r\nGET /`);
      expect({ seed, ...kept }).toEqual({
        seed,
        body: "3\r\nabc\r\n0\r\n",
        trailers: "X-Sum: 1\r\ngrpc-status: 0\r\n\r\n",
      });
      expect({ seed, ...withTrailers(seededRandom(seed), "1\r\na\r\n0\r\n\r\n") }).toEqual({
        seed,
        body: "1\r\na\r\n0\r\n",
        trailers: "\r\n",
      });
    }
  });

  test("lose all trailers when those contradict each other or are too many", () => {
    for (const trailers of ["content-length: 1\r\ncontent-length: 2\r\nx: y\r\n", "x: y\r\n".repeat(101)])
      expect(withTrailers(seededRandom(1), `0\r\n${trailers}\r\n`).trailers).toBe("\r\n");
  });

  const malformed: [string, string][] = [
    ["no size", "\r\nabc\r\n0\r\n\r\n"],
    ["a sign", "+3\r\nabc\r\n0\r\n\r\n"],
    ["a prefix", "0x3\r\nabc\r\n0\r\n\r\n"],
    ["a space before the size", " 3\r\nabc\r\n0\r\n\r\n"],
    ["a space after the size", "3 \r\nabc\r\n0\r\n\r\n"],
    ["a bare LF after the size", "3\nabc\r\n0\r\n\r\n"],
    ["a bare CR after the size", "3\rXabc\r\n0\r\n\r\n"],
    ["too little data", "5\r\nabc\r\n0\r\n\r\n"],
    ["too much data", "2\r\nabc\r\n0\r\n\r\n"],
    ["a bare LF after the data", "3\r\nabc\n0\r\n\r\n"],
    ["a bare LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"],
    ["a NUL in an extension", "3;a\0\r\nabc\r\n0\r\n\r\n"],
    ["a size of thirteen digits", "1000000000000\r\n"],
    ["a folded trailer", "0\r\n x: y\r\n\r\n"],
    ["a trailer without a name", "0\r\n: y\r\n\r\n"],
    ["a trailer without a colon", "0\r\nx\r\n\r\n"],
    ["a space before a trailer's colon", "0\r\nx : y\r\n\r\n"],
    ["a NUL in a trailer", "0\r\nx: a\0\r\n\r\n"],
    ["a bare LF at the end", "0\r\n\n"],
    ["a bare CR in a trailer", "0\r\nx: a\rb\r\n\r\n"],
    ["endless extensions", `3;${"a".repeat(10_000)}\r\nabc\r\n0\r\n\r\n`],
    ["endless trailers", `0\r\nx: ${"a".repeat(10_000)}\r\n\r\n`],
  ];
  for (const [what, input] of malformed)
    test(`are refused for ${what}, whatever the cuts`, () => {
      for (let seed = 0; seed < 20; seed++) {
        const outcome = scanAll(seededRandom(seed), Buffer.from(input, "latin1"), seed % 2 === 0);
        expect({ seed, consumed: outcome.consumed }).toEqual({ seed, consumed: -1 });
      }
    });
});

describe("the answer's framing", () => {
  const framing = (lines: string, requestWasHead = false): string => {
    const head = new Head();
    const buffer = Buffer.from(`HTTP/1.1 ${lines}\r\n\r\n`);
    expect(scanResponseHead(head, buffer, 0, buffer.length)).toBe(buffer.length);
    return responseFraming(head, requestWasHead);
  };
  const cases: [string, boolean, string][] = [
    ["200 OK\r\ncontent-length: 5", false, "length"],
    ["200 OK\r\ncontent-length: 0", false, "none"],
    ["200 OK\r\ntransfer-encoding: chunked", false, "chunked"],
    ["200 OK", false, "close"],
    ["200 OK\r\ncontent-length: 5", true, "none"],
    ["204 No Content\r\ncontent-length: 5", false, "none"],
    ["304 Not Modified\r\ntransfer-encoding: chunked", false, "none"],
    ["103 Early Hints", false, "none"],
  ];
  for (const [lines, toHead, expected] of cases)
    test(`${JSON.stringify(lines)}${toHead ? " to HEAD" : ""} is ${expected}`, () => {
      expect(framing(lines, toHead)).toBe(expected as ReturnType<typeof responseFraming>);
    });
});
