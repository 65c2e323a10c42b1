// Everything that changes something: uploads and view counts. Refuses requests that another site made a browser send.

import { type Answer, type App, frameOf, jsonResponse, pageResponse, type Ready } from "./answers.ts";
import { messagePage } from "./pages/message.ts";
import { uploadPage } from "./pages/upload.ts";
import { receiveUpload } from "./receive.ts";

const jsonBytesMax = 4096;

export async function handleWrite(app: App, ready: Ready, request: Request, url: URL): Promise<Answer> {
  const path = url.pathname;
  const isUpload = path === "/upload" || path === "/api/videos";
  const view = /^\/api\/videos\/([0-9A-Za-z]{11})\/views$/.exec(path)?.[1];
  const route = isUpload ? "upload" : view !== undefined ? "views" : "other";
  if (!isUpload && view === undefined) return { response: methodNotAllowed(path), route };
  if (request.method !== "POST") return { response: methodNotAllowed(path), route };
  if (!isSameOrigin(request)) {
    return { response: jsonResponse({ message: "This request comes from another site." }, 403), route };
  }
  const response =
    view === undefined ? await upload(app, ready, request, path) : await countView(app, ready, request, view);
  return { response, route };
}

function methodNotAllowed(path: string): Response {
  const allow =
    path === "/upload" || path === "/api/videos" ? "GET, HEAD, POST" : /\/views$/.test(path) ? "POST" : "GET, HEAD";
  return jsonResponse({ message: "This cannot be done here." }, 405, { Allow: allow });
}

/**
 * Origin check against cross-site request forgery. Browsers send Origin with every POST, other clients need none. Behind a proxy that
 * replaces Host the original one is in X-Forwarded-Host, which a foreign page cannot set either.
 */
export function isSameOrigin(request: Request): boolean {
  const origin = request.headers.get("origin");
  if (origin === null) return !/^(cross-site|same-site)$/.test(request.headers.get("sec-fetch-site") ?? "");
  const hosts = [request.headers.get("host"), ...(request.headers.get("x-forwarded-host") ?? "").split(",")];
  try {
    const host = new URL(origin).host;
    return hosts.some((candidate) => candidate?.trim().toLowerCase() === host);
  } catch {
    return false;
  }
}

async function upload(app: App, ready: Ready, request: Request, path: string): Promise<Response> {
  const wantsJson = path === "/api/videos" || (request.headers.get("accept") ?? "").includes("application/json");
  const outcome = await receiveUpload(request, { ...ready, log: app.log, uploadBytesMax: app.config.uploadBytesMax });
  app.metrics.count("video_uploads_total", "Uploads by outcome.", {
    outcome: outcome.kind === "stored" ? "stored" : `refused_${outcome.status}`,
  });
  if (outcome.kind === "refused") {
    app.log.warn("upload refused", { status: outcome.status, reason: outcome.message });
    if (wantsJson) return jsonResponse({ message: outcome.message }, outcome.status);
    const page = uploadPage(frameOf(app), app.config.uploadBytesMax, outcome);
    const response = pageResponse(request, page, outcome.status);
    response.headers.set("Cache-Control", "no-store");
    return response;
  }
  const { video } = outcome;
  app.log.info("upload stored", { video: video.id, bytes: video.sizeBytes, sha256: video.sha256 });
  const url = `/videos/${video.id}`;
  // For a few seconds this client's pages come past the shared cache: whoever uploads sees the result at once.
  const headers = {
    Location: url,
    "Set-Cookie": "fresh=1; Path=/; Max-Age=5; HttpOnly; SameSite=Lax",
    "Cache-Control": "no-store",
  };
  if (wantsJson) return jsonResponse({ id: video.id, url, video }, 201, headers);
  const page = messagePage(frameOf(app), "Published", "Your video is online.");
  return new Response(page, { status: 303, headers: { ...headers, "Content-Type": "text/html; charset=utf-8" } });
}

async function countView(app: App, ready: Ready, request: Request, id: string): Promise<Response> {
  const playback = await playbackOf(request);
  if (playback === undefined) {
    return jsonResponse({ message: 'Send {"playback": "<8 to 64 characters, new for each playback>"}.' }, 400);
  }
  const counted = await ready.catalogue.countView(id, playback, Date.now());
  if (counted) app.metrics.count("video_views_total", "Views counted by this replica.");
  else if ((await ready.catalogue.get(id)) === undefined) return jsonResponse({ message: "No such video." }, 404);
  return jsonResponse({ counted, views: await ready.catalogue.views(id) });
}

async function playbackOf(request: Request): Promise<string | undefined> {
  if (Number(request.headers.get("content-length") ?? jsonBytesMax + 1) > jsonBytesMax) return undefined;
  const body = (await request.json().catch(() => undefined)) as { playback?: unknown } | undefined;
  const playback = body?.playback;
  return typeof playback === "string" && /^[0-9A-Za-z-]{8,64}$/.test(playback) ? playback : undefined;
}
