// The durable store: one row per revision in SQLite (WAL, synchronous=FULL), after kine's model. One process owns the file.

import { Database } from "bun:sqlite";
import { MeshbedError, messageOf } from "../kernel/errors.ts";
import { createCommitQueue, type Write, type WriteResult } from "./commit.ts";
import type { ListPage, ListQuery, Store, StoreEntry, StoreEvent } from "./types.ts";
import { checkRevision, createWatchHub } from "./watch.ts";

/** `previous` is the revision of the row this one replaces, 0 when the key was new; a deletion keeps the last value. */
const schema = `
CREATE TABLE IF NOT EXISTS log (
  revision INTEGER PRIMARY KEY,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  deleted INTEGER NOT NULL,
  previous INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS log_key ON log (key, revision);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
`;

interface Row {
  revision: number;
  key: string;
  value: string;
  deleted: number;
  previous: number;
}

/** Opens or creates the file. Throws MeshbedError STORE_UNAVAILABLE when it is locked by another process or no database. */
export function openSqliteStore(path: string): Store {
  const db = openDatabase(path);
  const sql = prepare(db);
  let compactedRevision = sql.readMeta.get("compacted")?.value ?? 0;
  let revision = Math.max(1, compactedRevision, sql.newest.get()?.revision ?? 0);
  let closed = false;
  let published: StoreEvent[] = [];

  const hub = createWatchHub(
    (prefix, after, limit) => sql.history.all(after, prefix, endOf(prefix), limit).map(eventOf),
    () => revision,
  );

  function writeOne(write: Write, next: number, events: StoreEvent[]): WriteResult {
    const row = sql.latest.get(write.key) ?? undefined;
    const live = row !== undefined && row.deleted === 0 ? row : undefined;
    const actualRevision = live?.revision ?? 0;
    if (actualRevision !== write.expectedRevision || (write.value === undefined && live === undefined))
      return { kind: "conflict", actualRevision };
    const deleted = write.value === undefined;
    const value = write.value ?? live!.value;
    sql.insert.run(next, write.key, value, deleted ? 1 : 0, actualRevision);
    const previous = live && { key: live.key, value: live.value, revision: live.revision };
    events.push({ type: deleted ? "delete" : "put", key: write.key, revision: next, value, previous });
    return { kind: "written", revision: next };
  }

  function commit(writes: readonly Write[]): WriteResult[] {
    let next = revision;
    const events: StoreEvent[] = [];
    const results = db
      .transaction(() =>
        writes.map((write) => {
          const result = writeOne(write, next + 1, events);
          if (result.kind === "written") next++;
          return result;
        }),
      )
      .immediate();
    revision = next;
    published = events;
    return results;
  }
  const queue = createCommitQueue(commit, () => hub.publish(published));

  return {
    get revision() {
      return revision;
    },
    get compactedRevision() {
      return compactedRevision;
    },
    get(key) {
      const row = sql.latest.get(key);
      return row === null || row.deleted !== 0 ? undefined : entryOf(row);
    },
    list(prefix, query = {}) {
      const at = query.revision ?? revision;
      checkRevision(at, revision, compactedRevision);
      return listAt(sql, prefix, query, at);
    },
    put: (key, value, expectedRevision) => queue.submit({ key, value, expectedRevision }),
    delete: (key, expectedRevision) => queue.submit({ key, value: undefined, expectedRevision }),
    watch(prefix, from) {
      checkRevision(from, revision, compactedRevision);
      return hub.open(prefix, from);
    },
    compact(to) {
      const target = Math.min(to, revision);
      if (target <= compactedRevision) return;
      db.transaction(() => {
        sql.dropReplaced.run(target);
        sql.dropDeleted.run(target);
        sql.writeMeta.run("compacted", target);
      }).immediate();
      compactedRevision = target;
      hub.compacted(target);
    },
    async close() {
      if (closed) return;
      closed = true;
      queue.close();
      hub.close();
      db.close();
    },
  };
}

function openDatabase(path: string): Database {
  try {
    const db = new Database(path, { create: true, strict: true });
    // Exclusive: the revision counter lives in this process, so a second writer must fail instead of corrupting it.
    db.run("PRAGMA locking_mode = EXCLUSIVE");
    // A predecessor that was killed may hold its lock a moment longer.
    db.run("PRAGMA busy_timeout = 1000");
    db.run("PRAGMA journal_mode = WAL");
    db.run("PRAGMA synchronous = FULL");
    db.run(schema);
    db.run("BEGIN EXCLUSIVE");
    db.run("COMMIT");
    return db;
  } catch (error) {
    throw new MeshbedError("STORE_UNAVAILABLE", `cannot open ${path}: ${messageOf(error)}`, {
      cause: error,
      fix: "stop the other process that uses this file, or move the file away to start empty",
    });
  }
}

type Statements = ReturnType<typeof prepare>;

function prepare(db: Database) {
  return {
    newest: db.query<{ revision: number }, []>("SELECT revision FROM log ORDER BY revision DESC LIMIT 1"),
    latest: db.query<Row, [string]>("SELECT * FROM log WHERE key = ? ORDER BY revision DESC LIMIT 1"),
    insert: db.query<never, [number, string, string, number, number]>("INSERT INTO log VALUES (?, ?, ?, ?, ?)"),
    page: db.query<Row, [string, string, number, number]>(`
      SELECT log.* FROM (
        SELECT max(revision) AS newest FROM log WHERE key > ? AND key < ? AND revision <= ? GROUP BY key
      ) JOIN log ON log.revision = newest WHERE deleted = 0 ORDER BY key LIMIT ?`),
    count: db.query<{ count: number }, [string, string, number]>(`
      SELECT count(*) AS count FROM (
        SELECT max(revision) AS newest FROM log WHERE key > ? AND key < ? AND revision <= ? GROUP BY key
      ) JOIN log ON log.revision = newest WHERE deleted = 0`),
    history: db.query<Row & { previousValue: string | null }, [number, string, string, number]>(`
      SELECT log.*, old.value AS previousValue FROM log LEFT JOIN log AS old ON old.revision = log.previous
      WHERE log.revision > ? AND log.key >= ? AND log.key < ? ORDER BY log.revision LIMIT ?`),
    dropReplaced: db.query<never, [number]>(`
      DELETE FROM log WHERE revision IN (SELECT previous FROM log WHERE revision <= ? AND previous > 0)`),
    dropDeleted: db.query<never, [number]>("DELETE FROM log WHERE deleted = 1 AND revision <= ?"),
    readMeta: db.query<{ value: number }, [string]>("SELECT value FROM meta WHERE name = ?"),
    writeMeta: db.query<never, [string, number]>("INSERT OR REPLACE INTO meta VALUES (?, ?)"),
  };
}

function listAt(sql: Statements, prefix: string, query: ListQuery, revision: number): ListPage {
  // Keys never equal their prefix, so "greater than" serves both the start and the continuation.
  const after = query.after ?? prefix;
  const end = endOf(prefix);
  if (query.limit === undefined)
    return { entries: sql.page.all(after, end, revision, -1).map(entryOf), revision, remaining: 0 };
  const entries = sql.page.all(after, end, revision, query.limit + 1).map(entryOf);
  if (entries.length <= query.limit) return { entries, revision, remaining: 0 };
  entries.pop();
  const last = entries[entries.length - 1];
  const remaining = sql.count.get(last?.key ?? after, end, revision)!.count;
  return { entries, revision, remaining };
}

/** The first key after every key with this prefix. */
const endOf = (prefix: string): string => `${prefix}\u{10ffff}`;

const entryOf = ({ key, value, revision }: Row): StoreEntry => ({ key, value, revision });

function eventOf(row: Row & { previousValue: string | null }): StoreEvent {
  const previous =
    row.previous === 0 || row.previousValue === null
      ? undefined
      : { key: row.key, value: row.previousValue, revision: row.previous };
  return {
    type: row.deleted === 0 ? "put" : "delete",
    key: row.key,
    revision: row.revision,
    value: row.value,
    previous,
  };
}
