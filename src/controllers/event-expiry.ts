// Removes Events that were last seen an hour ago, and the oldest when there are too many.

import { events } from "../api/resources.ts";
import type { Event } from "../api/types.ts";
import { deleteObject } from "../client/delete.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Controller, ControllerDeps } from "./types.ts";

/** kube-apiserver --event-ttl. */
const eventAgeMaxMs = 3_600_000;
const eventsMax = 10_000;
const checkPeriodMs = 60_000;
const listPageMax = 500;

export function eventExpiryController(deps: ControllerDeps): Controller {
  const { client, clock, log } = deps;
  let busy = false;
  let stopped = false;
  const cancel = clock.every(checkPeriodMs, () => {
    if (busy) return;
    busy = true;
    void sweep()
      .catch((error) => log.warn("events not swept", { error: messageOf(error) }))
      .finally(() => {
        busy = false;
      });
  });

  async function sweep(): Promise<void> {
    const all: Event[] = [];
    let page: string | undefined;
    do {
      const list = await client.list(events, { limit: listPageMax, ...(page && { continue: page }) });
      all.push(...list.items);
      page = list.continue;
    } while (page !== undefined && !stopped);
    for (const { metadata } of expired(all, clock.now())) {
      if (stopped) return;
      await deleteObject(client, events, { metadata });
    }
  }

  return {
    name: "event-expiry",
    idle: () => !busy,
    stop() {
      stopped = true;
      cancel();
    },
  };
}

const lastSeenMs = (event: Event) =>
  Date.parse(
    event.series?.lastObservedTime ?? event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp,
  );

/** The events to remove: too old, then the oldest beyond the bound. */
export function expired(all: readonly Event[], nowMs: number): Event[] {
  const byAge = [...all].sort((a, b) => lastSeenMs(a) - lastSeenMs(b));
  const surplus = byAge.length - eventsMax;
  return byAge.filter((event, index) => index < surplus || nowMs - lastSeenMs(event) >= eventAgeMaxMs);
}
