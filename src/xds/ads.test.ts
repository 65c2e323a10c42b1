// One suite for the gRPC connection and the in-memory one, and what only the server does.
import { beforeAll, describe, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { ClusterSchema } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { createAuthority } from "../identity/authority.ts";
import { realClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { type AdsTls, backoffMs, connectAds } from "./client.ts";
import { connectMemory, type MemorySnapshots, memorySnapshots, staticSource } from "./memory.ts";
import { type Peer, startAdsServer } from "./server.ts";
import {
  type NamedResource,
  type ResourceHandler,
  type Snapshot,
  type TypeUrl,
  typeUrls,
  type XdsConnection,
} from "./types.ts";

const hourMs = 3_600_000;
const everyone = (): boolean => true;
let serverTls: AdsTls;
let clientTls: AdsTls;
let strangerTls: AdsTls;
let strangerRoots: string;

beforeAll(async () => {
  const authority = await createAuthority({ commonName: "ca", clock: realClock });
  const stranger = await createAuthority({ commonName: "ca", clock: realClock });
  const server = await authority.issue({ ipAddresses: ["127.0.0.1"], lifetimeMs: hourMs, usages: ["server"] });
  const client = await authority.issue({
    commonName: "node",
    organizations: ["system:nodes"],
    lifetimeMs: hourMs,
    usages: ["client"],
  });
  const other = await stranger.issue({ commonName: "node", lifetimeMs: hourMs, usages: ["client"] });
  serverTls = { ca: authority.certPem, cert: server.certPem, key: server.keyPem };
  clientTls = { ca: authority.certPem, cert: client.certPem, key: client.keyPem };
  strangerTls = { ca: authority.certPem, cert: other.certPem, key: other.keyPem };
  strangerRoots = stranger.certPem;
});

const cluster = (name: string): NamedResource => ({ name, message: create(ClusterSchema, { name }) });
const assignment = (name: string): NamedResource => ({
  name,
  message: create(ClusterLoadAssignmentSchema, { clusterName: name }),
});
const listener = (name: string): NamedResource => ({ name, message: create(ListenerSchema, { name }) });
const route = (name: string): NamedResource => ({ name, message: create(RouteConfigurationSchema, { name }) });

const snapshot = (version: string, parts: Partial<Record<TypeUrl, NamedResource[]>>): Snapshot => ({
  resources: Object.fromEntries(
    Object.entries(parts).map(([typeUrl, resources]) => [typeUrl, { version, resources }]),
  ) as Snapshot["resources"],
});

/** A handler that keeps the whole set, as sorted by name, and gives it on. */
function wholeSet(take: (resources: NamedResource[], version: string) => void): ResourceHandler {
  const all = new Map<string, NamedResource>();
  return ({ changed, removed, version }) => {
    const next = new Map(all);
    for (const resource of changed) next.set(resource.name, resource);
    for (const name of removed) next.delete(name);
    take(
      [...next.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
      version,
    );
    all.clear();
    for (const [name, resource] of next) all.set(name, resource);
    return undefined;
  };
}

const noteChanges =
  (seen: string[]): ResourceHandler =>
  ({ changed, removed }) => {
    const names = [...changed.map(({ name }) => `+${name}`).sort(), ...removed.map((name) => `-${name}`).sort()];
    seen.push(names.join(" "));
    return undefined;
  };

/** Waits until `condition` holds, polling; fails after two seconds with what was seen. */
async function until(condition: () => boolean, seen: () => unknown): Promise<void> {
  const deadlineMs = realClock.monotonicMs() + 2_000;
  while (!condition()) {
    if (realClock.monotonicMs() > deadlineMs) throw new Error(`not reached; seen: ${JSON.stringify(seen())}`);
    await realClock.sleep(1);
  }
}

interface Pair {
  snapshots: MemorySnapshots;
  connection: XdsConnection;
  close(): Promise<void>;
}

async function overGrpc(): Promise<Pair> {
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
  return {
    snapshots,
    connection,
    async close() {
      connection.close();
      await server.close();
    },
  };
}

async function inMemory(): Promise<Pair> {
  const snapshots = memorySnapshots();
  const connection = connectMemory({ source: snapshots, log: silentLog, clock: realClock });
  return { snapshots, connection, close: async () => connection.close() };
}

for (const [transport, connect] of [
  ["gRPC", overGrpc],
  ["memory", inMemory],
] as const)
  describe(`an xds connection over ${transport}`, () => {
    test("delivers what is there, and what changes, once per change", async () => {
      const { snapshots, connection, close } = await connect();
      const seen: string[] = [];
      connection.open("n").subscribe(
        typeUrls.cluster,
        "*",
        wholeSet((resources, version) => {
          seen.push(`${version}:${resources.map((r) => r.name)}`);
        }),
      );
      snapshots.set("n", snapshot("1", { [typeUrls.cluster]: [cluster("a")] }));
      await until(
        () => seen.length === 1,
        () => seen,
      );
      snapshots.set("n", snapshot("1", { [typeUrls.cluster]: [cluster("a")] }));
      snapshots.set("n", snapshot("2", { [typeUrls.cluster]: [cluster("a"), cluster("b")] }));
      await until(
        () => seen.length === 2,
        () => seen,
      );
      expect(seen).toEqual(["1:a", "2:a,b"]);
      await close();
    });

    test("tells of a named resource that changed and of no other, and follows changed names", async () => {
      const { snapshots, connection, close } = await connect();
      const [a, b, c] = [assignment("a"), assignment("b"), assignment("c")];
      snapshots.set("n", snapshot("1", { [typeUrls.endpoint]: [a, b, c] }));
      const seen: string[] = [];
      const subscription = connection.open("n").subscribe(typeUrls.endpoint, ["a", "b", "none"], noteChanges(seen));
      const reached = (count: number) =>
        until(
          () => seen.length === count,
          () => seen,
        );
      await reached(1);
      subscription.setNames(["b", "c"]);
      await reached(2);
      const changed = { name: "c", message: create(ClusterLoadAssignmentSchema, { clusterName: "c", policy: {} }) };
      snapshots.set("n", snapshot("2", { [typeUrls.endpoint]: [a, b, changed] }));
      await reached(3);
      snapshots.set("n", snapshot("3", { [typeUrls.endpoint]: [a, changed] }));
      await reached(4);
      subscription.setNames(["a"]);
      await reached(5);
      expect(seen).toEqual(["+a +b -none", "+c", "+c", "-b", "+a"]);
      await close();
    });

    test("takes what is good of a response, and asks again for what was refused only when it changes", async () => {
      const { snapshots, connection, close } = await connect();
      const seen: string[] = [];
      const note = noteChanges(seen);
      const [a, c] = [cluster("a"), cluster("c")];
      snapshots.set("n", snapshot("1", { [typeUrls.cluster]: [a, cluster("gone")] }));
      connection.open("n").subscribe(typeUrls.cluster, "*", (change) => {
        note(change);
        return new Map(change.changed.flatMap(({ name }) => (name === "bad" ? [[name, "is bad"]] : [])));
      });
      const reached = (count: number) =>
        until(
          () => seen.length === count,
          () => seen,
        );
      await reached(1);
      const bad = cluster("bad");
      snapshots.set("n", snapshot("2", { [typeUrls.cluster]: [a, bad, c] }));
      await reached(2);
      const changed = { name: "a", message: create(ClusterSchema, { name: "a", altStatName: "x" }) };
      snapshots.set("n", snapshot("3", { [typeUrls.cluster]: [changed, bad, c] }));
      await reached(3);
      const mended = { name: "bad", message: create(ClusterSchema, { name: "bad", altStatName: "x" }) };
      snapshots.set("n", snapshot("4", { [typeUrls.cluster]: [changed, mended] }));
      await reached(4);
      expect(seen).toEqual(["+a +gone", "+bad +c -gone", "+a", "+bad -c"]);
      await close();
    });

    test("makes before it breaks: a cluster goes only when the routes to it are gone", async () => {
      const { snapshots, connection, close } = await connect();
      const order: string[] = [];
      const note = (type: string) => (resources: readonly NamedResource[]) => {
        order.push(`${type} ${resources.map((r) => r.name)}`);
      };
      const source = connection.open("n");
      const endpoints = source.subscribe(typeUrls.endpoint, [], wholeSet(note("endpoint")));
      source.subscribe(typeUrls.route, ["80"], wholeSet(note("route")));
      source.subscribe(typeUrls.listener, "*", wholeSet(note("listener")));
      source.subscribe(
        typeUrls.cluster,
        "*",
        wholeSet((resources) => {
          note("cluster")(resources);
          endpoints.setNames(resources.map((r) => r.name));
        }),
      );
      const whole = (version: string, name: string, routes: NamedResource) =>
        snapshot(version, {
          [typeUrls.cluster]: [cluster(name)],
          [typeUrls.endpoint]: [assignment(name)],
          [typeUrls.listener]: [listener("l")],
          [typeUrls.route]: [routes],
        });
      snapshots.set("n", whole("1", "old", route("80")));
      await until(
        () => order.length === 4,
        () => order,
      );
      order.length = 0;
      const changed = create(RouteConfigurationSchema, { name: "80", ignorePortInHostMatching: true });
      snapshots.set("n", whole("2", "new", { name: "80", message: changed }));
      await until(
        () => order.at(-1) === "cluster new",
        () => order,
      );
      const at = (entry: string) => order.indexOf(entry);
      expect(order[0]).toBe("cluster new,old");
      expect(at("endpoint old,new") >= 0 || at("endpoint new,old") >= 0 || at("endpoint new") >= 0).toBe(true);
      expect(at("route 80")).toBeGreaterThan(0);
      expect(at("cluster new")).toBeGreaterThan(at("route 80"));
      expect(order.findIndex((e) => e.startsWith("endpoint"))).toBeLessThan(at("route 80"));
      await close();
    });

    test("keeps nodes apart and stops when a source is closed", async () => {
      const { snapshots, connection, close } = await connect();
      const seen: string[] = [];
      const watch = (node: string) => {
        const source = connection.open(node);
        source.subscribe(
          typeUrls.cluster,
          "*",
          wholeSet((r) => {
            seen.push(`${node}:${r.map((x) => x.name)}`);
          }),
        );
        return source;
      };
      const first = watch("one");
      watch("two");
      snapshots.set("one", snapshot("1", { [typeUrls.cluster]: [cluster("a")] }));
      snapshots.set("two", snapshot("1", { [typeUrls.cluster]: [cluster("b")] }));
      await until(
        () => seen.length === 2,
        () => seen,
      );
      first.close();
      snapshots.set("one", snapshot("2", { [typeUrls.cluster]: [cluster("c")] }));
      snapshots.set("two", snapshot("2", { [typeUrls.cluster]: [cluster("d")] }));
      await until(
        () => seen.length === 3,
        () => seen,
      );
      expect(seen.toSorted()).toEqual(["one:a", "two:b", "two:d"]);
      await close();
    });
  });

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

test("a static source tells every node the same", async () => {
  const connection = staticSource(snapshot("1", { [typeUrls.cluster]: [cluster("a")] }), {
    log: silentLog,
    clock: realClock,
  });
  const seen: string[] = [];
  for (const node of ["one", "two"])
    connection.open(node).subscribe(
      typeUrls.cluster,
      "*",
      wholeSet((resources) => {
        seen.push(`${node}:${resources.map((r) => r.name)}`);
      }),
    );
  await until(
    () => seen.length === 2,
    () => seen,
  );
  expect(seen.toSorted()).toEqual(["one:a", "two:a"]);
  connection.close();
});

test("the back-off grows from 50 ms to 5 s with jitter", () => {
  const random = seededRandom(7);
  for (let attempt = 0; attempt < 20; attempt++) {
    const ceilingMs = Math.min(5_000, 50 * 2 ** attempt);
    const delayMs = backoffMs(attempt, random);
    expect(delayMs).toBeGreaterThanOrEqual(ceilingMs / 2);
    expect(delayMs).toBeLessThanOrEqual(ceilingMs);
  }
});
