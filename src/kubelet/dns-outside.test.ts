// What names outside the zone stand for, and for whom: ServiceEntries for pods in the mesh, hosts of the testbed for everybody.
import { expect, test } from "bun:test";
import type { ServiceEntry } from "../api/types.ts";
import { entryAddresses, parseHosts } from "./dns-outside.ts";

type Spec = Partial<NonNullable<ServiceEntry["spec"]>>;
const entry = (namespace: string, hosts: string[], spec: Spec, addresses?: { host: string; value: string }[]) =>
  ({
    metadata: { name: hosts[0], namespace, creationTimestamp: "2026-01-01T00:00:00Z" },
    spec: { hosts, ...spec },
    status: { addresses },
  }) as unknown as ServiceEntry;

const all = [
  entry("video", ["given.example.com"], {
    addresses: ["198.51.100.1", "198.51.100.2/32", "10.0.0.0/8", "2001:db8::1"],
  }),
  entry("video", ["a.example.com", "b.example.com"], {}, [
    { host: "a.example.com", value: "240.240.0.1" },
    { host: "b.example.com", value: "240.240.0.2" },
  ]),
  entry("video", ["*.wild.example.com"], { addresses: ["198.51.100.9"] }),
  entry("video", ["own.example.com"], { exportTo: ["."], addresses: ["198.51.100.3"] }),
  entry("shop", ["own.example.com"], { addresses: ["198.51.100.4"] }),
  entry("shop", ["few.example.com"], { exportTo: ["video"], addresses: ["198.51.100.5"] }),
  entry("video", ["*.example.org"], {}),
];
const lookUp = (name: string, namespace: string) =>
  entryAddresses((host) => all.filter(({ spec }) => spec?.hosts.includes(host)), name, namespace);

const cases: [string, string, string[]][] = [
  ["given.example.com", "other", ["198.51.100.1", "198.51.100.2"]],
  ["a.example.com", "other", ["240.240.0.1"]],
  ["b.example.com", "other", ["240.240.0.2"]],
  ["x.wild.example.com", "other", ["198.51.100.9"]],
  ["x.y.wild.example.com", "other", ["198.51.100.9"]],
  ["wild.example.com", "other", []],
  ["own.example.com", "video", ["198.51.100.3"]],
  ["own.example.com", "shop", ["198.51.100.4"]],
  ["own.example.com", "other", ["198.51.100.4"]],
  ["few.example.com", "video", ["198.51.100.5"]],
  ["few.example.com", "shop", []],
  ["www.example.org", "video", []],
  ["nothing.example.net", "video", []],
];
for (const [name, namespace, addresses] of cases)
  test(`${name} is ${addresses.join(" and ") || "unknown"} to pods of ${namespace}`, () => {
    expect(lookUp(name, namespace)).toEqual(addresses);
  });

test("hosts are read as from a hosts file", () => {
  const text =
    "172.20.0.101 api.example.com WWW.example.com. # outside\n\n# 1.2.3.4 not.this\n::1 nor.this\n172.20.0.102\tapi.example.com\n";
  expect([...parseHosts(text)]).toEqual([
    ["api.example.com", ["172.20.0.101", "172.20.0.102"]],
    ["www.example.com", ["172.20.0.101"]],
  ]);
});
