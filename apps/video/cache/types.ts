// The cache's vocabulary. Types only.

/** As nginx writes it in $upstream_cache_status. */
export type CacheStatus = "HIT" | "MISS" | "EXPIRED" | "BYPASS" | "STALE" | "UPDATING" | "REVALIDATED";

/** How long a response may be used, in ms since `storedAtMs` (RFC 9111 §4.2, RFC 5861). */
export interface Freshness {
  /** When the response arrived. */
  storedAtMs: number;
  /** The response's age at that moment. */
  initialAgeMs: number;
  freshMs: number;
  /** After freshMs: may be served while it is fetched anew. */
  staleWhileRevalidateMs: number;
  /** After freshMs: may be served when the origin fails. */
  staleIfErrorMs: number;
}

/** What is known of a stored response besides its bytes; the first part of its file. */
export interface Meta extends Freshness {
  /** Path and query; then "#<n>" for a slice; then the values of the fields named by Vary. */
  key: string;
  status: number;
  /** End-to-end fields as received. */
  headers: [string, string][];
  etag: string | undefined;
  lastModified: string | undefined;
  /** Lower-case names from Vary. */
  vary: string[];
  /** Of a slice: its place in the representation. */
  slice: { offset: number; totalBytes: number } | undefined;
  bodyBytes: number;
}

export interface Entry {
  meta: Meta;
  path: string;
  /** The body begins here in the file. */
  bodyOffset: number;
  /** Small bodies are kept in memory too, as long as there is room. */
  hot: Uint8Array<ArrayBuffer> | undefined;
}

/** Bytes of a stored response: on disk, or in memory when the disk would not take them. */
export type Source = { kind: "file"; entry: Entry } | { kind: "memory"; bytes: Uint8Array<ArrayBuffer> };

/** What goes out, before any server library sees it. */
export interface Reply {
  status: number;
  headers: [string, string][];
  cacheStatus: CacheStatus;
  body:
    | { kind: "none" }
    | { kind: "bytes"; bytes: Uint8Array<ArrayBuffer> }
    | { kind: "file"; path: string; from: number; to: number }
    | { kind: "chunks"; chunks: AsyncIterable<Uint8Array>; lengthBytes: number | undefined }
    | { kind: "stream"; stream: ReadableStream<Uint8Array> };
}
