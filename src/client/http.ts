// The HTTPS transport: fetch with client certificates; a watch is one streaming answer of JSON lines.

import type { Status, WatchEvent } from "../api/object.ts";
import type { ApiRequest, ApiResponse, ApiTransport } from "../api/rest.ts";
import { type Clock, realClock } from "../kernel/clock.ts";
import { MeshbedError, messageOf } from "../kernel/errors.ts";
import { ApiError } from "./types.ts";

export interface HttpTransportOptions {
  /** https://host:port without a trailing slash. */
  server: string;
  caPem: string;
  certPem?: string;
  keyPem?: string;
  /** A request without an answer after this long is given up; watches are not limited. Default 30 s. */
  requestTimeoutMs?: number;
  clock?: Clock;
}

/** One watch event larger than this ends the watch (the API server refuses objects above 3 MiB). */
const lineSizeCharsMax = 16 * 1024 * 1024;

/** Throws MeshbedError API_UNREACHABLE when no answer comes; every answer, also a refusal, is returned. */
export function httpTransport(options: HttpTransportOptions): ApiTransport {
  const { server, caPem, certPem, keyPem, requestTimeoutMs = 30_000, clock = realClock } = options;
  const tls = { ca: caPem, ...(certPem && { cert: certPem }), ...(keyPem && { key: keyPem }) };

  const open = async (request: ApiRequest, signal: AbortSignal): Promise<Response> => {
    const url = new URL(request.path, server);
    for (const [name, value] of Object.entries(request.query ?? {})) url.searchParams.set(name, value);
    const init: BunFetchRequestInit & { timeout?: boolean } = {
      method: request.method,
      headers: {
        accept: "application/json",
        ...(request.body === undefined ? {} : { "content-type": request.contentType ?? "application/json" }),
      },
      ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
      signal,
      tls,
      timeout: false, // Bun's own limit would cut long watches; ours is the signal.
    };
    try {
      return await fetch(url, init);
    } catch (error) {
      throw new MeshbedError("API_UNREACHABLE", `${request.method} ${url}: ${messageOf(error)}`, {
        fix: "is the API server running?",
        cause: error,
      });
    }
  };

  return {
    async request(request): Promise<ApiResponse> {
      const abort = new AbortController();
      const cancel = clock.after(requestTimeoutMs, () => abort.abort(new Error(`no answer in ${requestTimeoutMs} ms`)));
      try {
        const response = await open(request, abort.signal);
        return { status: response.status, body: await bodyOf(response) };
      } finally {
        cancel();
      }
    },

    async *watch(request, signal): AsyncIterable<WatchEvent> {
      const response = await open(request, signal);
      if (!response.ok) throw new ApiError(response.status, await bodyOf(response));
      if (response.body === null) return;
      yield* jsonLines(response.body, signal);
    },
  };
}

async function bodyOf(response: Response): Promise<unknown> {
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.includes("json") ?? false;
  if (!isJson || text === "") return text;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new MeshbedError("API_BAD_ANSWER", `the server's answer is not JSON: ${messageOf(error)}`);
  }
}

/** A connection that breaks in the middle ends the iteration like a normal end: the watcher resumes at its last revision. */
async function* jsonLines(body: ReadableStream<Uint8Array>, signal: AbortSignal): AsyncIterable<WatchEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(() => ({ done: true, value: undefined }));
      if (done || signal.aborted) return;
      rest += decoder.decode(value, { stream: true });
      let start = 0;
      for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n", start)) {
        const line = rest.slice(start, end);
        start = end + 1;
        if (line.trim() !== "") yield parseEvent(line);
      }
      rest = rest.slice(start);
      if (rest.length > lineSizeCharsMax) yield errorEvent("a watch event exceeds the size limit");
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parseEvent(line: string): WatchEvent {
  try {
    return JSON.parse(line) as WatchEvent;
  } catch {
    return errorEvent("a watch event is not JSON");
  }
}

function errorEvent(message: string): WatchEvent {
  const status: Status = { apiVersion: "v1", kind: "Status", metadata: {}, status: "Failure", message, code: 500 };
  return { type: "ERROR", object: status as never };
}
