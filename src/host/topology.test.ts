// Tests of the address plan and limits; runs the topology suite in a sandbox.

import { describe, expect, test } from "bun:test";
import { realClock } from "../kernel/clock.ts";
import { podCidrOfNode } from "./addresses.ts";
import { suiteInSandbox } from "./in-sandbox-suite.ts";
import { createTopology, shaping } from "./topology.ts";

test("a node's pods have the third octet of its index", () => {
  expect(podCidrOfNode("172.20.0.10")).toBe("10.244.0.0/24");
  expect(podCidrOfNode("172.20.0.13")).toBe("10.244.3.0/24");
  for (const ip of ["172.20.0.1", "172.20.0.100", "10.0.0.1"]) expect(() => podCidrOfNode(ip)).toThrow(ip);
});

test("a limit keeps whole segments in its burst, however low it is", () => {
  expect(shaping(1e9)).toBe("root tbf rate 1000000000bit burst 250000 latency 20ms");
  expect(shaping(1e6)).toBe("root tbf rate 1000000bit burst 131072 latency 20ms");
});

describe("a topology that cannot be is refused before anything is made", () => {
  const node = (name: string, ip: string) => ({ name, ip });
  test.each([
    ["cannot name a machine", [node("a b; reboot", "172.20.0.10")]],
    ["not in 172.20.0.0/24", [node("a", "10.0.0.1")]],
    ["share", [node("a", "172.20.0.10"), node("a", "172.20.0.11")]],
    ["share", [node("a", "172.20.0.10"), node("b", "172.20.0.10")]],
    ["more than", Array.from({ length: 81 }, (_, i) => node(`n${i}`, `172.20.0.${i + 10}`))],
  ])("%s", (why, nodes) => {
    expect(createTopology({ nodes, clients: [] }, realClock)).rejects.toThrow(why);
  });
});

await suiteInSandbox("topology-suite.ts");
