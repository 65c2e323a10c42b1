// Properties of the HTTP/1.1 codec over random and hostile messages in random pieces; every failure names its seed.
import { describe, expect, test } from "bun:test";
import { type Random, seededRandom } from "../kernel/random.ts";
import { HeadAccumulator } from "./accumulate.ts";
import { ChunkedScanner } from "./http1_body.ts";
import {
  Head,
  headError,
  requestHeadBytesMax,
  responseHeadBytesMax,
  scanRequestHead,
  scanResponseHead,
} from "./http1_head.ts";
import { HeadWriter, newEdits, writeFields } from "./http1_write.ts";
import { oneOf, requestMutant, responseMutant } from "./mutants.ts";

const seeds = Array.from({ length: 3_000 }, (_, index) => index + 1);
const out = new HeadWriter();
const latin1 = (text: string): Buffer => Buffer.from(text, "latin1");

type Scan = typeof scanRequestHead;
const kinds: { kind: string; scan: Scan; mutant: (random: Random) => string; bytesMax: number }[] = [
  { kind: "requests", scan: scanRequestHead, mutant: requestMutant, bytesMax: requestHeadBytesMax },
  { kind: "answers", scan: scanResponseHead, mutant: responseMutant, bytesMax: responseHeadBytesMax },
];

/** Everything a scanned head says. */
function meaning(head: Head): object {
  const fields = Array.from({ length: head.count }, (_, i) => `${head.name(i)}: ${head.value(i)}`);
  const { status, minor, contentLength, chunked, keepAlive, upgrade, expectContinue, connectionNames, hostIndex } =
    head;
  return {
    fields,
    status,
    minor,
    contentLength,
    chunked,
    keepAlive,
    upgrade,
    expectContinue,
    connectionNames,
    hostIndex,
  };
}

/** Feeds `bytes` in random pieces the way a connection does; the first answer that is not "more" ends it. */
function feed(random: Random, bytes: Buffer, head: Head, scan: Scan, bytesMax: number): number {
  const partial = new HeadAccumulator();
  for (let at = 0; at < bytes.length; ) {
    const to = Math.min(bytes.length, at + 1 + random.below(oneOf(random, [1, 4, 60])));
    let all: Buffer | undefined = bytes.subarray(at, to);
    at = to;
    if (!partial.empty) all = partial.append(all, 0, all.length, bytesMax);
    if (all === undefined) continue;
    const end = scan(head, all, 0, all.length);
    if (end !== 0) return end;
    partial.append(all, 0, all.length, bytesMax);
  }
  return 0;
}

describe.each(kinds)("$kind", ({ scan, mutant, bytesMax }) => {
  test("are read the same in pieces as in whole, and what is refused in whole is never accepted in pieces", () => {
    let accepted = 0;
    for (const seed of seeds) {
      const random = seededRandom(seed);
      const bytes = latin1(mutant(random));
      const whole = new Head();
      const end = scan(whole, bytes, 0, bytes.length);
      const pieces = new Head();
      const endInPieces = feed(random, bytes, pieces, scan, bytesMax);
      if (end > 0) {
        accepted++;
        expect({ seed, end: endInPieces, ...meaning(pieces) }).toEqual({ seed, end, ...meaning(whole) });
      } else expect([seed, endInPieces <= 0]).toEqual([seed, true]);
      // Never past the input, never without the empty line.
      expect([seed, end <= bytes.length && end >= headError.notImplemented]).toEqual([seed, true]);
      if (end > 0) expect([seed, bytes.latin1Slice(end - 4, end)]).toEqual([seed, "\r\n\r\n"]);
    }
    expect(accepted).toBeGreaterThan(seeds.length / 3);
  });

  test("mean the same when they are written again and read again", () => {
    for (const seed of seeds) {
      const bytes = latin1(mutant(seededRandom(seed)));
      const first = new Head();
      if (scan(first, bytes, 0, bytes.length) <= 0) continue;
      const write = (head: Head): Buffer => {
        out.clear();
        out.copy(head.buffer, head.start, head.fieldsStart);
        writeFields(out, head, newEdits());
        return Buffer.from(out.buffer.subarray(0, out.length));
      };
      const written = write(first);
      const second = new Head();
      expect([seed, scan(second, written, 0, written.length)]).toEqual([seed, written.length]);
      // Hop-by-hop fields are gone after the first time: then nothing changes any more.
      expect([seed, write(second).toString("latin1")]).toEqual([seed, written.toString("latin1")]);
      const framing = ({ contentLength, chunked, status }: Head): object => ({ seed, contentLength, chunked, status });
      expect(framing(second)).toEqual(framing(first));
    }
  });
});

test("removed and hop-by-hop fields go, added lines come, everything else stays in order", () => {
  const bytes = latin1(
    "HTTP/1.1 200 OK\r\nA: 1\r\nConnection: keep-alive, X-Hop\r\nx-hop: 2\r\nB: 3\r\nTE: trailers\r\nC: 4\r\n\r\n",
  );
  const head = new Head();
  expect(scanResponseHead(head, bytes, 0, bytes.length)).toBe(bytes.length);
  out.clear();
  writeFields(out, head, { ...newEdits(), removed: ["b"], added: "d: 5\r\n" });
  expect(out.buffer.latin1Slice(0, out.length)).toBe("A: 1\r\nC: 4\r\nd: 5\r\n\r\n");
});

describe("chunked bodies", () => {
  /** The body of a mutant, and whatever follows it. */
  function body(random: Random): Buffer {
    const bytes = latin1(requestMutant(random));
    const end = bytes.indexOf("\r\n\r\n");
    return bytes.subarray(end < 0 ? 0 : end + 4);
  }
  function scanAll(input: Buffer, raw: boolean, keepTrailers: boolean, piece: () => number): object {
    const scanner = new ChunkedScanner();
    scanner.reset(keepTrailers);
    const parts: Buffer[] = [];
    let at = 0;
    while (at < input.length && !scanner.done) {
      const to = Math.min(input.length, at + piece());
      const end = scanner.scan(input, at, to, raw);
      if (end < 0) return { refused: true };
      const { ranges } = scanner;
      for (let i = 0; i < ranges.length; i += 2) {
        if (ranges[i]! < at || ranges[i + 1]! > to || ranges[i]! > ranges[i + 1]!)
          return { outside: [at, to, ...ranges] };
        parts.push(input.subarray(ranges[i]!, ranges[i + 1]!));
      }
      at = end;
    }
    const trailers = scanner.done && keepTrailers ? scanner.takeTrailers().toString("latin1") : "";
    return { out: Buffer.concat(parts).toString("latin1"), at, done: scanner.done, trailers };
  }

  test("are read the same in pieces as in whole, good or bad, with and without framing and trailers", () => {
    let done = 0;
    for (const seed of seeds) {
      const random = seededRandom(seed);
      const input = body(random);
      for (const [raw, keepTrailers] of [
        [false, false],
        [true, false],
        [true, true],
      ] as const) {
        const whole = scanAll(input, raw, keepTrailers, () => input.length);
        const pieces = scanAll(input, raw, keepTrailers, () => 1 + random.below(oneOf(random, [1, 3, 40])));
        expect({ seed, raw, keepTrailers, ...pieces }).toEqual({ seed, raw, keepTrailers, ...whole });
        if ("done" in whole && whole.done) done++;
      }
    }
    expect(done).toBeGreaterThan(seeds.length / 3);
  });

  test("are the same body again when what is forwarded of them is read again", () => {
    for (const seed of seeds) {
      const input = body(seededRandom(seed));
      const whole = (bytes: Buffer, raw: boolean) =>
        scanAll(bytes, raw, false, () => bytes.length) as { out?: string; done?: boolean };
      const payload = whole(input, false);
      if (!payload.done) continue;
      const forwarded = whole(input, true).out!;
      expect([seed, whole(latin1(forwarded), false).out]).toEqual([seed, payload.out!]);
      expect([seed, forwarded.endsWith("\r\n\r\n")]).toEqual([seed, true]);
    }
  });
});
