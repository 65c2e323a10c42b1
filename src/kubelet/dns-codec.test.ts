// DNS messages as bytes: what resolvers send, what attackers send, and what we answer.

import { expect, test } from "bun:test";
import { seededRandom } from "../kernel/random.ts";
import {
  type Answer,
  encodeAnswer,
  encodeName,
  encodeQuery,
  parseAnswer,
  parseQuery,
  type Question,
  readName,
  typeNumbers,
} from "./dns-codec.ts";

const header = (questions: number, flags = 0x0100, additional = 0): number[] => [
  0x12,
  0x34,
  flags >> 8,
  flags & 0xff,
  0,
  questions,
  0,
  0,
  0,
  0,
  0,
  additional,
];
const bytes = (...parts: (number[] | Uint8Array)[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));
const aIn = [0, 1, 0, 1];

function question(message: Uint8Array): Question {
  const parsed = parseQuery(message);
  if (parsed.kind !== "query") throw new Error(parsed.kind);
  return parsed.question;
}

test("a query is read with its name in lower case", () => {
  const read = question(bytes(header(1), encodeName("Web.Default.svc.cluster.local"), aIn));
  expect(read).toMatchObject({
    id: 0x1234,
    name: "web.default.svc.cluster.local",
    type: 1,
    class: 1,
    sizeBytesMax: 512,
  });
  expect(read.recursionDesired).toBe(true);
});

test("EDNS raises the size of an answer, to what needs no fragments", () => {
  const message = encodeQuery(7, "web", typeNumbers.AAAA);
  expect(question(message)).toMatchObject({ hasEdns: true, sizeBytesMax: 1232, type: 28 });
});

const hostile: [string, Uint8Array, "malformed" | "ignored"][] = [
  ["nothing", new Uint8Array(), "ignored"],
  ["half a header", bytes([1, 2, 3, 4, 5]), "ignored"],
  ["an answer", bytes(header(1, 0x8180), encodeName("a"), aIn), "ignored"],
  ["another opcode", bytes(header(1, 0x2800), encodeName("a"), aIn), "malformed"],
  ["no question", bytes(header(0)), "malformed"],
  ["two questions", bytes(header(2), encodeName("a"), aIn, encodeName("b"), aIn), "malformed"],
  ["a question cut short", bytes(header(1), encodeName("abc"), [0, 1]), "malformed"],
  ["a label beyond the end", bytes(header(1), [63, 97]), "malformed"],
  ["a name without an end", bytes(header(1), [1, 97]), "malformed"],
  ["a pointer in the question", bytes(header(1), [0xc0, 12], aIn), "malformed"],
  ["a reserved label type", bytes(header(1), [0x80, 0], aIn), "malformed"],
  ["a dot inside a label", bytes(header(1), [3, 97, 46, 98, 0], aIn), "malformed"],
  ["a NUL inside a label", bytes(header(1), [2, 97, 0, 0], aIn), "malformed"],
  [
    "a name of 256 bytes",
    bytes(
      header(1),
      Array(5)
        .fill([63, ...Array(63).fill(97)])
        .flat(),
      [0],
      aIn,
    ),
    "malformed",
  ],
  ["more records than there are", bytes(header(1, 0x0100, 2), encodeName("a"), aIn), "malformed"],
  ["a huge message", bytes(header(1), encodeName("a"), aIn, Array(5000).fill(0)), "malformed"],
];
for (const [what, message, kind] of hostile)
  test(`${what} is ${kind}`, () => {
    expect(parseQuery(message).kind).toBe(kind);
  });

test("random bytes never crash the parsers", () => {
  const random = seededRandom(7);
  for (let i = 0; i < 20_000; i++) {
    const message = new Uint8Array(random.below(80)).map(() => random.below(256));
    if (random.below(2) === 0) message.set(header(1).slice(0, message.length));
    parseQuery(message);
    if (message.length > 2) message[2] = 0x81;
    parseAnswer(message);
  }
});

test("compression pointers that loop or point forward are refused, also in a chain", () => {
  const at = (...tail: number[]) => bytes(header(1, 0x8000), tail);
  expect(readName(at(0xc0, 12), 12, true)).toBeUndefined();
  expect(readName(at(0xc0, 14, 0xc0, 12), 12, true)).toBeUndefined();
  expect(readName(at(1, 97, 0xc0, 12), 14, true)).toBeUndefined(); // "a" then back to itself for ever
  expect(readName(at(1, 97, 0, 1, 98, 0xc0, 12), 15, true)).toEqual({ name: "b.a", end: 19 });
});

const answer = (count: number): Answer => ({
  rcode: 0,
  authoritative: true,
  answers: Array.from({ length: count }, (_, i) => ({
    type: "A" as const,
    name: "web",
    ttlSeconds: 5,
    address: `10.244.0.${i}`,
  })),
  authority: [],
  additional: [],
});

test("an answer that does not fit says so instead of being cut", () => {
  const read = question(bytes(header(1), encodeName("web"), aIn));
  const small = encodeAnswer(read, answer(2), 512);
  expect(small[2]! & 0x02).toBe(0);
  expect(small[7]).toBe(2);
  const large = encodeAnswer(read, answer(60), 512);
  expect(large[2]! & 0x02).toBe(0x02);
  expect(large[7]).toBe(0);
  expect(large.length).toBeLessThanOrEqual(512);
});

test("an encoded answer is read back", () => {
  const read = question(bytes(header(1), encodeName("web"), aIn));
  const alias: Answer = { ...answer(1), answers: [{ type: "CNAME", name: "web", ttlSeconds: 9, target: "a.example" }] };
  expect(parseAnswer(encodeAnswer(read, alias, 512))?.records).toEqual([
    { type: "CNAME", name: "web", ttlSeconds: 9, target: "a.example" },
  ]);
  expect(parseAnswer(encodeAnswer(read, answer(1), 512))?.records).toEqual(answer(1).answers as never);
});
