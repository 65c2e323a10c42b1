// Bookinfo's reviews: version 1 has no stars; versions 2 and 3 ask ratings for black and red ones.
import { call, forwardedHeaders, type Handler, serviceUrl } from "./http.ts";

export interface Reviews {
  id: string;
  podname: string;
  reviews: {
    reviewer: string;
    text: string;
    rating?: { stars: number; color: string } | { error: string };
  }[];
}

const texts = [
  ["Reviewer1", "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"],
  [
    "Reviewer2",
    "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare.",
  ],
] as const;

/** Part of the sample: black stars wait longer than the page does. Red ones have that mistake corrected. */
const ratingsTimeoutMs = (color: string): number => (color === "black" ? 10_000 : 2_500);

export const reviews = (): Handler => {
  const hasRatings = process.env["ENABLE_RATINGS"] === "true";
  const color = process.env["STAR_COLOR"] ?? "black";
  const ratings = serviceUrl("ratings");
  return async (request, { pathname }) => {
    if (pathname === "/health") return Response.json({ status: "Reviews is healthy" });
    const [, id] = /^\/reviews\/(\d+)$/.exec(pathname) ?? [];
    if (id === undefined) return undefined;
    const url = `${ratings}/ratings/${id}`;
    const answer = hasRatings
      ? await call<{ ratings: Record<string, number> }>(url, forwardedHeaders(request), ratingsTimeoutMs(color))
      : undefined;
    const ratingOf = (reviewer: string) => {
      const stars = answer?.value?.ratings[reviewer];
      return stars === undefined ? { error: "Ratings service is currently unavailable" } : { stars, color };
    };
    return Response.json({
      id,
      podname: process.env["HOSTNAME"] ?? "",
      reviews: texts.map(([reviewer, text]) => ({ reviewer, text, ...(hasRatings && { rating: ratingOf(reviewer) }) })),
    } satisfies Reviews);
  };
};
