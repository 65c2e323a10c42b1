// RFC 9111 decisions as tables.

import { expect, test } from "bun:test";
import { ageMs, freshnessOf, mayServeOnError, parseCacheControl, usabilityOf } from "./freshness.ts";

const nowMs = Date.parse("Mon, 23 Nov 2026 18:00:00 GMT");
const date = new Date(nowMs).toUTCString();
const fresh = (headers: Record<string, string>, status = 200) =>
  freshnessOf(status, new Headers({ date, ...headers }), nowMs, nowMs);

test.each([
  [{ "cache-control": "max-age=60" }, 60_000],
  [{ "cache-control": "MAX-AGE=60" }, 60_000],
  [{ "cache-control": 'max-age="60"' }, 60_000],
  [{ "cache-control": "max-age=60, max-age=5" }, 60_000],
  [{ "cache-control": "max-age=60, s-maxage=5" }, 5_000],
  [{ "cache-control": "max-age=oops" }, 0],
  [{ "cache-control": "max-age=60, no-cache" }, 0],
  [{ expires: new Date(nowMs + 30_000).toUTCString() }, 30_000],
  [{ expires: "0" }, 0],
  [{ expires: new Date(nowMs + 30_000).toUTCString(), "cache-control": "max-age=1" }, 1_000],
  [{ "last-modified": new Date(nowMs - 100_000).toUTCString() }, 10_000],
  [{ etag: '"a"' }, 0],
])("%j is fresh for %p ms", (headers, freshMs) => {
  expect(fresh(headers as unknown as Record<string, string>)?.freshMs).toBe(freshMs);
});

test.each([
  { "cache-control": "no-store, max-age=60" },
  { "cache-control": "private, max-age=60" },
  { "cache-control": "max-age=60", "set-cookie": "a=1" },
  { "cache-control": "max-age=60", vary: "*" },
  { "content-type": "text/plain" },
])("%j is not stored", (headers) => {
  expect(fresh(headers as unknown as Record<string, string>)).toBeUndefined();
});

test("server errors are not stored even when the origin says so", () => {
  expect(fresh({ "cache-control": "max-age=60" }, 500)).toBeUndefined();
  expect(fresh({ "cache-control": "max-age=60" }, 404)?.freshMs).toBe(60_000);
});

test("must-revalidate forbids every stale answer, s-maxage only those not asked for", () => {
  const strict = fresh({ "cache-control": "max-age=1, must-revalidate, stale-if-error=60, stale-while-revalidate=60" });
  expect(strict).toMatchObject({ staleIfErrorMs: 0, staleWhileRevalidateMs: 0 });
  expect(fresh({ "cache-control": "s-maxage=1" })?.staleIfErrorMs).toBe(0);
  expect(fresh({ "cache-control": "s-maxage=1, stale-if-error=60" })?.staleIfErrorMs).toBe(60_000);
  expect(fresh({ "cache-control": "max-age=1" })?.staleIfErrorMs).toBeGreaterThan(0);
});

test("age counts what the response spent elsewhere", () => {
  const entry = fresh({ "cache-control": "max-age=100", age: "40" });
  expect(entry?.initialAgeMs).toBe(40_000);
  expect(entry === undefined ? 0 : ageMs(entry, nowMs + 5_000)).toBe(45_000);
  const old = freshnessOf(200, new Headers({ date, "cache-control": "max-age=100" }), nowMs + 30_000, nowMs + 30_000);
  expect(old?.initialAgeMs).toBe(30_000);
});

test("a stored response goes from fresh to revalidating to stale, and is served on errors for longer", () => {
  const entry = fresh({ "cache-control": "max-age=10, stale-while-revalidate=5, stale-if-error=60" });
  if (entry === undefined) throw new Error("not stored");
  const at = (seconds: number, control = ""): string =>
    usabilityOf(entry, parseCacheControl(control), nowMs + seconds * 1000);
  expect([at(0), at(9), at(10), at(14), at(15)]).toEqual([
    "fresh",
    "fresh",
    "stale while revalidate",
    "stale while revalidate",
    "stale",
  ]);
  expect(at(1, "no-cache")).toBe("stale");
  expect(at(5, "max-age=3")).toBe("stale");
  expect(at(5, "min-fresh=6")).toBe("stale");
  expect(at(5, "min-fresh=4")).toBe("fresh");
  expect(mayServeOnError(entry, nowMs + 69_000)).toBe(true);
  expect(mayServeOnError(entry, nowMs + 70_000)).toBe(false);
});
