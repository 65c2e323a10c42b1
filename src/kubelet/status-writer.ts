// Writes pod statuses to the API server: only the latest of each pod, one request at a time per pod, again until it is taken.

import { pods } from "../api/resources.ts";
import type { Pod } from "../api/types.ts";
import { ApiError, type Client, isConflict, isNotFound } from "../client/types.ts";
import type { Clock } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { PodStatus } from "./status.ts";

const retryBaseMs = 50;
const retryMaxMs = 2_000;
/** A conflict that stays is not another writer but another object of that name. */
const conflictsMax = 3;

interface Entry {
  pod: Pod;
  wanted: PodStatus;
  writtenText: string;
  /** Fields the server was last told: those that vanish are set to null. */
  writtenKeys: readonly string[];
  writing: boolean;
  idle: (() => void)[];
}

export class StatusWriter {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #abort = new AbortController();
  /** By pod UID; bounded by the pods of a node. */
  readonly #entries = new Map<string, Entry>();

  constructor(client: Client, clock: Clock, log: Log) {
    this.#client = client;
    this.#clock = clock;
    this.#log = log;
  }

  set(pod: Pod, wanted: PodStatus): void {
    let entry = this.#entries.get(pod.metadata.uid);
    if (entry === undefined) {
      const writtenKeys = Object.keys(pod.status ?? {}).filter((key) => key === "reason" || key === "message");
      entry = { pod, wanted, writtenText: "", writtenKeys, writing: false, idle: [] };
      this.#entries.set(pod.metadata.uid, entry);
    }
    entry.pod = pod;
    entry.wanted = wanted;
    if (!entry.writing) void this.#write(entry);
  }

  /** The server's object says otherwise than what was last written (a node controller declared it unready): write again. */
  reassert(pod: Pod): void {
    const entry = this.#entries.get(pod.metadata.uid);
    if (entry === undefined || entry.writing) return;
    const ready = (status: PodStatus | undefined) => status?.conditions?.find((c) => c.type === "Ready")?.status;
    if (pod.status?.phase === entry.wanted.phase && ready(pod.status) === ready(entry.wanted)) return;
    entry.writtenText = "";
    void this.#write(entry);
  }

  /** Resolves when the server has the latest status of this pod, or the pod is gone. */
  flushed(uid: string): Promise<void> {
    const entry = this.#entries.get(uid);
    if (entry === undefined || !entry.writing) return Promise.resolve();
    return new Promise((resolve) => entry.idle.push(resolve));
  }

  forget(uid: string): void {
    this.#entries.delete(uid);
  }

  stop(): void {
    this.#abort.abort();
  }

  async #write(entry: Entry): Promise<void> {
    entry.writing = true;
    // Everything that changes in this turn of the loop goes into one request.
    await this.#clock.sleep(0);
    let failures = 0;
    const { uid } = entry.pod.metadata;
    while (!this.#abort.signal.aborted && this.#entries.get(uid) === entry) {
      const { wanted } = entry;
      const text = JSON.stringify(wanted);
      if (text === entry.writtenText) break;
      try {
        await this.#patch(entry, wanted);
        entry.writtenText = text;
        entry.writtenKeys = Object.keys(wanted);
        failures = 0;
      } catch (error) {
        // Deleted, or another pod of the same name by now: nobody left to tell.
        if (isNotFound(error) || (isConflict(error) && failures >= conflictsMax)) break;
        if (error instanceof ApiError && error.status === 422) {
          this.#log.error("pod status refused", { pod: entry.pod.metadata.name, error: error.message });
          entry.writtenText = text;
          break;
        }
        this.#log.debug("pod status not written", { pod: entry.pod.metadata.name, error: messageOf(error) });
        await this.#clock.sleep(Math.min(retryMaxMs, retryBaseMs * 2 ** Math.min(failures++, 10)), this.#abort.signal);
      }
    }
    entry.writing = false;
    for (const resolve of entry.idle.splice(0)) resolve();
  }

  async #patch({ pod, writtenKeys }: Entry, wanted: PodStatus): Promise<void> {
    const gone = Object.fromEntries(writtenKeys.filter((key) => !(key in wanted)).map((key) => [key, null]));
    const { namespace, name, uid } = pod.metadata;
    const patch = { metadata: { uid }, status: { ...gone, ...wanted } };
    await this.#client.patch(pods, namespace, name, patch, { type: "merge", subresource: "status" });
  }
}
