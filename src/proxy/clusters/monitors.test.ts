// What watches a cluster through changes of its settings and endpoints, in virtual time; checks go to a real server, also through TLS.
import { afterEach, describe, expect, test } from "bun:test";
import { realClock, VirtualClock } from "../../kernel/clock.ts";
import { silentLog } from "../../kernel/log.ts";
import { seededRandom } from "../../kernel/random.ts";
import { endpointsOf, hosts, outlierDefaults, roundRobin, slotOf } from "../balancing/fixture.ts";
import { until } from "../fixture.ts";
import { testAuthority } from "../tls/fixture.ts";
import { ClusterSlot, Endpoint, unknownWorkload } from "./cluster.ts";
import { type Cluster, clusterDefaults } from "./config.ts";
import type { HealthCheck } from "./health_check.ts";
import { checkTransport } from "./health_checker.ts";
import { type MonitorRuntime, startMonitors } from "./monitors.ts";

const resolve = () => Promise.reject(new Error("nothing is resolved here"));
const runtimeOf = (clock: MonitorRuntime["clock"]): MonitorRuntime => ({
  clock,
  random: seededRandom(1),
  log: silentLog,
  resolve,
  podSource: () => undefined,
});
const outlier = { ...outlierDefaults, ejectionPercentMax: 100, consecutive5xx: 1 };
const watch = (slot: ClusterSlot, settings: Partial<Cluster>, runtime: MonitorRuntime, onWarm = () => {}): void => {
  slot.current = { ...clusterDefaults("c"), balancing: roundRobin, ...settings };
  startMonitors(slot, [], runtime, onWarm);
};

let stop: (() => void) | undefined;
afterEach(() => {
  stop?.();
  stop = undefined;
});

describe("outlier detection", () => {
  const clock = new VirtualClock();
  const runtime = runtimeOf(clock);
  function start(settings: Partial<Cluster> = { outlier }): ClusterSlot {
    const slot = slotOf(hosts(2), {}, clock);
    watch(slot, settings, runtime);
    stop = () => slot.stopMonitors?.();
    return slot;
  }
  test("an ejection outlives a change that leaves its settings alone, and ends with them", () => {
    const slot = start();
    slot.all[0]!.outlier!.status(500);
    expect(slot.all.map(({ healthy }) => healthy)).toEqual([false, true]);
    watch(slot, { outlier: { ...outlier }, connectTimeoutMs: 1 }, runtime);
    expect(slot.all[0]!.healthy).toBe(false);
    watch(slot, {}, runtime);
    expect([slot.all[0]!.healthy, slot.all[0]!.outlier, slot.outliers]).toEqual([true, undefined, undefined]);
  });
  test("hosts that come are watched, those that go make room, and time brings hosts back", () => {
    const slot = start();
    slot.all[0]!.outlier!.status(500);
    const [, kept] = slot.all;
    const [, same, added] = endpointsOf(hosts(3));
    slot.setEndpoints([same!, added!]);
    expect([slot.all[0] === kept, slot.outliers!.hosts.size, slot.outliers!.ejectedCount]).toEqual([true, 2, 0]);
    added!.outlier!.status(500);
    expect(added!.healthy).toBe(false);
    clock.advance(outlier.baseEjectionMs + outlier.intervalMs);
    expect(added!.healthy).toBe(true);
  });
  test("nothing is armed any more after the end", () => {
    const slot = start();
    slot.all[0]!.outlier!.status(500);
    slot.stopMonitors!();
    clock.advance(600_000);
    expect(slot.all[0]!.outlier!.ejected).toBe(true);
  });
});

describe("health checks", () => {
  const check: HealthCheck = {
    timeoutMs: 1_000,
    intervalMs: 20,
    unhealthyIntervalMs: 20,
    healthyEdgeIntervalMs: 20,
    unhealthyEdgeIntervalMs: 20,
    noTrafficIntervalMs: 20,
    noTrafficHealthyIntervalMs: 20,
    initialJitterMs: 0,
    intervalJitterMs: 0,
    intervalJitterPercent: 0,
    healthyThreshold: 1,
    unhealthyThreshold: 1,
    port: 0,
    checker: {
      kind: "http",
      method: "GET",
      path: "/",
      host: "c",
      fields: "x-check: yes\r\n",
      expected: [{ from: 200, to: 201 }],
      retriable: [],
    },
  };
  const endpointAt = (port: number, transport: Partial<Endpoint["transport"]> = {}): Endpoint =>
    new Endpoint(
      `127.0.0.1:${port}`,
      `127.0.0.1:${port}`,
      { host: "127.0.0.1", port, tls: undefined, connectTarget: undefined, ...transport },
      unknownWorkload,
    );

  test("go through the endpoint's TLS, with the configured Host and fields; the cluster is warm after the first", async () => {
    const pair = await (await testAuthority("checks")).issue({
      dnsNames: ["c"],
      lifetimeMs: 3_600_000,
      usages: ["server"],
    });
    const seen: (string | null)[] = [];
    const server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      tls: { cert: pair.certPem, key: pair.keyPem },
      fetch(request) {
        seen.push(request.headers.get("host"), request.headers.get("x-check"));
        return new Response("");
      },
    });
    const { createSecureContext } = await import("node:tls");
    const { context } = createSecureContext({}) as { context?: object };
    const tls = {
      context: () => context,
      serverName: "c",
      key: "",
      spiffeId: undefined,
      refusal: () => undefined,
      forHost: undefined,
    };
    const slot = new ClusterSlot("c");
    let warmed = 0;
    watch(slot, { healthCheck: check }, runtimeOf(realClock), () => warmed++);
    stop = () => {
      slot.stopMonitors?.();
      void server.stop(true);
    };
    slot.setEndpoints([endpointAt(server.port!, { tls })]);
    expect([slot.warm, slot.all[0]!.healthy]).toEqual([false, false]);
    await until("a passed check", () => slot.warm);
    expect([slot.all[0]!.healthy, warmed, seen[0], seen[1]]).toEqual([true, 1, "c", "yes"]);
  });

  test("a passed one brings an ejected host back, and without checks nobody has failed any", async () => {
    const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("") });
    const slot = new ClusterSlot("c");
    watch(slot, { healthCheck: check, outlier }, runtimeOf(realClock));
    stop = () => {
      slot.stopMonitors?.();
      void server.stop(true);
    };
    slot.setEndpoints([endpointAt(server.port!), endpointAt(1)]);
    await until("the first checks", () => slot.warm);
    expect(slot.all.map(({ healthy }) => healthy)).toEqual([true, false]);
    slot.all[0]!.outlier!.status(500);
    expect(slot.all[0]!.healthy).toBe(false);
    await until("the next check", () => slot.all[0]!.healthy);
    watch(slot, {}, runtimeOf(realClock));
    expect(slot.all.map(({ healthy }) => healthy)).toEqual([true, true]);
  });

  test("may go to another port, inside the tunnel too, and not to an endpoint that is exempt", () => {
    const plain = endpointAt(80);
    expect(checkTransport(plain, { ...check, port: 9 })).toEqual({ ...plain.transport, port: 9 });
    plain.placement = { ...plain.placement, healthCheck: { disabled: true, port: 8, host: "" } };
    expect(checkTransport(plain, { ...check, port: 9 }).port).toBe(8);
    const tunnelled = endpointAt(15_008, { connectTarget: "10.0.0.1:80" });
    const inside = checkTransport(tunnelled, { ...check, port: 9 });
    expect([inside.port, inside.connectTarget]).toEqual([15_008, "10.0.0.1:9"]);
    const slot = new ClusterSlot("c");
    watch(slot, { healthCheck: check }, runtimeOf(new VirtualClock()));
    slot.setEndpoints([plain]);
    expect([slot.warm, plain.healthy]).toEqual([true, true]);
  });
});
