// The REST request and answer as plain values: what the API server's core handles and what a client transport carries.

import type { WatchEvent } from "./object.ts";

export interface ApiRequest {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Without the query: /api/v1/namespaces/default/pods */
  path: string;
  query?: Record<string, string>;
  /** Of the body; for PATCH one of the four patch types. JSON when absent. */
  contentType?: string;
  /** Decoded JSON. */
  body?: unknown;
}

export interface ApiResponse {
  status: number;
  /** Decoded JSON: an object, a list or a Status. */
  body: unknown;
}

/** How a client reaches the API server: over HTTPS or inside the process. */
export interface ApiTransport {
  request(request: ApiRequest): Promise<ApiResponse>;
  /** Yields events until the server ends the watch (normal) or `signal` aborts. Throws only when the watch cannot start. */
  watch(request: ApiRequest, signal: AbortSignal): AsyncIterable<WatchEvent>;
}
