// What every handler works with: the app's parts, and the forms an answer takes.

import type { Log } from "../shared/log.ts";
import type { Metrics } from "../shared/metrics.ts";
import type { Assets } from "./assets.ts";
import type { Config } from "./config.ts";
import type { Storage } from "./storage.ts";
import type { Catalogue } from "./videos.ts";

/** What exists only after the database and the volume are there. */
export interface Ready {
  catalogue: Catalogue;
  storage: Storage;
}

export interface App {
  config: Config;
  assets: Assets;
  metrics: Metrics;
  log: Log;
  /** Undefined until start-up is complete: such requests are told to come back. */
  ready: Ready | undefined;
  draining: () => boolean;
}

/** `route` names the handler in logs and metrics; it must not contain anything a client chooses. */
export interface Answer {
  response: Response;
  route: string;
}

export const frameOf = (app: App): { assets: Assets; version: string; hostname: string } => ({
  assets: app.assets,
  version: app.config.version,
  hostname: app.config.hostname,
});

/** Shared caches keep pages for two seconds and older ones while they fetch anew or the server is down; browsers always ask. */
const pageCache = "public, max-age=0, s-maxage=2, stale-while-revalidate=10, stale-if-error=600";

/** A page with a validator; 304 when the client has it already. */
export function pageResponse(request: Request, body: string, status = 200): Response {
  const etag = `"${Bun.hash(body).toString(16)}"`;
  const headers = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": status === 200 ? pageCache : "public, max-age=0, s-maxage=1",
    ETag: etag,
  };
  const known = request.headers
    .get("if-none-match")
    ?.split(",")
    .map((tag) => tag.trim().replace(/^W\//, ""));
  if (status === 200 && (known?.includes(etag) || known?.includes("*")))
    return new Response(null, { status: 304, headers });
  return new Response(body, { status, headers });
}

export function jsonResponse(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return Response.json(body, { status, headers: { "Cache-Control": "no-store", ...headers } });
}
