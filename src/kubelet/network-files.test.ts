// resolv.conf and hosts of pods.

import { expect, test } from "bun:test";
import type { Pod } from "../api/types.ts";
import { parseResolvConf, podHostname, podHosts, podResolvConf } from "./network-files.ts";

const podOf = (spec: object, more: object = {}): Pod =>
  ({
    metadata: { name: "web-0", namespace: "video", uid: "u" },
    spec: { containers: [], ...spec },
    ...more,
  }) as unknown as Pod;

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
