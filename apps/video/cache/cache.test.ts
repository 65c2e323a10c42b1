// The cache from outside, before an origin that does as it is told.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { cleanUp, type Running, start, temporaryFolder, waitFor } from "../testing.ts";

const mib = 1024 * 1024;
const big = new Uint8Array(5 * mib + 1234);
for (let i = 0; i < big.length; i += 1) big[i] = (i * 31 + (i >> 10)) & 255;

/** What the origin does for a path; set by each test. */
const scripts = new Map<string, (request: Request) => Response | Promise<Response>>();
const seen: { method: string; path: string; headers: Headers }[] = [];
let origin: ReturnType<typeof Bun.serve>;
let cache: Running;

function media(request: Request, tag = '"v1"', control = "max-age=60"): Response {
  const headers: Record<string, string> = {
    etag: tag,
    "cache-control": control,
    "accept-ranges": "bytes",
    "content-type": "video/mp4",
  };
  if (request.headers.get("if-none-match") === tag) return new Response(null, { status: 304, headers });
  const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range") ?? "");
  if (match === null) return new Response(big, { headers });
  const first = Number(match[1]);
  if (first >= big.length)
    return new Response(null, { status: 416, headers: { "content-range": `bytes */${big.length}` } });
  const last = Math.min(Number(match[2]), big.length - 1);
  return new Response(big.slice(first, last + 1), {
    status: 206,
    headers: { ...headers, "content-range": `bytes ${first}-${last}/${big.length}` },
  });
}

beforeAll(async () => {
  origin = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    async fetch(request) {
      const url = new URL(request.url);
      seen.push({ method: request.method, path: url.pathname + url.search, headers: request.headers });
      const script = scripts.get(url.pathname);
      return script === undefined ? new Response("nothing here", { status: 404 }) : script(request);
    },
  });
  cache = await start("cache", { CACHE_DIR: temporaryFolder(), ORIGIN: `http://127.0.0.1:${origin.port}` });
});
afterAll(async () => {
  await cleanUp();
  await origin.stop(true);
});

const get = (path: string, headers: Record<string, string> = {}, method = "GET", from = cache) =>
  fetch(from.url + path, { method, headers, redirect: "manual" });
async function statusOf(path: string, headers: Record<string, string> = {}): Promise<string | null> {
  const response = await get(path, headers);
  await response.arrayBuffer();
  return response.headers.get("x-cache-status");
}
const fetched = (path: string): number => seen.filter((request) => request.path === path).length;

test("a page is fetched once, served with its age, and asked for again when it is too old", async () => {
  let version = 1;
  scripts.set(
    "/page",
    () => new Response(`version ${version}`, { headers: { "cache-control": "max-age=1", "x-mine": "kept" } }),
  );
  const first = await get("/page");
  expect([first.headers.get("x-cache-status"), await first.text()]).toEqual(["MISS", "version 1"]);
  version = 2;
  const second = await get("/page");
  expect([second.headers.get("x-cache-status"), await second.text()]).toEqual(["HIT", "version 1"]);
  expect(second.headers.get("age")).toMatch(/^\d+$/);
  expect(second.headers.get("x-mine")).toBe("kept");
  expect(fetched("/page")).toBe(1);
  await Bun.sleep(1100);
  const third = await get("/page");
  expect([third.headers.get("x-cache-status"), await third.text()]).toEqual(["EXPIRED", "version 2"]);
});

test("the query is part of the key", async () => {
  scripts.set(
    "/query",
    (request) => new Response(new URL(request.url).search, { headers: { "cache-control": "max-age=60" } }),
  );
  expect(await statusOf("/query?a=1")).toBe("MISS");
  expect(await statusOf("/query?a=2")).toBe("MISS");
  expect(await statusOf("/query?a=1")).toBe("HIT");
  expect(await (await get("/query?a=2")).text()).toBe("?a=2");
});

test("an unchanged response is revalidated with its validator, and lives on", async () => {
  scripts.set("/tagged", (request) =>
    request.headers.get("if-none-match") === '"t"'
      ? new Response(null, { status: 304, headers: { etag: '"t"', "cache-control": "max-age=60" } })
      : new Response("body", { headers: { etag: '"t"', "cache-control": "max-age=0" } }),
  );
  expect(await statusOf("/tagged")).toBe("MISS");
  const second = await get("/tagged");
  expect([second.headers.get("x-cache-status"), await second.text()]).toEqual(["REVALIDATED", "body"]);
  expect(await statusOf("/tagged")).toBe("HIT");
});

test("a client's condition is answered from the cache", async () => {
  scripts.set("/conditional", () => new Response("body", { headers: { etag: '"c"', "cache-control": "max-age=60" } }));
  await statusOf("/conditional");
  const response = await get("/conditional", { "if-none-match": '"c"' });
  expect([response.status, await response.text()]).toEqual([304, ""]);
  const head = await get("/conditional", {}, "HEAD");
  expect([head.status, head.headers.get("content-length"), head.headers.get("x-cache-status")]).toEqual([
    200,
    "4",
    "HIT",
  ]);
  const range = await get("/conditional", { range: "bytes=1-2" });
  expect([range.status, await range.text()]).toEqual([206, "od"]);
});

test("what one client may see alone is neither stored nor served from the store", async () => {
  scripts.set(
    "/own",
    (request) =>
      new Response(request.headers.get("cookie") ?? "nobody", { headers: { "cache-control": "max-age=60" } }),
  );
  expect(await statusOf("/own", { cookie: "a=1" })).toBe("BYPASS");
  expect(await statusOf("/own", { authorization: "Bearer x" })).toBe("BYPASS");
  expect(await statusOf("/own")).toBe("MISS");
  const own = await get("/own", { cookie: "a=1" });
  expect([own.headers.get("x-cache-status"), await own.text()]).toEqual(["BYPASS", "a=1"]);
  for (const [name, value] of [
    ["cache-control", "private, max-age=60"],
    ["cache-control", "no-store"],
    ["set-cookie", "a=1"],
    ["vary", "*"],
  ] as const) {
    const path = `/uncached-${name}-${value.length}`;
    scripts.set(path, () => new Response("x", { headers: { "cache-control": "max-age=60", [name]: value } }));
    expect([await statusOf(path), await statusOf(path)]).toEqual(["MISS", "MISS"]);
  }
});

test("Vary keeps one response per value", async () => {
  scripts.set("/vary", (request) => {
    const language = request.headers.get("accept-language") ?? "none";
    return new Response(language, { headers: { vary: "Accept-Language", "cache-control": "max-age=60" } });
  });
  const text = async (language: string): Promise<string[]> => {
    const response = await get("/vary", { "accept-language": language });
    return [response.headers.get("x-cache-status") ?? "", await response.text()];
  };
  expect(await text("de")).toEqual(["MISS", "de"]);
  expect(await text("en")).toEqual(["MISS", "en"]);
  expect(await text("de")).toEqual(["HIT", "de"]);
  expect(await text("en")).toEqual(["HIT", "en"]);
});

test("a hundred clients asking for the same at once cost the origin one request", async () => {
  scripts.set("/popular", async () => {
    await Bun.sleep(200);
    return new Response("x".repeat(1000), { headers: { "cache-control": "max-age=60" } });
  });
  const statuses = await Promise.all(Array.from({ length: 100 }, () => statusOf("/popular")));
  expect(fetched("/popular")).toBe(1);
  expect(statuses.filter((status) => status === "MISS")).toHaveLength(1);
  expect(statuses.filter((status) => status === "HIT")).toHaveLength(99);
});

test("what cannot be shared is not mixed up between clients that ask at once", async () => {
  let n = 0;
  scripts.set("/personal", async () => {
    await Bun.sleep(50);
    n += 1;
    return new Response(`answer ${n}`, { headers: { "cache-control": "no-store" } });
  });
  const texts = await Promise.all(Array.from({ length: 20 }, async () => (await get("/personal")).text()));
  expect(new Set(texts).size).toBe(20);
});

test("while a stale page is fetched anew, everybody gets the old one at once", async () => {
  let version = 1;
  let delayMs = 0;
  scripts.set("/swr", async () => {
    await Bun.sleep(delayMs);
    return new Response(`version ${version}`, { headers: { "cache-control": "max-age=1, stale-while-revalidate=30" } });
  });
  expect(await statusOf("/swr")).toBe("MISS");
  await Bun.sleep(1100);
  version = 2;
  delayMs = 400;
  const startedAt = performance.now();
  expect(await statusOf("/swr")).toBe("STALE");
  expect(await statusOf("/swr")).toBe("UPDATING");
  expect(performance.now() - startedAt).toBeLessThan(300);
  await waitFor("the update", async () => ((await (await get("/swr")).text()) === "version 2" ? true : undefined));
  expect(fetched("/swr")).toBe(2);
});

test("when the origin fails, the old page is served as long as it may be", async () => {
  let failing = false;
  const script = (control: string) => () =>
    failing ? new Response("broken", { status: 500 }) : new Response("good", { headers: { "cache-control": control } });
  scripts.set("/sie", script("max-age=0, stale-if-error=60"));
  scripts.set("/strict", script("max-age=0, must-revalidate"));
  await statusOf("/sie");
  await statusOf("/strict");
  failing = true;
  const rescued = await get("/sie");
  expect([rescued.status, rescued.headers.get("x-cache-status"), await rescued.text()]).toEqual([200, "STALE", "good"]);
  expect((await get("/strict")).status).toBe(500);
  failing = false;
  expect(await statusOf("/sie")).toBe("EXPIRED");
});

test("an origin that is not there: stored pages are served, others get 502, and it recovers by itself", async () => {
  let other = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () => new Response("there", { headers: { "cache-control": "max-age=0, stale-if-error=60" } }),
  });
  const port = other.port ?? 0;
  const alone = await start("cache", { CACHE_DIR: temporaryFolder(), ORIGIN: `http://127.0.0.1:${port}` });
  await (await get("/known", {}, "GET", alone)).text();
  await other.stop(true);
  const known = await get("/known", {}, "GET", alone);
  expect([known.status, known.headers.get("x-cache-status"), await known.text()]).toEqual([200, "STALE", "there"]);
  const unknown = await get("/unknown", {}, "GET", alone);
  expect(unknown.status).toBe(502);
  expect(unknown.headers.get("cache-control")).toBe("no-store");
  other = Bun.serve({ port, hostname: "127.0.0.1", fetch: () => new Response("back") });
  expect(await (await get("/unknown", {}, "GET", alone)).text()).toBe("back");
  await other.stop(true);
  expect(await alone.stop()).toBe(0);
});

test("a video is fetched slice by slice, each once, whatever ranges are asked for", async () => {
  scripts.set("/media/a.mp4", (request) => media(request));
  const check = async (range: string, first: number, last: number, status: string): Promise<void> => {
    const response = await get("/media/a.mp4", { range });
    expect(response.status).toBe(206);
    expect(response.headers.get("content-range")).toBe(`bytes ${first}-${last}/${big.length}`);
    expect(response.headers.get("x-cache-status")).toBe(status);
    expect(Buffer.compare(new Uint8Array(await response.arrayBuffer()), big.subarray(first, last + 1))).toBe(0);
  };
  await check("bytes=0-99", 0, 99, "MISS");
  await check("bytes=100-199", 100, 199, "HIT");
  await check(`bytes=${2 * mib + 5}-${2 * mib + 10}`, 2 * mib + 5, 2 * mib + 10, "MISS");
  await check(`bytes=${mib - 10}-${mib + 10}`, mib - 10, mib + 10, "MISS");
  await check(`bytes=100-${3 * mib - 1}`, 100, 3 * mib - 1, "HIT");
  await check("bytes=-10", big.length - 10, big.length - 1, "MISS");
  await check("bytes=-2000", big.length - 2000, big.length - 1, "MISS");
  const ranges = seen
    .filter((request) => request.path === "/media/a.mp4")
    .map((request) => request.headers.get("range"));
  expect(ranges.sort()).toEqual([0, 1, 2, 4, 5].map((n) => `bytes=${n * mib}-${(n + 1) * mib - 1}`));

  const whole = await get("/media/a.mp4");
  expect(whole.status).toBe(200);
  expect(Buffer.compare(new Uint8Array(await whole.arrayBuffer()), big)).toBe(0);
  await check("bytes=0-", 0, big.length - 1, "HIT");
  expect(fetched("/media/a.mp4")).toBe(6);
});

test("several ranges, ranges outside, conditions and HEAD work on slices as on files", async () => {
  scripts.set("/media/b.mp4", (request) => media(request));
  const several = await get("/media/b.mp4", { range: `bytes=0-1,${3 * mib}-${3 * mib + 1}` });
  expect([several.status, several.headers.get("content-type")?.split(";")[0]]).toEqual([206, "multipart/byteranges"]);
  expect(await several.text()).toContain(`Content-Range: bytes ${3 * mib}-${3 * mib + 1}/${big.length}`);
  const outside = await get("/media/b.mp4", { range: `bytes=${big.length + 5 * mib}-` });
  expect([outside.status, outside.headers.get("content-range")]).toEqual([416, `bytes */${big.length}`]);
  expect((await get("/media/b.mp4", { "if-none-match": '"v1"' })).status).toBe(304);
  const mismatch = await get("/media/b.mp4", { range: "bytes=0-1", "if-range": '"other"' });
  expect([mismatch.status, (await mismatch.arrayBuffer()).byteLength]).toEqual([200, big.length]);
  const head = await get("/media/b.mp4", {}, "HEAD");
  expect([head.status, head.headers.get("content-length")]).toEqual([200, String(big.length)]);
});

test("a file that changes is never mixed from old and new slices", async () => {
  let tag = '"old"';
  scripts.set("/media/c.mp4", (request) => media(request, tag));
  await statusOf("/media/c.mp4", { range: "bytes=0-10" });
  tag = '"new"';
  const broken = get("/media/c.mp4", { range: `bytes=0-${2 * mib}` }).then((response) => response.arrayBuffer());
  expect(broken).rejects.toThrow();
  await broken.catch(() => undefined);
  const fresh = await get("/media/c.mp4", { range: `bytes=0-${2 * mib}` });
  expect([fresh.status, fresh.headers.get("etag"), (await fresh.arrayBuffer()).byteLength]).toEqual([
    206,
    '"new"',
    2 * mib + 1,
  ]);
});

test("expired slices are revalidated, not fetched again", async () => {
  scripts.set("/media/d.mp4", (request) => media(request, '"v1"', "max-age=1"));
  expect(await statusOf("/media/d.mp4", { range: "bytes=0-10" })).toBe("MISS");
  await Bun.sleep(1100);
  expect(await statusOf("/media/d.mp4", { range: "bytes=0-10" })).toBe("REVALIDATED");
  expect(await statusOf("/media/d.mp4", { range: "bytes=0-10" })).toBe("HIT");
});

test("an origin that knows no ranges, or has no such file, is passed on", async () => {
  scripts.set("/media/whole.mp4", () => new Response("no ranges here", { headers: { "cache-control": "max-age=60" } }));
  const whole = await get("/media/whole.mp4", { range: "bytes=3-5" });
  expect([whole.status, await whole.text()]).toEqual([200, "no ranges here"]);
  const missing = await get("/media/missing.mp4", { range: "bytes=0-" });
  expect([missing.status, await missing.text()]).toEqual([404, "nothing here"]);
});

test("a write goes through once and removes what it changed, and what its answer names", async () => {
  let version = 1;
  scripts.set("/thing", (request) =>
    request.method === "GET"
      ? new Response(`version ${version}`, { headers: { "cache-control": "max-age=60" } })
      : new Response("done", { status: request.headers.has("x-fail") ? 500 : 201, headers: { location: "/named" } }),
  );
  scripts.set("/named", () => new Response("named", { headers: { "cache-control": "max-age=60" } }));
  await statusOf("/thing");
  await statusOf("/named");
  version = 2;
  for (const method of ["POST", "PUT", "DELETE"])
    expect((await get("/thing", { "x-fail": "1" }, method)).status).toBe(500);
  expect(await statusOf("/thing")).toBe("HIT");
  const post = await get("/thing", {}, "POST");
  expect([post.status, post.headers.get("x-cache-status")]).toEqual([201, "BYPASS"]);
  expect(await (await get("/thing")).text()).toBe("version 2");
  expect(await statusOf("/named")).toBe("MISS");
});

test("an upload streams through with bounded memory, and trace context travels along", async () => {
  const sizeBytes = 200 * mib;
  scripts.set("/upload", async (request) => {
    let bytes = 0;
    for await (const chunk of request.body ?? []) bytes += chunk.length;
    return new Response(`${bytes} ${request.headers.get("content-length")}`);
  });
  async function* body() {
    const chunk = new Uint8Array(256 * 1024);
    for (let sent = 0; sent < sizeBytes; sent += chunk.length) yield chunk;
  }
  const rssBytes = async (): Promise<number> =>
    Number(/^process_resident_memory_bytes (\d+)/m.exec(await (await get("/-/metrics")).text())?.[1]);
  const before = await rssBytes();
  const response = await fetch(`${cache.url}/upload`, {
    method: "POST",
    body: body() as unknown as BodyInit,
    headers: { traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", tracestate: "a=b" },
  });
  expect((await response.text()).split(" ")[0]).toBe(String(sizeBytes));
  expect((await rssBytes()) - before).toBeLessThan(64 * mib);
  const request = seen.findLast((one) => one.path === "/upload");
  expect(request?.headers.get("traceparent")).toBe("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  expect(request?.headers.get("tracestate")).toBe("a=b");
  expect(request?.headers.get("x-forwarded-host")).toBe(new URL(cache.url).host);
  expect(request?.headers.get("host")).toBe(`127.0.0.1:${origin.port}`);
});

test("kill -9: a new process serves what was stored, byte for byte", async () => {
  scripts.set("/media/e.mp4", (request) => media(request));
  scripts.set(
    "/kept",
    () => new Response("kept page", { headers: { "cache-control": "max-age=60", vary: "accept-language" } }),
  );
  const env = { CACHE_DIR: temporaryFolder(), ORIGIN: `http://127.0.0.1:${origin.port}` };
  const first = await start("cache", env);
  await (await get("/kept", { "accept-language": "de" }, "GET", first)).text();
  await (await get("/media/e.mp4", {}, "GET", first)).arrayBuffer();
  // More in the middle of being written when it dies.
  void get("/media/a.mp4", {}, "GET", first).catch(() => undefined);
  await first.stop("SIGKILL");
  const before = fetched("/media/e.mp4");
  const second = await start("cache", env);
  await waitFor("the take-over", () => (second.output().includes("took over") ? true : undefined));
  const video = await get("/media/e.mp4", {}, "GET", second);
  expect(video.headers.get("x-cache-status")).toBe("HIT");
  expect(Buffer.compare(new Uint8Array(await video.arrayBuffer()), big)).toBe(0);
  expect(fetched("/media/e.mp4")).toBe(before);
  expect((await get("/kept", { "accept-language": "de" }, "GET", second)).headers.get("x-cache-status")).toBe("HIT");
  await second.stop();
}, 30_000);

test("a cache smaller than the video still delivers it", async () => {
  const small = await start("cache", {
    CACHE_DIR: temporaryFolder(),
    ORIGIN: `http://127.0.0.1:${origin.port}`,
    CACHE_BYTES_MAX: String(2 * mib + 4096),
  });
  scripts.set("/media/f.mp4", (request) => media(request));
  for (let i = 0; i < 3; i += 1) {
    const response = await get("/media/f.mp4", {}, "GET", small);
    expect(Buffer.compare(new Uint8Array(await response.arrayBuffer()), big)).toBe(0);
  }
  const bytes = Number(/^video_cache_bytes (\d+)/m.exec(await (await get("/-/metrics", {}, "GET", small)).text())?.[1]);
  expect(bytes).toBeLessThanOrEqual(2 * mib + 4096);
  await small.stop();
}, 30_000);
