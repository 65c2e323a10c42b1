// What the platform knows about a video, and the contract of the catalogue that keeps it. Types and their limits only.

export interface Video {
  /** 11 characters of base 62; part of the URL and of the file names. */
  id: string;
  title: string;
  description: string;
  categories: readonly string[];
  /** Name in the media folder: "<id>.mp4" or "<id>.webm". */
  file: string;
  mime: string;
  sizeBytes: number;
  sha256: string;
  /** 0 when not known. */
  durationMs: number;
  width: number;
  height: number;
  /** Name in the thumbs folder; empty: a drawn poster is shown. */
  thumbnail: string;
  views: number;
  createdAtMs: number;
}

export interface Query {
  /** Words that title, description or categories must contain; empty for all. */
  search: string;
  category: string;
  sort: "new" | "views";
  offset: number;
  limit: number;
}

export interface Catalogue {
  list(query: Query): Promise<{ videos: Video[]; total: number }>;
  get(id: string): Promise<Video | undefined>;
  /** Videos that share a category first, then the most viewed. */
  related(video: Video, limit: number): Promise<Video[]>;
  /** Category names with the number of their videos, the largest first. */
  categories(): Promise<{ name: string; count: number }[]>;
  /** All or nothing: a video is visible only when everything about it is stored. */
  add(video: Video): Promise<void>;
  setThumbnail(id: string, thumbnail: string, durationMs: number, width: number, height: number): Promise<void>;
  /** Counts one view per playback id, however often and at however many replicas it is reported. False: it was counted before or the video is unknown. */
  countView(id: string, playbackId: string, nowMs: number): Promise<boolean>;
  views(id: string): Promise<number>;
  /** Forgets playback ids older than this. */
  prunePlaybacks(beforeMs: number): Promise<void>;
  /** All media and thumbnail names that some video refers to. */
  files(): Promise<Set<string>>;
  /** Runs `seed` once in the life of the database, in exactly one of all replicas. */
  seedOnce(seed: () => Promise<Video[]>): Promise<void>;
  ping(): Promise<void>;
  close(): Promise<void>;
}

export const titleCharsMax = 120;
export const descriptionCharsMax = 5000;
export const categoriesMax = 5;
export const categoryCharsMax = 30;
export const searchCharsMax = 100;

export const suggestedCategories = [
  "animation",
  "art",
  "education",
  "film",
  "gaming",
  "music",
  "nature",
  "science",
  "sport",
  "technology",
  "travel",
];

/** "Art,  Outer Space " → ["art", "outer space"]: lower case, single blanks, no duplicates, at most `categoriesMax`. */
export function normaliseCategories(texts: readonly string[]): string[] {
  const names = texts
    .flatMap((text) => text.split(","))
    .map((text) =>
      text
        .normalize("NFC")
        .toLowerCase()
        .replace(/[\p{C}\s|]+/gu, " ")
        .trim()
        .slice(0, categoryCharsMax)
        .trim(),
    )
    .filter((name) => name !== "");
  return [...new Set(names)].slice(0, categoriesMax);
}

const idAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** 62^11 ids: a collision among a million videos has odds of 1 in 10^8 per upload, and the primary key refuses it. */
export function newVideoId(): string {
  let id = "";
  while (id.length < 11) {
    for (const byte of crypto.getRandomValues(new Uint8Array(16))) {
      // 248 = 4 × 62: larger bytes would favour the first letters.
      if (byte < 248 && id.length < 11) id += idAlphabet[byte % 62];
    }
  }
  return id;
}
