// Everything that is read: pages, video files, thumbnails, the JSON API.

import { type Answer, type App, frameOf, jsonResponse, pageResponse, type Ready } from "./answers.ts";
import { sendFile } from "./delivery.ts";
import { messagePage } from "./pages/message.ts";
import { overviewPage } from "./pages/overview.ts";
import { uploadPage } from "./pages/upload.ts";
import { watchPage } from "./pages/watch.ts";
import { drawPoster } from "./thumbnails.ts";
import { categoryCharsMax, type Query, searchCharsMax } from "./videos.ts";

const perPage = 24;
/** Offsets beyond this make the database count for nothing. */
const pageMax = 1000;
const relatedMax = 8;
/** Files never change under their name; the shared cache asks from time to time whether they are still there. */
const mediaCache = "public, max-age=86400, s-maxage=600, stale-while-revalidate=60, stale-if-error=86400";

const mediaTypes: Readonly<Record<string, string>> = {
  mp4: "video/mp4",
  webm: "video/webm",
  jpg: "image/jpeg",
  png: "image/png",
  webp: "image/webp",
};

export async function handleRead(app: App, ready: Ready, request: Request, url: URL): Promise<Answer> {
  const path = url.pathname;
  if (path === "/") return { response: await overview(app, ready, request, url), route: "overview" };
  if (path === "/upload") {
    return { response: pageResponse(request, uploadPage(frameOf(app), app.config.uploadBytesMax)), route: "upload" };
  }
  if (path === "/robots.txt") {
    const headers = { "Content-Type": "text/plain", "Cache-Control": "public, max-age=3600" };
    return {
      response: new Response("User-agent: *\nDisallow: /media/\nDisallow: /api/\n", { headers }),
      route: "robots",
    };
  }
  const watch = /^\/videos\/([0-9A-Za-z]{11})(\/seen\.gif)?$/.exec(path);
  if (watch?.[1] !== undefined && watch[2] !== undefined) {
    return { response: await seen(app, ready, watch[1]), route: "seen" };
  }
  if (watch?.[1] !== undefined) {
    const video = await ready.catalogue.get(watch[1]);
    if (video === undefined) return notFound(app, request, "watch");
    const related = await ready.catalogue.related(video, relatedMax);
    return { response: pageResponse(request, watchPage(frameOf(app), video, related, Date.now())), route: "watch" };
  }
  const file = /^\/(media|thumbs)\/([0-9A-Za-z]{11})\.(mp4|webm|jpg|png|webp|svg)$/.exec(path);
  if (file !== null) return deliver(app, ready, request, file[1] as "media" | "thumbs", file[2] ?? "", file[3] ?? "");
  if (path.startsWith("/api/")) return { response: await readApi(app, ready, path, url), route: "api" };
  return notFound(app, request, "other");
}

function notFound(app: App, request: Request, route: string): Answer {
  const page = messagePage(frameOf(app), "Page not found", "This page or video does not exist, or not any more.");
  return { response: pageResponse(request, page, 404), route };
}

function queryOf(url: URL): Query {
  const page = Number(url.searchParams.get("page") ?? 1);
  const number = Number.isSafeInteger(page) && page >= 1 ? Math.min(page, pageMax) : 1;
  return {
    search: (url.searchParams.get("q") ?? "")
      .replace(/[\p{C}\s]+/gu, " ")
      .trim()
      .slice(0, searchCharsMax),
    category: (url.searchParams.get("category") ?? "").toLowerCase().slice(0, categoryCharsMax),
    sort: url.searchParams.get("sort") === "views" ? "views" : "new",
    offset: (number - 1) * perPage,
    limit: perPage,
  };
}

async function overview(app: App, ready: Ready, request: Request, url: URL): Promise<Response> {
  const query = queryOf(url);
  const { videos, total } = await ready.catalogue.list(query);
  const categories = await ready.catalogue.categories();
  return pageResponse(request, overviewPage(frameOf(app), { query, videos, total, categories, nowMs: Date.now() }));
}

async function deliver(
  app: App,
  ready: Ready,
  request: Request,
  shelf: "media" | "thumbs",
  id: string,
  extension: string,
): Promise<Answer> {
  if (shelf === "thumbs" && extension === "svg") {
    const video = await ready.catalogue.get(id);
    if (video === undefined) return notFound(app, request, "thumbs");
    const headers = { "Content-Type": "image/svg+xml", "Cache-Control": "public, max-age=60" };
    return { response: new Response(drawPoster(video), { headers }), route: "thumbs" };
  }
  const isVideo = extension === "mp4" || extension === "webm";
  if (isVideo !== (shelf === "media")) return notFound(app, request, shelf);
  const response = await sendFile(request, ready.storage.path(shelf, `${id}.${extension}`), {
    "Content-Type": mediaTypes[extension] ?? "application/octet-stream",
    "Cache-Control": mediaCache,
  });
  return response === undefined ? notFound(app, request, shelf) : { response, route: shelf };
}

/** The view counter of browsers without JavaScript: one per showing of the page, as there is nothing that knows about playback. */
async function seen(app: App, ready: Ready, id: string): Promise<Response> {
  if (await ready.catalogue.countView(id, crypto.randomUUID(), Date.now())) {
    app.metrics.count("video_views_total", "Views counted by this replica.");
  }
  const pixel = Buffer.from("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7", "base64");
  return new Response(pixel, { headers: { "Content-Type": "image/gif", "Cache-Control": "no-store" } });
}

async function readApi(app: App, ready: Ready, path: string, url: URL): Promise<Response> {
  if (path === "/api/version") return jsonResponse({ version: app.config.version, hostname: app.config.hostname });
  if (path === "/api/videos") {
    const query = queryOf(url);
    const { videos, total } = await ready.catalogue.list(query);
    return jsonResponse({ total, page: query.offset / query.limit + 1, perPage, videos });
  }
  const id = /^\/api\/videos\/([0-9A-Za-z]{11})$/.exec(path)?.[1];
  const video = id === undefined ? undefined : await ready.catalogue.get(id);
  return video === undefined ? jsonResponse({ message: "No such resource." }, 404) : jsonResponse(video);
}
