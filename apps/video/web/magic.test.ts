// File types by their first bytes.

import { expect, test } from "bun:test";
import { join } from "node:path";
import { sniffImage, sniffVideo } from "./magic.ts";

const samples = join(import.meta.dir, "../samples");
const ftyp = (brand: string, ...compatible: string[]): Buffer => {
  const box = Buffer.from(`\0\0\0\0ftyp${brand}\0\0\x02\0${compatible.join("")}`, "latin1");
  box.writeUInt32BE(box.length, 0);
  return Buffer.concat([box, Buffer.alloc(64)]);
};
const webm = Buffer.from(
  "\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm\x42\x87\x81\x04",
  "latin1",
);

test("the samples are MP4 with JPEG pictures", async () => {
  for (const name of ["sunset-drift", "deep-zoom", "game-of-life"]) {
    expect(
      sniffVideo(
        await Bun.file(join(samples, `${name}.mp4`))
          .slice(0, 64)
          .bytes(),
      )?.extension,
    ).toBe("mp4");
    expect(
      sniffImage(
        await Bun.file(join(samples, `${name}.jpg`))
          .slice(0, 64)
          .bytes(),
      ),
    ).toBe("jpg");
  }
});

test.each([
  ["WebM", webm, "webm"],
  ["Matroska that is no WebM", Buffer.from(webm.toString("latin1").replace("webm", "matr"), "latin1"), undefined],
  ["MP4 by its major brand", ftyp("isom"), "mp4"],
  ["MP4 by a compatible brand", ftyp("XXXX", "mp42"), "mp4"],
  ["QuickTime", ftyp("qt  ", "qt  "), undefined],
  ["HEIC picture", ftyp("heic", "mif1"), undefined],
  ["HTML", Buffer.from("<!doctype html><script>alert(1)</script>".padEnd(64)), undefined],
  ["text with ftyp elsewhere", Buffer.from("xx ftypisom".padEnd(64)), undefined],
  ["too short", Buffer.from("\0\0"), undefined],
  ["nothing", Buffer.alloc(0), undefined],
])("%s", (_, bytes, extension) => {
  expect(sniffVideo(bytes)?.extension).toBe(extension as "mp4" | "webm" | undefined);
});

test("SVG and HTML are not taken for pictures", () => {
  expect(sniffImage(Buffer.from("<svg xmlns='http://www.w3.org/2000/svg'/>"))).toBeUndefined();
  expect(sniffImage(Buffer.from("RIFF\0\0\0\0WEBPVP8 "))).toBe("webp");
  expect(sniffImage(Buffer.from("\x89PNG\r\n\x1a\n", "latin1"))).toBe("png");
});
