// The web server's settings, all from environment variables.

import { hostname } from "node:os";
import { resolve } from "node:path";
import { type Environment, numberSetting, SettingError, textSetting } from "../shared/environment.ts";

export interface Config {
  port: number;
  host: string;
  /** Shown in pages and sent as X-App-Version; "v2" looks different. */
  version: string;
  hostname: string;
  /** Videos, thumbnails and (unless DATABASE_URL says otherwise) the database: the shared volume. */
  dataDir: string;
  /** sqlite:///absolute/path or mysql://user:password@host:port/database. */
  databaseUrl: string;
  samplesDir: string;
  uploadBytesMax: number;
  accessLog: boolean;
  drainDelayMs: number;
  drainGraceMs: number;
}

export function readConfig(env: Environment): Config {
  const dataDir = resolve(textSetting(env, "DATA_DIR", "/data"));
  const databaseUrl = textSetting(env, "DATABASE_URL", `sqlite://${dataDir}/video.db`);
  if (!/^(sqlite:\/\/\/|mysql:\/\/|mariadb:\/\/)/.test(databaseUrl)) {
    throw new SettingError("DATABASE_URL must be sqlite:///absolute/path, mysql://… or mariadb://…");
  }
  return {
    port: numberSetting(env, "PORT", 8080, 0, 65_535),
    host: textSetting(env, "HOST", "0.0.0.0"),
    version: textSetting(env, "APP_VERSION", "v1"),
    // Kubernetes puts the pod's name into HOSTNAME.
    hostname: textSetting(env, "HOSTNAME", hostname()),
    dataDir,
    databaseUrl,
    samplesDir: textSetting(env, "SAMPLES_DIR", resolve(import.meta.dir, "../samples")),
    uploadBytesMax: numberSetting(env, "UPLOAD_BYTES_MAX", 2 * 1024 ** 3, 1, 1024 ** 4),
    accessLog: textSetting(env, "ACCESS_LOG", "on") !== "off",
    drainDelayMs: numberSetting(env, "DRAIN_DELAY_MS", 500, 0, 60_000),
    drainGraceMs: numberSetting(env, "DRAIN_GRACE_MS", 20_000, 0, 600_000),
  };
}
