// Starts the video platform's web server: listens at once, becomes ready when volume and database are, drains on SIGTERM.

import { SettingError } from "../shared/environment.ts";
import { drainOnSignal } from "../shared/lifecycle.ts";
import { createLog } from "../shared/log.ts";
import { createMetrics } from "../shared/metrics.ts";
import type { App } from "./answers.ts";
import { createHandler } from "./app.ts";
import { loadAssets } from "./assets.ts";
import { readConfig } from "./config.ts";
import { prepare, sweepRegularly } from "./prepare.ts";

const log = createLog({ service: "video-web", version: process.env["APP_VERSION"] ?? "v1" });
try {
  const config = readConfig(process.env);
  const lifecycle = drainOnSignal(() => server, {
    drainDelayMs: config.drainDelayMs,
    graceMs: config.drainGraceMs,
    log,
    close: () => app.ready?.catalogue.close(),
  });
  const metrics = createMetrics();
  metrics.gauge("process_resident_memory_bytes", "Resident memory.", () => process.memoryUsage.rss());
  const app: App = {
    config,
    assets: await loadAssets(),
    metrics,
    log,
    ready: undefined,
    draining: () => lifecycle.draining,
  };
  const server = Bun.serve({
    port: config.port,
    hostname: config.host,
    // Larger bodies are refused by the upload itself, with a page that says so.
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    idleTimeout: 120,
    fetch: createHandler(app),
    error: () => new Response("Internal error.\n", { status: 500 }),
  });
  log.info("listening", { host: config.host, port: server.port ?? 0, ms: Math.round(performance.now()) });
  app.ready = await prepare(config, log, () => lifecycle.draining);
  sweepRegularly(app.ready, log);
  log.info("ready", { ms: Math.round(performance.now()) });
} catch (error) {
  log.error(error instanceof SettingError ? error.message : `cannot start: ${(error as Error).message}`);
  log.flush();
  process.exit(1);
}
