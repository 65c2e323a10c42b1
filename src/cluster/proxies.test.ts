// A node's proxy as the supervisor runs it: real processes, a real control plane's stream, replaced by a successor under load.
import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { realClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { freePort, httpChain, listener, prefix, routes, snapshotOf } from "../proxy/fixture.ts";
import { openLoop, StrictClient } from "../proxy/strict_client.ts";
import { memorySnapshots } from "../xds/memory.ts";
import { startAdsServer } from "../xds/server.ts";
import { Children } from "./children.ts";
import { type ClusterConfig, saveConfig, statePaths } from "./config.ts";
import { ensurePki, readKeyPair } from "./pki.ts";

const clock = realClock;
const stateDir = mkdtempSync(join(tmpdir(), "proxies-"));
const paths = statePaths(stateDir);
for (const folder of [paths.run, paths.logs, paths.pki]) mkdirSync(folder, { recursive: true });
afterAll(() => rmSync(stateDir, { recursive: true, force: true }));

test.skipIf(process.platform !== "linux")(
  "a node's proxy hands over to its successor without a failed request",
  async () => {
    const [port, adsPort, adminPort] = [freePort(), freePort(), freePort()];
    const main = join(import.meta.dir, "../main.ts");
    const config = {
      stateDir,
      main,
      projectRoot: join(import.meta.dir, "../.."),
      isolation: { mode: "ports", rootless: false, reason: "test" },
      nodes: [{ name: "master", index: 0, ip: "127.0.0.1", role: "control-plane", adminPort }],
      clients: [],
      hostPorts: { http: 1, https: 2, api: 3 },
      apiPort: 4,
      adsPort,
    } as unknown as ClusterConfig;
    saveConfig(config);
    await ensurePki(config, clock);
    const snapshots = memorySnapshots();
    snapshots.set(
      "node~127.0.0.1~master~cluster.local",
      snapshotOf({
        listeners: [listener("127.0.0.1", port, [httpChain("main")])],
        routes: [routes("main", [{ match: prefix("/"), action: { case: "directResponse", value: { status: 200 } } }])],
      }),
    );
    const { certPem, keyPem } = readKeyPair(paths.pki, "apiserver");
    const ads = await startAdsServer({
      host: "127.0.0.1",
      port: adsPort,
      tls: { ca: await Bun.file(join(paths.pki, "ca.crt")).text(), cert: certPem, key: keyPem },
      source: snapshots,
      authorize: () => true,
      log: silentLog,
      clock,
    });
    const ended: string[] = [];
    const children = new Children(config, clock, (event) => {
      if (event.type === "restarted") ended.push(event.reason);
    });
    const argv = [process.execPath, main, "node-proxy", stateDir, "master"];
    children.start({ name: "proxy-master", argv, takeOverArgv: [...argv, "take-over"], restartMs: 0 });
    const client = new StrictClient();
    const ready = () =>
      fetch(`http://127.0.0.1:${adminPort}/ready`).then(
        ({ ok }) => ok,
        () => false,
      );
    for (let i = 0; i < 300 && !(await ready()); i++) await clock.sleep(20);
    expect(await ready()).toBe(true);
    const load = openLoop(client, 200, (index) => ({ port, fresh: index % 2 === 0 }));
    await clock.sleep(300);
    expect(await children.replace("proxy-master")).toMatchObject({ component: "proxy-master" });
    await clock.sleep(600);
    const { sent, statuses, failures } = await load.stop();
    expect(failures).toEqual({});
    expect(statuses).toEqual({ 200: sent });
    expect(await ready()).toBe(true);
    expect(ended).toEqual([]);
    client.close();
    const stoppingMs = clock.monotonicMs();
    await children.stop();
    expect(clock.monotonicMs() - stoppingMs).toBeLessThan(3_000);
    await ads.close();
  },
  20_000,
);
