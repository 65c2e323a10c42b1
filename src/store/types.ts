// The store's contract: a key-value log in which every write is a new revision, with compare-and-swap, lists and watches.

/** A key's value as of one revision. */
export interface StoreEntry {
  key: string;
  /** Text; the API server keeps JSON here. */
  value: string;
  /** Revision of the write that set this value. Revisions are positive integers and grow by one a write. */
  revision: number;
}

/** One write as watchers see it. */
export interface StoreEvent {
  type: "put" | "delete";
  key: string;
  /** Revision of this write. */
  revision: number;
  /** The new value; for a delete, the last one. */
  value: string;
  /** The entry this write replaced or removed; absent when the key was new. */
  previous: StoreEntry | undefined;
}

export interface ListQuery {
  /** Only keys after this one (exclusive). */
  after?: string;
  /** At most this many entries; all when absent. */
  limit?: number;
  /** As of this revision; the newest when absent. */
  revision?: number;
}

export interface ListPage {
  /** Ordered by key (bytes of UTF-8). */
  entries: StoreEntry[];
  /** The revision the page shows. */
  revision: number;
  /** Entries beyond the limit. */
  remaining: number;
}

export type WatchEnd =
  /** `close()` of the watch, or of the store. */
  | { kind: "closed" }
  /** The consumer fell more than `watchBufferEventsMax` events behind and was cut off. */
  | { kind: "slow" }
  /** What comes next was compacted away. */
  | { kind: "compacted" };

/** A subscription to one prefix. One consumer at a time. */
export interface StoreWatch {
  /** Events ready now, oldest first, all of them at most once; empty when there are none. */
  take(): StoreEvent[];
  /** Resolves when `take` may have something to give, the watch has ended, or `wake` was called. */
  ready(): Promise<void>;
  /** Resolves a pending `ready` early, for a consumer with other reasons to look up. */
  wake(): void;
  /** Every event of the prefix up to this revision has been taken. */
  readonly revision: number;
  /** Why nothing will come any more; undefined while open. Events taken before remain valid. */
  readonly end: WatchEnd | undefined;
  close(): void;
}

export interface Store {
  /** Revision of the last durable write; 1 when nothing was ever written. */
  readonly revision: number;
  /** Revisions up to this one can neither be read nor watched from before it; 0 when never compacted. */
  readonly compactedRevision: number;
  /** The entry now. Sees durable writes only. */
  get(key: string): StoreEntry | undefined;
  /** Throws MeshbedError COMPACTED or FUTURE_REVISION. */
  list(prefix: string, query?: ListQuery): ListPage;
  /**
   * Sets `value` if the key's revision is `expectedRevision` (0: the key must not exist). Resolves once durable, with the
   * new revision. Rejects with MeshbedError REVISION_CONFLICT, STORE_FULL (too many writes waiting) or STORE_CLOSED.
   */
  put(key: string, value: string, expectedRevision: number): Promise<number>;
  /** Removes the key if its revision is `expectedRevision`; otherwise like `put`. */
  delete(key: string, expectedRevision: number): Promise<number>;
  /** Events of the keys with this prefix after `revision`. Throws MeshbedError COMPACTED, FUTURE_REVISION or STORE_FULL. */
  watch(prefix: string, revision: number): StoreWatch;
  /** Forgets values replaced or deleted at or before `revision`. Pages and watches that need them fail from then on. */
  compact(revision: number): void;
  /** Settles writes that wait, ends watches, releases files. */
  close(): Promise<void>;
}

/** Watches open at a time; a further one is refused with STORE_FULL. */
export const watchesMax = 10_000;
/** Events a watch holds for a consumer that is behind the present; one more ends it as slow. */
export const watchBufferEventsMax = 4096;
/** Past events read from the log at a time while a watch catches up. */
export const watchHistoryEventsMax = 512;
/** Writes that may wait for the next transaction; further ones are refused with STORE_FULL. */
export const pendingWritesMax = 16_384;
