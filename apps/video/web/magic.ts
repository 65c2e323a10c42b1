// Tells file types by their first bytes; what a client claims about a file is never believed.

export interface MediaType {
  mime: "video/mp4" | "video/webm";
  extension: "mp4" | "webm";
}

/** So many first bytes are enough to decide. */
export const magicBytes = 64;

/** MP4 brands that browsers play; QuickTime's own ("qt  ") is not one of them. */
const mp4Brand = /^(isom|iso[2-9]|mp4[12v]|avc1|M4V |M4VH|M4VP|dash|MSNV|mmp4|f4v )/;

/** ISO 14496-12 §4.3 (`ftyp` box first) or EBML with document type "webm"; undefined for everything else. */
export function sniffVideo(head: Uint8Array): MediaType | undefined {
  const text = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, magicBytes)).toString("latin1");
  if (text.slice(4, 8) === "ftyp") {
    const brands = [text.slice(8, 12)];
    const boxBytes = Buffer.from(head).readUInt32BE(0);
    for (let at = 16; at + 4 <= Math.min(boxBytes, text.length); at += 4) brands.push(text.slice(at, at + 4));
    return brands.some((brand) => mp4Brand.test(brand)) ? { mime: "video/mp4", extension: "mp4" } : undefined;
  }
  if (text.startsWith("\x1a\x45\xdf\xa3") && text.includes("\x42\x82\x84webm")) {
    return { mime: "video/webm", extension: "webm" };
  }
  return undefined;
}

/** The file extension of a thumbnail a browser sent, undefined when it is no JPEG, PNG or WebP. */
export function sniffImage(head: Uint8Array): "jpg" | "png" | "webp" | undefined {
  const text = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, 16)).toString("latin1");
  if (text.startsWith("\xff\xd8\xff")) return "jpg";
  if (text.startsWith("\x89PNG\r\n\x1a\n")) return "png";
  if (text.startsWith("RIFF") && text.slice(8, 12) === "WEBP") return "webp";
  return undefined;
}
