// Takes an upload: streams the file to the shared volume, checks it, publishes it, and only then makes the video known.

import type { Log } from "../shared/log.ts";
import { type MediaType, magicBytes, sniffImage, sniffVideo } from "./magic.ts";
import { boundaryOf, MultipartError, type Part, type PartSink, parseMultipart } from "./multipart.ts";
import { DiskFullError, type Draft, type Storage } from "./storage.ts";
import { probeVideo } from "./thumbnails.ts";
import {
  type Catalogue,
  descriptionCharsMax,
  newVideoId,
  normaliseCategories,
  titleCharsMax,
  type Video,
} from "./videos.ts";

export type Outcome =
  | { kind: "stored"; video: Video }
  | { kind: "refused"; status: 400 | 413 | 415 | 422 | 503 | 507; message: string; fields: Fields };

export interface Fields {
  title: string;
  description: string;
  categories: string[];
}

export interface ReceiveDeps {
  catalogue: Catalogue;
  storage: Storage;
  log: Log;
  uploadBytesMax: number;
}

/** Fields and multipart framing around the file. */
const overheadBytesMax = 1024 * 1024;
const fieldBytesMax = 32 * 1024;
const thumbnailBytesMax = 512 * 1024;
/** At once per replica; more are asked to come back. */
const uploadsMax = 16;
/** What is still read of a refused upload, so that the browser shows the reason instead of a broken connection. */
const drainBytesMax = 64 * 1024 * 1024;
let uploads = 0;

class Refusal extends Error {
  constructor(
    readonly status: 400 | 413 | 415 | 422 | 503 | 507,
    message: string,
  ) {
    super(message);
  }
}

interface Received {
  fields: Map<string, string[]>;
  type: MediaType | undefined;
  sizeBytes: number;
  hasher: Bun.CryptoHasher;
  filename: string;
  thumbnail: Buffer | undefined;
}

export async function receiveUpload(request: Request, deps: ReceiveDeps): Promise<Outcome> {
  const received: Received = {
    fields: new Map(),
    type: undefined,
    sizeBytes: 0,
    hasher: new Bun.CryptoHasher("sha256"),
    filename: "",
    thumbnail: undefined,
  };
  let draft: Draft | undefined;
  const reader = request.body?.getReader();
  uploads += 1;
  try {
    const boundary = boundaryOf(request.headers.get("content-type"));
    if (boundary === undefined || reader === undefined)
      throw new Refusal(415, "Send the upload as multipart/form-data.");
    await admit(request, deps);
    draft = await deps.storage.draft();
    const target = draft;
    await parseMultipart(chunksOf(reader), boundary, (part) => sinkFor(part, received, target, deps.uploadBytesMax));
    const video = videoFrom(received);
    await publish(video, received, target, deps);
    return { kind: "stored", video };
  } catch (error) {
    const refusal = refusalOf(error);
    if (refusal === undefined) throw error;
    await drain(reader);
    return { kind: "refused", status: refusal.status, message: refusal.message, fields: fieldsOf(received.fields) };
  } finally {
    uploads -= 1;
    await draft?.discard();
  }
}

/** Refuses before the first byte what cannot succeed. */
async function admit(request: Request, deps: ReceiveDeps): Promise<void> {
  if (uploads > uploadsMax) throw new Refusal(503, "Too many uploads at the moment. Please try again in a minute.");
  const lengthBytes = Number(request.headers.get("content-length") ?? 0);
  if (lengthBytes > deps.uploadBytesMax + overheadBytesMax) throw tooLarge(deps.uploadBytesMax);
  if (lengthBytes > (await deps.storage.freeBytes())) throw new DiskFullError();
}

const tooLarge = (bytesMax: number): Refusal =>
  new Refusal(413, `The file is larger than ${Math.floor(bytesMax / 1024 ** 2)} MiB, the most this server takes.`);

function refusalOf(error: unknown): Refusal | undefined {
  if (error instanceof Refusal) return error;
  if (error instanceof MultipartError) return new Refusal(400, `The upload is damaged: ${error.message}.`);
  if (error instanceof DiskFullError) return new Refusal(507, "The server has no room for this file at the moment.");
  return undefined;
}

/** Unlike iterating the stream itself, leaving the loop does not cancel it: what is left can still be drained. */
function chunksOf(reader: ReadableStreamDefaultReader<Uint8Array>): AsyncIterable<Uint8Array> {
  return { [Symbol.asyncIterator]: () => ({ next: () => reader.read() as Promise<IteratorResult<Uint8Array>> }) };
}

async function drain(reader: ReadableStreamDefaultReader<Uint8Array> | undefined): Promise<void> {
  try {
    for (let bytes = 0; reader !== undefined && bytes <= drainBytesMax; ) {
      const { done, value } = await reader.read();
      if (done) return;
      bytes += value.length;
    }
    await reader?.cancel();
  } catch {
    // The client is gone: nothing left to tell it.
  }
}

function sinkFor(part: Part, received: Received, draft: Draft, bytesMax: number): PartSink {
  if (part.name === "video" && part.filename !== undefined) {
    if (received.sizeBytes > 0) throw new Refusal(400, "Send one video at a time.");
    received.filename = part.filename;
    return videoSink(received, draft, bytesMax);
  }
  const limit = part.name === "thumbnail" ? thumbnailBytesMax : fieldBytesMax;
  const chunks: Buffer[] = [];
  let bytes = 0;
  return {
    write(chunk) {
      bytes += chunk.length;
      if (bytes > limit) throw new Refusal(413, `The field "${part.name}" is too long.`);
      chunks.push(Buffer.from(chunk));
    },
    end() {
      const value = Buffer.concat(chunks);
      if (part.name === "thumbnail") received.thumbnail = value.length > 0 ? value : undefined;
      else received.fields.set(part.name, [...(received.fields.get(part.name) ?? []), value.toString("utf8")]);
    },
  };
}

function videoSink(received: Received, draft: Draft, bytesMax: number): PartSink {
  let head = Buffer.alloc(0);
  const check = (): void => {
    received.type = sniffVideo(head);
    if (received.type === undefined) throw new Refusal(415, "This is not an MP4 or WebM video.");
  };
  return {
    async write(chunk) {
      received.sizeBytes += chunk.length;
      if (received.sizeBytes > bytesMax) throw tooLarge(bytesMax);
      if (received.type === undefined) {
        head = Buffer.concat([head, chunk.subarray(0, magicBytes - head.length)]);
        if (head.length >= magicBytes) check();
      }
      received.hasher.update(chunk);
      await draft.write(chunk);
    },
    end() {
      if (received.sizeBytes > 0 && received.type === undefined) check();
    },
  };
}

function fieldsOf(fields: ReadonlyMap<string, readonly string[]>): Fields {
  return {
    title: (fields.get("title")?.[0] ?? "").replace(/[\p{C}\s]+/gu, " ").trim(),
    description: (fields.get("description")?.[0] ?? "").replace(/\r\n?/g, "\n").trim(),
    categories: normaliseCategories(fields.get("categories") ?? []),
  };
}

function videoFrom(received: Received): Video {
  const { title, description, categories } = fieldsOf(received.fields);
  if (received.type === undefined) throw new Refusal(422, "Choose a video file.");
  if (title === "") throw new Refusal(422, "Give the video a title.");
  if (title.length > titleCharsMax) throw new Refusal(422, `The title may have ${titleCharsMax} characters.`);
  if (description.length > descriptionCharsMax) {
    throw new Refusal(422, `The description may have ${descriptionCharsMax} characters.`);
  }
  const number = (name: string, max: number): number => {
    const value = Math.round(Number(received.fields.get(name)?.[0] ?? 0));
    return value > 0 && value <= max ? value : 0;
  };
  const id = newVideoId();
  const image = received.thumbnail === undefined ? undefined : sniffImage(received.thumbnail);
  return {
    id,
    title,
    description,
    categories,
    file: `${id}.${received.type.extension}`,
    mime: received.type.mime,
    sizeBytes: received.sizeBytes,
    sha256: received.hasher.digest("hex"),
    durationMs: number("duration", 7 * 24 * 3600 * 1000),
    width: number("width", 16_384),
    height: number("height", 16_384),
    thumbnail: image === undefined ? "" : `${id}.${image}`,
    views: 0,
    createdAtMs: Date.now(),
  };
}

/** File first, catalogue last: a crash in between leaves an invisible file for the sweep, never a video without its file. */
async function publish(video: Video, received: Received, draft: Draft, deps: ReceiveDeps): Promise<void> {
  const { catalogue, storage, log } = deps;
  if (video.thumbnail !== "" && received.thumbnail !== undefined) {
    const picture = await storage.draft();
    await picture.write(received.thumbnail);
    await picture.publish("thumbs", video.thumbnail);
  }
  await draft.publish("media", video.file);
  // When this fails the file stays: the row may have been written all the same. If it was not, the sweep takes the file.
  await catalogue.add(video);
  if (video.thumbnail !== "" && video.durationMs > 0) return;
  void probeVideo(storage.path("media", video.file), video.id, storage)
    .then(async (probe) => {
      if (probe === undefined) return;
      const thumbnail = probe.thumbnail === "" ? video.thumbnail : probe.thumbnail;
      await catalogue.setThumbnail(video.id, thumbnail, probe.durationMs, probe.width, probe.height);
    })
    .catch((error: Error) => log.warn("no picture for an upload", { video: video.id, error: error.message }));
}
