// Random pods that crash, refuse to start, ignore signals and are deleted at any moment, under a kubelet that is killed and
// an API server that goes away: at the end nothing may be left. A failure prints its seed; MESHBED_SEED repeats it.

import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { allKinds } from "../api/kinds/all.ts";
import { pods } from "../api/resources.ts";
import type { ApiTransport } from "../api/rest.ts";
import { createApi } from "../apiserver/api.ts";
import { createClient } from "../client/client.ts";
import { realClock as clock } from "../kernel/clock.ts";
import { silentLog as log } from "../kernel/log.ts";
import { type Random, seededRandom, systemRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import { startKubelet } from "./kubelet.ts";
import { type Behaviour, createPretendRuntime } from "./pretend-runtime.ts";
import type { KubeletOptions } from "./types.ts";

const seed = Number(process.env["MESHBED_SEED"] ?? systemRandom.below(1_000_000));

function anyBehaviour(random: Random): Behaviour {
  const kind = random.below(6);
  if (kind === 0) return { exit: { afterMs: random.below(50), code: random.below(2) } };
  if (kind === 1) return { refuse: "no such program" };
  if (kind === 2) return { onTerm: "ignore" };
  if (kind === 3) return { onTerm: { afterMs: random.below(100), code: 0 } };
  return {};
}

test(`nothing is left of random pods (seed ${seed})`, async () => {
  const random = seededRandom(seed);
  const stateDir = mkdtempSync("/tmp/meshbed-chaos-test-");
  const api = await createApi({ store: createMemoryStore(), kinds: allKinds, clock, random: systemRandom, log });
  const direct = createClient(api.transport);
  let online = true;
  let cut = new AbortController();
  const transport: ApiTransport = {
    async request(request) {
      if (!online) throw new Error("connection refused");
      return api.transport.request(request);
    },
    async *watch(request, signal) {
      if (!online) throw new Error("connection refused");
      yield* api.transport.watch(request, AbortSignal.any([signal, cut.signal]));
    },
  };
  const runtime = createPretendRuntime({ mode: "namespaces", clock, behaviour: () => anyBehaviour(random) });
  const options: KubeletOptions = {
    nodeName: "worker1",
    nodeIndex: 1,
    nodeIp: "172.20.0.11",
    podCidrPrefix: "10.244.1",
    roles: [],
    client: createClient(transport),
    runtime,
    images: { web: { command: ["web"] } },
    stateDir,
    volumesDir: stateDir,
    dns: undefined,
    clusterDomain: "cluster.local",
    server: undefined,
    backOffInitialMs: 20,
    clock,
    random,
    log,
  };
  let kubelet = await startKubelet(options);
  const policies = ["Always", "OnFailure", "Never"] as const;
  const create = (i: number) => {
    const container = (name: string) => ({ name, image: random.below(12) === 0 ? "unknown/image" : "web" });
    return direct.create(pods, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: `pod-${i}`, namespace: "default" },
      spec: {
        nodeName: "worker1",
        terminationGracePeriodSeconds: 1,
        restartPolicy: policies[random.below(3)]!,
        initContainers: random.below(3) === 0 ? [container("first")] : [],
        containers: random.below(2) === 0 ? [container("a")] : [container("a"), container("b")],
        volumes: [{ name: "scratch", emptyDir: {} }],
      },
    });
  };
  const remove = (name: string) =>
    direct.delete(pods, "default", name, random.below(4) === 0 ? { gracePeriodSeconds: 0 } : {}).catch(() => {});

  for (let i = 0; i < 60; i++) {
    await create(i);
    if (random.below(2) === 0) await remove(`pod-${random.below(i + 1)}`);
    const what = random.below(12);
    if (what === 0) {
      online = false;
      cut.abort();
    } else if (what === 1) {
      cut = new AbortController();
      online = true;
    } else if (what === 2) {
      runtime.crash();
      await kubelet.stop();
      kubelet = await startKubelet(options);
    }
    await clock.sleep(random.below(30));
  }
  cut = new AbortController();
  online = true;
  await Promise.all((await direct.list(pods)).items.map((pod) => remove(pod.metadata.name)));
  const leftOver = async () => (await direct.list(pods)).items.map((pod) => pod.metadata.name);
  const onDisk = () => {
    mkdirSync(join(stateDir, "logs/pods"), { recursive: true });
    return [...readdirSync(join(stateDir, "volumes")), ...readdirSync(join(stateDir, "logs/pods"))];
  };
  for (let i = 0; i < 1_000 && ((await leftOver()).length > 0 || onDisk().length > 0); i++) await clock.sleep(10);
  expect(await leftOver()).toEqual([]);
  expect(onDisk()).toEqual([]);
  expect([...runtime.pods.keys()]).toEqual([]);
  expect(runtime.containers.filter((container) => container.alive)).toEqual([]);
  await kubelet.stop();
  api.close();
  rmSync(stateDir, { recursive: true });
}, 30_000);
