// Starts the slice cache: serves at once, takes over what an earlier process left on disk, drains on SIGTERM.

import { SettingError } from "../shared/environment.ts";
import { drainOnSignal } from "../shared/lifecycle.ts";
import { createLog } from "../shared/log.ts";
import { createMetrics } from "../shared/metrics.ts";
import { readConfig } from "./config.ts";
import { openDisk } from "./disk.ts";
import { createFetcher } from "./fetcher.ts";
import { createHandler } from "./handler.ts";
import { createStore } from "./obtain.ts";
import { createOrigin } from "./origin.ts";
import { createSlices } from "./slices.ts";

const log = createLog({ service: "video-cache" });
try {
  const config = readConfig(process.env);
  const lifecycle = drainOnSignal(() => server, {
    drainDelayMs: config.drainDelayMs,
    graceMs: config.drainGraceMs,
    log,
    close: () => undefined,
  });
  const disk = openDisk(config.cacheDir, config.cacheBytesMax, config.entriesMax);
  const origin = createOrigin(config.origin);
  const store = createStore(disk, createFetcher(disk, origin));
  const metrics = createMetrics();
  metrics.gauge("video_cache_bytes", "Bytes on disk.", () => disk.bytes);
  metrics.gauge("video_cache_entries", "Stored responses and slices.", () => disk.entries);
  metrics.gauge("video_cache_fetching", "Fetches from the origin under way.", () => store.fetching);
  metrics.gauge("process_resident_memory_bytes", "Resident memory.", () => process.memoryUsage.rss());
  const server = Bun.serve({
    port: config.port,
    hostname: config.host,
    // Uploads stream through; the origin decides what is too much.
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    idleTimeout: 120,
    fetch: createHandler({
      config,
      store,
      slices: createSlices(store, config.sliceBytes),
      origin,
      metrics,
      log,
      draining: () => lifecycle.draining,
    }),
    error: () => new Response("Internal error.\n", { status: 500 }),
  });
  log.info("listening", {
    host: config.host,
    port: server.port ?? 0,
    origin: config.origin,
    ms: Math.round(performance.now()),
  });
  const loaded = await store.load();
  if (loaded > 0) log.info("took over stored responses", { entries: loaded });
} catch (error) {
  log.error(error instanceof SettingError ? error.message : `cannot start: ${(error as Error).message}`);
  log.flush();
  process.exit(1);
}
