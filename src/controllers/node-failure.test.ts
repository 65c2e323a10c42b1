// Nodes that die and come back: conditions, taints, endpoints, eviction, forced removal, recovery.

import { afterEach, expect, test } from "bun:test";
import { findCondition } from "../api/conditions.ts";
import { daemonSets, deployments, endpointSlices, leases, nodes, pods, services } from "../api/resources.ts";
import type { Node, Pod } from "../api/types.ts";
import { isRolledOut, startTestCluster, type TestCluster, webDeployment } from "./fixture.test.ts";
import { foundConditions, lostConditions, taintsOf } from "./node-lifecycle.ts";
import { judge } from "./pod-gc.ts";
import { isActive, isReady } from "./pods.ts";
import { evictAfterMs } from "./taint-eviction.ts";

let cluster: TestCluster | undefined;
afterEach(async () => {
  await cluster?.stop();
  cluster = undefined;
});

const podsOn = async (node: string): Promise<Pod[]> =>
  (await cluster!.client.list(pods, { fieldSelector: `spec.nodeName=${node}` })).items;
const readyEndpoints = async () =>
  (await cluster!.client.list(endpointSlices, { labelSelector: "kubernetes.io/service-name=web" })).items
    .flatMap((slice) => slice.endpoints ?? [])
    .filter(({ conditions }) => conditions?.ready === true);

async function startWeb(): Promise<TestCluster> {
  cluster = await startTestCluster({ nodes: 3 });
  await cluster.client.create(deployments, webDeployment() as never);
  await cluster.client.create(services, {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web", namespace: "default" },
    spec: { selector: { app: "web" }, ports: [{ port: 80 }] },
  });
  await cluster.until("start", () => isRolledOut(cluster!.client));
  return cluster;
}

test("a node whose agent dies is NotReady after the grace time, loses its endpoints at once and its pods a second later", async () => {
  const { client, kubelets, run, until } = await startWeb();
  expect(await readyEndpoints()).toHaveLength(3);
  kubelets.get("worker1")!.kill();
  kubelets.delete("worker1");
  await run(2_900);
  expect(findCondition((await client.get(nodes, undefined, "worker1")).status?.conditions, "Ready")?.status).toBe(
    "True",
  );
  await run(1_200);
  const node = await client.get(nodes, undefined, "worker1");
  expect(findCondition(node.status?.conditions, "Ready")).toMatchObject({
    status: "Unknown",
    reason: "NodeStatusUnknown",
  });
  expect(node.spec?.taints?.map(({ key, effect }) => `${key}:${effect}`)).toEqual([
    "node.kubernetes.io/unreachable:NoSchedule",
    "node.kubernetes.io/unreachable:NoExecute",
  ]);
  expect(await readyEndpoints()).toHaveLength(2);
  expect((await podsOn("worker1")).map(isReady)).toEqual([false]);
  await run(1_100);
  expect(await podsOn("worker1")).toEqual([]); // evicted, and removed although nobody confirmed
  await until("replaced", () => isRolledOut(client), 3_000);
  expect(await readyEndpoints()).toHaveLength(3);
});

test("a node that comes back is untainted and used again", async () => {
  const { client, kubelets, run, until, startKubelet } = await startWeb();
  kubelets.get("worker2")!.kill();
  await run(6_000);
  await startKubelet(2);
  await until(
    "untainted",
    async () =>
      (await client.get(nodes, undefined, "worker2")).spec?.taints?.length === 0 ||
      (await client.get(nodes, undefined, "worker2")).spec?.taints === undefined,
    3_000,
  );
  await client.patch(deployments, "default", "web", { spec: { replicas: 6 } });
  await until("scaled", () => isRolledOut(client));
  expect((await podsOn("worker2")).filter(isActive).length).toBeGreaterThan(0);
});

test("an agent that only renews its lease again gets its Ready condition back", async () => {
  const { client, kubelets, run } = await startWeb();
  kubelets.get("worker3")!.kill();
  await run(5_000);
  await client.patch(leases, "kube-node-lease", "worker3", { spec: { renewTime: "2030-01-01T00:00:00.000000Z" } });
  await run(100);
  const node = await client.get(nodes, undefined, "worker3");
  expect(findCondition(node.status?.conditions, "Ready")).toMatchObject({ status: "True", reason: "KubeletReady" });
  expect(node.spec?.taints ?? []).toEqual([]);
});

test("when all nodes are lost nobody is evicted", async () => {
  const { kubelets, run, client } = await startWeb();
  for (const kubelet of kubelets.values()) kubelet.kill();
  await run(20_000);
  const list = (await client.list(pods, { namespace: "default" })).items;
  expect(list.map(({ metadata }) => metadata.deletionTimestamp)).toEqual([undefined, undefined, undefined]);
});

test("controllers that were away longer than the grace time do not take living nodes for lost", async () => {
  const { client, restartPlanes, run, settle } = await startWeb();
  restartPlanes(30_000);
  await settle();
  await run(10_000);
  const list = (await client.list(nodes)).items;
  expect(list.map((node) => findCondition(node.status?.conditions, "Ready")?.status)).toEqual(["True", "True", "True"]);
  expect(
    list.every(
      (node) => findCondition(node.status?.conditions, "Ready")?.lastTransitionTime === node.metadata.creationTimestamp,
    ),
  ).toBe(true);
});

test("a daemon stays on its lost node, and pods of a removed node are collected", async () => {
  const { client, kubelets, run, until } = await startWeb();
  const template = {
    metadata: { labels: { app: "agent" } },
    spec: { containers: [{ name: "agent", image: "agent:1" }] },
  };
  await client.create(daemonSets, {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: "agent", namespace: "default" },
    spec: { selector: { matchLabels: { app: "agent" } }, template },
  });
  await until("daemons", async () => (await client.get(daemonSets, "default", "agent")).status?.numberReady === 3);
  kubelets.get("worker1")!.kill();
  await run(8_000);
  const left = (await podsOn("worker1")).map(({ metadata }) => metadata.labels?.["app"]);
  expect(left).toEqual(["agent"]);
  expect((await client.get(daemonSets, "default", "agent")).status).toMatchObject({
    desiredNumberScheduled: 3,
    numberReady: 2,
  });
  await client.delete(nodes, undefined, "worker1");
  await until("collected", async () => (await podsOn("worker1")).length === 0, 10_000);
});

test("how long pods stay follows their tolerations, and the cluster's own delay where they say nothing of their own", () => {
  const pod = (tolerations?: object[]) => ({ spec: { containers: [], tolerations } }) as unknown as Pod;
  const unreachable = [{ key: "node.kubernetes.io/unreachable", effect: "NoExecute" as const }];
  const custom = [{ key: "maintenance", value: "soon", effect: "NoExecute" as const }];
  const forKey = (tolerationSeconds?: number) => ({ key: unreachable[0]!.key, operator: "Exists", tolerationSeconds });
  expect(evictAfterMs(pod(), unreachable, 1_000)).toBe(1_000);
  expect(evictAfterMs(pod([forKey(300)]), unreachable, 1_000)).toBe(1_000); // Kubernetes' default admission
  expect(evictAfterMs(pod([forKey(7)]), unreachable, 1_000)).toBe(7_000);
  expect(evictAfterMs(pod([forKey()]), unreachable, 1_000)).toBeUndefined();
  expect(evictAfterMs(pod(), custom, 1_000)).toBe(0);
  expect(evictAfterMs(pod([{ key: "maintenance", operator: "Exists", tolerationSeconds: 9 }]), custom, 1)).toBe(9_000);
});

test("taints follow the Ready condition and leave the user's own alone", () => {
  const node = (status: string, taints: object[]) =>
    ({
      metadata: { name: "a" },
      spec: { taints },
      status: { conditions: [{ type: "Ready", status }] },
    }) as unknown as Node;
  const own = { key: "gpu", effect: "NoSchedule" };
  const keys = (n: Node) => taintsOf(n, "now")?.map(({ key, effect }) => `${key.split("/").at(-1)}:${effect}`);
  expect(keys(node("True", [own]))).toBeUndefined();
  expect(keys(node("False", [own]))).toEqual(["gpu:NoSchedule", "not-ready:NoSchedule", "not-ready:NoExecute"]);
  const tainted = [
    own,
    ...["NoSchedule", "NoExecute"].map((effect) => ({ key: "node.kubernetes.io/unreachable", effect })),
  ];
  expect(keys(node("Unknown", tainted))).toBeUndefined();
  expect(keys(node("False", tainted))).toEqual(["gpu:NoSchedule", "not-ready:NoSchedule", "not-ready:NoExecute"]);
  expect(keys(node("True", tainted))).toEqual(["gpu:NoSchedule"]);
});

test("only what we declared unknown is given back when the lease lives again", () => {
  const node = (conditions: object[]) => ({ metadata: { name: "a" }, status: { conditions } }) as unknown as Node;
  const lost = lostConditions(
    node([
      { type: "Ready", status: "True" },
      { type: "MemoryPressure", status: "False" },
    ]),
    "t",
  )!;
  expect(lost.map(({ status }) => status)).toEqual(["Unknown", "Unknown"]);
  expect(lostConditions(node(lost), "t")).toBeUndefined();
  expect(foundConditions(node(lost), "t")!.map(({ type, status }) => `${type}=${status}`)).toEqual([
    "Ready=True",
    "MemoryPressure=False",
  ]);
  expect(foundConditions(node([{ type: "Ready", status: "False", reason: "KubeletNotReady" }]), "t")).toBeUndefined();
});

test("a pod is removed by force only where nobody is left to do it", () => {
  const pod = (nodeName: string | undefined, deletionTimestamp?: string) =>
    ({ metadata: { deletionTimestamp }, spec: { nodeName } }) as unknown as Pod;
  const node = (status: string) => ({ status: { conditions: [{ type: "Ready", status }] } }) as unknown as Node;
  expect(judge(pod("a", "t"), node("True"), 0, 100).kind).toBe("keep");
  expect(judge(pod("a", "t"), node("False"), 0, 100).kind).toBe("keep");
  expect(judge(pod("a", "t"), node("Unknown"), 0, 100).kind).toBe("remove");
  expect(judge(pod("a", "t"), undefined, 0, 100).kind).toBe("remove");
  expect(judge(pod("a"), node("Unknown"), 0, 100).kind).toBe("keep");
  expect(judge(pod("a"), undefined, 40, 100)).toEqual({ kind: "wait", forMs: 60 });
  expect(judge(pod("a"), undefined, 100, 100).kind).toBe("remove");
  expect(judge(pod(undefined), undefined, 1_000, 100).kind).toBe("keep");
});
