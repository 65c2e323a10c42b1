// Records core/v1 Events about objects; the same event again raises its count, as `kubectl describe` shows it.

import type { KubeObject, ObjectMeta } from "../api/object.ts";
import { events } from "../api/resources.ts";
import type { Event } from "../api/types.ts";
import { type Clock, timestamp } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import { BoundedQueue } from "../kernel/queue.ts";
import { type Client, isNotFound } from "./types.ts";

export interface EventRecorder {
  /** Never throws and never waits: the event is written in the background. */
  record(about: Subject, type: "Normal" | "Warning", reason: string, message: string): void;
  /** Events still to be written. */
  readonly pending: number;
}

export type Subject = Pick<KubeObject, "apiVersion" | "kind"> & { metadata: ObjectMeta };

/** Events waiting to be written; further ones are dropped and the number dropped is logged. */
const pendingMax = 1_000;
/** Events remembered for counting; the longest unused is forgotten first and would start at 1 again. */
const rememberedMax = 4_096;
/** As Kubernetes' recorder: messages are cut here. */
const messageCharsMax = 1_024;

interface Remembered {
  namespace: string;
  name: string;
  count: number;
}

/** `component` names the sender (deployment-controller, kubelet); `host` its node, where it has one. */
export function createEventRecorder(deps: {
  client: Client;
  component: string;
  clock: Clock;
  log: Log;
  host?: string;
}): EventRecorder {
  const { client, clock, log } = deps;
  const queue = new BoundedQueue<() => Promise<void>>(pendingMax);
  const remembered = new Map<string, Remembered>();
  let writing = false;
  let dropped = 0;
  let pending = 0;

  const write = async (draft: Omit<Event, "metadata"> & { metadata: Partial<ObjectMeta> }, id: string) => {
    const known = remembered.get(id);
    if (known) {
      remembered.delete(id);
      remembered.set(id, known);
      known.count++;
      try {
        await client.patch(events, known.namespace, known.name, {
          count: known.count,
          lastTimestamp: draft.lastTimestamp,
        });
        return;
      } catch (error) {
        if (!isNotFound(error)) throw error; // expired since: write a new one
      }
    }
    const created = await client.create(events, draft);
    if (remembered.size >= rememberedMax) remembered.delete(remembered.keys().next().value!);
    remembered.set(id, { namespace: created.metadata.namespace ?? "default", name: created.metadata.name, count: 1 });
  };
  const drain = async () => {
    writing = true;
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      await job().catch((error) => log.debug("event not written", { error: messageOf(error) }));
      pending--;
    }
    writing = false;
    if (dropped > 0) log.warn("events dropped", { dropped });
    dropped = 0;
  };

  return {
    get pending() {
      return pending;
    },
    record(about, type, reason, message) {
      const text = message.length > messageCharsMax ? `${message.slice(0, messageCharsMax - 3)}...` : message;
      const draft = draftOf(about, type, reason, text, deps.component, deps.host, timestamp(clock), pendingId(clock));
      const id = [about.metadata.uid, about.kind, about.metadata.name, type, reason, text].join("\0");
      if (!queue.push(() => write(draft, id))) {
        dropped++;
        return;
      }
      pending++;
      if (!writing) void drain();
    },
  };
}

let serial = 0;
/** Unique within the process and unlikely to meet another's: Kubernetes uses the time in nanoseconds, in hexadecimal. */
function pendingId(clock: Clock): string {
  serial = (serial + 1) % 1_000_000;
  return (BigInt(clock.now()) * 1_000_000n + BigInt(serial)).toString(16);
}

function draftOf(
  about: Subject,
  type: string,
  reason: string,
  message: string,
  component: string,
  host: string | undefined,
  now: string,
  id: string,
): Omit<Event, "metadata"> & { metadata: Partial<ObjectMeta> } {
  const { name, namespace, uid, resourceVersion } = about.metadata;
  return {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name: `${name}.${id}`, namespace: namespace ?? "default" },
    involvedObject: {
      apiVersion: about.apiVersion,
      kind: about.kind,
      name,
      ...(namespace !== undefined && { namespace }),
      uid,
      resourceVersion,
    },
    type,
    reason,
    message,
    count: 1,
    firstTimestamp: now,
    lastTimestamp: now,
    source: { component, ...(host !== undefined && { host }) },
    reportingComponent: component,
    reportingInstance: host ?? component,
  };
}
