// One suite for the gRPC connection and the in-memory one.
import { beforeAll, describe, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { ClusterSchema } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { createAuthority } from "../identity/authority.ts";
import { realClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { backoffMs } from "./client.ts";
import {
  assignment,
  cluster,
  inMemory,
  issueCertificates,
  listener,
  noteChanges,
  overGrpc,
  route,
  snapshot,
  until,
  wholeSet,
} from "./fixture.ts";
import { staticSource } from "./memory.ts";
import { type NamedResource, typeUrls } from "./types.ts";

beforeAll(() => issueCertificates(createAuthority));

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
