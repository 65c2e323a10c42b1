// Watches of both stores: a watch reads the past from the log page by page, then follows the present through a bounded buffer.

import { MeshbedError } from "../kernel/errors.ts";
import {
  type StoreEvent,
  type StoreWatch,
  type WatchEnd,
  watchBufferEventsMax,
  watchesMax,
  watchHistoryEventsMax,
} from "./types.ts";

/** Reads past events of a prefix after a revision, oldest first, at most `limit`. */
export type ReadHistory = (prefix: string, afterRevision: number, limit: number) => StoreEvent[];

/** Where a watch stands: reading the log, or getting events as they happen. */
type Position = { kind: "past" } | { kind: "present"; buffer: StoreEvent[] };

export interface WatchHub {
  open(prefix: string, revision: number): StoreWatch;
  /** Hands durable events to the watches, in order. */
  publish(events: readonly StoreEvent[]): void;
  /** Ends watches that still have to read something at or before this revision. */
  compacted(revision: number): void;
  close(): void;
}

export function createWatchHub(readHistory: ReadHistory, now: () => number): WatchHub {
  const watches = new Set<Watch>();
  return {
    open(prefix, revision) {
      if (watches.size >= watchesMax) throw new MeshbedError("STORE_FULL", `${watchesMax} watches are open already`);
      const watch = new Watch(prefix, revision, readHistory, now, (ended) => watches.delete(ended));
      watches.add(watch);
      return watch;
    },
    publish(events) {
      for (const watch of watches) watch.publish(events);
    },
    compacted(revision) {
      for (const watch of watches) watch.compacted(revision);
    },
    close() {
      for (const watch of watches) watch.close();
    },
  };
}

class Watch implements StoreWatch {
  readonly #prefix: string;
  readonly #readHistory: ReadHistory;
  readonly #now: () => number;
  readonly #ended: (watch: Watch) => void;
  #position: Position = { kind: "past" };
  #revision: number;
  #end: WatchEnd | undefined;
  #waiting: PromiseWithResolvers<void> | undefined;

  constructor(
    prefix: string,
    revision: number,
    readHistory: ReadHistory,
    now: () => number,
    ended: (watch: Watch) => void,
  ) {
    this.#prefix = prefix;
    this.#revision = revision;
    this.#readHistory = readHistory;
    this.#now = now;
    this.#ended = ended;
    if (revision === now()) this.#position = { kind: "present", buffer: [] };
  }

  get revision() {
    return this.#revision;
  }
  get end() {
    return this.#end;
  }

  take(): StoreEvent[] {
    if (this.#end?.kind === "closed") return [];
    if (this.#position.kind === "past") return this.#takePast();
    const events = this.#position.buffer;
    if (this.#end !== undefined) this.#position = { kind: "present", buffer: [] };
    else {
      if (events.length > 0) this.#position = { kind: "present", buffer: [] };
      this.#revision = this.#now();
    }
    return events;
  }

  /** past → present, when the log has no more to give. */
  #takePast(): StoreEvent[] {
    if (this.#end !== undefined) return [];
    const events = this.#readHistory(this.#prefix, this.#revision, watchHistoryEventsMax);
    if (events.length === watchHistoryEventsMax) {
      this.#revision = events[events.length - 1]!.revision;
      return events;
    }
    this.#position = { kind: "present", buffer: [] };
    this.#revision = this.#now();
    return events;
  }

  ready(): Promise<void> {
    if (this.#end !== undefined || this.#position.kind === "past" || this.#position.buffer.length > 0)
      return Promise.resolve();
    this.#waiting ??= Promise.withResolvers<void>();
    return this.#waiting.promise;
  }

  wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve();
  }

  publish(events: readonly StoreEvent[]): void {
    if (this.#position.kind === "past" || this.#end !== undefined) return;
    const { buffer } = this.#position;
    let grew = false;
    for (const event of events) {
      if (!event.key.startsWith(this.#prefix)) continue;
      if (buffer.length >= watchBufferEventsMax) {
        this.#finish({ kind: "slow" });
        return;
      }
      buffer.push(event);
      grew = true;
    }
    if (grew) this.wake();
  }

  compacted(revision: number): void {
    if (this.#position.kind === "past" && this.#revision < revision) this.#finish({ kind: "compacted" });
  }

  close(): void {
    if (this.#end === undefined) this.#finish({ kind: "closed" });
  }

  #finish(end: WatchEnd): void {
    this.#end = end;
    this.#ended(this);
    this.wake();
  }
}

/** Refuses a revision that cannot be read or watched from. */
export function checkRevision(revision: number, current: number, compacted: number): void {
  if (revision > current)
    throw new MeshbedError("FUTURE_REVISION", `revision ${revision} is ahead of the newest, ${current}`);
  if (revision < compacted)
    throw new MeshbedError("COMPACTED", `revision ${revision} is gone: the log starts at ${compacted}`);
}
