// Host names as endpoints: families, the two kinds of DNS clusters, refresh and failure in virtual time.
import { describe, expect, test } from "bun:test";
import { VirtualClock } from "../../kernel/clock.ts";
import { silentLog } from "../../kernel/log.ts";
import { ClusterSlot, Endpoint, unknownWorkload } from "./cluster.ts";
import { clusterDefaults, type DnsFamily } from "./config.ts";
import { ofFamily, resolvedEndpoints, watchDns } from "./dns.ts";

const nameOf = (host: string): Endpoint =>
  new Endpoint(
    `${host}:80`,
    `${host}:80`,
    { host, port: 80, tls: undefined, connectTarget: undefined },
    unknownWorkload,
  );

test("addresses are chosen by family", () => {
  const both = ["::1", "127.0.0.1"];
  const cases: [DnsFamily, string[], string[]][] = [
    ["v4", both, ["127.0.0.1"]],
    ["v6", both, ["::1"]],
    ["v6-preferred", both, ["::1"]],
    ["v6-preferred", ["127.0.0.1"], ["127.0.0.1"]],
    ["v4-preferred", both, ["127.0.0.1"]],
    ["v4-preferred", ["::1"], ["::1"]],
    ["all", both, ["127.0.0.1", "::1"]],
  ];
  for (const [family, addresses, want] of cases) expect([family, ofFamily(addresses, family)]).toEqual([family, want]);
});

describe("endpoints", () => {
  const answers = new Map([["a.test", ["10.0.0.1", "10.0.0.2", "fd00::1"]]]);
  const addresses = (list: readonly Endpoint[]): string[] => list.map(({ address }) => address);
  test("STRICT makes one of every address, known by its name", () => {
    const made = resolvedEndpoints([nameOf("a.test"), nameOf("unknown.test")], answers, "STRICT", []);
    expect(addresses(made)).toEqual(["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"]);
    expect(made[0]!.placement.hostname).toBe("a.test");
    expect(made[2]!.transport.host).toBe("fd00::1");
  });
  test("LOGICAL uses one, and keeps it while it is an answer", () => {
    const names = [nameOf("a.test")];
    const first = resolvedEndpoints(names, answers, "LOGICAL", []);
    expect(addresses(first)).toEqual(["10.0.0.1:80"]);
    const turned = new Map([["a.test", ["10.0.0.2", "10.0.0.1"]]]);
    expect(addresses(resolvedEndpoints(names, turned, "LOGICAL", first))).toEqual(["10.0.0.1:80"]);
    const gone = new Map([["a.test", ["10.0.0.2"]]]);
    expect(addresses(resolvedEndpoints(names, gone, "LOGICAL", first))).toEqual(["10.0.0.2:80"]);
  });
});

test("names are asked for again after each refresh, sooner or later after a failure, and never once stopped", async () => {
  const clock = new VirtualClock();
  const slot = new ClusterSlot("c", clock);
  slot.current = clusterDefaults("c");
  let answer = (): Promise<string[]> => Promise.resolve(["10.0.0.1"]);
  const askedAtMs: number[] = [];
  const startMs = clock.monotonicMs();
  let resolvedCount = 0;
  const settings = { kind: "STRICT", refreshMs: 5_000, failureRefreshMs: 1_000, family: "v4" } as const;
  const stop = watchDns(
    slot,
    settings,
    [nameOf("a.test")],
    {
      clock,
      log: silentLog,
      resolve: () => {
        askedAtMs.push(clock.monotonicMs() - startMs);
        return answer();
      },
    },
    () => resolvedCount++,
  );
  const pass = async (durationMs: number): Promise<void> => {
    clock.advance(durationMs);
    await Bun.sleep(0);
  };
  expect(slot.warm).toBe(false);
  await pass(0);
  expect([slot.warm, slot.all.map(({ address }) => address)]).toEqual([true, ["10.0.0.1:80"]]);
  const [kept] = slot.all;
  await pass(5_000);
  expect([slot.all[0] === kept, resolvedCount]).toEqual([true, 1]);
  answer = () => Promise.reject(new Error("no"));
  await pass(5_000);
  expect(slot.all[0]).toBe(kept!);
  answer = () => Promise.resolve(["10.0.0.1", "10.0.0.2"]);
  await pass(1_000);
  expect([slot.all[0] === kept, slot.all.length, resolvedCount]).toEqual([true, 2, 2]);
  stop();
  await pass(60_000);
  expect(askedAtMs).toEqual([0, 5_000, 10_000, 11_000]);
});
