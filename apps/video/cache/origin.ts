// Requests to the origin: end-to-end fields only, kept-alive connections, retries where a repetition does no harm.

/** Fields that belong to one connection (RFC 9110 §7.6.1). */
const hopByHop = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "host",
  "expect",
]);

const retriesMax = 2;
const retryAfterMs = 30;
/** Until the head of the answer. */
const answerTimeoutMs = 30_000;

export interface Origin {
  /** A GET or HEAD, repeated when the connection fails before an answer. Throws when the origin cannot be reached. */
  read(method: string, target: string, headers: Headers, signal?: AbortSignal): Promise<Response>;
  /** Everything else, once; the body streams through. */
  send(request: Request, target: string): Promise<Response>;
}

export function createOrigin(base: string): Origin {
  async function attempt(
    method: string,
    target: string,
    headers: Headers,
    signal: AbortSignal | undefined,
  ): Promise<Response> {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(new Error("the origin does not answer")), answerTimeoutMs);
    const onAbort = (): void => abort.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      return await fetch(base + target, {
        method,
        headers,
        redirect: "manual",
        decompress: false,
        signal: abort.signal,
      } as RequestInit);
    } finally {
      clearTimeout(timer);
    }
  }

  return {
    async read(method, target, headers, signal) {
      for (let tries = 0; ; tries += 1) {
        try {
          return await attempt(method, target, headers, signal);
        } catch (error) {
          if (tries >= retriesMax || signal?.aborted) throw error;
          await Bun.sleep(retryAfterMs * 2 ** tries);
        }
      }
    },
    async send(request, target) {
      return await fetch(base + target, {
        method: request.method,
        headers: forwardedHeaders(request),
        body: request.body,
        redirect: "manual",
        decompress: false,
        signal: request.signal,
      } as RequestInit);
    },
  };
}

/** The client's fields as the origin gets them. Trace context and request ids are end-to-end fields and go along. */
export function forwardedHeaders(request: Request): Headers {
  const headers = new Headers();
  const listed = (request.headers.get("connection") ?? "")
    .toLowerCase()
    .split(",")
    .map((name) => name.trim());
  for (const [name, value] of request.headers) {
    if (!hopByHop.has(name) && !listed.includes(name)) headers.append(name, value);
  }
  const host = request.headers.get("host");
  if (host !== null && !headers.has("x-forwarded-host")) headers.set("x-forwarded-host", host);
  // The client's own wish is passed on as it is; the fetch of this runtime would otherwise ask for encodings it did not name.
  if (!headers.has("accept-encoding")) headers.set("accept-encoding", "identity");
  return headers;
}

/** For a response that others will be served from: without what makes it one client's answer. */
export function sharedHeaders(request: Request): Headers {
  const headers = forwardedHeaders(request);
  for (const name of ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]) {
    headers.delete(name);
  }
  headers.delete("cache-control");
  headers.delete("pragma");
  return headers;
}

export function endToEnd(headers: Headers): [string, string][] {
  const listed = (headers.get("connection") ?? "")
    .toLowerCase()
    .split(",")
    .map((name) => name.trim());
  const kept: [string, string][] = [];
  for (const [name, value] of headers) {
    if (!hopByHop.has(name) && !listed.includes(name) && name !== "content-length") kept.push([name, value]);
  }
  return kept;
}
