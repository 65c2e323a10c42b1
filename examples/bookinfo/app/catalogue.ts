// Plays the outside book catalogue where there is no way out: one book, in the form of Google's Books API.
import type { Handler } from "./http.ts";

const book = {
  authors: ["William Shakespeare"],
  publishedDate: "2002",
  printType: "BOOK",
  pageCount: 64,
  publisher: "Outside Press",
  language: "en",
  industryIdentifiers: [
    { type: "ISBN_10", identifier: "0486424618" },
    { type: "ISBN_13", identifier: "9780486424613" },
  ],
};

export const catalogue = (): Handler => (request, url) => {
  if (url.pathname === "/health") return new Response("ok");
  if (url.pathname !== "/books/v1/volumes" || request.headers.get("host")?.split(":")[0] !== "www.googleapis.com")
    return;
  return Response.json({ items: [{ volumeInfo: book }] });
};
