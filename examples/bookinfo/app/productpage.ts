// Bookinfo's productpage: the page of a book from details and reviews, a session by name, and the same data as JSON.
import { type Called, call, forwardedHeaders, type Handler, serviceUrl } from "./http.ts";
import { page } from "./page.ts";
import type { Reviews } from "./reviews.ts";

const timeoutMs = 3_000;
/** Part of the sample: reviews are asked for twice, which hides failures and doubles waiting. */
const reviewsAttempts = 2;

export const product = {
  id: 0,
  title: "The Comedy of Errors",
  descriptionHtml:
    '<a href="https://en.wikipedia.org/wiki/The_Comedy_of_Errors">Wikipedia Summary</a>: one of <b>William Shakespeare\'s</b> ' +
    "early plays, his shortest and one of his most farcical, with much of its humour from slapstick and mistaken identity.",
};

const sessionCookie = "session";

function userOf(request: Request): string | undefined {
  const [, value] = new RegExp(`(?:^|;\\s*)${sessionCookie}=([^;]+)`).exec(request.headers.get("cookie") ?? "") ?? [];
  return value === undefined ? undefined : decodeURIComponent(value);
}

/** Back to where the form was, with the session set or ended. */
function backWith(request: Request, cookie: string): Response {
  const headers = { location: request.headers.get("referer") ?? "/productpage", "set-cookie": cookie };
  return new Response(null, { status: 302, headers });
}

async function login(request: Request): Promise<Response> {
  const user = (await request.formData()).get("username");
  return backWith(request, `${sessionCookie}=${encodeURIComponent(String(user ?? ""))}; Path=/; HttpOnly`);
}

/** A signed-in user's requests carry the name on. */
function headersFor(request: Request): Headers {
  const headers = forwardedHeaders(request);
  const user = userOf(request);
  if (user !== undefined) headers.set("end-user", user);
  return headers;
}

export const productpage = (): Handler => {
  const urls = { details: serviceUrl("details"), reviews: serviceUrl("reviews"), ratings: serviceUrl("ratings") };
  const results = new Map<string, number>();
  const ask = async <T>(service: keyof typeof urls, id: string, request: Request, attempts = 1): Promise<Called<T>> => {
    let result: Called<T> | undefined;
    for (let attempt = 0; attempt < attempts && result?.status !== 200; attempt++) {
      result = await call<T>(`${urls[service]}/${service}/${id}`, headersFor(request), timeoutMs);
      const series = `destination_app="${service}",response_code="${result.status}"`;
      results.set(series, (results.get(series) ?? 0) + 1);
    }
    return result!;
  };
  const answer = (service: string, { status, value }: Called<unknown>): Response =>
    Response.json(value ?? { error: `Sorry, product ${service} are currently unavailable for this book.` }, { status });

  return async (request, { pathname }) => {
    if (pathname === "/" || pathname === "/index.html") return html(page({ user: userOf(request) }));
    if (pathname === "/health") return new Response("Product page is healthy");
    if (pathname === "/metrics") return new Response(metricsText(results));
    if (pathname === "/login" && request.method === "POST") return login(request);
    if (pathname === "/logout") return backWith(request, `${sessionCookie}=; Path=/; Max-Age=0`);
    if (pathname === "/api/v1/products") return Response.json([product]);
    if (pathname === "/productpage") {
      const details = await ask<Record<string, string | number>>("details", "0", request);
      const reviews = await ask<Reviews>("reviews", "0", request, reviewsAttempts);
      return html(page({ user: userOf(request), product, details: details.value, reviews: reviews.value }));
    }
    const [, id, part] = /^\/api\/v1\/products\/(\d+)(?:\/(reviews|ratings))?$/.exec(pathname) ?? [];
    if (id === undefined) return undefined;
    if (part === "reviews") return answer("reviews", await ask("reviews", id, request, reviewsAttempts));
    if (part === "ratings") return answer("ratings", await ask("ratings", id, request));
    return answer("details", await ask("details", id, request));
  };
};

const html = (text: string): Response =>
  new Response(text, { headers: { "content-type": "text/html; charset=utf-8" } });

function metricsText(results: ReadonlyMap<string, number>): string {
  const lines = [...results].map(([series, count]) => `request_result_total{${series}} ${count}`);
  return ["# TYPE request_result_total counter", ...lines, ""].join("\n");
}
