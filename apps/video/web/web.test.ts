// The web server from outside: pages, byte ranges, uploads, refusals, and three replicas on one volume.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { cleanUp, type Running, start, temporaryFolder, waitFor } from "../testing.ts";

const samplePath = join(import.meta.dir, "../samples/game-of-life.mp4");
const media = "/media/gameoflife1.mp4";
let dataDir: string;
let web: Running;
let sample: Buffer<ArrayBuffer>;

beforeAll(async () => {
  dataDir = temporaryFolder();
  web = await start("web", { DATA_DIR: dataDir, UPLOAD_BYTES_MAX: String(2 * 1024 * 1024) });
  sample = Buffer.from(await Bun.file(samplePath).arrayBuffer());
}, 30_000);
afterAll(cleanUp);

const get = (path: string, headers: Record<string, string> = {}, method = "GET") =>
  fetch(web.url + path, { method, headers, redirect: "manual" });

function form(fields: Record<string, string>, file: Blob | null = new Blob([sample]), name = "clip.mp4"): FormData {
  const data = new FormData();
  for (const [key, value] of Object.entries(fields)) data.append(key, value);
  if (file !== null) data.append("video", file, name);
  return data;
}

async function upload(data: FormData, to = web, headers: Record<string, string> = {}) {
  return fetch(`${to.url}/api/videos`, { method: "POST", body: data, headers });
}

test("the overview shows the seeded samples, with the headers every page has", async () => {
  const response = await get("/");
  const text = await response.text();
  expect(response.status).toBe(200);
  for (const title of ["Sunset drift", "Deep zoom into the Mandelbrot set", "Game of Life with afterglow"]) {
    expect(text).toContain(title);
  }
  expect(text.length).toBeLessThan(30_000);
  expect(text).not.toMatch(/<script>|<style|\son\w+=|style=/);
  expect(response.headers.get("content-security-policy")).toContain("script-src 'self'");
  expect(response.headers.get("content-security-policy")).not.toContain("unsafe");
  expect(response.headers.get("x-content-type-options")).toBe("nosniff");
  expect(response.headers.get("x-app-version")).toBe("v1");
  expect(response.headers.get("x-served-by")).not.toBeEmpty();
  const again = await get("/", { "if-none-match": response.headers.get("etag") ?? "" });
  expect(again.status).toBe(304);
  expect(await again.text()).toBe("");
});

test("search, category and order choose and sort", async () => {
  const titles = async (query: string): Promise<string[]> => {
    const found = (await (await get(`/api/videos?${query}`)).json()) as { videos: { title: string }[] };
    return found.videos.map((video) => video.title);
  };
  expect(await titles("q=MANDELBROT%20zoom")).toEqual(["Deep zoom into the Mandelbrot set"]);
  expect(await titles("q=100%25")).toEqual([]);
  expect(await titles("category=music")).toEqual(["Sunset drift"]);
  await fetch(`${web.url}/api/videos/gameoflife1/views`, {
    method: "POST",
    body: JSON.stringify({ playback: "order-test" }),
  });
  expect((await titles("sort=views"))[0]).toBe("Game of Life with afterglow");
  expect((await titles("sort=new"))[0]).toBe("Sunset drift");
  expect(await (await get("/?q=%3Cscript%3E")).text()).toContain("&#60;script&#62;");
});

test("a file is sent whole, in one range, in several, or not at all", async () => {
  const whole = await get(media);
  expect(whole.status).toBe(200);
  expect(whole.headers.get("accept-ranges")).toBe("bytes");
  expect(whole.headers.get("content-length")).toBe(String(sample.length));
  expect(Buffer.from(await whole.arrayBuffer()).equals(sample)).toBe(true);

  const end = sample.length - 1;
  for (const [range, first, last] of [
    ["bytes=0-0", 0, 0],
    ["bytes=1000-70000", 1000, 70_000],
    ["bytes=1200000-", 1_200_000, end],
    ["bytes=-100", sample.length - 100, end],
  ] as const) {
    const part = await get(media, { range });
    expect(part.status).toBe(206);
    expect(part.headers.get("content-range")).toBe(`bytes ${first}-${last}/${sample.length}`);
    expect(part.headers.get("content-length")).toBe(String(last - first + 1));
    expect(Buffer.from(await part.arrayBuffer()).equals(sample.subarray(first, last + 1))).toBe(true);
  }

  const several = await get(media, { range: "bytes=0-3,500-509" });
  expect(several.status).toBe(206);
  const boundary = /^multipart\/byteranges; boundary=(.+)$/.exec(several.headers.get("content-type") ?? "")?.[1];
  const text = Buffer.from(await several.arrayBuffer()).toString("latin1");
  const parts = text.split(`--${boundary}`);
  expect(parts).toHaveLength(4);
  expect(parts[1]).toEndWith(`${sample.subarray(0, 4).toString("latin1")}\r\n`);
  expect(parts[2]).toContain(`Content-Range: bytes 500-509/${sample.length}\r\n`);
  expect(parts[2]).toEndWith(`${sample.subarray(500, 510).toString("latin1")}\r\n`);

  const outside = await get(media, { range: `bytes=${sample.length}-` });
  expect(outside.status).toBe(416);
  expect(outside.headers.get("content-range")).toBe(`bytes */${sample.length}`);
});

test("conditions: If-Range decides about the range, validators about 304, HEAD sends no body", async () => {
  const head = await get(media, { range: "bytes=0-1" }, "HEAD");
  expect([head.status, head.headers.get("content-length"), await head.text()]).toEqual([
    200,
    String(sample.length),
    "",
  ]);
  const etag = head.headers.get("etag") ?? "";
  const modified = head.headers.get("last-modified") ?? "";
  const statusWith = async (headers: Record<string, string>): Promise<number> => {
    const response = await get(media, headers);
    await response.body?.cancel();
    return response.status;
  };
  expect(await statusWith({ range: "bytes=0-1", "if-range": etag })).toBe(206);
  expect(await statusWith({ range: "bytes=0-1", "if-range": modified })).toBe(206);
  expect(await statusWith({ range: "bytes=0-1", "if-range": '"other"' })).toBe(200);
  expect(await statusWith({ "if-none-match": etag })).toBe(304);
  expect(await statusWith({ "if-modified-since": modified })).toBe(304);
  expect(await statusWith({ "if-modified-since": "Mon, 01 Jan 2001 00:00:00 GMT" })).toBe(200);
});

test("a thousand overlapping ranges in one request get a short refusal", async () => {
  const range = `bytes=${Array.from({ length: 1000 }, (_, i) => `${i}-`).join(",")}`;
  const response = await get(media, { range });
  expect(response.status).toBe(416);
  expect((await response.text()).length).toBeLessThan(200);
});

test("an upload is stored byte by byte and shown", async () => {
  const response = await upload(
    form({ title: " Über <b>all</b> ", description: "one\r\ntwo", categories: "Art, outer  SPACE" }),
  );
  expect(response.status).toBe(201);
  const { url, video } = (await response.json()) as {
    url: string;
    video: { file: string; sha256: string; categories: string[] };
  };
  expect(video.sha256).toBe(new Bun.CryptoHasher("sha256").update(sample).digest("hex"));
  expect(video.categories).toEqual(["art", "outer space"]);
  const stored = Buffer.from(await (await get(`/media/${video.file}`)).arrayBuffer());
  expect(stored.equals(sample)).toBe(true);
  const page = await (await get(url)).text();
  expect(page).toContain("Über &#60;b&#62;all&#60;/b&#62;");
  expect(page).not.toContain("<b>all");
  expect(readdirSync(join(dataDir, "tmp"))).toEqual([]);
});

test("the plain form answers with a redirect to the new page", async () => {
  const response = await fetch(`${web.url}/upload`, {
    method: "POST",
    body: form({ title: "By form" }),
    redirect: "manual",
  });
  expect(response.status).toBe(303);
  expect(response.headers.get("location")).toMatch(/^\/videos\/[0-9A-Za-z]{11}$/);
});

test.each([
  ["text named .mp4", form({ title: "x" }, new Blob(["<html>not a film</html>".repeat(50)])), 415],
  ["a tiny file", form({ title: "x" }, new Blob(["a"])), 415],
  ["no file", form({ title: "x" }, null), 422],
  ["an empty file", form({ title: "x" }, new Blob([])), 422],
  ["no title", () => form({ title: "  " }), 422],
  ["an endless title", () => form({ title: "x".repeat(121) }), 422],
  ["too large", () => form({ title: "x" }, new Blob([sample, new Uint8Array(1024 * 1024)])), 413],
  ["far too large", () => form({ title: "x" }, new Blob([sample, new Uint8Array(8 * 1024 * 1024)])), 413],
] as const)("%s is refused with a reason and leaves nothing behind", async (_, data, status) => {
  const before = readdirSync(join(dataDir, "media")).length;
  const response = await upload(typeof data === "function" ? data() : data);
  expect(response.status).toBe(status);
  expect(((await response.json()) as { message: string }).message.length).toBeGreaterThan(10);
  expect(readdirSync(join(dataDir, "tmp"))).toEqual([]);
  expect(readdirSync(join(dataDir, "media"))).toHaveLength(before);
});

test("an upload cut off in the middle leaves nothing behind", async () => {
  const before = readdirSync(join(dataDir, "media")).length;
  await new Promise<void>((resolve) => {
    const socket = connect(Number(new URL(web.url).port), "127.0.0.1", () => {
      socket.write(
        "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: 900000\r\n\r\n",
      );
      socket.write('--B\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n');
      socket.write(sample.subarray(0, 300_000), () => setTimeout(() => socket.destroy(), 100));
    });
    socket.on("close", () => resolve());
  });
  for (let i = 0; i < 100 && readdirSync(join(dataDir, "tmp")).length > 0; i += 1) await Bun.sleep(20);
  expect(readdirSync(join(dataDir, "tmp"))).toEqual([]);
  expect(readdirSync(join(dataDir, "media"))).toHaveLength(before);
  expect((await get("/readyz")).status).toBe(200);
});

test("requests that another site makes a browser send are refused", async () => {
  const host = new URL(web.url).host;
  const statusWith = async (headers: Record<string, string>): Promise<number> =>
    (await upload(form({ title: "x" }, new Blob(["a"])), web, headers)).status;
  expect(await statusWith({ origin: "http://evil.example" })).toBe(403);
  expect(await statusWith({ origin: "null" })).toBe(403);
  expect(await statusWith({ "sec-fetch-site": "cross-site" })).toBe(403);
  // Past the check, refused for what it is.
  expect(await statusWith({ origin: `http://${host}` })).toBe(415);
  expect(await statusWith({ origin: "https://videos.example", "x-forwarded-host": "videos.example" })).toBe(415);
});

test.each([
  "/media/../video.db",
  "/media/%2e%2e%2fvideo.db",
  "/media/..%2fvideo.db",
  "/thumbs/../../etc/passwd",
  "/media/video.db",
  "/assets/../main.ts",
  "/media/gameoflife1.mp4%00.jpg",
  "/videos/' OR 1=1--",
])("%s leads nowhere", async (path) => {
  // By hand: fetch would tidy the path up.
  const answer = await new Promise<string>((resolve) => {
    let text = "";
    const socket = connect(Number(new URL(web.url).port), "127.0.0.1", () => {
      socket.write(`GET ${path.replaceAll(" ", "%20")} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    });
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1");
    });
    socket.on("close", () => resolve(text));
  });
  expect(answer).toMatch(/^HTTP\/1\.1 (404|400) /);
  expect(answer).not.toContain("SQLite format");
});

test("methods and unknown places are refused properly", async () => {
  const put = await get("/upload", {}, "PUT");
  expect([put.status, put.headers.get("allow")]).toEqual([405, "GET, HEAD, POST"]);
  expect((await get("/", {}, "DELETE")).status).toBe(405);
  expect((await get("/videos/aaaaaaaaaaa")).status).toBe(404);
  expect((await get("/api/nothing")).status).toBe(404);
});

test("assets are addressed by content and kept for ever", async () => {
  const page = await (await get("/")).text();
  const css = /href="(\/assets\/app\.[0-9a-f]+\.css)"/.exec(page)?.[1] ?? "";
  expect((await get(css)).headers.get("cache-control")).toContain("immutable");
  const other = await get("/assets/app.0000000000.css");
  expect([other.status, other.headers.get("cache-control")]).toEqual([200, "public, max-age=0, s-maxage=1"]);
  expect((await get("/favicon.ico")).headers.get("content-type")).toBe("image/svg+xml");
});

test("metrics and logs tell what happened, with the trace the caller sent", async () => {
  const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  await get("/api/version", { traceparent: `00-${trace}-00f067aa0ba902b7-01` });
  const metrics = await (await get("/metrics")).text();
  expect(metrics).toMatch(/video_http_requests_total\{route="api",method="GET",status="200"\} \d+/);
  expect(metrics).toMatch(/video_http_request_duration_seconds_bucket\{route="media",le="\+Inf"\} \d+/);
  for (let i = 0; i < 50 && !web.output().includes(trace); i += 1) await Bun.sleep(20);
  const line = web
    .output()
    .split("\n")
    .find((text) => text.includes(trace));
  expect(JSON.parse(line ?? "{}")).toMatchObject({
    level: "info",
    method: "GET",
    path: "/api/version",
    trace_id: trace,
  });
});

test("three replicas that start together seed once, see each other's uploads and lose no view", async () => {
  const shared = temporaryFolder();
  const versions = ["v1", "v1", "v2"];
  const replicas = await Promise.all(
    versions.map((version) => start("web", { DATA_DIR: shared, APP_VERSION: version })),
  );
  expect(replicas.filter((one) => one.output().includes("adding the sample videos"))).toHaveLength(1);
  const total = async (one: Running): Promise<number> =>
    ((await (await fetch(`${one.url}/api/videos`)).json()) as { total: number }).total;
  expect(await Promise.all(replicas.map(total))).toEqual([3, 3, 3]);

  const uploads = await Promise.all(
    Array.from({ length: 12 }, (_, i) => upload(form({ title: `Clip ${i}` }), replicas[i % 3])),
  );
  expect(uploads.map((response) => response.status)).toEqual(new Array(12).fill(201));
  expect(await Promise.all(replicas.map(total))).toEqual([15, 15, 15]);

  // Each playback is reported twice, to different replicas, as a client does that got no answer the first time.
  const report = async (i: number, replica: number): Promise<boolean> => {
    const response = await fetch(`${replicas[replica % 3]?.url}/api/videos/deepzoom001/views`, {
      method: "POST",
      body: JSON.stringify({ playback: `playback-${i}` }),
    });
    expect(response.status).toBe(200);
    return ((await response.json()) as { counted: boolean }).counted;
  };
  const counted = await Promise.all(
    Array.from({ length: 300 }, (_, i) => Promise.all([report(i, i), report(i, i + 1)])),
  );
  expect(counted.every(([a, b]) => a !== b)).toBe(true);
  const video = (await (await fetch(`${replicas[0]?.url}/api/videos/deepzoom001`)).json()) as { views: number };
  expect(video.views).toBe(300);

  const page = await fetch(`${replicas[2]?.url}/`);
  expect(page.headers.get("x-app-version")).toBe("v2");
  expect(await page.text()).toContain('<span class="version">v2</span>');
  await Promise.all(replicas.map((one) => one.stop()));
}, 60_000);

test("SIGTERM: readiness goes first, a download under way is finished, the process ends with 0", async () => {
  const one = await start("web", { DATA_DIR: temporaryFolder(), DRAIN_DELAY_MS: "400" });
  const slow = await new Promise<{ received: () => number; done: Promise<void> }>((resolve) => {
    let bytes = 0;
    const socket = connect(Number(new URL(one.url).port), "127.0.0.1", () => {
      socket.write(`GET ${media} HTTP/1.1\r\nHost: x\r\n\r\n`);
    });
    const done = new Promise<void>((finished) => socket.on("close", () => finished()));
    socket.on("data", (chunk) => {
      if (bytes === 0) setTimeout(() => socket.resume(), 900);
      bytes += chunk.length;
      if (bytes === chunk.length) {
        socket.pause();
        resolve({ received: () => bytes, done });
      }
    });
  });
  const stopping = one.stop("SIGTERM");
  await Bun.sleep(150);
  expect((await fetch(`${one.url}/readyz`)).status).toBe(503);
  expect((await fetch(`${one.url}/`)).status).toBe(200);
  expect(await stopping).toBe(0);
  await slow.done;
  expect(slow.received()).toBeGreaterThan(sample.length);
}, 30_000);

test("leftovers of a killed process are swept when they are old, and nothing else is", async () => {
  const { openStorage } = await import("./storage.ts");
  const folder = temporaryFolder();
  const storage = await openStorage(folder);
  const nowMs = Date.now();
  mkdirSync(folder, { recursive: true });
  for (const name of [
    "tmp/old.part",
    "tmp/new.part",
    "media/old-orphan.mp4",
    "media/known.mp4",
    "media/new-orphan.mp4",
  ]) {
    writeFileSync(join(folder, name), "x");
    if (/old|known/.test(name)) utimesSync(join(folder, name), nowMs / 1000 - 7200, nowMs / 1000 - 7200);
  }
  expect(await storage.sweep(new Set(["known.mp4"]), nowMs)).toBe(2);
  expect(existsSync(join(folder, "tmp/old.part"))).toBe(false);
  expect(readdirSync(join(folder, "media")).sort()).toEqual(["known.mp4", "new-orphan.mp4"]);
});

const isRoot = process.getuid?.() === 0 && Bun.which("unshare") !== null;
test.skipIf(!isRoot)(
  "a full volume: uploads get 507, reading goes on, and uploads work again once there is room",
  async () => {
    const folder = temporaryFolder();
    // A volume of its own, in a mount namespace that ends with the process.
    const mount = ["unshare", "--mount", "sh", "-c", `mount -t tmpfs -o size=12m tmpfs ${folder} && exec "$@"`, "sh"];
    const one = await start("web", { DATA_DIR: folder }, mount);
    const stored: string[] = [];
    let refused = 0;
    for (let i = 0; i < 8 && refused === 0; i += 1) {
      const response = await upload(form({ title: `Fill ${i}` }), one);
      if (response.status === 507) refused += 1;
      else stored.push(((await response.json()) as { video: { file: string } }).video.file);
    }
    expect([refused, stored.length > 0]).toEqual([1, true]);
    // Not announced, so that only writing finds out.
    const boundary = "B";
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="title"\r\n\r\nx\r\n--${boundary}\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n`;
    async function* body() {
      yield Buffer.from(head);
      for (let i = 0; i < 16; i += 1) yield sample;
      yield Buffer.from(`\r\n--${boundary}--\r\n`);
    }
    const streamed = await fetch(`${one.url}/api/videos`, {
      method: "POST",
      body: body() as unknown as BodyInit,
      headers: { "content-type": `multipart/form-data; boundary=${boundary}` },
    });
    expect(streamed.status).toBe(507);
    expect((await fetch(`${one.url}/`)).status).toBe(200);
    const file = await fetch(`${one.url}/media/${stored[0]}`);
    expect(Buffer.from(await file.arrayBuffer()).equals(sample)).toBe(true);
    const freed = Bun.spawnSync([
      "nsenter",
      `--mount=/proc/${one.pid}/ns/mnt`,
      "rm",
      join(folder, "media", stored[0] ?? ""),
    ]);
    expect(freed.exitCode).toBe(0);
    const small = new Blob([await Bun.file(join(import.meta.dir, "../samples/sunset-drift.mp4")).arrayBuffer()]);
    await waitFor("uploads to work again", async () =>
      (await upload(form({ title: "Again" }, small), one)).status === 201 ? true : undefined,
    );
    await one.stop();
  },
  30_000,
);

test("a setting that cannot be right ends the start with a sentence", async () => {
  await expect(start("web", { DATA_DIR: temporaryFolder(), DATABASE_URL: "postgres://x" })).rejects.toThrow(
    "DATABASE_URL must be sqlite:///absolute/path",
  );
  await expect(start("web", { PORT: "http" })).rejects.toThrow("PORT must be a whole number");
});
