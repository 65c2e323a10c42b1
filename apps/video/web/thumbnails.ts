// Pictures of videos: taken by ffmpeg where it is installed, drawn as SVG otherwise.

import { open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { escapeHtml } from "./html.ts";
import type { Storage } from "./storage.ts";
import type { Video } from "./videos.ts";

const toolTimeoutMs = 20_000;

export interface Probe {
  durationMs: number;
  width: number;
  height: number;
  /** Name in the thumbs folder; empty when no picture could be taken. */
  thumbnail: string;
}

let running: Promise<unknown> = Promise.resolve();

/** One at a time: a burst of uploads must not take the machine from playback. Undefined when ffmpeg is not installed. */
export function probeVideo(path: string, id: string, storage: Storage): Promise<Probe | undefined> {
  const next = running.then(() => probe(path, id, storage).catch(() => undefined));
  running = next;
  return next;
}

async function probe(path: string, id: string, storage: Storage): Promise<Probe | undefined> {
  if (Bun.which("ffprobe") === null || Bun.which("ffmpeg") === null) return undefined;
  const facts = await run([
    "ffprobe",
    "-v",
    "error",
    "-select_streams",
    "v:0",
    "-show_entries",
    "stream=width,height:format=duration",
    "-of",
    "json",
    path,
  ]);
  if (facts === undefined) return undefined;
  const parsed = JSON.parse(facts) as {
    streams?: { width?: number; height?: number }[];
    format?: { duration?: string };
  };
  const seconds = Number(parsed.format?.duration ?? 0) || 0;
  const stream = parsed.streams?.[0];
  const result = { durationMs: Math.round(seconds * 1000), width: stream?.width ?? 0, height: stream?.height ?? 0 };
  const picture = join(tmpdir(), `${crypto.randomUUID()}.jpg`);
  try {
    const scale = "scale=640:360:force_original_aspect_ratio=increase,crop=640:360";
    const at = String(Math.min(seconds * 0.25, 10));
    await run([
      "ffmpeg",
      "-v",
      "error",
      "-y",
      "-ss",
      at,
      "-i",
      path,
      "-frames:v",
      "1",
      "-vf",
      scale,
      "-q:v",
      "4",
      picture,
    ]);
    const handle = await open(picture, "r");
    await handle.close();
    await storage.importFile(picture, "thumbs", `${id}.jpg`);
    return { ...result, thumbnail: `${id}.jpg` };
  } catch {
    return { ...result, thumbnail: "" };
  } finally {
    await rm(picture, { force: true });
  }
}

/** The output, undefined when the tool failed or took too long. */
async function run(command: string[]): Promise<string | undefined> {
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "ignore", timeout: toolTimeoutMs });
  const output = await new Response(child.stdout).text();
  return (await child.exited) === 0 ? output : undefined;
}

/** A poster in 16:9 whose colours and shapes follow from the id: the same on every replica, different for every video. */
export function drawPoster(video: Pick<Video, "id" | "title">): string {
  let hash = 2166136261;
  for (const char of video.id) hash = Math.imul(hash ^ char.charCodeAt(0), 16777619) >>> 0;
  const hue = hash % 360;
  const shapes = [0, 1, 2]
    .map((i) => {
      const bits = (hash >>> (i * 7)) & 127;
      return `<circle cx="${(bits * 37 + i * 170) % 640}" cy="${(bits * 53) % 360}" r="${70 + bits}" fill="hsl(${(hue + 40 * (i + 1)) % 360} 70% 55% / .35)"/>`;
    })
    .join("");
  const lines = wrap(video.title, 24, 3)
    .map((line, i, all) => `<text x="40" y="${318 - (all.length - 1 - i) * 46}">${escapeHtml(line)}</text>`)
    .join("");
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 360" width="640" height="360"><defs><linearGradient id="g" x1="0" y1="0" x2="1" y2="1"><stop stop-color="hsl(${hue} 60% 30%)"/><stop offset="1" stop-color="hsl(${(hue + 60) % 360} 65% 18%)"/></linearGradient></defs><rect width="640" height="360" fill="url(#g)"/>${shapes}<g fill="#fff" font-family="system-ui,sans-serif" font-size="38" font-weight="700">${lines}</g></svg>`;
}

function wrap(text: string, charsMax: number, linesMax: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(/\s+/)) {
    const last = lines.at(-1);
    if (last !== undefined && `${last} ${word}`.length <= charsMax) lines[lines.length - 1] = `${last} ${word}`;
    else if (lines.length < linesMax) lines.push(word.slice(0, charsMax));
    else break;
  }
  return lines;
}
