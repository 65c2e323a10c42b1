// Load balancers of this machine: which Services have one, and where their ports lead.

import { expect, test } from "bun:test";
import type { Node, Service } from "../api/types.ts";
import { balancersOf } from "./balancers.ts";

const node = (name: string, ip: string, ready: string) =>
  ({
    metadata: { name },
    status: { addresses: [{ type: "InternalIP", address: ip }], conditions: [{ type: "Ready", status: ready }] },
  }) as unknown as Node;
const service = (ip: string, ipMode: string) =>
  ({
    metadata: { name: "s" },
    spec: {
      ports: [
        { port: 80, nodePort: 30080 },
        { port: 53, nodePort: 30053, protocol: "UDP" },
        { port: 81, protocol: "TCP" },
      ],
    },
    status: { loadBalancer: { ingress: [{ ip, ipMode }] } },
  }) as unknown as Service;
const nodes = [node("a", "172.20.0.11", "True"), node("b", "172.20.0.12", "False"), node("c", "172.20.0.13", "True")];

test("each TCP port with a node port leads to the nodes that are ready", () => {
  expect(balancersOf([service("127.96.3.4", "Proxy")], nodes)).toEqual([
    { address: "127.96.3.4", port: 80, targets: ["172.20.0.11:30080", "172.20.0.13:30080"] },
  ]);
});

test("an address of a node is nobody's to relay, though it be a loopback address as in ports mode", () => {
  expect(
    balancersOf([service("127.0.0.1", "VIP"), service("172.20.0.11", "VIP"), service("", "Proxy")], nodes),
  ).toEqual([]);
});
