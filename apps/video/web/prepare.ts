// Brings volume and database to the point where requests can be served, however long the database takes to appear.

import { SettingError } from "../shared/environment.ts";
import type { Log } from "../shared/log.ts";
import type { Ready } from "./answers.ts";
import type { Config } from "./config.ts";
import { openDatabase } from "./database.ts";
import { importSamples } from "./seed.ts";
import { openStorage } from "./storage.ts";

const retryMinMs = 100;
const retryMaxMs = 5000;
const sweepEveryMs = 60 * 60 * 1000;
const sweepFirstMs = 30 * 1000;
/** A playback id is remembered this long; reporting it again later would count again. */
const playbackAgeMs = 24 * 60 * 60 * 1000;

export async function prepare(config: Config, log: Log, stopped: () => boolean): Promise<Ready> {
  for (let waitMs = retryMinMs; ; waitMs = Math.min(waitMs * 2, retryMaxMs)) {
    try {
      const storage = await openStorage(config.dataDir);
      const catalogue = await openDatabase(config.databaseUrl);
      await catalogue.seedOnce(async () => {
        log.info("adding the sample videos");
        return importSamples(config.samplesDir, storage, Date.now());
      });
      return { catalogue, storage };
    } catch (error) {
      if (error instanceof SettingError || stopped()) throw error;
      log.warn("not ready yet", { error: (error as Error).message, retry_ms: waitMs });
      await Bun.sleep(waitMs);
    }
  }
}

/** Removes what killed uploads left behind and forgets old playbacks; several replicas doing so at once do no harm. */
export function sweepRegularly({ catalogue, storage }: Ready, log: Log): void {
  const sweep = async (): Promise<void> => {
    try {
      const nowMs = Date.now();
      const removed = await storage.sweep(await catalogue.files(), nowMs);
      await catalogue.prunePlaybacks(nowMs - playbackAgeMs);
      if (removed > 0) log.info("removed leftovers", { files: removed });
    } catch (error) {
      log.warn("sweep failed", { error: (error as Error).message });
    }
  };
  setTimeout(sweep, sweepFirstMs).unref();
  setInterval(sweep, sweepEveryMs).unref();
}
