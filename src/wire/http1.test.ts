// The HTTP/1.1 codec against random messages in random pieces; every failure names its seed.
import { describe, expect, test } from "bun:test";
import { type Random, seededRandom } from "../kernel/random.ts";
import { HeadAccumulator } from "./accumulate.ts";
import { ChunkedScanner, responseFraming } from "./http1_body.ts";
import { Head, headError, requestHeadBytesMax, scanRequestHead, scanResponseHead } from "./http1_head.ts";
import { HeadWriter, newEdits, writeFields } from "./http1_write.ts";

const seeds = Array.from({ length: 300 }, (_, index) => index + 1);
const oneOf = <T>(random: Random, list: readonly T[]): T => list[random.below(list.length)]!;
const token = (random: Random, lengthMax: number): string =>
  Array.from({ length: 1 + random.below(lengthMax) }, () => oneOf(random, [..."abcXYZ019-_!~"])).join("");

interface Message {
  method: string;
  target: string;
  fields: [string, string][];
  text: string;
}

function randomRequest(random: Random): Message {
  const fields: [string, string][] = [["Host", "a.test"]];
  const count = random.below(12);
  for (let i = 0; i < count; i++)
    fields.push([
      `x-${token(random, 12)}`,
      random.below(5) === 0 ? "" : `${token(random, 30)} \xe9${token(random, 3)}`,
    ]);
  const method = oneOf(random, ["GET", "POST", "DELETE", "M-SEARCH"]);
  const target = `/${token(random, 40)}?${token(random, 5)}=%20`;
  const lines = fields.map(
    ([name, value]) => `${name}:${oneOf(random, ["", " ", "\t "])}${value}${oneOf(random, ["", " "])}`,
  );
  return { method, target, fields, text: [`${method} ${target} HTTP/1.1`, ...lines, "", ""].join("\r\n") };
}

/** Feeds `bytes` in random pieces the way a connection does; the first answer that is not "more" ends it. */
function feed(random: Random, bytes: Buffer, head: Head): number {
  const partial = new HeadAccumulator();
  for (let at = 0; at < bytes.length; ) {
    const to = Math.min(bytes.length, at + 1 + random.below(oneOf(random, [1, 4, 60])));
    let all: Buffer | undefined = bytes.subarray(at, to);
    at = to;
    if (!partial.empty) all = partial.append(all, 0, all.length, requestHeadBytesMax);
    if (all === undefined) continue;
    const end = scanRequestHead(head, all, 0, all.length);
    if (end !== 0) return end;
    partial.append(all, 0, all.length, requestHeadBytesMax);
  }
  return 0;
}

describe("heads", () => {
  test("a request is read the same whatever pieces it arrives in", () => {
    for (const seed of seeds) {
      const random = seededRandom(seed);
      const message = randomRequest(random);
      const head = new Head();
      const end = feed(random, Buffer.from(message.text, "latin1"), head);
      const fields = Array.from({ length: head.count }, (_, i) => [head.name(i), head.value(i)]);
      const want = message.fields.map(([name, value]) => [name.toLowerCase(), value]);
      expect({ seed, end, method: head.method(), target: head.target(), fields }).toEqual({
        seed,
        end: message.text.length,
        method: message.method,
        target: message.target,
        fields: want,
      });
    }
  });

  test("what is written back without edits is read back equal", () => {
    for (const seed of seeds) {
      const message = randomRequest(seededRandom(seed));
      const bytes = Buffer.from(message.text, "latin1");
      const head = new Head();
      scanRequestHead(head, bytes, 0, bytes.length);
      const out = new HeadWriter();
      out.copy(head.buffer, head.start, head.fieldsStart);
      writeFields(out, head, newEdits());
      expect([seed, out.buffer.toString("latin1", 0, out.length)]).toEqual([seed, message.text]);
    }
  });

  test("one flipped byte never makes the scanner read past its input or lose the empty line", () => {
    for (const seed of seeds) {
      const random = seededRandom(seed);
      const bytes = Buffer.from(randomRequest(random).text, "latin1");
      bytes[random.below(bytes.length)] = random.below(256);
      const end = scanRequestHead(new Head(), bytes, 0, bytes.length);
      expect([seed, end <= bytes.length && end >= headError.notImplemented]).toEqual([seed, true]);
      if (end > 0) expect([seed, bytes.toString("latin1", end - 4, end)]).toEqual([seed, "\r\n\r\n"]);
    }
  });

  test("removed and hop-by-hop fields go, added lines come, everything else stays in order", () => {
    const bytes = Buffer.from(
      "HTTP/1.1 200 OK\r\nA: 1\r\nConnection: keep-alive, X-Hop\r\nx-hop: 2\r\nB: 3\r\nTE: trailers\r\nC: 4\r\n\r\n",
    );
    const head = new Head();
    expect(scanResponseHead(head, bytes, 0, bytes.length)).toBe(bytes.length);
    const out = new HeadWriter();
    writeFields(out, head, { ...newEdits(), removed: ["b"], added: "d: 5\r\n" });
    expect(out.buffer.toString("latin1", 0, out.length)).toBe("A: 1\r\nC: 4\r\nd: 5\r\n\r\n");
  });

  const framings: [string, boolean, string][] = [
    ["200 OK\r\ncontent-length: 5", false, "length"],
    ["200 OK\r\ncontent-length: 0", false, "none"],
    ["200 OK\r\ncontent-length: 5", true, "none"],
    ["200 OK\r\ntransfer-encoding: chunked", false, "chunked"],
    ["200 OK", false, "close"],
    ["204 No Content\r\ncontent-length: 5", false, "none"],
    ["304 Not Modified\r\ncontent-length: 5", false, "none"],
  ];
  for (const [text, isHead, want] of framings)
    test(`the body of "${text.replaceAll("\r\n", " | ")}"${isHead ? " to HEAD" : ""} ends by ${want}`, () => {
      const bytes = Buffer.from(`HTTP/1.1 ${text}\r\n\r\n`);
      const head = new Head();
      scanResponseHead(head, bytes, 0, bytes.length);
      expect(responseFraming(head, isHead)).toBe(want as never);
    });
});

describe("chunked bodies", () => {
  const encode = (random: Random, payload: string): string => {
    let text = "";
    for (let at = 0; at < payload.length; ) {
      const size = Math.min(payload.length - at, 1 + random.below(20));
      const extension = random.below(3) === 0 ? `;${token(random, 5)}="x"` : "";
      text += `${"0".repeat(random.below(3))}${size.toString(16)}${extension}\r\n${payload.slice(at, at + size)}\r\n`;
      at += size;
    }
    const trailers = Array.from({ length: random.below(3) }, () => `x-${token(random, 4)}: t\r\n`).join("");
    return `${text}0\r\n${trailers}\r\n`;
  };

  /** What is forwarded of `text` fed in random pieces; undefined when it is refused. */
  function scanAll(
    random: Random,
    text: string,
    raw: boolean,
  ): { out: string; used: number; done: boolean } | undefined {
    const scanner = new ChunkedScanner();
    const bytes = Buffer.from(text, "latin1");
    let out = "";
    let used = 0;
    for (let at = 0; at < bytes.length && !scanner.done; ) {
      const to = Math.min(bytes.length, at + 1 + random.below(oneOf(random, [1, 3, 40])));
      const end = scanner.scan(bytes, at, to, raw);
      if (end < 0) return undefined;
      for (let i = 0; i < scanner.ranges.length; i += 2)
        out += bytes.toString("latin1", scanner.ranges[i]!, scanner.ranges[i + 1]!);
      used = end;
      at = to;
    }
    return { out, used, done: scanner.done };
  }

  test("the payload comes out, and what follows the body is left alone", () => {
    for (const seed of seeds) {
      const random = seededRandom(seed);
      const payload = token(random, 200);
      const text = encode(random, payload);
      expect([seed, scanAll(random, `${text}GET / HTTP/1.1\r\n`, false)]).toEqual([
        seed,
        { out: payload, used: text.length, done: true },
      ]);
    }
  });

  test("what is forwarded raw is the same body without extensions and trailers", () => {
    for (const seed of seeds) {
      const random = seededRandom(seed);
      const payload = token(random, 200);
      const forwarded = scanAll(random, encode(random, payload), true)!;
      expect([seed, forwarded.out.includes(";"), forwarded.out.endsWith("0\r\n\r\n")]).toEqual([seed, false, true]);
      expect([seed, scanAll(random, forwarded.out, false)?.out]).toEqual([seed, payload]);
    }
  });

  test("damaged framing is refused or unfinished, never read as a complete body of another length", () => {
    for (const seed of seeds) {
      const random = seededRandom(seed);
      const payload = token(random, 60);
      const text = encode(random, payload);
      const cut = random.below(text.length);
      const partial = scanAll(random, text.slice(0, cut), false);
      expect([seed, partial?.done]).toEqual([seed, false]);
      const bare = text.replace("\r\n", "\n");
      expect([seed, scanAll(random, bare, false)]).toEqual([seed, undefined]);
    }
  });
});
