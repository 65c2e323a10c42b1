// The catalogue on a real MariaDB, where one is installed: the same platform, another database.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { cleanUp, type Running, start, temporaryFolder, waitFor } from "../testing.ts";

const server = ["/usr/sbin/mariadbd", "/usr/sbin/mysqld"].find((path) => existsSync(path));
const installer = Bun.which("mariadb-install-db") ?? Bun.which("mysql_install_db");
const missing = server === undefined || installer === null;
if (missing) console.warn("skipped: tests on MariaDB need mariadbd and mariadb-install-db");

let child: Bun.Subprocess | undefined;
let databaseUrl = "";

/** A port that was free a moment ago. */
function freePort(): number {
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = probe;
  probe.stop(true);
  return port;
}

function startServer(dataDir: string, port: number): void {
  child = Bun.spawn(
    [
      server ?? "",
      "--no-defaults",
      `--datadir=${dataDir}`,
      `--socket=${join(dataDir, "s.sock")}`,
      `--port=${port}`,
      "--bind-address=127.0.0.1",
      "--user=root",
      "--innodb-buffer-pool-size=16M",
      "--innodb-flush-log-at-trx-commit=1",
    ],
    { stdin: "ignore", stdout: "ignore", stderr: "ignore" },
  );
}

async function stopServer(): Promise<void> {
  child?.kill("SIGKILL");
  await child?.exited;
  child = undefined;
}

beforeAll(async () => {
  if (missing) return;
  const dataDir = temporaryFolder();
  const made = Bun.spawn(
    [
      installer ?? "",
      "--no-defaults",
      `--datadir=${dataDir}`,
      "--user=root",
      "--auth-root-authentication-method=normal",
    ],
    {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    },
  );
  expect(await made.exited).toBe(0);
  const port = freePort();
  startServer(dataDir, port);
  const admin = new Bun.SQL(`mysql://root@127.0.0.1:${port}/mysql`);
  await waitFor("MariaDB", async () => {
    try {
      await admin.unsafe("CREATE DATABASE IF NOT EXISTS video CHARACTER SET utf8mb4");
      return true;
    } catch {
      return undefined;
    }
  });
  await admin.close();
  databaseUrl = `mysql://root@127.0.0.1:${port}/video`;
  restart = async () => {
    await stopServer();
    await Bun.sleep(500);
    startServer(dataDir, port);
  };
}, 60_000);
afterAll(async () => {
  await stopServer();
  await cleanUp();
});
let restart: () => Promise<void> = async () => undefined;

interface Listing {
  total: number;
  videos: { id: string; title: string; views: number; categories: string[]; sizeBytes: number }[];
}

test.skipIf(missing)(
  "three replicas migrate and seed once, count every view once, search and survive a restart of the database",
  async () => {
    const dataDir = temporaryFolder();
    const replicas = await Promise.all(
      [1, 2, 3].map(() => start("web", { DATA_DIR: dataDir, DATABASE_URL: databaseUrl })),
    );
    expect(replicas.filter((one) => one.output().includes("adding the sample videos"))).toHaveLength(1);
    const list = async (query: string, one: Running | undefined = replicas[1]): Promise<Listing> =>
      (await (await fetch(`${one?.url}/api/videos?${query}`)).json()) as Listing;
    expect((await list("")).total).toBe(3);
    expect((await list("q=MANDELBROT")).videos.map((video) => video.id)).toEqual(["deepzoom001"]);
    expect((await list("q=100%25")).total).toBe(0);

    const data = new FormData();
    data.append("title", "Größe 🎬 'quoted' \\ backslash");
    data.append("categories", "музыка, art");
    data.append(
      "video",
      new Blob([await Bun.file(join(import.meta.dir, "../samples/sunset-drift.mp4")).arrayBuffer()]),
      "a.mp4",
    );
    const uploaded = await fetch(`${replicas[0]?.url}/api/videos`, { method: "POST", body: data });
    expect(uploaded.status).toBe(201);
    const [video] = (await list("category=музыка")).videos;
    expect(video).toMatchObject({
      title: "Größe 🎬 'quoted' \\ backslash",
      categories: ["музыка", "art"],
      views: 0,
      sizeBytes: 365_045,
    });
    expect(await (await fetch(`${replicas[2]?.url}/videos/${video?.id}`)).text()).toContain("Größe 🎬");

    const report = async (i: number, replica: number): Promise<number> =>
      (
        await fetch(`${replicas[replica % 3]?.url}/api/videos/${video?.id}/views`, {
          method: "POST",
          body: JSON.stringify({ playback: `playback-${i}` }),
        })
      ).status;
    const statuses = await Promise.all(Array.from({ length: 200 }, (_, i) => [report(i, i), report(i, i + 1)]).flat());
    expect(new Set(statuses)).toEqual(new Set([200]));
    expect((await list("sort=views")).videos[0]).toMatchObject({ id: video?.id, views: 200 });

    await restart();
    await waitFor("the database to be back", async () =>
      (await fetch(`${replicas[0]?.url}/`)).status === 200 ? true : undefined,
    );
    await waitFor("readiness", async () => ((await fetch(`${replicas[1]?.url}/readyz`)).ok ? true : undefined));
    expect((await list("", replicas[0])).total).toBe(4);
    await Promise.all(replicas.map((one) => one.stop()));
  },
  90_000,
);
