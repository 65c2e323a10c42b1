// Writes the Gateway API's statuses. The shell around status.ts.

import { keyOf } from "../../api/object.ts";
import type { Client } from "../../client/types.ts";
import type { Clock } from "../../kernel/clock.ts";
import { messageOf } from "../../kernel/errors.ts";
import type { Log } from "../../kernel/log.ts";
import type { MeshObjects, Model } from "../types.ts";
import { type StatusChange, statusChanges } from "./status.ts";

/** Written at a time. */
const activeMax = 16;
/** A write that failed is tried again after this, unless the object changes before. */
const retryMs = 1_000;

export interface StatusWriter {
  update(model: Model, objects: Pick<MeshObjects, "services">): void;
  stop(): void;
}

export function createStatusWriter(client: Client, clock: Clock, log: Log): StatusWriter {
  let latest: { model: Model; services: MeshObjects["services"] } | undefined;
  let active = 0;
  let stopped = false;
  const waiting = new Map<string, StatusChange>();
  /** What was sent for which version: until the watch brings it back, it is not sent again. */
  const sent = new Map<string, string>();

  const idOf = ({ resource, object }: StatusChange): string => `${resource.plural} ${keyOf(object as never)}`;
  const textOf = ({ object, status }: StatusChange): string =>
    `${object.metadata.resourceVersion} ${JSON.stringify(status, (name, value) => (name === "lastTransitionTime" ? "" : value))}`;

  const look = (): void => {
    if (latest === undefined || stopped) return;
    const changes = statusChanges(
      latest.model,
      latest.services,
      new Date(clock.now()).toISOString().replace(/\.\d+Z$/, "Z"),
    );
    waiting.clear();
    const current = new Set<string>();
    for (const change of changes) {
      const id = idOf(change);
      current.add(id);
      if (sent.get(id) !== textOf(change)) waiting.set(id, change);
    }
    for (const id of sent.keys()) if (!current.has(id)) sent.delete(id);
    next();
  };

  const next = (): void => {
    for (const [id, change] of waiting) {
      if (active >= activeMax) return;
      waiting.delete(id);
      sent.set(id, textOf(change));
      active++;
      void write(id, change);
    }
  };

  const write = async (id: string, { resource, object, status }: StatusChange): Promise<void> => {
    const { namespace, name } = object.metadata;
    try {
      await client.patch(resource, namespace, name, { status }, { subresource: "status" });
    } catch (error) {
      log.debug("status not written", { object: id, error: messageOf(error) });
      // Deleted meanwhile, mostly; anything else shows again at the next look.
      sent.delete(id);
      clock.after(retryMs, look);
    }
    active--;
    next();
  };

  return {
    update(model, { services }) {
      latest = { model, services };
      look();
    },
    stop() {
      stopped = true;
      waiting.clear();
    },
  };
}
