// The cache's settings, all from environment variables.

import { hostname } from "node:os";
import { resolve } from "node:path";
import { type Environment, numberSetting, SettingError, textSetting } from "../shared/environment.ts";

export interface Config {
  port: number;
  host: string;
  hostname: string;
  /** "http://host:port", without a path. */
  origin: string;
  cacheDir: string;
  cacheBytesMax: number;
  entriesMax: number;
  sliceBytes: number;
  /** Paths that begin so are fetched and kept in slices; all others as a whole. */
  slicePaths: readonly string[];
  accessLog: boolean;
  drainDelayMs: number;
  drainGraceMs: number;
}

export function readConfig(env: Environment): Config {
  const origin = textSetting(env, "ORIGIN", "http://web");
  let parsed: URL;
  try {
    parsed = new URL(origin);
  } catch {
    throw new SettingError(`ORIGIN must be a URL such as http://web:80, not "${origin}"`);
  }
  if (parsed.protocol !== "http:" || parsed.pathname !== "/")
    throw new SettingError("ORIGIN must be http://host[:port]");
  return {
    port: numberSetting(env, "PORT", 8080, 0, 65_535),
    host: textSetting(env, "HOST", "0.0.0.0"),
    // Kubernetes puts the pod's name into HOSTNAME.
    hostname: textSetting(env, "HOSTNAME", hostname()),
    origin: parsed.origin,
    cacheDir: resolve(textSetting(env, "CACHE_DIR", "/cache")),
    cacheBytesMax: numberSetting(env, "CACHE_BYTES_MAX", 1024 ** 3, 1024 ** 2, 1024 ** 5),
    entriesMax: numberSetting(env, "CACHE_ENTRIES_MAX", 16_384, 16, 10_000_000),
    sliceBytes: numberSetting(env, "SLICE_BYTES", 1024 ** 2, 4096, 16 * 1024 ** 2),
    slicePaths: textSetting(env, "SLICE_PATHS", "/media/").split(","),
    accessLog: textSetting(env, "ACCESS_LOG", "on") !== "off",
    drainDelayMs: numberSetting(env, "DRAIN_DELAY_MS", 500, 0, 60_000),
    drainGraceMs: numberSetting(env, "DRAIN_GRACE_MS", 20_000, 0, 600_000),
  };
}
