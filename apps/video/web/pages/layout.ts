// The frame of every page: head, header with search, footer; and the small pieces that pages share.

import type { AssetName, Assets } from "../assets.ts";
import { type Html, html } from "../html.ts";
import type { Video } from "../videos.ts";

export interface Frame {
  assets: Assets;
  version: string;
  hostname: string;
}

export interface Page {
  title: string;
  description: string;
  search?: string;
  scripts?: readonly AssetName[];
  active?: "home" | "upload";
  /** Opening tags of a shared link: path of the picture. */
  picture?: string;
  main: Html;
}

const logo = html`<svg class="logo" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="9"/><path d="M12.5 9.6c0-1.2 1.3-1.9 2.3-1.3l9 6.2c1 .6 1 2.1 0 2.8l-9 6.3c-1 .6-2.3-.1-2.3-1.3z"/><path d="M7 10v12" stroke-width="2.6" stroke-linecap="round"/></svg>`;

export function renderPage(frame: Frame, page: Page): string {
  const { assets, version } = frame;
  const document = html`<!doctype html>
<html lang="en" data-version="${version}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${page.title}</title>
<meta name="description" content="${page.description}">
<meta name="color-scheme" content="light dark">
<meta property="og:title" content="${page.title}">
${page.picture === undefined ? "" : html`<meta property="og:image" content="${page.picture}">`}
<link rel="icon" type="image/svg+xml" href="${assets.url("favicon.svg")}">
<link rel="stylesheet" href="${assets.url("app.css")}">
<script src="${assets.url("theme.js")}"></script>
${(page.scripts ?? []).map((name) => html`<script src="${assets.url(name)}" defer></script>`)}
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header class="top">
<div class="wrap bar">
<a class="brand" href="/" aria-label="Lumen, all videos">${logo}<span>Lumen</span>${version === "v1" ? "" : html`<span class="version">${version}</span>`}</a>
<form class="search" action="/" role="search">
<label class="hidden" for="q">Search videos</label>
<input id="q" name="q" type="search" placeholder="Search videos" value="${page.search ?? ""}" maxlength="100" autocomplete="off">
<button type="submit" aria-label="Search"><svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="10.5" cy="10.5" r="6.5"/><path d="m15.5 15.5 5 5"/></svg></button>
</form>
<button class="theme" type="button" id="theme" hidden aria-label="Switch between light and dark"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 3a9 9 0 1 0 9 9 7 7 0 0 1-9-9z"/></svg></button>
<a class="button primary" href="/upload"${page.active === "upload" ? html` aria-current="page"` : ""}><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 16V4m0 0L7 9m5-5 5 5M4 16v3a1.5 1.5 0 0 0 1.5 1.5h13A1.5 1.5 0 0 0 20 19v-3"/></svg><span>Upload</span></a>
</div>
</header>
<main id="main" class="wrap">
${page.main}
</main>
<footer class="wrap foot"><span>Lumen ${version}</span><span>served by ${frame.hostname}</span></footer>
</body>
</html>`;
  return document.text;
}

/** 83000 → "1:23"; 3723000 → "1:02:03"; unknown → "". */
export function formatDuration(durationMs: number): string {
  if (durationMs <= 0) return "";
  const seconds = Math.max(1, Math.round(durationMs / 1000));
  const two = (n: number): string => String(n).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

export function formatViews(views: number): string {
  if (views === 1) return "1 view";
  if (views < 1000) return `${views} views`;
  const [value, unit] = views < 1_000_000 ? [views / 1000, "K"] : [views / 1_000_000, "M"];
  return `${value < 10 ? Math.floor(value * 10) / 10 : Math.floor(value)}${unit} views`;
}

export function formatBytes(bytes: number): string {
  if (bytes < 1024 ** 2) return `${Math.max(1, Math.round(bytes / 1024))} KB`;
  return bytes < 1024 ** 3 ? `${(bytes / 1024 ** 2).toFixed(1)} MB` : `${(bytes / 1024 ** 3).toFixed(2)} GB`;
}

export function formatAge(createdAtMs: number, nowMs: number): string {
  const steps: [string, number][] = [
    ["year", 365 * 86_400],
    ["month", 30 * 86_400],
    ["week", 7 * 86_400],
    ["day", 86_400],
    ["hour", 3600],
    ["minute", 60],
  ];
  const seconds = (nowMs - createdAtMs) / 1000;
  for (const [unit, size] of steps) {
    const count = Math.floor(seconds / size);
    if (count >= 1) return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
  }
  return "just now";
}

export const thumbnailUrl = (video: Pick<Video, "id" | "thumbnail">): string =>
  `/thumbs/${video.thumbnail === "" ? `${video.id}.svg` : video.thumbnail}`;

export function card(video: Video, nowMs: number, eager: boolean): Html {
  const duration = formatDuration(video.durationMs);
  return html`<li class="card"><a href="/videos/${video.id}">
<span class="frame"><img src="${thumbnailUrl(video)}" alt="" width="640" height="360" ${eager ? html`fetchpriority="high"` : html`loading="lazy"`} decoding="async">${duration === "" ? "" : html`<span class="duration"><span class="hidden">Length </span>${duration}</span>`}</span>
<span class="name">${video.title}</span></a>
<p class="facts">${formatViews(video.views)} <span aria-hidden="true">·</span> <time datetime="${new Date(video.createdAtMs).toISOString()}">${formatAge(video.createdAtMs, nowMs)}</time></p>
</li>`;
}
