// Puts the sample videos onto a new platform.

import { join } from "node:path";
import type { Storage } from "./storage.ts";
import type { Video } from "./videos.ts";

type Sample = Pick<
  Video,
  "id" | "title" | "description" | "categories" | "file" | "thumbnail" | "durationMs" | "width" | "height"
>;

/** Copies files and returns the videos to add. Safe to repeat after a crash: names are fixed, and each file appears whole. */
export async function importSamples(samplesDir: string, storage: Storage, nowMs: number): Promise<Video[]> {
  const list = Bun.file(join(samplesDir, "samples.json"));
  if (!(await list.exists())) return [];
  const videos: Video[] = [];
  for (const [i, sample] of ((await list.json()) as Sample[]).entries()) {
    const source = join(samplesDir, sample.file);
    const file = `${sample.id}.mp4`;
    const thumbnail = `${sample.id}.jpg`;
    await storage.importFile(source, "media", file);
    await storage.importFile(join(samplesDir, sample.thumbnail), "thumbs", thumbnail);
    const bytes = await Bun.file(source).bytes();
    videos.push({
      ...sample,
      file,
      thumbnail,
      mime: "video/mp4",
      sizeBytes: bytes.length,
      sha256: new Bun.CryptoHasher("sha256").update(bytes).digest("hex"),
      views: 0,
      createdAtMs: nowMs - i * 60_000,
    });
  }
  return videos;
}
