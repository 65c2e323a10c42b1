// The database schema as numbered migrations for both dialects. Append only: a migration that has shipped is never changed.

export type Dialect = "sqlite" | "mysql";

export interface Migration {
  version: number;
  statements: Readonly<Record<Dialect, readonly string[]>>;
}

export const migrations: readonly Migration[] = [
  {
    version: 1,
    statements: {
      sqlite: [
        `CREATE TABLE IF NOT EXISTS videos (
          id TEXT PRIMARY KEY, title TEXT NOT NULL, description TEXT NOT NULL, search TEXT NOT NULL,
          file TEXT NOT NULL UNIQUE, mime TEXT NOT NULL, size_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
          duration_ms INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, thumbnail TEXT NOT NULL,
          views INTEGER NOT NULL DEFAULT 0, created_at_ms INTEGER NOT NULL) WITHOUT ROWID`,
        "CREATE INDEX IF NOT EXISTS videos_new ON videos (created_at_ms DESC, id)",
        "CREATE INDEX IF NOT EXISTS videos_views ON videos (views DESC, created_at_ms DESC, id)",
        `CREATE TABLE IF NOT EXISTS video_categories (
          category TEXT NOT NULL, video_id TEXT NOT NULL, position INTEGER NOT NULL,
          PRIMARY KEY (category, video_id)) WITHOUT ROWID`,
        "CREATE INDEX IF NOT EXISTS video_categories_video ON video_categories (video_id)",
        `CREATE TABLE IF NOT EXISTS playbacks (
          id TEXT PRIMARY KEY, video_id TEXT NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID`,
        "CREATE INDEX IF NOT EXISTS playbacks_at ON playbacks (at_ms)",
        // One statement counts a view: the driver shares one connection among all requests, so a transaction could mix them.
        `CREATE TRIGGER IF NOT EXISTS playbacks_count AFTER INSERT ON playbacks
          BEGIN UPDATE videos SET views = views + 1 WHERE id = NEW.video_id; END`,
        "CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
      ],
      mysql: [
        `CREATE TABLE IF NOT EXISTS videos (
          id VARCHAR(24) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY,
          title VARCHAR(250) NOT NULL, description TEXT NOT NULL, search TEXT NOT NULL,
          file VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE, mime VARCHAR(64) NOT NULL,
          size_bytes BIGINT NOT NULL, sha256 CHAR(64) NOT NULL, duration_ms INT NOT NULL, width INT NOT NULL, height INT NOT NULL,
          thumbnail VARCHAR(64) NOT NULL, views BIGINT NOT NULL DEFAULT 0, created_at_ms BIGINT NOT NULL,
          INDEX videos_new (created_at_ms, id), INDEX videos_views (views, created_at_ms, id)
        ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`,
        `CREATE TABLE IF NOT EXISTS video_categories (
          category VARCHAR(40) COLLATE utf8mb4_bin NOT NULL,
          video_id VARCHAR(24) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, position INT NOT NULL,
          PRIMARY KEY (category, video_id), INDEX video_categories_video (video_id)
        ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`,
        `CREATE TABLE IF NOT EXISTS playbacks (
          id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY,
          video_id VARCHAR(24) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
          at_ms BIGINT NOT NULL, INDEX playbacks_at (at_ms)) ENGINE=InnoDB`,
        "CREATE TABLE IF NOT EXISTS settings (name VARCHAR(64) PRIMARY KEY, value TEXT NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
      ],
    },
  },
];
