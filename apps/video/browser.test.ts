// The platform in a real browser: upload with progress, overview, playback, looks. Set BASE_URL to test a deployed one.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { cleanUp, start, temporaryFolder } from "./testing.ts";

const chromiumPath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const missing = !existsSync(chromiumPath);
if (missing) console.warn(`skipped: browser tests need Chromium at ${chromiumPath}`);
const browserTest = test.skipIf(missing);
const screenshots = process.env["SCREENSHOTS"] ?? join(tmpdir(), "meshbed-screenshots");
const sample = join(import.meta.dir, "samples/deep-zoom.mp4");

let baseUrl = process.env["BASE_URL"] ?? "";
let browser: Browser;

beforeAll(async () => {
  if (missing) return;
  mkdirSync(screenshots, { recursive: true });
  if (baseUrl === "") {
    const web = await start("web", { DATA_DIR: temporaryFolder() });
    baseUrl = (await start("cache", { CACHE_DIR: temporaryFolder(), ORIGIN: web.url })).url;
  }
  const { chromium } = await import("playwright-core");
  browser = await chromium.launch({
    executablePath: chromiumPath,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}, 60_000);

afterAll(async () => {
  await browser?.close();
  await cleanUp();
});

/** A page whose console errors and failed requests fail the test at `close`. */
async function openPage(
  options: Parameters<Browser["newContext"]>[0] = {},
  expected?: RegExp,
): Promise<{ page: Page; close: () => Promise<void> }> {
  const context: BrowserContext = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
  const page = await context.newPage();
  const problems: string[] = [];
  page.on("console", (message) => {
    const isProblem = message.type() === "error" || message.type() === "warning";
    if (isProblem && !expected?.test(message.text())) problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(error.message));
  return {
    page,
    async close() {
      await context.close();
      expect(problems).toEqual([]);
    },
  };
}

async function play(page: Page): Promise<{ currentTime: number; videoWidth: number }> {
  await page.evaluate(async () => {
    const video = document.querySelector("video") as HTMLVideoElement;
    video.muted = true;
    await video.play();
  });
  await page.waitForFunction(() => (document.querySelector("video") as HTMLVideoElement).currentTime > 0.6, undefined, {
    timeout: 15_000,
  });
  return page.evaluate(() => {
    const { currentTime, videoWidth } = document.querySelector("video") as HTMLVideoElement;
    return { currentTime, videoWidth };
  });
}

browserTest(
  "an uploaded video shows progress, appears on the overview, plays and counts one view",
  async () => {
    const { page, close } = await openPage();
    const title = `Browser upload ${Date.now()}`;
    await page.goto(`${baseUrl}/upload`);
    await page.setInputFiles("#video", sample);
    await page.waitForSelector("#preview:not([hidden])");
    expect(await page.textContent("#filefacts")).toContain("960 × 540");
    await page.fill("#title", title);
    await page.fill("#description", "Uploaded by a real browser.");
    await page.check('input[value="technology"]', { force: true });
    // A slow line, so that progress can be seen.
    const devtools = await page.context().newCDPSession(page);
    await devtools.send("Network.enable");
    await devtools.send("Network.emulateNetworkConditions", {
      offline: false,
      latency: 0,
      downloadThroughput: -1,
      uploadThroughput: 400_000,
    });
    const seen: number[] = [];
    await page.exposeFunction("sawProgress", (value: number) => seen.push(value));
    await page.evaluate(() => {
      const bar = document.getElementById("bar") as HTMLProgressElement;
      setInterval(() => (window as unknown as { sawProgress(v: number): void }).sawProgress(bar.value), 50);
    });
    await page.click("#send");
    await page.waitForFunction(() => /left/.test(document.getElementById("speed")?.textContent ?? ""));
    await page.screenshot({ path: join(screenshots, "upload-progress.png") });
    await page.waitForURL(/\/videos\/[0-9A-Za-z]{11}$/, { timeout: 30_000 });
    expect(seen.some((value) => value > 0 && value < 1000)).toBe(true);
    await devtools.send("Network.emulateNetworkConditions", {
      offline: false,
      latency: 0,
      downloadThroughput: -1,
      uploadThroughput: -1,
    });

    expect(await page.textContent("h1")).toBe(title);
    const { currentTime, videoWidth } = await play(page);
    expect(currentTime).toBeGreaterThan(0.6);
    expect(videoWidth).toBe(960);
    await page.waitForFunction(() => document.getElementById("views")?.textContent === "1 view");

    await page.goto(`${baseUrl}/`);
    const link = page.locator(".card a", { hasText: title });
    expect(await link.count()).toBe(1);
    expect(await link.locator(".duration").textContent()).toContain("0:07");
    const thumbnail = await link.locator("img").evaluate((image) => (image as HTMLImageElement).naturalWidth);
    expect(thumbnail).toBe(640);
    await close();
  },
  90_000,
);

browserTest(
  "a video of several slices can be sought to its end",
  async () => {
    const { page, close } = await openPage();
    const ranges: string[] = [];
    page.on("response", (response) => {
      if (response.url().includes("/media/")) ranges.push(response.headers()["content-range"] ?? "");
    });
    await page.goto(`${baseUrl}/videos/gameoflife1`);
    await play(page);
    await page.evaluate(() => {
      (document.querySelector("video") as HTMLVideoElement).currentTime = 7.2;
    });
    await page.waitForFunction(() => (document.querySelector("video") as HTMLVideoElement).ended, undefined, {
      timeout: 15_000,
    });
    expect(ranges.length).toBeGreaterThan(0);
    expect(ranges.every((range) => /^bytes \d+-\d+\/1203271$/.test(range))).toBe(true);
    await close();
  },
  60_000,
);

browserTest(
  "without JavaScript one can browse, upload and watch",
  async () => {
    const { page, close } = await openPage({ javaScriptEnabled: false });
    await page.goto(`${baseUrl}/upload`);
    await page.setInputFiles("#video", sample);
    await page.fill("#title", "Plain form upload");
    await page.click("#send");
    await page.waitForURL(/\/videos\/[0-9A-Za-z]{11}$/);
    expect(await page.textContent("h1")).toBe("Plain form upload");
    expect(await page.getAttribute("video", "controls")).not.toBeNull();
    await page.goto(`${baseUrl}/`);
    expect(await page.locator(".card", { hasText: "Plain form upload" }).count()).toBe(1);
    await close();
  },
  60_000,
);

browserTest(
  "what is no video is refused with a reason, and the form keeps what was typed",
  async () => {
    // The browser itself logs the refusal's status as an error.
    const { page, close } = await openPage({}, /status of 415/);
    const fake = join(temporaryFolder(), "fake.mp4");
    writeFileSync(fake, "this is text, not a film ".repeat(1000));
    await page.goto(`${baseUrl}/upload`);
    await page.setInputFiles("#video", fake);
    await page.fill("#title", "Not a film");
    await page.click("#send");
    await page.waitForSelector("#problem:not([hidden])");
    expect(await page.textContent("#problem")).toBe("This is not an MP4 or WebM video.");
    expect(await page.inputValue("#title")).toBe("Not a film");
    await close();
  },
  60_000,
);

for (const width of [390, 1280]) {
  for (const colorScheme of ["light", "dark"] as const) {
    browserTest(
      `every page fits ${width} px in ${colorScheme} colours without an error`,
      async () => {
        const { page, close } = await openPage({ viewport: { width, height: 844 }, colorScheme });
        await page.goto(`${baseUrl}/`);
        const first = await page.locator(".card a").first().getAttribute("href");
        for (const [name, path] of [
          ["overview", "/"],
          ["watch", first ?? "/"],
          ["upload", "/upload"],
          ["empty", "/?q=nothing+has+this+title"],
        ] as const) {
          await page.goto(baseUrl + path, { waitUntil: "networkidle" });
          const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
          expect(overflow).toBeLessThanOrEqual(0);
          if (name === "watch") await play(page);
          await page.screenshot({ path: join(screenshots, `${name}-${width}-${colorScheme}.png`), fullPage: true });
        }
        await close();
      },
      60_000,
    );
  }
}
