// The pure decisions of the workload controllers, as tables.

import { expect, test } from "bun:test";
import type { KubeObject } from "../api/object.ts";
import type { DaemonSet, Deployment, Event, Node, Pod, ReplicaSet } from "../api/types.ts";
import { fits, plan as planDaemons } from "./daemonset.ts";
import { expired } from "./event-expiry.ts";
import { plan as planCidr } from "./node-cidr.ts";
import { OwnerGraph, type OwnerState, plan as planCollection } from "./owner-graph.ts";
import { claim } from "./ownership.ts";
import { plan as planReplicas, statusOf } from "./replicaset.ts";
import { newSetAnnotations, sameTemplate, templateHash } from "./revision.ts";
import { oldSetsReplicas, resolveCount, rollingLimits } from "./rollout.ts";

const nowMs = Date.UTC(2026, 0, 1, 12);
const at = (secondsAgo: number) => new Date(nowMs - secondsAgo * 1000).toISOString();
interface PodOptions {
  node?: string;
  phase?: string;
  /** Seconds; undefined: not ready. */
  readyFor?: number;
  age?: number;
  cost?: string;
  deleted?: boolean;
  labels?: Record<string, string>;
}
const pod = (name: string, options: PodOptions = {}): Pod =>
  ({
    metadata: {
      name,
      namespace: "default",
      uid: name,
      creationTimestamp: at(options.age ?? 100),
      labels: options.labels ?? { app: "web" },
      ...(options.cost && { annotations: { "controller.kubernetes.io/pod-deletion-cost": options.cost } }),
      ...(options.deleted && { deletionTimestamp: at(0) }),
    },
    spec: { nodeName: options.node },
    status: {
      phase: options.phase ?? "Running",
      conditions: [
        {
          type: "Ready",
          status: options.readyFor === undefined ? "False" : "True",
          lastTransitionTime: at(options.readyFor ?? 0),
        },
      ],
    },
  }) as unknown as Pod;
const set = (replicas: number, spec: object = {}, status: object = {}): ReplicaSet =>
  ({
    apiVersion: "apps/v1",
    kind: "ReplicaSet",
    metadata: { name: "web", namespace: "default", uid: "set", creationTimestamp: at(1000), generation: 4 },
    spec: { replicas, template: { metadata: { labels: { app: "web" } } }, ...spec },
    status,
  }) as unknown as ReplicaSet;
const deleted = (wanted: number, pods: Pod[]) =>
  planReplicas(set(wanted), pods, pods, nowMs).delete.map(({ metadata }) => metadata.name);

test("scale-down goes by Kubernetes' order of deletion", () => {
  const ready = (name: string, more: PodOptions = {}) => pod(name, { node: "n1", readyFor: 50, ...more });
  expect(deleted(1, [ready("bound"), pod("unbound", { phase: "Pending" })])).toEqual(["unbound"]);
  expect(deleted(1, [ready("running"), pod("pending", { node: "n2", phase: "Pending" })])).toEqual(["pending"]);
  expect(deleted(1, [ready("ready"), pod("unready", { node: "n2" })])).toEqual(["unready"]);
  expect(deleted(1, [ready("dear"), ready("cheap", { node: "n2", cost: "-5" })])).toEqual(["cheap"]);
  expect(deleted(2, [ready("a1"), ready("a2"), ready("b", { node: "n2", readyFor: 1 })])).toEqual(["a1"]);
  expect(deleted(1, [ready("old"), ready("young", { node: "n2", readyFor: 5 })])).toEqual(["young"]);
  expect(deleted(1, [ready("first", { age: 90 }), ready("later", { node: "n2", age: 80 })])).toEqual(["later"]);
});

test("a ReplicaSet counts neither finished nor terminating pods, and creates at most 500 at once", () => {
  const pods = [
    pod("done", { phase: "Succeeded" }),
    pod("failed", { phase: "Failed" }),
    pod("ending", { deleted: true }),
  ];
  expect(planReplicas(set(2), pods, pods, nowMs)).toEqual({ create: 2, delete: [] });
  expect(planReplicas(set(2_000), [], [], nowMs).create).toBe(500);
  const leaving = { ...set(2), metadata: { ...set(2).metadata, deletionTimestamp: at(0) } };
  expect(planReplicas(leaving, [], [], nowMs)).toEqual({ create: 0, delete: [] });
});

test("a pod is available minReadySeconds after it became ready, and the set looks again just then", () => {
  const pods = [pod("a", { readyFor: 3 }), pod("b", { readyFor: 20 }), pod("c")];
  const of = set(3, { minReadySeconds: 10 });
  expect(statusOf(of, pods, nowMs)).toMatchObject({
    replicas: 3,
    readyReplicas: 2,
    availableReplicas: 1,
    observedGeneration: 4,
  });
  expect(planReplicas(of, pods, pods, nowMs).againMs).toBe(7_000);
});

test("only a living owner adopts, and only what nobody controls", () => {
  const owner = set(1);
  const selector = { matchLabels: { app: "web" } };
  const controlled = (name: string, uid: string, labels?: Record<string, string>) => {
    const one = pod(name, labels ? { labels } : {});
    one.metadata.ownerReferences = [{ apiVersion: "v1", kind: "X", name: "x", uid, controller: true }];
    return one;
  };
  const candidates = [
    pod("free"),
    pod("other", { labels: {} }),
    controlled("mine", "set"),
    controlled("theirs", "else"),
    controlled("strayed", "set", {}),
    pod("ending", { deleted: true }),
  ];
  const names = (list: Pod[]) => list.map(({ metadata }) => metadata.name);
  const claims = claim(owner, selector, candidates);
  expect([names(claims.owned), names(claims.adopt), names(claims.release)]).toEqual([["mine"], ["free"], ["strayed"]]);
  const leaving = { ...owner, metadata: { ...owner.metadata, deletionTimestamp: at(0) } };
  const last = claim(leaving, selector, candidates);
  expect([names(last.owned), names(last.adopt), names(last.release)]).toEqual([["mine", "strayed"], [], []]);
});

test.each([
  ["25%", 3, "up", 1],
  ["25%", 3, "down", 0],
  ["100%", 7, "up", 7],
  ["0%", 7, "up", 0],
  [2, 7, "up", 2],
  ["2", 7, "down", 2],
] as const)("%s of %d rounded %s is %d", (value, total, round, wanted) => {
  expect(resolveCount(value, total, round, 9)).toBe(wanted);
});

test("surge and unavailability are never both zero", () => {
  const limits = (replicas: number, rollingUpdate?: object) =>
    rollingLimits({ spec: { replicas, strategy: { type: "RollingUpdate", rollingUpdate } } } as unknown as Deployment);
  expect(limits(3)).toEqual({ maxSurge: 1, maxUnavailable: 0 });
  expect(limits(10)).toEqual({ maxSurge: 3, maxUnavailable: 2 });
  expect(limits(3, { maxSurge: 0, maxUnavailable: "10%" })).toEqual({ maxSurge: 0, maxUnavailable: 1 });
  expect(limits(2, { maxSurge: 0, maxUnavailable: 9 })).toEqual({ maxSurge: 0, maxUnavailable: 2 });
});

test.each([
  // replicas, surge, unavailable | new: wanted, available | old: wanted, available | old afterwards
  [10, 2, 2, [2, 0], [10, 10], 8],
  [10, 2, 2, [4, 2], [8, 8], 6],
  [10, 2, 2, [4, 4], [8, 8], 4],
  [10, 0, 2, [0, 0], [10, 8], 8], // the unavailable ones go first
  [10, 2, 0, [2, 0], [10, 10], 10],
  [10, 2, 0, [2, 2], [10, 10], 8],
  [3, 1, 0, [3, 3], [1, 1], 0],
  [3, 1, 0, [1, 0], [3, 5], 3], // a status from before a scale-down
] as const)(
  "of %d with surge %d and unavailable %d, new %p and old %p leave %d old ones",
  (replicas, maxSurge, maxUnavailable, fresh, old, left) => {
    const deployment = {
      spec: { replicas, strategy: { rollingUpdate: { maxSurge, maxUnavailable } } },
    } as unknown as Deployment;
    const named = (name: string, [wanted, available]: readonly [number, number]) => {
      const one = set(wanted, {}, { availableReplicas: available });
      one.metadata = { ...one.metadata, name };
      return one;
    };
    const scaling = oldSetsReplicas(deployment, named("new", fresh), [named("old", old)]);
    expect(scaling.get("old") ?? old[0]).toBe(left);
  },
);

test("the template's hash ignores the order of keys, and equality ignores the hash label", () => {
  const a = { metadata: { labels: { app: "web", v: "1" } }, spec: { containers: [{ name: "a", image: "i" }] } };
  const b = { spec: { containers: [{ image: "i", name: "a" }] }, metadata: { labels: { v: "1", app: "web" } } };
  expect(templateHash(a, undefined)).toBe(templateHash(b, undefined));
  expect(templateHash(a, 1)).not.toBe(templateHash(a, undefined));
  expect(templateHash(a, undefined)).toMatch(/^[bcdfghjklmnpqrstvwxz2456789]{1,10}$/);
  const hashed = { ...b, metadata: { labels: { ...b.metadata.labels, "pod-template-hash": "x" } } };
  expect(sameTemplate(a, hashed)).toBe(true);
  expect(sameTemplate(a, { ...a, metadata: { labels: { app: "web", v: "2" } } })).toBe(false);
});

test("a ReplicaSet takes over the Deployment's annotations but not kubectl's, and counts above every older revision", () => {
  const deployment = {
    metadata: {
      annotations: { "kubernetes.io/change-cause": "why", "kubectl.kubernetes.io/last-applied-configuration": "{}" },
    },
    spec: { replicas: 3 },
  } as unknown as Deployment;
  const old = { metadata: { annotations: { "deployment.kubernetes.io/revision": "7" } } } as unknown as ReplicaSet;
  expect(newSetAnnotations(deployment, [old], undefined, 1)).toEqual({
    "kubernetes.io/change-cause": "why",
    "deployment.kubernetes.io/revision": "8",
    "deployment.kubernetes.io/desired-replicas": "3",
    "deployment.kubernetes.io/max-replicas": "4",
  });
});

const node = (name: string, taints: object[] = [], labels = {}): Node =>
  ({
    metadata: { name, labels },
    spec: { taints },
    status: { conditions: [{ type: "Ready", status: "True" }] },
  }) as unknown as Node;
const daemon = (spec: object = {}, strategy: object = {}): DaemonSet =>
  ({
    metadata: { name: "agent", namespace: "default", uid: "daemon", generation: 1 },
    spec: { template: { metadata: { labels: {} }, spec: { containers: [], ...spec } }, updateStrategy: strategy },
  }) as unknown as DaemonSet;

test("a daemon starts on ready nodes that take it, and stays on unreachable ones", () => {
  const unreachable = (effect: string) => ({ key: "node.kubernetes.io/unreachable", effect });
  expect(fits(daemon(), node("a"))).toEqual({ start: true, stay: true });
  expect(fits(daemon(), node("a", [unreachable("NoSchedule"), unreachable("NoExecute")]))).toEqual({
    start: true,
    stay: true,
  });
  expect(fits(daemon(), node("a", [{ key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" }])).start).toBe(
    true,
  );
  expect(fits(daemon(), node("a", [{ key: "gpu", effect: "NoSchedule" }]))).toEqual({ start: false, stay: true });
  expect(fits(daemon(), node("a", [{ key: "gpu", effect: "NoExecute" }]))).toEqual({ start: false, stay: false });
  expect(fits(daemon({ nodeSelector: { disk: "ssd" } }), node("a"))).toEqual({ start: false, stay: false });
  expect(fits(daemon({ nodeSelector: { disk: "ssd" } }), node("a", [], { disk: "ssd" })).start).toBe(true);
});

test("a daemon is created where there is none, once per node, and updated no more than maxUnavailable at a time", () => {
  const of = daemon();
  const hash = templateHash(of.spec?.template, undefined);
  const on = (name: string, where: string, more: PodOptions = {}, version = hash) =>
    pod(name, { node: where, readyFor: 10, labels: { "controller-revision-hash": version }, ...more });
  const nodes = ["n1", "n2", "n3"].map((name) => node(name));
  const planned = (list: Pod[], target = of) => {
    const { create, delete: doomed } = planDaemons(target, nodes, list, nowMs);
    return [create.map(({ metadata }) => metadata.name), doomed.map(({ metadata }) => metadata.name)];
  };
  expect(planned([])).toEqual([["n1", "n2", "n3"], []]);
  expect(planned([on("a", "n1"), on("b", "n1", { age: 1 }), on("c", "n2"), on("d", "n3")])).toEqual([[], ["b"]]);
  expect(planned([on("a", "n1", { phase: "Failed" }), on("c", "n2"), on("d", "n3")])).toEqual([[], ["a"]]);
  expect(planned([on("a", "n1", { deleted: true }), on("c", "n2"), on("d", "n3")])).toEqual([[], []]);
  expect(planned([on("a", "n1"), on("c", "n2"), on("d", "n3"), on("e", "gone")])).toEqual([[], ["e"]]);
  const outdated = ["n1", "n2", "n3"].map((where) => on(`old-${where}`, where, {}, "old"));
  expect(planned(outdated)).toEqual([[], ["old-n1"]]);
  expect(
    planned(outdated, daemon({}, { type: "RollingUpdate", rollingUpdate: { maxUnavailable: "67%" } }))[1],
  ).toHaveLength(3);
  expect(planned(outdated, daemon({}, { type: "OnDelete" }))).toEqual([[], []]);
});

test.each([
  [["solid"], false, { kind: "keep" }],
  [[], false, { kind: "keep" }],
  [["dangling"], false, { kind: "delete", policy: "Background" }],
  [["dangling", "waiting"], true, { kind: "delete", policy: "Foreground" }],
  [["waiting"], false, { kind: "delete", policy: "Background" }],
  [["solid", "dangling", "waiting"], true, { kind: "unlink", ownerUids: new Set(["u1", "u2"]) }],
] as [OwnerState[], boolean, object][])(
  "with owners %p and dependents %p the collector does %p",
  (states, hasDependents, wanted) => {
    const owners = new Map(states.map((state, i) => [`u${i}`, state]));
    const object = { metadata: { name: "a", uid: "a" } } as unknown as KubeObject;
    expect(planCollection(object, owners, hasDependents)).toEqual(wanted as never);
  },
);

test("the owner graph forgets links when references change", () => {
  const graph = new OwnerGraph();
  const resource = { group: "", version: "v1", kind: "Pod", plural: "pods", namespaced: true };
  const owned = (uids: string[]) =>
    ({ metadata: { uid: "p", name: "p", ownerReferences: uids.map((uid) => ({ uid })) } }) as unknown as KubeObject;
  graph.set(resource, owned(["a", "b"]));
  graph.set(resource, owned(["b"]));
  expect(graph.dependentsOf("a")).toEqual([]);
  expect(graph.dependentsOf("b")).toHaveLength(1);
  graph.remove(owned(["b"]));
  expect(graph.dependentsOf("b")).toEqual([]);
});

test("events go an hour after they were last seen, the oldest first when there are too many", () => {
  const event = (name: string, secondsAgo: number) =>
    ({ metadata: { name }, lastTimestamp: at(secondsAgo) }) as unknown as Event;
  const names = (list: Event[]) => list.map(({ metadata }) => metadata.name);
  expect(names(expired([event("old", 3_600), event("new", 3_599)], nowMs))).toEqual(["old"]);
  const flood = Array.from({ length: 10_003 }, (_, i) => event(`e${i}`, i % 3_000));
  expect(expired(flood, nowMs)).toHaveLength(3);
});

test("nodes get the lowest free /24 until the network is used up", () => {
  const withCidr = (podCIDR: string) => ({ metadata: { name: podCIDR }, spec: { podCIDR } }) as unknown as Node;
  expect(planCidr("10.244.0.0/16", [])).toBe("10.244.0.0/24");
  expect(planCidr("10.244.0.0/16", [withCidr("10.244.0.0/24"), withCidr("10.244.2.0/24")])).toBe("10.244.1.0/24");
  expect(planCidr("10.0.0.0/23", [withCidr("10.0.0.0/24"), withCidr("10.0.1.0/24")])).toBeUndefined();
});
