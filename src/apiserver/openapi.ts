// The OpenAPI v3 documents that kubectl explains and validates with: generated at build time, read from disk when asked for.

import { readGenerated } from "../api/schema.ts";

export interface OpenApiAnswer {
  /** JSON text. */
  text: string;
  /** Of the content; a client may send it back as If-None-Match. */
  etag: string;
  /** True when the asked hash is the content's: the answer may be kept for ever. */
  immutable: boolean;
}

type Index = Record<string, { file: string; hash: string }>;

let index: Index | undefined;

/** `path` is `/openapi/v3` or `/openapi/v3/<group path>`; `hash` its query parameter. Undefined: no such document. */
export function openApiDocument(path: string, hash: string | undefined): OpenApiAnswer | undefined {
  index ??= JSON.parse(readGenerated("index.json")) as Index;
  const name = path.replace(/^\/openapi\/v3\/?/, "").replace(/\/$/, "");
  if (!path.startsWith("/openapi/v3")) return undefined;
  if (name === "") {
    const paths = Object.fromEntries(
      Object.entries(index).map(([key, { hash }]) => [key, { serverRelativeURL: `/openapi/v3/${key}?hash=${hash}` }]),
    );
    const text = JSON.stringify({ paths });
    return { text, etag: `"${new Bun.CryptoHasher("sha256").update(text).digest("hex")}"`, immutable: false };
  }
  const entry = Object.hasOwn(index, name) ? index[name] : undefined;
  if (entry === undefined) return undefined;
  return { text: readGenerated(entry.file), etag: `"${entry.hash}"`, immutable: hash === entry.hash };
}
