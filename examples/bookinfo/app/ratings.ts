// Bookinfo's ratings: the stars of each reviewer, kept in memory; POST changes them.
import type { Handler } from "./http.ts";

/** Products whose ratings may have been changed. */
const productsMax = 1_000;

export const ratings = (): Handler => {
  const changed = new Map<number, Record<string, number>>();
  return async (request, { pathname }) => {
    if (pathname === "/health") return Response.json({ status: "Ratings is healthy" });
    const [, text] = /^\/ratings\/([^/]+)$/.exec(pathname) ?? [];
    if (text === undefined) return undefined;
    const id = Number(text);
    if (!Number.isInteger(id)) return Response.json({ error: "please provide numeric product ID" }, { status: 400 });
    if (request.method === "POST") {
      const stars = (await request.json().catch(() => undefined)) as Record<string, number> | undefined;
      if (stars === undefined || !Object.values(stars).every(Number.isInteger) || changed.size >= productsMax)
        return Response.json({ error: "please provide valid ratings JSON" }, { status: 400 });
      changed.set(id, stars);
    } else if (request.method !== "GET") return undefined;
    return Response.json({ id, ratings: changed.get(id) ?? { Reviewer1: 5, Reviewer2: 4 } });
  };
};
