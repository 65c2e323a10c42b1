// Filters, scores and the choice, as tables over small clusters.

import { expect, test } from "bun:test";
import type { Node, Pod } from "../api/types.ts";
import { seededRandom } from "../kernel/random.ts";
import { ClusterState, requestsOf } from "./cluster-state.ts";
import { pick, refusalMessage } from "./pick.ts";

interface NodeOptions {
  cpu?: string;
  memory?: string;
  pods?: string;
  labels?: Record<string, string>;
  taints?: object[];
  ready?: string;
  unschedulable?: boolean;
}
const node = (name: string, options: NodeOptions = {}): Node =>
  ({
    metadata: { name, labels: { "kubernetes.io/hostname": name, ...options.labels } },
    spec: { taints: options.taints, unschedulable: options.unschedulable },
    status: {
      allocatable: { cpu: options.cpu ?? "4", memory: options.memory ?? "8Gi", pods: options.pods ?? "110" },
      conditions: [{ type: "Ready", status: options.ready ?? "True" }],
    },
  }) as unknown as Node;
const pod = (name: string, spec: object = {}, more: { owner?: string; labels?: Record<string, string> } = {}): Pod =>
  ({
    metadata: {
      name,
      namespace: "default",
      labels: more.labels,
      ...(more.owner && { ownerReferences: [{ uid: more.owner, controller: true }] }),
    },
    spec: { containers: [{ name: "c" }], ...spec },
  }) as unknown as Pod;
const requesting = (requests: Record<string, string>) => ({ containers: [{ name: "c", resources: { requests } }] });

function cluster(nodes: Node[], placed: [Pod, string][] = []): ClusterState {
  const state = new ClusterState();
  for (const each of nodes) state.setNode(each);
  for (const [each, where] of placed) state.place(each, where);
  return state;
}
const choose = (wanted: Pod, state: ClusterState, seed = 1) => {
  const choice = pick(wanted, state, () => ({ team: "x" }), seededRandom(seed));
  return choice.kind === "node" ? choice.name : choice.message;
};

test.each<[string, Pod, NodeOptions, string]>([
  ["unschedulable", pod("p"), { unschedulable: true }, "0/1 nodes are available: 1 node(s) were unschedulable."],
  ["not ready", pod("p"), { ready: "Unknown" }, "0/1 nodes are available: 1 node(s) were not ready."],
  [
    "tainted",
    pod("p"),
    { taints: [{ key: "gpu", value: "yes", effect: "NoSchedule" }] },
    "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.",
  ],
  [
    "tolerated",
    pod("p", { tolerations: [{ key: "gpu", operator: "Equal", value: "yes", effect: "NoSchedule" }] }),
    { taints: [{ key: "gpu", value: "yes", effect: "NoSchedule" }] },
    "n1",
  ],
  ["preferred taint", pod("p"), { taints: [{ key: "gpu", effect: "PreferNoSchedule" }] }, "n1"],
  [
    "node selector",
    pod("p", { nodeSelector: { disk: "ssd" } }),
    {},
    "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
  ],
  ["node selector that fits", pod("p", { nodeSelector: { disk: "ssd" } }), { labels: { disk: "ssd" } }, "n1"],
  ["cpu", pod("p", requesting({ cpu: "4001m" })), {}, "0/1 nodes are available: 1 Insufficient cpu."],
  ["cpu that just fits", pod("p", requesting({ cpu: "4" })), {}, "n1"],
  [
    "cpu and memory",
    pod("p", requesting({ cpu: "5", memory: "9Gi" })),
    {},
    "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.",
  ],
  ["pod slots", pod("p"), { pods: "0" }, "0/1 nodes are available: 1 Too many pods."],
  [
    "extended resource",
    pod("p", requesting({ "example.com/gpu": "1" })),
    {},
    "0/1 nodes are available: 1 Insufficient example.com/gpu.",
  ],
])("%s", (_name, wanted, options, answer) => {
  expect(choose(wanted, cluster([node("n1", options)]))).toBe(answer);
});

test("required node affinity: terms are alternatives, expressions of one term all hold, fields name nodes", () => {
  const affine = (...nodeSelectorTerms: object[]) =>
    pod("p", { affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } } } });
  const state = cluster([
    node("n1", { labels: { zone: "a", disk: "hdd" } }),
    node("n2", { labels: { zone: "b", disk: "ssd" } }),
  ]);
  const inZone = (...values: string[]) => ({ key: "zone", operator: "In", values });
  expect(choose(affine({ matchExpressions: [inZone("b")] }), state)).toBe("n2");
  expect(choose(affine({ matchExpressions: [inZone("c")] }, { matchExpressions: [inZone("a")] }), state)).toBe("n1");
  expect(
    choose(affine({ matchExpressions: [inZone("a"), { key: "disk", operator: "NotIn", values: ["hdd"] }] }), state),
  ).toContain("2 node(s) didn't match");
  expect(choose(affine({ matchFields: [{ key: "metadata.name", operator: "In", values: ["n2"] }] }), state)).toBe("n2");
  expect(choose(affine({}), state)).toContain("2 node(s) didn't match");
});

test("host ports collide by protocol and address", () => {
  const withPort = (name: string, hostPort: number, more: object = {}) =>
    pod(name, { containers: [{ name: "c", ports: [{ containerPort: 80, hostPort, ...more }] }] });
  const taken = cluster([node("n1")], [[withPort("a", 80), "n1"]]);
  const refusal = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
  expect(choose(withPort("b", 80), taken)).toBe(refusal);
  expect(choose(withPort("b", 80, { protocol: "UDP" }), taken)).toBe("n1");
  expect(choose(withPort("b", 81), taken)).toBe("n1");
  expect(choose(withPort("b", 80, { hostIP: "10.0.0.1" }), taken)).toBe(refusal);
  const hostNetwork = pod("b", { hostNetwork: true, containers: [{ name: "c", ports: [{ containerPort: 80 }] }] });
  expect(choose(hostNetwork, taken)).toBe(refusal);
});

test("required anti-affinity works both ways and per topology domain", () => {
  const apart = (topologyKey: string) => ({
    affinity: {
      podAntiAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: [
          { topologyKey, labelSelector: { matchLabels: { app: "db" } } },
        ],
      },
    },
  });
  const zone = (name: string, label: string) => node(name, { labels: { zone: label } });
  const nodes = [zone("n1", "a"), zone("n2", "a"), zone("n3", "b")];
  const db = pod("db-0", apart("zone"), { labels: { app: "db" } });
  const state = cluster(nodes, [[db, "n1"]]);
  expect(choose(pod("db-1", apart("zone"), { labels: { app: "db" } }), state)).toBe("n3");
  state.place(pod("db-1", apart("zone"), { labels: { app: "db" } }), "n3");
  expect(choose(pod("db-2", apart("zone"), { labels: { app: "db" } }), state)).toBe(
    "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.",
  );
  // It asks for nothing itself, but those that are there do not want it.
  expect(choose(pod("plain", {}, { labels: { app: "db" } }), state)).toBe(
    "0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules.",
  );
  expect(["n1", "n2", "n3"]).toContain(choose(pod("other", {}, { labels: { app: "web" } }), state));
});

test("required affinity follows its company; the first of a group may go anywhere", () => {
  const together = {
    affinity: {
      podAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: [
          { topologyKey: "kubernetes.io/hostname", labelSelector: { matchLabels: { app: "cache" } } },
        ],
      },
    },
  };
  const nodes = [node("n1"), node("n2")];
  expect(choose(pod("web", together, { labels: { app: "web" } }), cluster(nodes))).toBe(
    "0/2 nodes are available: 2 node(s) didn't match pod affinity rules.",
  );
  expect(["n1", "n2"]).toContain(choose(pod("cache-0", together, { labels: { app: "cache" } }), cluster(nodes)));
  const state = cluster(nodes, [[pod("cache-0", {}, { labels: { app: "cache" } }), "n2"]]);
  for (let seed = 1; seed < 6; seed++) expect(choose(pod("web", together), state, seed)).toBe("n2");
});

test("replicas of one owner spread first, even onto fuller nodes; terminating ones do not count", () => {
  const big = pod("big", requesting({ cpu: "3", memory: "6Gi" }));
  const replica = (name: string) => pod(name, {}, { owner: "set" });
  const state = cluster(
    [node("n1"), node("n2"), node("n3")],
    [
      [big, "n1"],
      [replica("r1"), "n2"],
      [replica("r2"), "n3"],
    ],
  );
  for (let seed = 1; seed < 6; seed++) expect(choose(replica("r3"), state, seed)).toBe("n1");
  const ending = replica("r1");
  ending.metadata.deletionTimestamp = "2026-01-01T00:00:00Z";
  state.place(ending, "n2");
  state.place(replica("r3"), "n1");
  for (let seed = 1; seed < 6; seed++) expect(choose(replica("r4"), state, seed)).toBe("n2");
});

test("otherwise the emptier node wins, and equals are drawn by lot", () => {
  const state = cluster([node("n1"), node("n2")], [[pod("big", requesting({ cpu: "1" })), "n1"]]);
  expect(choose(pod("p"), state)).toBe("n2");
  const even = cluster([node("n1"), node("n2"), node("n3")]);
  const drawn = new Set(Array.from({ length: 40 }, (_, seed) => choose(pod("p"), even, seed)));
  expect([...drawn].sort()).toEqual(["n1", "n2", "n3"]);
});

test("preferences count: node affinity, pod affinity, PreferNoSchedule, soft spreading", () => {
  const prefers = pod("p", {
    affinity: {
      nodeAffinity: {
        preferredDuringSchedulingIgnoredDuringExecution: [
          { weight: 50, preference: { matchExpressions: [{ key: "disk", operator: "In", values: ["ssd"] }] } },
        ],
      },
    },
  });
  const full = pod("full", requesting({ cpu: "2" }));
  expect(choose(prefers, cluster([node("n1"), node("n2", { labels: { disk: "ssd" } })], [[full, "n2"]]))).toBe("n2");
  const near = (kind: "podAffinity" | "podAntiAffinity") =>
    pod("p", {
      affinity: {
        [kind]: {
          preferredDuringSchedulingIgnoredDuringExecution: [
            {
              weight: 1,
              podAffinityTerm: { topologyKey: "kubernetes.io/hostname", labelSelector: { matchLabels: { app: "db" } } },
            },
          ],
        },
      },
    });
  const withDb = cluster([node("n1"), node("n2")], [[pod("db", {}, { labels: { app: "db" } }), "n1"]]);
  expect(choose(near("podAffinity"), withDb)).toBe("n1");
  expect(choose(near("podAntiAffinity"), withDb)).toBe("n2");
  const avoided = node("n1", { taints: [{ key: "old", effect: "PreferNoSchedule" }] });
  expect(choose(pod("p"), cluster([avoided, node("n2")], [[full, "n2"]]))).toBe("n2");
  const spread = (whenUnsatisfiable: string) =>
    pod(
      "p",
      {
        topologySpreadConstraints: [
          { maxSkew: 1, topologyKey: "zone", whenUnsatisfiable, labelSelector: { matchLabels: { app: "web" } } },
        ],
      },
      { labels: { app: "web" } },
    );
  const zones = [node("n1", { labels: { zone: "a" } }), node("n2", { labels: { zone: "b" } })];
  const web = (name: string) => pod(name, requesting({ cpu: "1" }), { labels: { app: "web" } });
  const skewed = cluster(zones, [
    [web("w1"), "n1"],
    [full, "n2"],
  ]);
  expect(choose(spread("ScheduleAnyway"), skewed)).toBe("n2");
  const blocked = cluster([zones[0]!, node("n2", { labels: { zone: "b" }, unschedulable: true })], [[web("w1"), "n1"]]);
  expect(choose(spread("DoNotSchedule"), blocked)).toBe(
    "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) were unschedulable.",
  );
});

test("requests add up containers and sidecars and take the larger of them and the init containers", () => {
  const of = (initContainers: object[]) =>
    requestsOf(
      pod("p", {
        initContainers,
        containers: [
          { name: "a", resources: { requests: { cpu: "100m", memory: "1Gi" } } },
          { name: "b", resources: { requests: { cpu: "200m" }, limits: { memory: "2Gi" } } },
        ],
      }),
    );
  expect(of([])).toMatchObject({ cpuMilli: 300, memoryBytes: 3 * 2 ** 30 });
  const init = { name: "i", resources: { requests: { cpu: "1" } } };
  const sidecar = { name: "s", restartPolicy: "Always", resources: { requests: { cpu: "50m" } } };
  expect(of([init]).cpuMilli).toBe(1_000);
  expect(of([sidecar]).cpuMilli).toBe(350);
  expect(of([sidecar, init]).cpuMilli).toBe(1_050);
});

test("usage follows pods that are placed, finish, move and whose node comes late", () => {
  const state = cluster([node("n1")]);
  const one = pod("a", requesting({ cpu: "1" }));
  state.place(one, "n1");
  state.place(one, "n1");
  expect(state.nodes[0]!.usedCpuMilli).toBe(1_000);
  state.place({ ...one, status: { phase: "Succeeded" } }, "n1");
  expect(state.nodes[0]!.usedCpuMilli).toBe(0);
  state.place(pod("b", requesting({ cpu: "2" })), "n2");
  state.setNode(node("n2"));
  expect(state.nodes[1]!.usedCpuMilli).toBe(2_000);
  state.removeNode("n2");
  state.remove("default/b");
  state.setNode(node("n2"));
  expect(state.nodes.map(({ usedCpuMilli }) => usedCpuMilli)).toEqual([0, 0]);
});

test("the message groups reasons as kubectl users know it", () => {
  expect(refusalMessage(0, new Map())).toBe("no nodes available to schedule pods");
  const reasons = new Map([
    ["node(s) were unschedulable", 1],
    ["Insufficient cpu", 3],
  ]);
  expect(refusalMessage(4, reasons)).toBe("0/4 nodes are available: 1 node(s) were unschedulable, 3 Insufficient cpu.");
});
