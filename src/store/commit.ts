// Group commit: writes that arrive in one turn of the event loop share one transaction and are acknowledged after it.

import { MeshbedError } from "../kernel/errors.ts";
import { pendingWritesMax } from "./types.ts";

export interface Write {
  key: string;
  /** Absent: a delete. */
  value: string | undefined;
  expectedRevision: number;
}

/** What became of one write of a batch: its revision, or the revision the key has instead of the expected one. */
export type WriteResult = { kind: "written"; revision: number } | { kind: "conflict"; actualRevision: number };

export interface CommitQueue {
  submit(write: Write): Promise<number>;
  /** Commits what waits and refuses everything after. */
  close(): void;
}

interface Waiting {
  write: Write;
  resolve: (revision: number) => void;
  reject: (error: Error) => void;
}

/**
 * `commit` makes a batch durable, all or nothing, and answers one result a write; a throw fails the whole batch.
 * `committed` runs after it and before any write is acknowledged, so that a writer finds watchers already told.
 */
export function createCommitQueue(
  commit: (writes: readonly Write[]) => WriteResult[],
  committed: () => void,
): CommitQueue {
  let waiting: Waiting[] = [];
  let closed = false;

  function flush(): void {
    const batch = waiting;
    waiting = [];
    if (batch.length === 0) return;
    let results: WriteResult[];
    try {
      results = commit(batch.map((entry) => entry.write));
    } catch (error) {
      const failure = new MeshbedError("STORE_FAILED", "the write could not be made durable", { cause: error });
      for (const entry of batch) entry.reject(failure);
      return;
    }
    committed();
    batch.forEach(({ write, resolve, reject }, i) => {
      const result = results[i]!;
      if (result.kind === "written") resolve(result.revision);
      else reject(conflict(write, result.actualRevision));
    });
  }

  return {
    submit(write) {
      if (closed) return Promise.reject(new MeshbedError("STORE_CLOSED", "the store is closed"));
      if (waiting.length >= pendingWritesMax)
        return Promise.reject(new MeshbedError("STORE_FULL", `${pendingWritesMax} writes are waiting already`));
      if (waiting.length === 0) setImmediate(flush);
      return new Promise((resolve, reject) => waiting.push({ write, resolve, reject }));
    },
    close() {
      closed = true;
      flush();
    },
  };
}

function conflict(write: Write, actualRevision: number): MeshbedError {
  const found = actualRevision === 0 ? "does not exist" : `is at revision ${actualRevision}`;
  const expected = write.expectedRevision === 0 ? "expected it not to exist" : `expected ${write.expectedRevision}`;
  return new MeshbedError("REVISION_CONFLICT", `${write.key} ${found}, ${expected}`);
}
