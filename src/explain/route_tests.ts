// Tests of routes in our own format: a request, and what is to become of it (docs/testing-routes.md).

import { parseDurationMs } from "../api/duration.ts";
import { MeshbedError } from "../kernel/errors.ts";
import type { Context } from "./context.ts";
import { explain } from "./explain.ts";
import { statusText } from "./render.ts";
import { tokenOf } from "./tokens.ts";
import type { Destination, Explanation, Outcome } from "./types.ts";

export interface RouteTest {
  name: string;
  request: {
    method?: string;
    url: string;
    from?: string;
    headers?: Record<string, string>;
    /** Of a token that counts as properly signed. */
    claims?: Record<string, unknown>;
  };
  expect: Expectation;
}

export interface Expectation {
  /** Name of the winning route. */
  route?: string;
  status?: number;
  flag?: string;
  location?: string;
  body?: string;
  /** All that get a share, in any order. */
  destinations?: WantedDestination[];
  destination?: WantedDestination | string;
  /** As the application gets them; null: absent. */
  authority?: string;
  path?: string;
  headers?: Record<string, string | null>;
  /** Part of the policy that refuses: "video/no-admin". */
  deniedBy?: string;
  timeout?: string;
  retries?: number;
  delay?: string;
  delayPercent?: number;
  abortPercent?: number;
  mirrors?: string[];
}

interface WantedDestination {
  /** Short, or in full. */
  host: string;
  subset?: string;
  port?: number;
  percent?: number;
}

const fields: Readonly<Record<keyof Expectation, true>> = {
  route: true,
  status: true,
  flag: true,
  location: true,
  body: true,
  destinations: true,
  destination: true,
  authority: true,
  path: true,
  headers: true,
  deniedBy: true,
  timeout: true,
  retries: true,
  delay: true,
  delayPercent: true,
  abortPercent: true,
  mirrors: true,
};
/** Percent points that rounding may cost. */
const percentSlack = 0.05;

/** Throws TEST_INVALID for what is no test. */
export function checkTest(test: RouteTest, at: string): void {
  const fail = (what: string): never => {
    throw new MeshbedError("TEST_INVALID", `${at}: ${what}`, { fix: "see docs/testing-routes.md" });
  };
  if (typeof test?.name !== "string") fail("'name' is missing");
  if (typeof test.request?.url !== "string") fail(`test "${test.name}": 'request.url' is missing`);
  const wanted = Object.keys(test.expect ?? {});
  if (wanted.length === 0) fail(`test "${test.name}": 'expect' says nothing`);
  const unknown = wanted.find((field) => !(field in fields));
  if (unknown !== undefined)
    fail(`test "${test.name}": 'expect.${unknown}' is not known; there are ${Object.keys(fields).join(", ")}`);
}

/** What is not as expected. */
export async function runRouteTest(context: Context, { request, expect }: RouteTest): Promise<string[]> {
  const headers = Object.entries(request.headers ?? {});
  if (request.claims) headers.push(["authorization", `Bearer ${tokenOf(request.claims, context.world.nowMs)}`]);
  const { method = "GET", url, from } = request;
  const found = await explain(context, { method, url, headers, ...(from !== undefined && { from }) });
  const why = found.route
    ? ` (because ${found.route.name === "" ? "its route" : `route "${found.route.name}"`}${found.route.at === "" ? "" : ` ${found.route.at}`})`
    : "";
  return differences(expect, found).map((text) => text + why);
}

function differences(expect: Expectation, found: Explanation): string[] {
  const failures: string[] = [];
  const same = (what: string, want: unknown, got: unknown): void => {
    if (want !== undefined && want !== got) failures.push(`expected ${what} ${want}, got ${got ?? "none"}`);
  };
  const { outcomes, route } = found;
  const ms = (text: string | undefined) => (text === undefined ? undefined : parseDurationMs(text));
  same("route", expect.route, route?.name);
  if (
    expect.status !== undefined ||
    expect.flag !== undefined ||
    expect.location !== undefined ||
    expect.body !== undefined
  ) {
    const fits = (one: Outcome): boolean =>
      (expect.status === undefined || one.status === expect.status) &&
      (expect.flag === undefined || one.flag === expect.flag) &&
      (expect.location === undefined || one.location === expect.location) &&
      (expect.body === undefined || one.body === expect.body);
    if (!outcomes.every(fits)) {
      const want = [
        expect.status,
        expect.flag && `flag ${expect.flag}`,
        expect.location && `location ${expect.location}`,
        expect.body && `body ${expect.body}`,
      ];
      failures.push(`expected ${want.filter(Boolean).join(", ")}, got ${outcomes.map(outcomeText).join(" | ")}`);
    }
  }
  failures.push(...destinationDifferences(expect, outcomes));
  if (expect.deniedBy !== undefined && !found.deniedBy?.includes(expect.deniedBy))
    failures.push(
      `expected to be denied by ${expect.deniedBy}, got ${found.deniedBy ?? outcomes.map(outcomeText).join(" | ")}`,
    );
  same("timeout (ms)", ms(expect.timeout), route?.timeoutMs);
  same("retries", expect.retries, route?.retries?.attempts ?? 0);
  same("delay (ms)", ms(expect.delay), route?.delayMs);
  same("delayPercent", expect.delayPercent, route?.delayPercent);
  same("abortPercent", expect.abortPercent, route?.abortPercent);
  if (expect.mirrors) {
    const got = (route?.mirrors ?? []).map(({ host }) => host);
    if (got.length !== expect.mirrors.length || !expect.mirrors.every((host) => got.some((each) => isHost(host, each))))
      failures.push(`expected mirrors ${expect.mirrors.join(", ") || "none"}, got ${got.join(", ") || "none"}`);
  }
  return failures;
}

const outcomeText = (one: Outcome): string =>
  `${statusText(one)}${one.location === undefined ? "" : `, location ${one.location}`} (${one.reason}${one.at === undefined ? "" : ` ${one.at}`})`;

const isHost = (want: string, got: string): boolean => want === got || got.startsWith(`${want}.`);

interface Share {
  destination: Destination;
  percent: number;
}

function destinationDifferences(
  { destination, destinations, authority, path, headers }: Expectation,
  outcomes: readonly Outcome[],
): string[] {
  const failures: string[] = [];
  const shares = new Map<string, Share>();
  for (const { destination: to, percent } of outcomes) {
    if (to === undefined) continue;
    const key = `${to.host} ${to.subset} ${to.port}`;
    const known = shares.get(key);
    shares.set(key, { destination: to, percent: (known?.percent ?? 0) + percent });
  }
  const got = [...shares.values()];
  const one = typeof destination === "string" ? { host: destination } : destination;
  const wanted = destinations ?? (one && [one]);
  if (wanted) {
    const fits = (want: WantedDestination, { destination: to, percent }: Share): boolean =>
      isHost(want.host, to.host) &&
      (want.subset ?? to.subset) === to.subset &&
      (want.port ?? to.port) === to.port &&
      (want.percent === undefined || Math.abs(want.percent - percent) < percentSlack);
    const all = wanted.length === got.length && wanted.every((want) => got.some((share) => fits(want, share)));
    if (!all)
      failures.push(
        `expected ${wanted.map(wantedText).join(" + ")}, got ${got.map(shareText).join(" + ") || outcomes.map(outcomeText).join(" | ")}`,
      );
  }
  for (const { destination: to } of got) {
    if (authority !== undefined && to.authority !== authority)
      failures.push(`expected host ${authority}, got ${to.authority}`);
    if (path !== undefined && to.path !== path) failures.push(`expected path ${path}, got ${to.path}`);
    for (const [name, want] of Object.entries(headers ?? {})) {
      const value = to.headers
        .filter(([each]) => each === name.toLowerCase())
        .map(([, each]) => each)
        .join(",");
      const is = to.headers.some(([each]) => each === name.toLowerCase()) ? value : null;
      if (is !== want) failures.push(`expected header ${name} ${want ?? "absent"}, got ${is ?? "absent"}`);
    }
  }
  if (got.length === 0 && (authority ?? path ?? headers) !== undefined)
    failures.push(`expected the application to get it, got ${outcomes.map(outcomeText).join(" | ")}`);
  return [...new Set(failures)];
}

const wantedText = ({ host, subset, port, percent }: WantedDestination): string =>
  [percent === undefined ? "" : `${percent} %`, host, subset ?? "", port === undefined ? "" : `port ${port}`]
    .filter(Boolean)
    .join(" ");
const shareText = ({ destination, percent }: Share): string =>
  wantedText({ ...destination, percent: Number(percent.toFixed(2)) });
