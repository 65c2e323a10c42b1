// A cluster in one process for tests: API server over the memory store, controllers, scheduler, pretend kubelets, virtual time.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allKinds } from "../api/kinds/all.ts";
import { deployments } from "../api/resources.ts";
import type { Deployment } from "../api/types.ts";
import { createApi } from "../apiserver/api.ts";
import { createClient } from "../client/client.ts";
import type { Client } from "../client/types.ts";
import { VirtualClock } from "../kernel/clock.ts";
import { createLog, type Log } from "../kernel/log.ts";
import { type Random, seededRandom } from "../kernel/random.ts";
import { startScheduler } from "../scheduler/scheduler.ts";
import { createMemoryStore } from "../store/memory.ts";
import { startControllers } from "./controllers.ts";
import { type PretendKubelet, startPretendKubelet } from "./pretend-kubelet.ts";

export interface TestCluster {
  client: Client;
  clock: VirtualClock;
  random: Random;
  volumesDir: string;
  kubelets: Map<string, PretendKubelet>;
  startKubelet(index: number, labels?: Record<string, string>): Promise<void>;
  /** Controllers and scheduler die where they are and start again after a while. */
  restartPlanes(downMs: number): void;
  /** Lets everything that is under way finish, without moving time. */
  settle(): Promise<void>;
  /** Moves time in small steps, settling after each. */
  run(durationMs: number): Promise<void>;
  /** Runs until `condition` holds; throws after `limitMs` of virtual time. */
  until(what: string, condition: () => Promise<boolean> | boolean, limitMs?: number): Promise<void>;
  stop(): Promise<void>;
}

const stepMs = 50;

export async function startTestCluster(
  options: { nodes?: number; seed?: number; log?: Log } = {},
): Promise<TestCluster> {
  const { nodes = 3, seed = 1 } = options;
  const warnings: string[] = [];
  const log = options.log ?? createLog((line) => warnings.push(line), "error");
  const clock = new VirtualClock();
  const random = seededRandom(seed);
  const store = createMemoryStore();
  const api = await createApi({ store, kinds: allKinds, clock, random, log });
  const client = createClient(api.transport);
  const volumesDir = await mkdtemp(join(tmpdir(), "meshbed-volumes-"));
  const deps = { client, clock, random, log };
  const startPlanes = () => [
    startControllers({ ...deps, volumesDir, nodeCidr: "10.244.0.0/16", clusterCaPem: "CA" }),
    startScheduler(deps),
  ];
  let planes = startPlanes();
  const stopPlanes = () => {
    for (const plane of planes) plane.stop();
  };
  const kubelets = new Map<string, PretendKubelet>();

  const settle = async () => {
    for (let quiet = 0; quiet < 4; ) {
      await new Promise((resolve) => setImmediate(resolve));
      quiet = planes.every((plane) => plane.idle()) ? quiet + 1 : 0;
    }
  };
  const run = async (durationMs: number) => {
    for (let doneMs = 0; doneMs < durationMs; doneMs += stepMs) {
      clock.advance(Math.min(stepMs, durationMs - doneMs));
      await settle();
    }
  };
  const cluster: TestCluster = {
    client,
    clock,
    random,
    volumesDir,
    kubelets,
    settle,
    run,
    async startKubelet(index, labels) {
      const name = `worker${index}`;
      const options = { ...deps, name, ip: `172.20.0.${10 + index}`, podPrefix: `10.244.${index}` };
      const times = { readyMsMax: 400, stopMsMax: 300, brokenImage: "broken" };
      kubelets.set(name, await startPretendKubelet({ ...options, ...times, ...(labels && { labels }) }));
    },
    restartPlanes(downMs) {
      stopPlanes();
      clock.advance(downMs);
      planes = startPlanes();
    },
    async until(what, condition, limitMs = 60_000) {
      for (let doneMs = 0; ; doneMs += stepMs) {
        await settle();
        if (await condition()) return;
        if (doneMs >= limitMs) throw new Error(`not within ${limitMs} ms: ${what}\n${warnings.join("\n")}`);
        clock.advance(stepMs);
      }
    },
    async stop() {
      for (const kubelet of kubelets.values()) kubelet.kill();
      stopPlanes();
      api.close();
      store.close();
      await rm(volumesDir, { recursive: true, force: true });
    },
  };
  for (let i = 1; i <= nodes; i++) await cluster.startKubelet(i);
  await settle();
  return cluster;
}

export function webDeployment(
  spec: Record<string, unknown> = {},
  name = "web",
  image = "web:1",
): Parameters<Client["create"]>[1] {
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, namespace: "default" },
    spec: {
      replicas: 3,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: { containers: [{ name: "web", image, ports: [{ name: "http", containerPort: 8080 }] }] },
      },
      ...spec,
    },
  } as never;
}

/** Every pod of the current template, all of them available, none other left. */
export async function isRolledOut(client: Client, name = "web"): Promise<boolean> {
  const { metadata, spec, status }: Deployment = await client.get(deployments, "default", name);
  const replicas = spec?.replicas ?? 1;
  return (
    (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0) &&
    (status?.updatedReplicas ?? 0) === replicas &&
    (status?.replicas ?? 0) === replicas &&
    (status?.availableReplicas ?? 0) === replicas
  );
}
