// Opens the database by its URL, brings the schema up to date exactly once whoever else starts at the same time, and hands out the catalogue.

import { mkdirSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { SQL } from "bun";
import { createCatalogue, type WithLock } from "./catalogue.ts";
import { type Dialect, migrations } from "./schema.ts";
import type { Catalogue } from "./videos.ts";

/** How long a statement waits for another process's write. */
const busyTimeoutMs = 10_000;
const mysqlConnectionsMax = 5;
const mysqlLock = "meshbed-video";
const mysqlLockWaitSeconds = 30;

/** `url` as in Config. */
export async function openDatabase(url: string): Promise<Catalogue> {
  return url.startsWith("sqlite:") ? openSqlite(url.slice("sqlite://".length)) : openMysql(url);
}

async function openSqlite(path: string): Promise<Catalogue> {
  mkdirSync(dirname(path), { recursive: true });
  const sql = new SQL(`sqlite://${path}`);
  await sql.unsafe(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
  await setJournalMode(sql, isNetworkFileSystem(dirname(path)) ? "DELETE" : "WAL");
  await sql.unsafe("PRAGMA synchronous = FULL");
  // Each statement is its own transaction; these only run before the server listens, when nothing else uses the connection.
  const withLock: WithLock = async (work) => {
    await sql.unsafe("BEGIN IMMEDIATE");
    try {
      await work(sql);
      await sql.unsafe("COMMIT");
    } catch (error) {
      await sql.unsafe("ROLLBACK").catch(() => undefined);
      throw error;
    }
  };
  await migrate(sql, "sqlite", withLock);
  return createCatalogue(sql, "sqlite", withLock);
}

/** Changing the mode needs the file alone for a moment, and SQLite does not wait for that by itself. */
async function setJournalMode(sql: SQL, mode: "WAL" | "DELETE"): Promise<void> {
  const deadline = Date.now() + busyTimeoutMs;
  for (;;) {
    try {
      const rows = (await sql.unsafe("PRAGMA journal_mode")) as { journal_mode: string }[];
      if (rows[0]?.journal_mode.toUpperCase() === mode) return;
      await sql.unsafe(`PRAGMA journal_mode = ${mode}`);
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await Bun.sleep(5 + Math.random() * 20);
    }
  }
}

/** WAL needs memory shared by all users of the file, which machines on a network file system do not have. */
function isNetworkFileSystem(dir: string): boolean {
  const networkTypes = new Set([
    0x00c36400 /* ceph */, 0x6969 /* nfs */, 0xff534d42 /* cifs */, 0xfe534d42 /* smb2 */, 0x65735546 /* fuse */,
  ]);
  return networkTypes.has(Number(statfsSync(dir).type) >>> 0);
}

async function openMysql(url: string): Promise<Catalogue> {
  const sql = new SQL(url.replace(/^mariadb:/, "mysql:"), {
    max: mysqlConnectionsMax,
    idleTimeout: 300,
    connectionTimeout: 10,
  });
  const withLock: WithLock = async (work) => {
    const connection = await sql.reserve();
    try {
      const rows = (await connection.unsafe("SELECT GET_LOCK(?, ?) AS got", [mysqlLock, mysqlLockWaitSeconds])) as {
        got: number;
      }[];
      if (Number(rows[0]?.got) !== 1) throw new Error("another replica holds the migration lock for too long");
      try {
        await work(connection);
      } finally {
        await connection.unsafe("SELECT RELEASE_LOCK(?) AS freed", [mysqlLock]);
      }
    } finally {
      connection.release();
    }
  };
  await migrate(sql, "mysql", withLock);
  return createCatalogue(sql, "mysql", withLock);
}

async function migrate(sql: SQL, dialect: Dialect, withLock: WithLock): Promise<void> {
  const target = migrations.at(-1)?.version ?? 0;
  if ((await schemaVersion(sql)) >= target) return;
  await withLock(async (db) => {
    const current = await schemaVersion(db);
    for (const migration of migrations) {
      if (migration.version <= current) continue;
      for (const statement of migration.statements[dialect]) await db.unsafe(statement);
      await db.unsafe("DELETE FROM settings WHERE name = 'schema'");
      await db.unsafe("INSERT INTO settings (name, value) VALUES ('schema', ?)", [String(migration.version)]);
    }
  });
}

async function schemaVersion(sql: SQL): Promise<number> {
  try {
    const rows = (await sql.unsafe("SELECT value FROM settings WHERE name = 'schema'")) as { value: string }[];
    return Number(rows[0]?.value ?? 0);
  } catch (error) {
    // A new database has no such table; anything else is a real failure.
    if (/no such table|doesn't exist/i.test(String((error as Error).message))) return 0;
    throw error;
  }
}
