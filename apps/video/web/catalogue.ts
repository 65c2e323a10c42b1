// The catalogue over SQL: the same queries for SQLite (shared file, many processes) and MySQL/MariaDB.

import type { SQL } from "bun";
import type { Dialect } from "./schema.ts";
import type { Catalogue, Query, Video } from "./videos.ts";

interface Row {
  id: string;
  title: string;
  description: string;
  file: string;
  mime: string;
  size_bytes: number | string;
  sha256: string;
  duration_ms: number;
  width: number;
  height: number;
  thumbnail: string;
  views: number | string;
  created_at_ms: number | string;
}

const columns =
  "v.id, v.title, v.description, v.file, v.mime, v.size_bytes, v.sha256, v.duration_ms, v.width, v.height, v.thumbnail, v.views, v.created_at_ms";

/** Exclusive access for migrations and seeding, across all replicas. */
export type WithLock = (work: (sql: SQL) => Promise<void>) => Promise<void>;

export function createCatalogue(sql: SQL, dialect: Dialect, withLock: WithLock): Catalogue {
  return { ...reads(sql), ...writes(sql, dialect, withLock) };
}

type Write = "add" | "setThumbnail" | "countView" | "prunePlaybacks" | "seedOnce";

function reads(sql: SQL): Omit<Catalogue, Write> {
  return {
    async list(query) {
      const { where, values } = conditions(query);
      const order = query.sort === "views" ? "v.views DESC, v.created_at_ms DESC, v.id" : "v.created_at_ms DESC, v.id";
      const rows = (await sql.unsafe(`SELECT ${columns} FROM videos v ${where} ORDER BY ${order} LIMIT ? OFFSET ?`, [
        ...values,
        query.limit,
        query.offset,
      ])) as Row[];
      const counted = (await sql.unsafe(`SELECT COUNT(*) AS n FROM videos v ${where}`, values)) as {
        n: number | string;
      }[];
      return { videos: await withCategories(sql, rows), total: Number(counted[0]?.n ?? 0) };
    },
    async get(id) {
      const rows = (await sql.unsafe(`SELECT ${columns} FROM videos v WHERE v.id = ?`, [id])) as Row[];
      return (await withCategories(sql, rows))[0];
    },
    async related(video, limit) {
      const marks = video.categories.map(() => "?").join(",") || "NULL";
      const rows = (await sql.unsafe(
        `SELECT ${columns}, (SELECT COUNT(*) FROM video_categories c WHERE c.video_id = v.id AND c.category IN (${marks})) AS shared
         FROM videos v WHERE v.id <> ? ORDER BY shared DESC, v.views DESC, v.created_at_ms DESC LIMIT ?`,
        [...video.categories, video.id, limit],
      )) as Row[];
      return withCategories(sql, rows);
    },
    async categories() {
      const rows = (await sql.unsafe(
        "SELECT c.category AS name, COUNT(*) AS n FROM video_categories c JOIN videos v ON v.id = c.video_id GROUP BY c.category ORDER BY n DESC, name LIMIT 30",
      )) as { name: string; n: number | string }[];
      return rows.map((row) => ({ name: row.name, count: Number(row.n) }));
    },
    async views(id) {
      const rows = (await sql.unsafe("SELECT views FROM videos WHERE id = ?", [id])) as { views: number | string }[];
      return Number(rows[0]?.views ?? 0);
    },
    async files() {
      const rows = (await sql.unsafe("SELECT file, thumbnail FROM videos")) as { file: string; thumbnail: string }[];
      return new Set(rows.flatMap((row) => [row.file, row.thumbnail]));
    },
    async ping() {
      await sql.unsafe("SELECT 1");
    },
    close: () => sql.close(),
  };
}

async function withCategories(sql: SQL, rows: readonly Row[]): Promise<Video[]> {
  if (rows.length === 0) return [];
  const marks = rows.map(() => "?").join(",");
  const categories = (await sql.unsafe(
    `SELECT video_id, category FROM video_categories WHERE video_id IN (${marks}) ORDER BY video_id, position`,
    rows.map((row) => row.id),
  )) as { video_id: string; category: string }[];
  return rows.map((row) => videoOf(row, categories));
}

function writes(sql: SQL, dialect: Dialect, withLock: WithLock): Pick<Catalogue, Write> {
  const ignore = dialect === "sqlite" ? "INSERT OR IGNORE" : "INSERT IGNORE";
  return {
    add: (video) => addWith(sql, ignore, video),
    async setThumbnail(id, thumbnail, durationMs, width, height) {
      await sql.unsafe("UPDATE videos SET thumbnail = ?, duration_ms = ?, width = ?, height = ? WHERE id = ?", [
        thumbnail,
        durationMs,
        width,
        height,
        id,
      ]);
    },
    async countView(id, playbackId, nowMs) {
      if (dialect === "mysql") return countViewMysql(sql, id, playbackId, nowMs);
      // The trigger on playbacks adds one to the video's views in the same statement. RETURNING tells whether the row is new.
      const rows = (await sql.unsafe(
        "INSERT OR IGNORE INTO playbacks (id, video_id, at_ms) SELECT ?, id, ? FROM videos WHERE id = ? RETURNING id",
        [playbackId, nowMs, id],
      )) as unknown[];
      return rows.length === 1;
    },
    async prunePlaybacks(beforeMs) {
      await sql.unsafe("DELETE FROM playbacks WHERE at_ms < ?", [beforeMs]);
    },
    async seedOnce(seed) {
      if (await isSeeded(sql)) return;
      await withLock(async (db) => {
        if (await isSeeded(db)) return;
        for (const video of await seed()) await addWith(db, ignore, video);
        await db.unsafe("INSERT INTO settings (name, value) VALUES (?, ?)", ["seeded", "yes"]);
      });
    },
  };
}

/** Deadlocks and lock timeouts of the server are answered by trying again, so many times. */
const attemptsMax = 5;

async function countViewMysql(sql: SQL, id: string, playbackId: string, nowMs: number): Promise<boolean> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await sql.begin(async (transaction) => {
        // Always the playback's row first, then the video's, both exclusively: no two transactions can wait for each other.
        const inserted = (await transaction.unsafe(
          "INSERT IGNORE INTO playbacks (id, video_id, at_ms) VALUES (?, ?, ?)",
          [playbackId, id, nowMs],
        )) as { affectedRows?: number };
        if ((inserted.affectedRows ?? 0) !== 1) return false;
        const updated = (await transaction.unsafe("UPDATE videos SET views = views + 1 WHERE id = ?", [id])) as {
          affectedRows?: number;
        };
        return (updated.affectedRows ?? 0) === 1;
      });
    } catch (error) {
      if (attempt >= attemptsMax || !/deadlock|lock wait timeout/i.test((error as Error).message)) throw error;
      await Bun.sleep(5 * attempt);
    }
  }
}

async function addWith(db: SQL, ignore: string, video: Video): Promise<void> {
  // Categories first: of a video without its row they are invisible, so nothing is ever half shown.
  for (const [position, category] of video.categories.entries()) {
    await db.unsafe(`${ignore} INTO video_categories (category, video_id, position) VALUES (?, ?, ?)`, [
      category,
      video.id,
      position,
    ]);
  }
  await db.unsafe(
    `INSERT INTO videos (id, title, description, search, file, mime, size_bytes, sha256, duration_ms, width, height, thumbnail, views, created_at_ms)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    [
      video.id,
      video.title,
      video.description,
      [video.title, video.description, ...video.categories].join("\n").toLowerCase(),
      video.file,
      video.mime,
      video.sizeBytes,
      video.sha256,
      video.durationMs,
      video.width,
      video.height,
      video.thumbnail,
      video.views,
      video.createdAtMs,
    ],
  );
}

async function isSeeded(sql: SQL): Promise<boolean> {
  const rows = (await sql.unsafe("SELECT value FROM settings WHERE name = 'seeded'")) as unknown[];
  return rows.length > 0;
}

function videoOf(row: Row, categories: readonly { video_id: string; category: string }[]): Video {
  return {
    id: row.id,
    title: row.title,
    description: row.description,
    categories: categories.filter((entry) => entry.video_id === row.id).map((entry) => entry.category),
    file: row.file,
    mime: row.mime,
    sizeBytes: Number(row.size_bytes),
    sha256: row.sha256,
    durationMs: row.duration_ms,
    width: row.width,
    height: row.height,
    thumbnail: row.thumbnail,
    views: Number(row.views),
    createdAtMs: Number(row.created_at_ms),
  };
}

function conditions(query: Query): { where: string; values: string[] } {
  const parts: string[] = [];
  const values: string[] = [];
  for (const word of query.search.toLowerCase().split(/\s+/).filter(Boolean)) {
    parts.push("v.search LIKE ? ESCAPE '!'");
    values.push(`%${word.replace(/[!%_]/g, "!$&")}%`);
  }
  if (query.category !== "") {
    parts.push("EXISTS (SELECT 1 FROM video_categories c WHERE c.video_id = v.id AND c.category = ?)");
    values.push(query.category);
  }
  return { where: parts.length === 0 ? "" : `WHERE ${parts.join(" AND ")}`, values };
}
