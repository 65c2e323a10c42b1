// Seeded simulation: random changes and failures on a whole cluster in virtual time; it must converge and keep its promises.

import { expect, test } from "bun:test";
import { keyOf } from "../api/object.ts";
import { daemonSets, deployments, endpointSlices, nodes, pods, replicaSets, services } from "../api/resources.ts";
import type { Pod } from "../api/types.ts";
import { createInformer } from "../client/informer.ts";
import { isNotFound } from "../client/types.ts";
import { silentLog } from "../kernel/log.ts";
import { type Random, seededRandom } from "../kernel/random.ts";
import { isRolledOut, startTestCluster, type TestCluster, webDeployment } from "./fixture.test.ts";
import { isActive, isReady } from "./pods.ts";
import { rollingLimits } from "./rollout.ts";

const runs = Number(process.env["SIMULATION_RUNS"] ?? 6);
const firstSeed = Number(process.env["SIMULATION_SEED"] ?? 1);
const operationsPerRun = 12;
const nodeCount = 4;

test("random scaling, updates, deletions and node failures always converge", async () => {
  for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
    try {
      await simulate(seed);
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.stack : error}`);
    }
  }
}, 600_000);

test("a rolling update never has fewer pods available than replicas minus maxUnavailable, nor more than the surge", async () => {
  for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
    try {
      await rollAround(seed);
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.stack : error}`);
    }
  }
}, 600_000);

async function simulate(seed: number): Promise<void> {
  const random = seededRandom(seed * 7919);
  const cluster = await startTestCluster({ nodes: nodeCount, seed });
  const history: string[] = [];
  try {
    await createWorkloads(cluster);
    await cluster.until("start", () => converged(cluster));
    for (let i = 0; i < operationsPerRun; i++) {
      history.push(await disturb(cluster, random));
      await cluster.run(random.below(4_000));
      if (random.below(3) === 0) await cluster.until("in between", () => converged(cluster), 90_000);
    }
    for (let i = 1; i <= nodeCount; i++) if (!cluster.kubelets.has(`worker${i}`)) await cluster.startKubelet(i);
    await cluster.until("the end", () => converged(cluster), 90_000);
  } catch (error) {
    throw new Error(
      `${history.join("; ")}\n${error instanceof Error ? error.message : error}\n${await describe(cluster)}`,
    );
  } finally {
    await cluster.stop();
  }
}

async function createWorkloads({ client }: TestCluster): Promise<void> {
  await client.create(deployments, webDeployment() as never);
  await client.create(services, {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web", namespace: "default" },
    spec: { selector: { app: "web" }, ports: [{ name: "http", port: 80, targetPort: "http" as never }] },
  });
  await client.create(daemonSets, {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: "agent", namespace: "default" },
    spec: {
      selector: { matchLabels: { app: "agent" } },
      template: { metadata: { labels: { app: "agent" } }, spec: { containers: [{ name: "agent", image: "agent:1" }] } },
    },
  });
}

const image = (random: Random) => `web:${1 + random.below(4)}`;
const percent = (random: Random) => (random.below(2) === 0 ? random.below(3) : `${random.below(5) * 25}%`);

async function disturb(cluster: TestCluster, random: Random): Promise<string> {
  const { client, kubelets } = cluster;
  const patchWeb = (spec: object) =>
    client.patch(deployments, "default", "web", { spec }, { type: "strategic" }).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
  switch (random.below(8)) {
    case 0: {
      const replicas = random.below(9);
      await patchWeb({ replicas });
      return `scale to ${replicas}`;
    }
    case 1:
    case 2: {
      const next = image(random);
      await patchWeb({ template: { spec: { containers: [{ name: "web", image: next }] } } });
      return `image ${next}`;
    }
    case 3: {
      const rollingUpdate = { maxSurge: percent(random), maxUnavailable: percent(random) };
      if (Number.parseInt(String(rollingUpdate.maxSurge), 10) === 0) rollingUpdate.maxUnavailable = 1;
      await patchWeb({ strategy: { rollingUpdate } });
      return `strategy ${JSON.stringify(rollingUpdate)}`;
    }
    case 4: {
      const alive = [...kubelets.keys()];
      if (alive.length <= 2) return reviveOne(cluster);
      const name = alive[random.below(alive.length)]!;
      kubelets.get(name)!.kill();
      kubelets.delete(name);
      return `kill ${name}`;
    }
    case 5:
      return reviveOne(cluster);
    case 6: {
      const downMs = random.below(8_000);
      cluster.restartPlanes(downMs);
      return `restart after ${downMs} ms`;
    }
    default: {
      const all = (await client.list(pods, { namespace: "default" })).items;
      const pod = all[random.below(Math.max(1, all.length))];
      if (pod === undefined) return "no pod to delete";
      await client.delete(pods, "default", pod.metadata.name);
      return `delete ${pod.metadata.name}`;
    }
  }
}

async function reviveOne(cluster: TestCluster): Promise<string> {
  for (let i = 1; i <= nodeCount; i++)
    if (!cluster.kubelets.has(`worker${i}`)) {
      await cluster.startKubelet(i);
      return `revive worker${i}`;
    }
  return "nothing to revive";
}

/** Rolled out; every pod on a live node with a living owner; one daemon per live node; endpoints are exactly the ready pods. */
async function converged({ client, kubelets }: TestCluster): Promise<boolean> {
  if (!(await isRolledOut(client))) return false;
  const [podList, sets, slices, daemons, nodeList] = await Promise.all([
    client.list(pods, { namespace: "default" }),
    client.list(replicaSets, { namespace: "default" }),
    client.list(endpointSlices, { namespace: "default", labelSelector: "kubernetes.io/service-name=web" }),
    client.list(daemonSets, { namespace: "default" }),
    client.list(nodes),
  ]);
  const owners = new Set([...sets.items, ...daemons.items].map((object) => object.metadata.uid));
  const healthy = (pod: Pod) => isActive(pod) && isReady(pod) && kubelets.has(pod.spec?.nodeName ?? "");
  const daemonPods = podList.items.filter((pod) => pod.metadata.labels?.["app"] === "agent");
  const webPods = podList.items.filter((pod) => pod.metadata.labels?.["app"] === "web");
  if (!webPods.every(healthy)) return false;
  // The daemon of a dead node stays, not ready, as on a real cluster.
  if (daemonPods.filter(healthy).length !== kubelets.size || daemonPods.length > nodeCount) return false;
  for (const pod of podList.items) if (!owners.has(pod.metadata.ownerReferences?.[0]?.uid ?? "")) return false;
  const ready = slices.items
    .flatMap((slice) => slice.endpoints ?? [])
    .filter(({ conditions }) => conditions?.ready === true);
  const wanted = webPods.map((pod) => `${pod.metadata.name} ${pod.status?.podIP}`).sort();
  const found = ready.map(({ targetRef, addresses }) => `${targetRef?.name} ${addresses[0]}`).sort();
  for (const node of nodeList.items) {
    const isUp = kubelets.has(node.metadata.name);
    if (isUp !== ((node.spec?.taints ?? []).length === 0)) return false;
  }
  return Bun.deepEquals(wanted, found);
}

async function describe({ client }: TestCluster): Promise<string> {
  const lines = (await client.list(pods)).items.map(
    (pod) =>
      `${keyOf(pod)} on ${pod.spec?.nodeName} ready ${isReady(pod)} deleted ${pod.metadata.deletionTimestamp} of ${pod.metadata.ownerReferences?.[0]?.name}`,
  );
  for (const set of (await client.list(replicaSets)).items)
    lines.push(
      `${keyOf(set)} wants ${set.spec?.replicas} ${JSON.stringify(set.status)} ${JSON.stringify(set.metadata.annotations)}`,
    );
  for (const deployment of (await client.list(deployments)).items)
    lines.push(
      `${keyOf(deployment)} ${JSON.stringify(deployment.status)} ${JSON.stringify(deployment.spec?.strategy)}`,
    );
  for (const node of (await client.list(nodes)).items)
    lines.push(
      `${node.metadata.name} ${JSON.stringify(node.spec)} ${JSON.stringify(node.status?.conditions?.map((c) => c.status))}`,
    );
  return lines.join("\n");
}

async function rollAround(seed: number): Promise<void> {
  const random = seededRandom(seed * 104_729);
  const cluster = await startTestCluster({ nodes: nodeCount, seed });
  const watcher = createInformer({ ...cluster, log: silentLog }, pods);
  try {
    const replicas = 2 + random.below(6);
    const maxSurge = percent(random);
    const maxUnavailable = Number.parseInt(String(maxSurge), 10) === 0 ? 1 : percent(random);
    const rollingUpdate = { maxSurge, maxUnavailable };
    const minReadySeconds = random.below(2);
    const strategy = { type: "RollingUpdate", rollingUpdate };
    const created = await cluster.client.create(
      deployments,
      webDeployment({ replicas, minReadySeconds, strategy }) as never,
    );
    await cluster.until("start", () => isRolledOut(cluster.client));
    const limits = rollingLimits(created as never);
    const problems: string[] = [];
    watcher.onChange(() => {
      const active = watcher.list().filter((pod) => pod.metadata.namespace === "default" && isActive(pod));
      const ready = active.filter(isReady).length;
      if (ready < replicas - limits.maxUnavailable)
        problems.push(`${ready} of ${replicas} ready with ${JSON.stringify(limits)}`);
      if (active.length > replicas + limits.maxSurge) problems.push(`${active.length} pods, ${JSON.stringify(limits)}`);
    });
    for (let version = 2; version < 6; version++) {
      const template = { spec: { containers: [{ name: "web", image: `web:${version}` }] } };
      await cluster.client.patch(deployments, "default", "web", { spec: { template } }, { type: "strategic" });
      // Sometimes the next update comes while this one is under way.
      if (random.below(2) === 0) await cluster.run(random.below(1_000));
      else await cluster.until(`version ${version}`, () => isRolledOut(cluster.client));
    }
    await cluster.until("last version", () => isRolledOut(cluster.client));
    expect(problems).toEqual([]);
  } finally {
    watcher.stop();
    await cluster.stop();
  }
}
