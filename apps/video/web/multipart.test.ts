// The multipart parser: any cut of the stream gives the same parts; damage is an error.

import { expect, test } from "bun:test";
import { boundaryOf, MultipartError, parseMultipart } from "./multipart.ts";

const body = Buffer.from(
  [
    "--XX",
    'Content-Disposition: form-data; name="title"',
    "",
    "A %22title%22 with --XX inside? No: -XX",
    "--XX",
    'Content-Disposition: form-data; name="empty"',
    "",
    "",
    "--XX",
    'content-disposition: form-data; name="video"; filename="a%22b.mp4"',
    "Content-Type: video/mp4",
    "",
    "\r\n\r\nbinary\r\n--X\r\n",
    "--XX--",
    "epilogue",
  ].join("\r\n"),
);

async function parse(
  bytes: Buffer,
  cut: number,
): Promise<Record<string, { filename: string | undefined; text: string }>> {
  const found: Record<string, { filename: string | undefined; text: string }> = {};
  async function* chunks() {
    for (let at = 0; at < bytes.length; at += cut) yield bytes.subarray(at, at + cut);
  }
  await parseMultipart(chunks(), "XX", (part) => {
    const entry = { filename: part.filename, text: "" };
    return {
      write: (chunk) => {
        entry.text += Buffer.from(chunk).toString("latin1");
      },
      end: () => {
        found[part.name] = entry;
      },
    };
  });
  return found;
}

test("the parts are the same however the stream is cut", async () => {
  for (let cut = 1; cut <= body.length; cut += 1) {
    expect(await parse(body, cut)).toEqual({
      title: { filename: undefined, text: "A %22title%22 with --XX inside? No: -XX" },
      empty: { filename: undefined, text: "" },
      video: { filename: 'a"b.mp4', text: "\r\n\r\nbinary\r\n--X\r\n" },
    });
  }
});

test("a body that ends anywhere before the closing boundary is an error", async () => {
  const end = body.indexOf("--XX--") + "--XX--".length;
  for (let length = 0; length < end; length += 1) {
    await expect(parse(body.subarray(0, length), 7)).rejects.toBeInstanceOf(MultipartError);
  }
});

test("parts without a name, endless headers and too many parts are errors", async () => {
  const part = (headers: string) => Buffer.from(`--XX\r\n${headers}\r\n\r\nx\r\n--XX--`);
  await expect(parse(part("Content-Type: text/plain"), 99)).rejects.toThrow("without a name");
  await expect(parse(part(`Content-Disposition: form-data; name="a"\r\nX: ${"y".repeat(9000)}`), 4096)).rejects.toThrow(
    "too long",
  );
  const many = Buffer.from(`${'--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'.repeat(65)}--XX--`);
  await expect(parse(many, 4096)).rejects.toThrow("more than 64");
});

test.each([
  ["multipart/form-data; boundary=----WebKit123", "----WebKit123"],
  ['multipart/form-data; charset=utf-8; boundary="a b"', "a b"],
  ["multipart/mixed; boundary=x", undefined],
  ["application/json", undefined],
  [null, undefined],
])("the boundary of %p is %p", (header, boundary) => {
  expect(boundaryOf(header)).toBe(boundary);
});
