// Resolves an image name to what runs: the catalogue first, then the host's own userland. Nothing is ever downloaded.

import { MeshbedError } from "../kernel/errors.ts";
import type { ImageCatalogue, ImageEntry } from "./types.ts";

/** Base images whose whole content is a userland: the host's serves instead, with a shell as the default command. */
const userlandImages = new Set(["alpine", "bash", "busybox", "centos", "debian", "fedora", "ubuntu"]);

/** "docker.io/library/nginx:1.25@sha256:…" → "nginx:1.25": the prefixes Docker adds by itself, and the digest, removed. */
export function familiarName(image: string): string {
  let name = image.split("@", 1)[0]!;
  for (const prefix of ["docker.io/library/", "index.docker.io/library/", "docker.io/", "library/"])
    if (name.startsWith(prefix)) {
      name = name.slice(prefix.length);
      break;
    }
  return name;
}

/** The name without its tag; a port of the registry is not a tag. */
export function untagged(image: string): string {
  const slash = image.lastIndexOf("/");
  const colon = image.indexOf(":", slash + 1);
  return colon < 0 ? image : image.slice(0, colon);
}

/**
 * Exact name, then the familiar name, then both without tag, then a catalogue entry of the same name under another tag.
 * Throws MeshbedError IMAGE_UNKNOWN.
 */
export function resolveImage(images: ImageCatalogue, image: string): ImageEntry {
  const familiar = familiarName(image);
  const name = untagged(familiar);
  for (const candidate of [image, familiar, untagged(image), name]) {
    const entry = Object.hasOwn(images, candidate) ? images[candidate] : undefined;
    if (entry !== undefined) return entry;
  }
  for (const [key, entry] of Object.entries(images)) if (untagged(familiarName(key)) === name) return entry;
  if (userlandImages.has(name)) return { command: [], args: [name === "bash" ? "bash" : "sh"] };
  throw new MeshbedError(
    "IMAGE_UNKNOWN",
    `image ${JSON.stringify(image)} is not in the catalogue: meshbed runs commands of this machine instead of pulling images. ` +
      `Add it to meshbed.yaml, for example\n  images:\n    ${name}: { command: ["/usr/bin/my-server", "--port", "8080"] }\nand run meshbed up again.`,
  );
}

/** Kubernetes' rule: command replaces ENTRYPOINT and CMD, args replaces CMD only. */
export function argvOf(
  entry: ImageEntry,
  command: readonly string[] | undefined,
  args: readonly string[] | undefined,
): string[] {
  if (command !== undefined && command.length > 0) return [...command, ...(args ?? [])];
  if (args !== undefined && args.length > 0) return [...entry.command, ...args];
  return [...entry.command, ...(entry.args ?? [])];
}
