// Decides for each request: answer from the store, in slices, or straight from the origin.

import { type Log, traceIdOf } from "../shared/log.ts";
import type { Metrics } from "../shared/metrics.ts";
import type { Config } from "./config.ts";
import { parseCacheControl } from "./freshness.ts";
import type { Store } from "./obtain.ts";
import { forwardedHeaders, type Origin } from "./origin.ts";
import { failureReply, passedReply, readSource, replyFrom, toResponse } from "./reply.ts";
import type { Slices } from "./slices.ts";
import type { Reply } from "./types.ts";

export interface HandlerDeps {
  config: Config;
  store: Store;
  slices: Slices;
  origin: Origin;
  metrics: Metrics;
  log: Log;
  draining: () => boolean;
}

export function createHandler(deps: HandlerDeps): (request: Request) => Promise<Response> {
  const { config, metrics, log } = deps;
  const via = `1.1 ${config.hostname} (video-cache)`;
  return async (request) => {
    const startedAt = performance.now();
    const target = request.url.slice(request.url.indexOf("/", 8));
    if (target.startsWith("/-/")) return answerProbe(deps, target);
    let reply: Reply;
    try {
      reply = await replyTo(deps, request, target);
    } catch (error) {
      log.warn("request failed", { path: target.slice(0, 200), error: (error as Error).message });
      reply = failureReply(502, "MISS");
    }
    const response = toResponse(reply, request.method, via);
    if (deps.draining()) response.headers.set("Connection", "close");
    const seconds = (performance.now() - startedAt) / 1000;
    metrics.count("video_cache_requests_total", "Requests by cache status.", {
      cache: reply.cacheStatus,
      status: reply.status,
    });
    metrics.observeSeconds(
      "video_cache_request_duration_seconds",
      "Time until the answer's head was ready.",
      {},
      seconds,
    );
    if (config.accessLog) {
      log.info("request", {
        method: request.method,
        path: target.slice(0, 200),
        range: request.headers.get("range")?.slice(0, 100) ?? undefined,
        status: reply.status,
        cache: reply.cacheStatus,
        ms: Math.round(seconds * 10_000) / 10,
        request_id: request.headers.get("x-request-id") ?? undefined,
        trace_id: traceIdOf(request.headers.get("traceparent")),
      });
    }
    return response;
  };
}

async function replyTo(deps: HandlerDeps, request: Request, target: string): Promise<Reply> {
  const { config, store, slices, origin } = deps;
  if (request.method !== "GET" && request.method !== "HEAD") {
    const response = await origin.send(request, target);
    if (response.status < 400) invalidate(deps, target, response);
    return passedReply(response, "BYPASS");
  }
  if (bypasses(request)) return pass(origin, request, target);
  if (config.slicePaths.some((prefix) => target.startsWith(prefix))) return slices.reply(request, target);
  const obtained = await store.obtain(request, { target, suffix: "", range: undefined });
  if (obtained.kind === "failed") return failureReply(502, obtained.status);
  if (obtained.kind === "passed") return passedReply(obtained.response, obtained.status);
  const { meta, source, status } = obtained;
  return replyFrom(request, {
    meta,
    totalBytes: meta.bodyBytes,
    read: (from, to) => readSource(source, from, to),
    cacheStatus: () => status,
  });
}

/** What may be one client's own is neither stored nor served from the store. */
function bypasses(request: Request): boolean {
  const { headers } = request;
  if (headers.has("cookie") || headers.has("authorization")) return true;
  return parseCacheControl(headers.get("cache-control")).has("no-store");
}

async function pass(origin: Origin, request: Request, target: string): Promise<Reply> {
  return passedReply(await origin.read(request.method, target, forwardedHeaders(request), request.signal), "BYPASS");
}

/** RFC 9111 §4.4: the target itself, and what the answer names, as long as it is here. */
function invalidate({ store }: HandlerDeps, target: string, response: Response): void {
  store.invalidate(target);
  for (const name of ["location", "content-location"]) {
    const value = response.headers.get(name);
    if (value?.startsWith("/") && !value.startsWith("//")) store.invalidate(value);
  }
}

function answerProbe({ metrics, draining }: HandlerDeps, target: string): Response {
  const plain = (status: number, text: string): Response =>
    new Response(text, {
      status,
      headers: { "Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store" },
    });
  if (target === "/-/healthz") return plain(200, "ok\n");
  if (target === "/-/readyz") return draining() ? plain(503, "draining\n") : plain(200, "ready\n");
  return target === "/-/metrics" ? plain(200, metrics.text()) : plain(404, "not found\n");
}
