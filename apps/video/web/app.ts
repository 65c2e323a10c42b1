// The request handler: routes, headers that every answer carries, access log and metrics around them.

import { traceIdOf } from "../shared/log.ts";
import { type Answer, type App, frameOf } from "./answers.ts";
import { messagePage } from "./pages/message.ts";
import { handleRead } from "./read.ts";
import { handleWrite } from "./write.ts";

const securityHeaders: Readonly<Record<string, string>> = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "same-origin",
  "X-Frame-Options": "DENY",
  "Cross-Origin-Opener-Policy": "same-origin",
};

export function createHandler(app: App): (request: Request) => Promise<Response> {
  const { config, metrics, log } = app;
  return async (request) => {
    const startedAt = performance.now();
    const url = new URL(request.url);
    const { response, route } = await answer(app, request, url);
    for (const [name, value] of Object.entries(securityHeaders)) {
      if (!response.headers.has(name)) response.headers.set(name, value);
    }
    response.headers.set("X-Served-By", config.hostname);
    response.headers.set("X-App-Version", config.version);
    if (app.draining()) response.headers.set("Connection", "close");
    const seconds = (performance.now() - startedAt) / 1000;
    const status = response.status;
    metrics.count("video_http_requests_total", "Requests answered.", {
      route,
      method: methodLabel(request.method),
      status,
    });
    metrics.observeSeconds(
      "video_http_request_duration_seconds",
      "Time until the answer's head was ready.",
      { route },
      seconds,
    );
    if (config.accessLog && route !== "probe") {
      log.info("request", {
        method: request.method,
        path: url.pathname.slice(0, 200),
        status,
        ms: Math.round(seconds * 10_000) / 10,
        request_id: request.headers.get("x-request-id") ?? undefined,
        trace_id: traceIdOf(request.headers.get("traceparent")),
      });
    }
    return response;
  };
}

const methodLabel = (method: string): string =>
  /^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$/.test(method) ? method : "other";

async function answer(app: App, request: Request, url: URL): Promise<Answer> {
  try {
    const probe = await answerProbe(app, url.pathname);
    if (probe !== undefined) return { response: probe, route: "probe" };
    const asset = app.assets.find(url.pathname);
    if (asset !== undefined) {
      const cache = asset.exact ? "public, max-age=31536000, immutable" : "public, max-age=0, s-maxage=1";
      const headers = { "Content-Type": asset.asset.type, "Cache-Control": cache };
      return { response: new Response(asset.asset.body, { headers }), route: "asset" };
    }
    if (app.ready === undefined) return unavailable(app, "The server is starting. Please try again in a moment.");
    if (request.method === "GET" || request.method === "HEAD") return await handleRead(app, app.ready, request, url);
    return await handleWrite(app, app.ready, request, url);
  } catch (error) {
    app.log.error("request failed", { path: url.pathname.slice(0, 200), error: (error as Error).message });
    return unavailable(app, "Something went wrong on our side. Please try again in a moment.");
  }
}

function unavailable(app: App, text: string): Answer {
  const headers = { "Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Retry-After": "1" };
  return {
    response: new Response(messagePage(frameOf(app), "Not available", text), { status: 503, headers }),
    route: "unavailable",
  };
}

async function answerProbe(app: App, path: string): Promise<Response | undefined> {
  const plain = (status: number, text: string): Response =>
    new Response(`${text}\n`, { status, headers: { "Content-Type": "text/plain", "Cache-Control": "no-store" } });
  if (path === "/healthz") return plain(200, "ok");
  if (path === "/readyz") {
    if (app.draining()) return plain(503, "draining");
    if (app.ready === undefined) return plain(503, "starting");
    try {
      await app.ready.catalogue.ping();
      return plain(200, "ready");
    } catch {
      return plain(503, "no database");
    }
  }
  if (path !== "/metrics") return undefined;
  return new Response(app.metrics.text(), {
    headers: { "Content-Type": "text/plain; version=0.0.4; charset=utf-8", "Cache-Control": "no-store" },
  });
}
