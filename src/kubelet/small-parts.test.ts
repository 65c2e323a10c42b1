// Addresses, quality of service, resolv.conf and hosts, recovery from an old status, HTTP probes.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Pod } from "../api/types.ts";
import { realClock as clock } from "../kernel/clock.ts";
import { AddressPool } from "./addresses.ts";
import { httpGet, tcpConnect } from "./http-get.ts";
import { parseResolvConf, podHostname, podHosts, podResolvConf } from "./network-files.ts";
import { qosClassOf } from "./qos.ts";
import { initialRecords } from "./recover.ts";

const folder = mkdtempSync("/tmp/meshbed-parts-test-");
afterAll(() => rmSync(folder, { recursive: true }));

const podOf = (spec: object, more: object = {}): Pod =>
  ({
    metadata: { name: "web-0", namespace: "video", uid: "u" },
    spec: { containers: [], ...spec },
    ...more,
  }) as unknown as Pod;

test("an address stays with its pod over a restart, is not reused at once, and the supply has an end", () => {
  const path = join(folder, "addresses.json");
  const pool = new AddressPool("10.244.1", path);
  expect([pool.assign("a"), pool.assign("b"), pool.assign("a")]).toEqual(["10.244.1.2", "10.244.1.3", "10.244.1.2"]);
  pool.release("b");
  expect(pool.assign("c")).toBe("10.244.1.4");
  const again = new AddressPool("10.244.1", path);
  expect([again.assign("c"), again.assign("a")]).toEqual(["10.244.1.4", "10.244.1.2"]);
  again.retain(new Set(["a"]));
  expect(again.assign("d", "10.244.1.4")).toBe("10.244.1.4");
  for (let i = 0; i < 251; i++) again.assign(`x${i}`);
  expect(() => again.assign("one too many")).toThrow("no free address");
});

const resources = (requests: object | undefined, limits: object | undefined) => ({ resources: { requests, limits } });
const full = { cpu: "1", memory: "1Gi" };
const classes: [string, object[], string][] = [
  ["nothing asked for", [{}], "BestEffort"],
  ["limits equal requests", [resources(full, { cpu: "1000m", memory: "1024Mi" })], "Guaranteed"],
  ["limits alone", [resources(undefined, full)], "Guaranteed"],
  ["a request alone", [resources({ cpu: "1" }, undefined)], "Burstable"],
  ["one container without", [resources(full, full), {}], "Burstable"],
  ["a request below its limit", [resources({ cpu: "1", memory: "1Mi" }, full)], "Burstable"],
];
for (const [what, containers, expected] of classes)
  test(`${what}: ${expected}`, () => {
    expect(qosClassOf(podOf({ containers }))).toBe(expected as never);
  });

const machine = parseResolvConf("# c\nsearch home.arpa\nnameserver 192.0.2.1 # x\noptions edns0\n");

test("resolv.conf follows the pod's DNS policy", () => {
  const text = (spec: object) => podResolvConf(podOf(spec), "10.96.0.10", "cluster.local", machine);
  const cluster =
    "search video.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
  const own = "search home.arpa\nnameserver 192.0.2.1\noptions edns0\n";
  expect(text({})).toBe(cluster);
  expect(text({ hostNetwork: true })).toBe(own);
  expect(text({ hostNetwork: true, dnsPolicy: "ClusterFirstWithHostNet" })).toBe(cluster);
  expect(text({ dnsPolicy: "Default" })).toBe(own);
  const dnsConfig = { nameservers: ["192.0.2.9"], searches: ["x.org"], options: [{ name: "ndots", value: "2" }] };
  expect(text({ dnsPolicy: "None", dnsConfig })).toBe("search x.org\nnameserver 192.0.2.9\noptions ndots:2\n");
  expect(text({ dnsConfig })).toContain("nameserver 10.96.0.10\nnameserver 192.0.2.9\noptions ndots:2\n");
});

test("the hosts file names the pod, in full when it has a subdomain", () => {
  const pod = podOf({ subdomain: "db", hostAliases: [{ ip: "192.0.2.5", hostnames: ["a", "b"] }] });
  const text = podHosts(pod, "10.244.1.5", podHostname(pod, "n"), "cluster.local");
  expect(text).toContain("10.244.1.5\tweb-0.db.video.svc.cluster.local\tweb-0\n");
  expect(text).toContain("192.0.2.5\ta\tb\n");
  expect(podHostname(podOf({ hostNetwork: true }), "worker1")).toBe("worker1");
  const long = podOf({}, { metadata: { name: `${"a".repeat(62)}-bcd`, uid: "u" } });
  expect(podHostname(long, "n")).toBe("a".repeat(62));
});

test("a kubelet that finds running containers in a status counts them as ended and to be restarted", () => {
  const at = "2026-01-01T00:00:00Z";
  const status = (state: object, lastState: object = {}) => ({
    status: {
      phase: "Running",
      containerStatuses: [{ name: "c", restartCount: 2, state, lastState, containerID: "meshbed://u/c-2" }],
    },
  });
  const containers = [{ name: "c", image: "i" }];
  const recovered = (more: object, spec: object = {}) =>
    initialRecords(podOf({ containers, ...spec }, more), 9_000, () => 3);
  const [running] = recovered(status({ running: { startedAt: at } })).records;
  expect(running).toMatchObject({
    restartCount: 2,
    attempts: 3,
    state: { kind: "exited", exit: { code: 255, containerId: "u/c-2" } },
  });
  const terminated = { terminated: { exitCode: 0, startedAt: at, finishedAt: at, reason: "Completed" } };
  const [done] = recovered(status(terminated), { restartPolicy: "OnFailure" }).records;
  expect(done?.state).toMatchObject({ kind: "exited", exit: { code: 0 } });
  const waiting = { waiting: { reason: "CrashLoopBackOff" } };
  const [crashed] = recovered(status(waiting, { terminated: { exitCode: 1 } })).records;
  expect(crashed).toMatchObject({ restartCount: 2, last: { code: 1 }, state: { kind: "waiting" } });
  expect(recovered({ status: { phase: "Succeeded", containerStatuses: [] } }).ended).toBe(true);
});

test("an HTTP probe tells statuses, refusal and silence apart, in the words of Kubernetes", async () => {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/slow") return new Promise(() => {});
      if (pathname === "/agent")
        return new Response(null, { status: request.headers.get("user-agent") === "kube-probe/1.32" ? 204 : 400 });
      return new Response("x".repeat(200_000), { status: Number(pathname.slice(1)) });
    },
  });
  const get = (path: string, port = server.port!, timeoutMs = 1_000) =>
    httpGet(
      { scheme: "http", host: "127.0.0.1", port, path, headers: [{ name: "X-A", value: "b" }] },
      timeoutMs,
      clock,
    );
  expect(await get("/200")).toBe(200);
  expect(await get("/503")).toBe(503);
  expect(await get("/agent")).toBe(204);
  await expect(get("/slow", server.port!, 50)).rejects.toThrow("context deadline exceeded");
  await tcpConnect("127.0.0.1", server.port!, 500, clock);
  const { port } = server;
  await server.stop(true);
  await expect(get("/200", port!)).rejects.toThrow("connection refused");
  await expect(tcpConnect("127.0.0.1", port!, 500, clock)).rejects.toThrow("connection refused");
});
