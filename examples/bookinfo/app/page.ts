// The HTML of Bookinfo's page: plain, readable in a browser and by a test.
import type { Reviews } from "./reviews.ts";

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
const escapeHtml = (value: unknown): string => String(value).replace(/[&<>"']/g, (character) => entities[character]!);

const starsMax = 5;

function stars(rating: Reviews["reviews"][number]["rating"]): string {
  if (rating === undefined) return "";
  if ("error" in rating) return `<p class="unavailable">${escapeHtml(rating.error)}</p>`;
  const given = Math.min(starsMax, Math.max(0, rating.stars));
  const text = "★".repeat(given) + "☆".repeat(starsMax - given);
  return `<p class="stars" style="color:${escapeHtml(rating.color)}">${text}</p>`;
}

const unavailable = (what: string): string =>
  `<p><b>Error fetching product ${what}!</b></p><p>Sorry, product ${what} are currently unavailable for this book.</p>`;

const reviewsPart = (reviews: Reviews | undefined): string =>
  reviews === undefined
    ? unavailable("reviews")
    : `${reviews.reviews
        .map(
          ({ reviewer, text, rating }) =>
            `<blockquote>${escapeHtml(text)}<footer>${escapeHtml(reviewer)}</footer>${stars(rating)}</blockquote>`,
        )
        .join("")}<p class="served">Reviews served by ${escapeHtml(reviews.podname)}</p>`;

const detailsPart = (details: Readonly<Record<string, string | number>> | undefined): string =>
  details === undefined
    ? unavailable("details")
    : `<dl>${Object.entries(details)
        .filter(([name]) => name !== "id")
        .map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`)
        .join("")}</dl>`;

const session = (user: string | undefined): string =>
  user === undefined
    ? '<form method="post" action="/login"><input name="username" placeholder="user name"><button>Sign in</button></form>'
    : `<p><b>${escapeHtml(user)}</b> (<a href="/logout">sign out</a>)</p>`;

const style =
  "body{font-family:system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;line-height:1.5}" +
  "main{display:grid;grid-template-columns:1fr 1fr;gap:2rem}blockquote{margin:0 0 1rem}footer{color:#555}" +
  "dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem}dd{margin:0}.stars{font-size:1.5rem;margin:0}";

export interface PageData {
  user: string | undefined;
  /** Absent on the start page. */
  product?: { title: string; descriptionHtml: string };
  /** Undefined: not available. */
  details?: Readonly<Record<string, string | number>> | undefined;
  reviews?: Reviews | undefined;
}

export function page({ user, product, details, reviews }: PageData): string {
  const body =
    product === undefined
      ? '<h1>Bookinfo</h1><p><a href="/productpage">The book of the day</a></p>'
      : `<h1>${escapeHtml(product.title)}</h1><p>${product.descriptionHtml}</p><main>` +
        `<section><h2>Book details</h2>${detailsPart(details)}</section>` +
        `<section><h2>Book reviews</h2>${reviewsPart(reviews)}</section></main>`;
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Simple Bookstore App</title><style>${style}</style>${session(user)}${body}</html>\n`;
}
