// RFC 9111 as pure functions: may a response be stored, how long is it fresh, how old is it now.

import type { Freshness } from "./types.ts";

/** Fresh without being told so (§4.2.2): a tenth of the time since the last change, at most this. */
const heuristicMsMax = 60 * 60 * 1000;
/** Served when the origin fails, unless the response says otherwise (§4.2.4 allows it when nothing forbids it). */
const staleIfErrorDefaultMs = 60 * 60 * 1000;
const secondsMax = 10 * 365 * 24 * 3600;

/** Cacheable without explicit lifetime (RFC 9110 §15.1), as far as they are understood here. */
const heuristicStatuses = new Set([200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501]);
const storableStatuses = new Set([...heuristicStatuses, 302, 303, 307, 400, 403]);

/** Directive names in lower case → argument, "" without one. The first of duplicates counts (§4.2.1). */
export function parseCacheControl(header: string | null): Map<string, string> {
  const directives = new Map<string, string>();
  for (const match of (header ?? "").matchAll(
    /([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?/g,
  )) {
    const name = (match[1] ?? "").toLowerCase();
    if (!directives.has(name)) directives.set(name, match[2] ?? match[3] ?? "");
  }
  return directives;
}

/** Undefined when absent; malformed counts as 0, that is stale (§4.2.1 encourages it). */
function seconds(directives: ReadonlyMap<string, string>, name: string): number | undefined {
  const text = directives.get(name);
  if (text === undefined) return undefined;
  return /^\d+$/.test(text) ? Math.min(Number(text), secondsMax) : 0;
}

/** Undefined: must not be stored. `requestedAtMs` and `receivedAtMs` bracket the exchange with the origin. */
export function freshnessOf(
  status: number,
  headers: Headers,
  requestedAtMs: number,
  receivedAtMs: number,
): Freshness | undefined {
  const control = parseCacheControl(headers.get("cache-control"));
  if (control.has("no-store") || control.has("private")) return undefined;
  if (
    headers.has("set-cookie") ||
    headers
      .get("vary")
      ?.split(",")
      .some((name) => name.trim() === "*")
  )
    return undefined;
  if (!storableStatuses.has(status)) return undefined;

  const lifetimeMs = lifetimeOf(status, headers, control, receivedAtMs);
  if (lifetimeMs === undefined) return undefined;
  const revalidateAlways =
    control.has("no-cache") || (control.size === 0 && headers.get("pragma")?.includes("no-cache"));
  const neverStale = revalidateAlways || control.has("must-revalidate") || control.has("proxy-revalidate");
  // s-maxage forbids stale answers too (§5.2.2.10), unless the origin asks for them in the same breath (RFC 5861).
  const defaultMs = control.has("s-maxage") ? 0 : staleIfErrorDefaultMs;
  const staleMs = (name: string, fallback: number): number => {
    if (neverStale) return 0;
    const value = seconds(control, name);
    return value === undefined ? fallback : value * 1000;
  };
  return {
    storedAtMs: receivedAtMs,
    initialAgeMs: initialAge(headers, requestedAtMs, receivedAtMs),
    freshMs: revalidateAlways ? 0 : lifetimeMs,
    staleWhileRevalidateMs: staleMs("stale-while-revalidate", 0),
    staleIfErrorMs: staleMs("stale-if-error", defaultMs),
  };
}

/** §4.2.1, for a shared cache. Undefined: nothing says that it may be kept. */
function lifetimeOf(
  status: number,
  headers: Headers,
  control: ReadonlyMap<string, string>,
  nowMs: number,
): number | undefined {
  const explicit = seconds(control, "s-maxage") ?? seconds(control, "max-age");
  if (explicit !== undefined) return explicit * 1000;
  const expires = headers.get("expires");
  if (expires !== null) {
    const expiresMs = Date.parse(expires);
    const dateMs = Date.parse(headers.get("date") ?? "");
    return Number.isNaN(expiresMs) ? 0 : Math.max(0, expiresMs - (Number.isNaN(dateMs) ? nowMs : dateMs));
  }
  const validator = headers.has("etag") || headers.has("last-modified");
  const modifiedMs = Date.parse(headers.get("last-modified") ?? "");
  if ((heuristicStatuses.has(status) || control.has("public")) && !Number.isNaN(modifiedMs)) {
    return Math.min(Math.max(0, (nowMs - modifiedMs) / 10), heuristicMsMax);
  }
  return validator && heuristicStatuses.has(status) ? 0 : undefined;
}

/** §4.2.3: corrected_initial_age. */
function initialAge(headers: Headers, requestedAtMs: number, receivedAtMs: number): number {
  const dateMs = Date.parse(headers.get("date") ?? "");
  const apparentMs = Number.isNaN(dateMs) ? 0 : Math.max(0, receivedAtMs - dateMs);
  const age = headers.get("age") ?? "";
  const correctedMs = (/^\d+$/.test(age) ? Number(age) * 1000 : 0) + (receivedAtMs - requestedAtMs);
  // Dates have whole seconds and servers compute them once a second: an apparent age below two is rounding.
  return Math.max(apparentMs < 2000 ? 0 : apparentMs, correctedMs);
}

export const ageMs = (entry: Freshness, nowMs: number): number =>
  entry.initialAgeMs + Math.max(0, nowMs - entry.storedAtMs);

export type Usability = "fresh" | "stale while revalidate" | "stale";

/** What a stored response may be used for now, given the request's own Cache-Control (§5.2.1). */
export function usabilityOf(entry: Freshness, request: ReadonlyMap<string, string>, nowMs: number): Usability {
  const age = ageMs(entry, nowMs);
  if (request.has("no-cache")) return "stale";
  const maxAge = seconds(request, "max-age");
  const minFresh = seconds(request, "min-fresh") ?? 0;
  if (maxAge !== undefined && age > maxAge * 1000) return "stale";
  if (entry.freshMs - age > minFresh * 1000) return "fresh";
  return entry.freshMs - age > -entry.staleWhileRevalidateMs && minFresh === 0 ? "stale while revalidate" : "stale";
}

export const mayServeOnError = (entry: Freshness, nowMs: number): boolean =>
  ageMs(entry, nowMs) < entry.freshMs + entry.staleIfErrorMs;
