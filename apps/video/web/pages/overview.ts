// The start page: all videos, newest or most viewed first, by category and search, in pages.

import { type Html, html } from "../html.ts";
import type { Query, Video } from "../videos.ts";
import { card, type Frame, renderPage } from "./layout.ts";

export interface Overview {
  query: Query;
  videos: readonly Video[];
  total: number;
  categories: readonly { name: string; count: number }[];
  nowMs: number;
}

export function overviewPage(frame: Frame, data: Overview): string {
  const { query } = data;
  const heading =
    query.search !== ""
      ? `Results for “${query.search}”`
      : query.category !== ""
        ? capital(query.category)
        : "All videos";
  return renderPage(frame, {
    title: query.search === "" && query.category === "" ? "Lumen: videos" : `${heading} · Lumen`,
    description: "Watch and share short videos.",
    search: query.search,
    active: "home",
    main: html`${chips(data)}
<div class="heading"><h1>${heading}<span class="count">${data.total}</span></h1>
<nav class="tabs" aria-label="Order">${tab(query, "new", "Newest")}${tab(query, "views", "Most viewed")}</nav></div>
${data.videos.length === 0 ? empty(query) : html`<ul class="grid">${data.videos.map((video, i) => card(video, data.nowMs, i < 4))}</ul>`}
${pager(data)}`,
  });
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function link(query: Query, change: Partial<Query>): string {
  const next = { ...query, offset: 0, ...change };
  const parameters = new URLSearchParams();
  if (next.search !== "") parameters.set("q", next.search);
  if (next.category !== "") parameters.set("category", next.category);
  if (next.sort !== "new") parameters.set("sort", next.sort);
  if (next.offset > 0) parameters.set("page", String(Math.floor(next.offset / next.limit) + 1));
  const text = parameters.toString();
  return text === "" ? "/" : `/?${text}`;
}

function chips({ query, categories }: Overview): Html | string {
  if (categories.length === 0) return "";
  const chip = (name: string, label: string): Html =>
    html`<a class="chip" href="${link(query, { category: name })}"${query.category === name ? html` aria-current="true"` : ""}>${label}</a>`;
  return html`<nav class="chips" aria-label="Categories">${chip("", "All")}${categories.map((entry) => chip(entry.name, capital(entry.name)))}</nav>`;
}

function tab(query: Query, sort: Query["sort"], label: string): Html {
  return html`<a href="${link(query, { sort })}"${query.sort === sort ? html` aria-current="true"` : ""}>${label}</a>`;
}

function empty(query: Query): Html {
  if (query.search === "" && query.category === "") {
    return html`<div class="empty"><p class="big">Nothing here yet</p><p>Be the first to share a video.</p><a class="button primary" href="/upload">Upload a video</a></div>`;
  }
  return html`<div class="empty"><p class="big">No video found</p><p>Try other words, or look at everything there is.</p><a class="button" href="/">Show all videos</a></div>`;
}

function pager({ query, total }: Overview): Html | string {
  const pages = Math.ceil(total / query.limit);
  const current = Math.floor(query.offset / query.limit) + 1;
  if (pages <= 1) return "";
  const to = (page: number): string => link(query, { offset: (page - 1) * query.limit });
  return html`<nav class="pager" aria-label="Pages">
${current > 1 ? html`<a class="button" rel="prev" href="${to(current - 1)}">Previous</a>` : ""}
<span>Page ${current} of ${pages}</span>
${current < pages ? html`<a class="button" rel="next" href="${to(current + 1)}">Next</a>` : ""}</nav>`;
}
