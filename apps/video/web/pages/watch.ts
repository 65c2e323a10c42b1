// The playback page: player, facts, description, related videos.

import { html } from "../html.ts";
import type { Video } from "../videos.ts";
import {
  card,
  type Frame,
  formatAge,
  formatBytes,
  formatDuration,
  formatViews,
  renderPage,
  thumbnailUrl,
} from "./layout.ts";

export function watchPage(frame: Frame, video: Video, related: readonly Video[], nowMs: number): string {
  const facts: [string, string][] = [
    ["Length", formatDuration(video.durationMs)],
    ["Picture", video.width > 0 ? `${video.width} × ${video.height}` : ""],
    ["File", `${formatBytes(video.sizeBytes)}, ${video.mime === "video/mp4" ? "MP4" : "WebM"}`],
    ["Published", new Date(video.createdAtMs).toUTCString().slice(5, 16)],
  ];
  const ratio = video.width > 0 && video.height > 0 && video.height > video.width ? "tall" : "";
  return renderPage(frame, {
    title: `${video.title} · Lumen`,
    description: video.description.slice(0, 160) || `Watch “${video.title}”.`,
    picture: thumbnailUrl(video),
    scripts: ["player.js"],
    main: html`<div class="watch">
<article>
<div class="player ${ratio}"><video id="player" controls playsinline preload="metadata" poster="${thumbnailUrl(video)}" src="/media/${video.file}" data-id="${video.id}" aria-label="${video.title}">
Your browser cannot play this video. <a href="/media/${video.file}">Download it</a> instead.</video></div>
<noscript><img class="hidden" src="/videos/${video.id}/seen.gif" alt="" width="1" height="1"></noscript>
<h1>${video.title}</h1>
<div class="meta"><p class="facts"><span id="views" data-views="${video.views}">${formatViews(video.views)}</span> <span aria-hidden="true">·</span> <time datetime="${new Date(video.createdAtMs).toISOString()}">${formatAge(video.createdAtMs, nowMs)}</time></p>
<p class="tags">${video.categories.map((name) => html`<a class="chip" href="/?category=${encodeURIComponent(name)}">${name}</a>`)}</p></div>
<section class="panel" aria-label="About this video">
${video.description === "" ? html`<p class="quiet">No description.</p>` : html`<p class="description">${video.description}</p>`}
<dl>${facts.filter(([, value]) => value !== "").map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
<a class="quiet" href="/media/${video.file}" download="${video.title.replace(/[^\w -]+/g, "").slice(0, 60) || video.id}.${video.file.split(".").at(-1) ?? ""}">Download the file</a>
</section>
</article>
<aside aria-labelledby="more"><h2 id="more">Watch next</h2>
${related.length === 0 ? html`<p class="quiet">This is the only video so far.</p>` : html`<ul class="side">${related.map((other) => card(other, nowMs, false))}</ul>`}
</aside></div>`,
  });
}
