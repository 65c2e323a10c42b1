// What only the server does: who may ask, what it shows of its clients, how it comes back.
import { beforeAll, describe, expect, test } from "bun:test";
import { createAuthority } from "../identity/authority.ts";
import { realClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { connectAds } from "./client.ts";
import {
  clientTls,
  cluster,
  everyone,
  issueCertificates,
  overGrpc,
  serverTls,
  snapshot,
  strangerRoots,
  strangerTls,
  until,
  wholeSet,
} from "./fixture.ts";
import { memorySnapshots } from "./memory.ts";
import { type Peer, startAdsServer } from "./server.ts";
import { typeUrls } from "./types.ts";

beforeAll(() => issueCertificates(createAuthority));

describe("the ADS server", () => {
  test("shows what each node acknowledged and refused", async () => {
    const snapshots = memorySnapshots();
    const server = await startAdsServer({
      host: "127.0.0.1",
      port: 0,
      tls: serverTls,
      source: snapshots,
      authorize: everyone,
      log: silentLog,
      clock: realClock,
    });
    const connection = connectAds({
      address: `127.0.0.1:${server.port}`,
      tls: clientTls,
      log: silentLog,
      clock: realClock,
      random: seededRandom(1),
    });
    connection
      .open("n")
      .subscribe(typeUrls.cluster, "*", ({ version }) => (version === "2" ? new Map([["b", "too blue"]]) : undefined));
    const state = () => server.status()[0]?.types[0]?.state;
    snapshots.set("n", snapshot("1", { [typeUrls.cluster]: [cluster("a")] }));
    await until(() => state()?.kind === "acked", state);
    snapshots.set("n", snapshot("2", { [typeUrls.cluster]: [cluster("b")] }));
    await until(() => state()?.kind === "nacked", state);
    expect(state()).toMatchObject({ version: "2", accepted: "1", reason: "b: too blue" });
    expect(server.statistics).toEqual({ pushes: 2, nacks: 1, streams: 1 });
    connection.close();
    await until(() => server.statistics.streams === 0, server.status);
    await server.close();
  });

  test("refuses a client whose certificate is of another authority", async () => {
    const snapshots = memorySnapshots();
    snapshots.set("n", snapshot("1", { [typeUrls.cluster]: [cluster("a")] }));
    const server = await startAdsServer({
      host: "127.0.0.1",
      port: 0,
      tls: serverTls,
      source: snapshots,
      authorize: everyone,
      log: silentLog,
      clock: realClock,
    });
    let delivered = 0;
    const connection = connectAds({
      address: `127.0.0.1:${server.port}`,
      tls: strangerTls,
      log: silentLog,
      clock: realClock,
      random: seededRandom(1),
    });
    connection.open("n").subscribe(
      typeUrls.cluster,
      "*",
      wholeSet(() => {
        delivered++;
      }),
    );
    await realClock.sleep(300);
    expect(delivered).toBe(0);
    expect(server.statistics.pushes).toBe(0);
    connection.close();
    await server.close();
  });

  test("tells a client nothing of nodes it may not ask for", async () => {
    const snapshots = memorySnapshots();
    for (const node of ["mine", "other"])
      snapshots.set(node, snapshot("1", { [typeUrls.cluster]: [cluster(`of-${node}`)] }));
    const peers: Peer[] = [];
    const server = await startAdsServer({
      host: "127.0.0.1",
      port: 0,
      tls: serverTls,
      source: snapshots,
      authorize(peer, nodeId) {
        peers.push(peer);
        return nodeId === "mine";
      },
      log: silentLog,
      clock: realClock,
    });
    const connection = connectAds({
      address: `127.0.0.1:${server.port}`,
      tls: clientTls,
      log: silentLog,
      clock: realClock,
      random: seededRandom(1),
    });
    const seen: string[] = [];
    for (const node of ["other", "mine"])
      connection.open(node).subscribe(
        typeUrls.cluster,
        "*",
        wholeSet((r) => {
          seen.push(...r.map(({ name }) => name));
        }),
      );
    await until(
      () => seen.length > 0 && server.statistics.streams === 2,
      () => seen,
    );
    await realClock.sleep(20);
    expect(seen).toEqual(["of-mine"]);
    expect(peers[0]).toEqual({ commonName: "node", organizations: ["system:nodes"] });
    connection.close();
    await server.close();
  });

  test("is not believed by a client that trusts another authority", async () => {
    const snapshots = memorySnapshots();
    snapshots.set("n", snapshot("1", { [typeUrls.cluster]: [cluster("a")] }));
    const server = await startAdsServer({
      host: "127.0.0.1",
      port: 0,
      tls: serverTls,
      source: snapshots,
      authorize: everyone,
      log: silentLog,
      clock: realClock,
    });
    const connection = connectAds({
      address: `127.0.0.1:${server.port}`,
      tls: { ...clientTls, ca: strangerRoots },
      log: silentLog,
      clock: realClock,
      random: seededRandom(1),
    });
    let delivered = 0;
    connection.open("n").subscribe(
      typeUrls.cluster,
      "*",
      wholeSet(() => {
        delivered++;
      }),
    );
    await realClock.sleep(300);
    expect(delivered).toBe(0);
    expect(server.statistics.pushes).toBe(0);
    connection.close();
    await server.close();
  });

  test("is found again after it was gone; what did not change is not delivered again", async () => {
    const snapshots = memorySnapshots();
    const clusters = [cluster("a")];
    snapshots.set("n", snapshot("1", { [typeUrls.cluster]: clusters }));
    const start = (port: number) =>
      startAdsServer({
        host: "127.0.0.1",
        port,
        tls: serverTls,
        source: snapshots,
        authorize: everyone,
        log: silentLog,
        clock: realClock,
      });
    const first = await start(0);
    const seen: string[] = [];
    const connection = connectAds({
      address: `127.0.0.1:${first.port}`,
      tls: clientTls,
      log: silentLog,
      clock: realClock,
      random: seededRandom(1),
    });
    connection.open("n").subscribe(
      typeUrls.cluster,
      "*",
      wholeSet((resources) => {
        seen.push(resources.map((r) => r.name).join());
      }),
    );
    await until(
      () => seen.length === 1,
      () => seen,
    );
    await first.close();
    await realClock.sleep(50);
    const second = await start(first.port);
    await until(() => second.status()[0]?.types[0]?.state.kind === "acked", second.status);
    expect(seen).toEqual(["a"]);
    snapshots.set("n", snapshot("2", { [typeUrls.cluster]: [...clusters, cluster("b")] }));
    await until(
      () => seen.length === 2,
      () => seen,
    );
    expect(seen).toEqual(["a", "a,b"]);
    connection.close();
    await second.close();
  });

  test("shares equal resources between the streams of one process", async () => {
    const { snapshots, connection, close } = await overGrpc();
    const messages: unknown[] = [];
    for (const node of ["one", "two"]) {
      snapshots.set(node, snapshot("1", { [typeUrls.cluster]: [cluster("same")] }));
      connection.open(node).subscribe(
        typeUrls.cluster,
        "*",
        wholeSet((resources) => {
          messages.push(resources[0]?.message);
        }),
      );
    }
    await until(
      () => messages.length === 2,
      () => messages.length,
    );
    expect(messages[0]).toBe(messages[1]);
    await close();
  });
});
