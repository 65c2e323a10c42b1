// Byte ranges: the decisions of RFC 9110 §14 as tables.

import { expect, test } from "bun:test";
import { decideRange, ifRangeHolds, multipartOf, notModified, rangesMax } from "./ranges.ts";

const one = (first: number, last: number) => ({ kind: "ranges" as const, ranges: [{ first, last }] });

test.each([
  ["bytes=0-9", one(0, 9)],
  ["bytes=90-", one(90, 99)],
  ["bytes=-5", one(95, 99)],
  ["bytes=-500", one(0, 99)],
  ["bytes=50-500", one(50, 99)],
  ["BYTES = 1-2", one(1, 2)],
  ["bytes=0-0,0-1,1-9", one(0, 9)],
  ["bytes=10-19,0-9", one(0, 19)],
  ["bytes=0-4,200-300", one(0, 4)],
  [
    "bytes=0-1,5-6",
    {
      kind: "ranges",
      ranges: [
        { first: 0, last: 1 },
        { first: 5, last: 6 },
      ],
    },
  ],
  ["bytes=100-", { kind: "unsatisfiable" }],
  ["bytes=-0", { kind: "unsatisfiable" }],
  ["bytes=200-300,400-500", { kind: "unsatisfiable" }],
  ["bytes=9-1", { kind: "whole" }],
  ["bytes=a-b", { kind: "whole" }],
  ["bytes=", { kind: "whole" }],
  ["bytes=-", { kind: "whole" }],
  ["items=0-9", { kind: "whole" }],
  ["bytes=0-9,zero", { kind: "whole" }],
  [null, { kind: "whole" }],
])("of 100 bytes, the header %j asks for what the table says", (header, decision) => {
  expect(decideRange(header, 100) as unknown).toEqual(decision);
});

test("an empty file satisfies no range", () => {
  expect(decideRange("bytes=0-", 0).kind).toBe("unsatisfiable");
  expect(decideRange("bytes=-5", 0).kind).toBe("unsatisfiable");
});

test("more ranges than the bound, or a header as long as a book, are refused", () => {
  const many = (n: number): string => `bytes=${Array.from({ length: n }, (_, i) => `${i * 2}-${i * 2}`).join(",")}`;
  expect(decideRange(many(rangesMax), 1000).kind).toBe("ranges");
  expect(decideRange(many(rangesMax + 1), 1000).kind).toBe("unsatisfiable");
  expect(decideRange(`bytes=${"0-0,".repeat(5000)}`, 1000).kind).toBe("unsatisfiable");
});

test("the announced length of a multipart answer is the length of its pieces", () => {
  const ranges = [
    { first: 0, last: 1 },
    { first: 5, last: 6 },
  ];
  const multipart = multipartOf(ranges, 100, "video/mp4", "frontier");
  const text = `${multipart.heads[0]}ab${multipart.heads[1]}cd${multipart.tail}`;
  expect(text.length).toBe(multipart.lengthBytes);
  expect(text).toStartWith(
    "--frontier\r\nContent-Type: video/mp4\r\nContent-Range: bytes 0-1/100\r\n\r\nab\r\n--frontier\r\n",
  );
  expect(text).toEndWith("cd\r\n--frontier--\r\n");
});

const date = "Mon, 23 Nov 2026 18:10:34 GMT";

test.each([
  [null, true],
  ['"a"', true],
  ['"b"', false],
  ['W/"a"', false],
  [date, true],
  ["Mon, 23 Nov 2026 18:10:35 GMT", false],
  ["nonsense", false],
])('If-Range %p against the tag "a" and its date: %p', (header, holds) => {
  expect(ifRangeHolds(header, '"a"', date)).toBe(holds);
});

test.each([
  [{ "if-none-match": '"a"' }, true],
  [{ "if-none-match": 'W/"a"' }, true],
  [{ "if-none-match": '"x", "a"' }, true],
  [{ "if-none-match": "*" }, true],
  [{ "if-none-match": '"b"' }, false],
  [{ "if-none-match": '"b"', "if-modified-since": date }, false],
  [{ "if-modified-since": date }, true],
  [{ "if-modified-since": "Mon, 23 Nov 2026 18:10:33 GMT" }, false],
  [{}, false],
])("with %j the answer is 304: %p", (headers, expected) => {
  expect(notModified(new Headers(headers as Record<string, string>), '"a"', date)).toBe(expected);
});
