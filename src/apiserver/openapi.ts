// The OpenAPI v3 documents that kubectl explains and validates with: generated at build time, read from disk when asked for.

import { readGenerated } from "../api/schema.ts";

export interface OpenApiAnswer {
  contentType: string;
  /** JSON; of version 2 a protobuf message of ASCII bytes only. */
  text: string;
  /** Of the content; a client may send it back as If-None-Match. */
  etag: string;
  /** True when the asked hash is the content's: the answer may be kept for ever. */
  immutable: boolean;
}

/**
 * OpenAPI v2, for which kubectl asks when a kind is in no v3 document, in protobuf (gnostic's openapiv2.Document): swagger "2.0",
 * info, no paths. Finding nothing there it goes on to say "no matches for kind"; without the document it would only say that
 * the server lacks something.
 */
const version2 = message(1, "2.0") + message(2, message(1, "Kubernetes") + message(2, "v1.32.0")) + message(8, "");
const version2Type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/** A length-delimited protobuf field of at most 127 bytes. */
function message(field: number, content: string): string {
  return String.fromCharCode((field << 3) | 2, content.length) + content;
}

type Index = Record<string, { file: string; hash: string }>;

let index: Index | undefined;

/** `path` is `/openapi/v2`, `/openapi/v3` or `/openapi/v3/<group path>`; `hash` its query parameter. Undefined: no such document. */
export function openApiDocument(path: string, hash: string | undefined): OpenApiAnswer | undefined {
  if (path === "/openapi/v2") return { contentType: version2Type, text: version2, etag: '"none"', immutable: false };
  index ??= JSON.parse(readGenerated("index.json")) as Index;
  const contentType = "application/json";
  const name = path.replace(/^\/openapi\/v3\/?/, "").replace(/\/$/, "");
  if (!path.startsWith("/openapi/v3")) return undefined;
  if (name === "") {
    const paths = Object.fromEntries(
      Object.entries(index).map(([key, { hash }]) => [key, { serverRelativeURL: `/openapi/v3/${key}?hash=${hash}` }]),
    );
    const text = JSON.stringify({ paths });
    return {
      contentType,
      text,
      etag: `"${new Bun.CryptoHasher("sha256").update(text).digest("hex")}"`,
      immutable: false,
    };
  }
  const entry = Object.hasOwn(index, name) ? index[name] : undefined;
  if (entry === undefined) return undefined;
  return { contentType, text: readGenerated(entry.file), etag: `"${entry.hash}"`, immutable: hash === entry.hash };
}
