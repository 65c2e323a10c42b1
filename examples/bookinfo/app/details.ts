// Bookinfo's details: what is known about a book; with ENABLE_EXTERNAL_BOOK_SERVICE=true (version 2) by asking an outside catalogue.
import { call, forwardedHeaders, type Handler } from "./http.ts";

const isbn = "0486424618";
const catalogueTimeoutMs = 5_000;

interface Book {
  id: number;
  author: string;
  year: string | number;
  type: string;
  pages: number;
  publisher: string;
  language: string;
  "ISBN-10": string;
  "ISBN-13": string;
}

const ownBook = (id: number): Book => ({
  id,
  author: "William Shakespeare",
  year: 1595,
  type: "paperback",
  pages: 200,
  publisher: "PublisherA",
  language: "English",
  "ISBN-10": "1234567890",
  "ISBN-13": "123-1234567890",
});

/** The part of Google's Books API that is used. */
interface Volumes {
  items: {
    volumeInfo: {
      authors: string[];
      publishedDate: string;
      printType: string;
      pageCount: number;
      publisher: string;
      language: string;
      industryIdentifiers: { type: string; identifier: string }[];
    };
  }[];
}

/** DO_NOT_ENCRYPT: the mesh is to make the connection a TLS one. */
function catalogueUrl(): string {
  const host = process.env["BOOK_SERVICE_HOST"] ?? "www.googleapis.com";
  const base = process.env["DO_NOT_ENCRYPT"] === "true" ? `http://${host}:443` : `https://${host}`;
  return `${base}/books/v1/volumes?q=isbn:${isbn}`;
}

async function externalBook(id: number, request: Request): Promise<Book | undefined> {
  const { value } = await call<Volumes>(catalogueUrl(), forwardedHeaders(request), catalogueTimeoutMs);
  const book = value?.items[0]?.volumeInfo;
  if (book === undefined) return undefined;
  const number = (type: string) => book.industryIdentifiers.find((one) => one.type === type)?.identifier ?? "";
  return {
    id,
    author: book.authors[0] ?? "",
    year: book.publishedDate,
    type: book.printType === "BOOK" ? "paperback" : "unknown",
    pages: book.pageCount,
    publisher: book.publisher,
    language: book.language === "en" ? "English" : "unknown",
    "ISBN-10": number("ISBN_10"),
    "ISBN-13": number("ISBN_13"),
  };
}

export const details = (): Handler => {
  const isExternal = process.env["ENABLE_EXTERNAL_BOOK_SERVICE"] === "true";
  return async (request, { pathname }) => {
    if (pathname === "/health") return Response.json({ status: "Details is healthy" });
    const [, text] = /^\/details\/([^/]+)$/.exec(pathname) ?? [];
    if (text === undefined) return undefined;
    const id = Number(text);
    if (!Number.isInteger(id)) return Response.json({ error: "please provide numeric product id" }, { status: 400 });
    const book = isExternal ? await externalBook(id, request) : ownBook(id);
    return book ? Response.json(book) : Response.json({ error: "the book service does not answer" }, { status: 502 });
  };
};
