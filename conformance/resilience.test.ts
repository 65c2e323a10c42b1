// What dies is replaced: a node's agent and pods, the control plane, a proxy; and nothing is left when the testbed ends.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Pod } from "../src/api/types.ts";
import { Load, processesNaming, startTestbed, type Testbed, until } from "./testbed.ts";

let testbed: Testbed;
beforeAll(async () => {
  testbed = await startTestbed();
}, 60_000);
afterAll(() => testbed?.down());

interface PodRow {
  name: string;
  node: string;
  ready: boolean;
  deleted: boolean;
}
async function pods(namespace = "video"): Promise<PodRow[]> {
  const list = JSON.parse(await testbed.kubectl("get", "pods", "-n", namespace, "-o", "json"));
  return list.items.map((pod: Pod) => ({
    name: pod.metadata.name,
    node: pod.spec?.nodeName ?? "",
    ready: pod.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false,
    deleted: pod.metadata.deletionTimestamp !== undefined,
  }));
}

const nodes = ["master", "worker1", "worker2", "worker3"];

/** Every process below `pid`, and itself. */
function treeOf(pid: number): number[] {
  const tree = [pid];
  for (let i = 0; i < tree.length; i++) {
    try {
      const text = readFileSync(`/proc/${tree[i]}/task/${tree[i]}/children`, "utf8");
      tree.push(...text.split(" ").filter(Boolean).map(Number));
    } catch {
      // Ended meanwhile.
    }
  }
  return tree;
}

const ofTestbed = (verb: string, name: string) =>
  processesNaming(testbed.state).filter((pid) => {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return words.includes(verb) && (name === "" || words.includes(name));
  });

test("meshbed restart replaces every node's proxy under load without a failed request", async () => {
  const before = nodes.flatMap((node) => ofTestbed("node-proxy", node));
  expect(before).toHaveLength(nodes.length);
  const load = new Load(`${testbed.url}/healthz`, { workers: 4, pauseMs: 5, requestsMax: 20_000 });
  await Bun.sleep(200);
  const { stdout } = await testbed.meshbed("restart");
  for (const node of nodes) expect(stdout).toContain(`proxy-${node} restarted`);
  await Bun.sleep(1_000);
  const { sent, failures } = await load.stop();
  console.log(`  ${nodes.length} proxies restarted: ${sent} requests, ${failures.length} failed`);
  expect(sent).toBeGreaterThan(200);
  expect(failures).toEqual([]);
  await until("the old ones have ended", 10_000, async () =>
    before.every((pid) => !nodes.some((node) => ofTestbed("node-proxy", node).includes(pid))),
  );
}, 60_000);

test("kill -9 of a worker's agent and pods: service goes on, pods are Running elsewhere in 10 s", async () => {
  const before = await pods();
  // The gateway and the cache have one pod each, as in the original: their node's end is an outage, not a failover.
  const single = new Set(
    [...before.filter((pod) => pod.name.startsWith("cache")), ...(await pods("istio-system"))].map(({ node }) => node),
  );
  const victim = before.map(({ node }) => node).find((node) => !single.has(node))!;
  expect(victim).toBeDefined();
  // Every answer comes from a web pod: /healthz is not cached.
  const load = new Load(`${testbed.url}/healthz`, { workers: 4, pauseMs: 10, requestsMax: 20_000 });
  await Bun.sleep(300);
  const killedMs = performance.now();
  const doomed = ofTestbed("kubelet", victim).flatMap(treeOf);
  expect(doomed.length).toBeGreaterThan(0);
  for (const pid of new Set(doomed)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // Its parent's end was its own.
    }
  }
  await until("pods run elsewhere", 10_000, async () => {
    const now = (await pods()).filter((pod) => !pod.deleted);
    return now.length === before.length && now.every((pod) => pod.ready && pod.node !== victim);
  });
  const replacedMs = performance.now() - killedMs;
  expect(await testbed.kubectl("get", "node", victim)).toContain("NotReady");
  const { sent, failures } = await load.stop();
  console.log(
    `  node ${victim} killed: replaced in ${(replacedMs / 1000).toFixed(1)} s, ${sent} requests, ${failures.length} failed ${failures.slice(0, 3)}`,
  );
  expect(failures).toEqual([]);
  await until("the agent is restarted and the node Ready again", 20_000, async () =>
    / Ready /.test(await testbed.kubectl("get", "node", victim)),
  );
}, 60_000);

test("kill -9 of the control plane: traffic goes on, and its state is intact after the restart", async () => {
  await testbed.kubectl("create", "configmap", "kept", "--from-literal=answer=42");
  const load = new Load(`${testbed.url}/healthz`, { workers: 4, pauseMs: 10, requestsMax: 20_000 });
  await Bun.sleep(200);
  for (const pid of ofTestbed("control-plane", "")) process.kill(pid, "SIGKILL");
  await until(
    "the API is back",
    10_000,
    async () => (await testbed.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.answer}")) === "42",
  );
  await Bun.sleep(1_000);
  const { sent, failures } = await load.stop();
  console.log(`  control plane killed: ${sent} requests, ${failures.length} failed`);
  expect(failures).toEqual([]);
  await testbed
    .kubectl("scale", "deploy/web-v1", "-n", "video", "--replicas=4")
    .catch(() => testbed.kubectl("scale", "deploy/web", "-n", "video", "--replicas=4"));
  await until(
    "the restarted controllers act",
    10_000,
    async () => (await pods()).filter((pod) => pod.name.startsWith("web") && pod.ready).length === 4,
  );
}, 60_000);

test("a killed node proxy is restarted and said so", async () => {
  for (const pid of ofTestbed("node-proxy", "worker2")) process.kill(pid, "SIGKILL");
  await until("it is back", 5_000, async () => ofTestbed("node-proxy", "worker2").length > 0);
  await until("it is said", 2_000, async () =>
    readFileSync(`${testbed.state}/logs/up.log`, "utf8").includes("proxy-worker2"),
  );
  await until("the site answers", 5_000, async () => (await fetch(testbed.url)).status === 200);
}, 30_000);

test("kill -9 of the supervisor leaves no process behind", async () => {
  process.kill(testbed.supervisorPid(), "SIGKILL");
  await until("everything is gone", 5_000, async () => processesNaming(testbed.state).length === 0);
  expect((await testbed.meshbed("status")).stderr).toContain("no testbed is running");
}, 30_000);

test("what was stored is there after the next start; down leaves no process and no mount", async () => {
  const again = await startTestbed({ state: testbed.state });
  expect(await again.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.answer}")).toBe("42");
  expect((await fetch(again.url)).status).toBe(200);
  const status = await again.meshbed("status");
  expect(status.stdout).toMatch(/worker1 +Ready +172\.20\.0\.11/);
  await again.meshbed("down");
  expect(processesNaming(testbed.state)).toEqual([]);
  expect(readFileSync("/proc/mounts", "utf8")).not.toContain(testbed.state);
}, 60_000);
