// The kubelet against a real API server in this process and a pretend runtime.

import { afterEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { allKinds } from "../api/kinds/all.ts";
import type { Draft } from "../api/object.ts";
import {
  configMaps,
  events,
  leases,
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  services,
} from "../api/resources.ts";
import type { ApiTransport } from "../api/rest.ts";
import type { Pod } from "../api/types.ts";
import { type Api, createApi } from "../apiserver/api.ts";
import { createClient } from "../client/client.ts";
import { type Client, isNotFound } from "../client/types.ts";
import { realClock as clock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { systemRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import { startKubelet } from "./kubelet.ts";
import { type Behaviour, createPretendRuntime, type PretendRuntime } from "./pretend-runtime.ts";
import type { Kubelet, KubeletOptions } from "./types.ts";

interface Bed {
  api: Api;
  client: Client;
  runtime: PretendRuntime;
  options: KubeletOptions;
  kubelet: Kubelet;
  stateDir: string;
}

const beds: Bed[] = [];
afterEach(async () => {
  for (const bed of beds.splice(0)) {
    await bed.kubelet.stop();
    bed.api.close();
    rmSync(bed.stateDir, { recursive: true });
  }
});

async function start(
  behaviour: (id: string) => Behaviour = () => ({}),
  more: Partial<KubeletOptions> = {},
): Promise<Bed> {
  const store = createMemoryStore();
  const api = await createApi({ store, kinds: allKinds, clock, random: systemRandom, log: silentLog });
  const client = createClient(api.transport);
  const stateDir = mkdtempSync("/tmp/meshbed-kubelet-test-");
  const runtime = createPretendRuntime({ mode: "namespaces", clock, behaviour: (spec) => behaviour(spec.id) });
  const options: KubeletOptions = {
    nodeName: "worker1",
    nodeIndex: 1,
    nodeIp: "172.20.0.11",
    podCidrPrefix: "10.244.1",
    roles: ["worker"],
    client,
    runtime,
    images: { web: { command: ["/bin/web"], args: ["--serve"] } },
    stateDir,
    volumesDir: join(stateDir, "shared"),
    dns: undefined,
    clusterDomain: "cluster.local",
    server: undefined,
    backOffInitialMs: 300,
    clock,
    random: systemRandom,
    log: silentLog,
    ...more,
  };
  const bed = { api, client, runtime, options, stateDir, kubelet: await startKubelet(options) };
  beds.push(bed);
  return bed;
}

type Spec = NonNullable<Pod["spec"]>;

const podDraft = (name: string, spec: Partial<Spec> = {}): Draft<Pod> => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "default", labels: { app: name } },
  spec: { nodeName: "worker1", containers: [{ name: "web", image: "web" }], ...spec } as Spec,
});

async function until<T>(what: string, look: () => Promise<T | undefined | false> | T | undefined | false): Promise<T> {
  const deadlineMs = clock.monotonicMs() + 5_000;
  while (clock.monotonicMs() < deadlineMs) {
    const found = await look();
    if (found) return found as T;
    await clock.sleep(5);
  }
  throw new Error(`never came: ${what}`);
}

const podWhen = (client: Client, name: string, fits: (pod: Pod) => boolean): Promise<Pod> =>
  until(`pod ${name} ${fits}`, async () => {
    const pod = await client.get(pods, "default", name);
    return fits(pod) && pod;
  });

const isReady = (pod: Pod): boolean =>
  pod.status?.conditions?.find((condition) => condition.type === "Ready")?.status === "True";
const first = (pod: Pod) => pod.status?.containerStatuses?.[0];
const waitingReason = (pod: Pod) => first(pod)?.state?.waiting?.reason;

const eventsOf = async (client: Client, name: string): Promise<string[]> =>
  (await client.list(events, { namespace: "default" })).items
    .filter((event) => event.involvedObject.name === name)
    .map((event) => `${event.type} ${event.reason} ${event.message}`);

test("the node registers itself as kubectl get nodes -o wide shows it, and renews its lease", async () => {
  const { client } = await start();
  const node = await until("ready node", async () => {
    const found = await client.get(nodes, undefined, "worker1").catch(() => undefined);
    return found?.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") && found;
  });
  expect(node.metadata.labels).toMatchObject({
    "kubernetes.io/hostname": "worker1",
    "node-role.kubernetes.io/worker": "",
  });
  expect(node.status?.addresses).toContainEqual({ type: "InternalIP", address: "172.20.0.11" });
  expect(node.status?.nodeInfo?.kubeletVersion).toMatch(/^v1\.32\.\d+-meshbed$/);
  expect(node.status?.nodeInfo?.containerRuntimeVersion).toMatch(/^meshbed:\/\//);
  expect(node.spec?.podCIDR).toBe("10.244.1.0/24");
  const renewed = async () =>
    (await client.get(leases, "kube-node-lease", "worker1").catch(() => undefined))?.spec?.renewTime;
  const before = await until("lease", renewed);
  await until("renewal", async () => (await renewed()) !== before);
});

test("a node that a controller declared unready says at once that it is ready", async () => {
  const { client } = await start();
  const ready = async () =>
    (await client.get(nodes, undefined, "worker1").catch(() => undefined))?.status?.conditions?.find(
      (c) => c.type === "Ready",
    );
  await until("ready", async () => (await ready())?.status === "True");
  await client.patch(
    nodes,
    undefined,
    "worker1",
    { status: { conditions: [{ type: "Ready", status: "Unknown", reason: "NodeStatusUnknown" }] } },
    { subresource: "status" },
  );
  await until("ready again", async () => (await ready())?.status === "True");
});

test("a pod gets an address, starts its image's command and becomes ready; users see the usual events", async () => {
  const { client, runtime } = await start();
  await client.create(pods, podDraft("a"));
  const pod = await podWhen(client, "a", isReady);
  expect(pod.status).toMatchObject({
    phase: "Running",
    podIP: "10.244.1.2",
    podIPs: [{ ip: "10.244.1.2" }],
    hostIP: "172.20.0.11",
    qosClass: "BestEffort",
  });
  expect(first(pod)).toMatchObject({ name: "web", ready: true, started: true, restartCount: 0 });
  expect(pod.status?.conditions?.map((c) => `${c.type}=${c.status}`).toSorted()).toEqual(
    [
      "ContainersReady=True",
      "Initialized=True",
      "PodReadyToStartContainers=True",
      "PodScheduled=True",
      "Ready=True",
    ].toSorted(),
  );
  expect(runtime.containers[0]?.spec.argv).toEqual(["/bin/web", "--serve"]);
  expect(runtime.containers[0]?.spec.env).toMatchObject({ HOSTNAME: "a", KUBERNETES_SERVICE_HOST: "10.96.0.1" });
  const seen = await until("events", async () => {
    const list = await eventsOf(client, "a");
    return list.length >= 3 && list;
  });
  expect(seen).toContain("Normal Started Started container web");
  expect(seen).toContain('Normal Pulled Container image "web" already present on machine');
  await client.create(pods, podDraft("b"));
  expect((await podWhen(client, "b", isReady)).status?.podIP).toBe("10.244.1.3");
});

test("an unknown image shows ErrImagePull, then ImagePullBackOff, and the event says what to do", async () => {
  const { client } = await start();
  await client.create(pods, podDraft("a", { containers: [{ name: "web", image: "nobody/knows:1" }] }));
  await podWhen(client, "a", (pod) => waitingReason(pod) === "ErrImagePull");
  await podWhen(client, "a", (pod) => waitingReason(pod) === "ImagePullBackOff");
  const seen = await eventsOf(client, "a");
  expect(seen.some((e) => e.startsWith("Warning Failed Failed to pull image") && e.includes("images:"))).toBe(true);
});

test("a crashing container restarts at once, then waits in CrashLoopBackOff, twice as long each time", async () => {
  const starts: number[] = [];
  const { client } = await start((id) => {
    starts.push(clock.monotonicMs());
    return { exit: { afterMs: 10, code: 3 }, output: [`run ${id}`] };
  });
  await client.create(pods, podDraft("a"));
  const pod = await podWhen(
    client,
    "a",
    (p) => waitingReason(p) === "CrashLoopBackOff" && first(p)?.restartCount === 2,
  );
  expect(first(pod)?.lastState?.terminated).toMatchObject({ exitCode: 3, reason: "Error" });
  expect(first(pod)?.state?.waiting?.message).toContain("restarting failed container=web");
  const gaps = [starts[1]! - starts[0]!, starts[2]! - starts[1]!];
  expect(gaps[0]).toBeLessThan(250);
  expect(gaps[1]).toBeGreaterThan(290);
  expect(pod.status?.phase).toBe("Running");
  expect(isReady(pod)).toBe(false);
  const seen = await eventsOf(client, "a");
  expect(seen.some((event) => event.startsWith("Warning BackOff Back-off restarting failed container web"))).toBe(true);
});

test("a pod that is not restarted ends Succeeded or Failed by its exit codes", async () => {
  const { client, runtime } = await start((id) => ({ exit: { afterMs: 5, code: id.startsWith("bad") ? 2 : 0 } }));
  const never = { restartPolicy: "Never" as const };
  await client.create(pods, podDraft("good", { ...never, containers: [{ name: "ok", image: "web" }] }));
  await client.create(
    pods,
    podDraft("bad", {
      ...never,
      containers: [
        { name: "ok", image: "web" },
        { name: "bad", image: "web" },
      ],
    }),
  );
  const good = await podWhen(client, "good", (p) => p.status?.phase === "Succeeded");
  expect(first(good)?.state?.terminated).toMatchObject({ exitCode: 0, reason: "Completed" });
  const bad = await podWhen(client, "bad", (p) => p.status?.phase === "Failed");
  expect(bad.status?.containerStatuses?.map((c) => c.state?.terminated?.exitCode).toSorted()).toEqual([0, 2]);
  await until("sandboxes gone", () => runtime.pods.size === 0);
});

test("init containers run one after the other, before the others; a failed one runs again", async () => {
  let fails = 1;
  const { client, runtime } = await start((id) => {
    if (id.startsWith("one")) return { exit: { afterMs: 20, code: fails-- > 0 ? 1 : 0 } };
    return id.startsWith("two") ? { exit: { afterMs: 20, code: 0 } } : {};
  });
  await client.create(
    pods,
    podDraft("a", {
      initContainers: [
        { name: "one", image: "web" },
        { name: "two", image: "web" },
      ],
    }),
  );
  const pod = await podWhen(client, "a", isReady);
  expect(runtime.containers.map((c) => c.spec.id)).toEqual(["one-0", "one-1", "two-0", "web-0"]);
  expect(pod.status?.initContainerStatuses?.map((c) => [c.name, c.ready, c.restartCount])).toEqual([
    ["one", true, 1],
    ["two", true, 0],
  ]);
});

test("a deleted pod is unready at once, gets SIGTERM, SIGKILL after its grace, and then leaves nothing", async () => {
  const { client, runtime, stateDir } = await start(() => ({ onTerm: "ignore", output: ["hello"] }));
  await client.create(pods, podDraft("a", { volumes: [{ name: "scratch", emptyDir: {} }] }));
  const { metadata } = await podWhen(client, "a", isReady);
  const logs = join(stateDir, "logs/pods", `default_a_${metadata.uid}`);
  expect(existsSync(logs)).toBe(true);
  expect(existsSync(join(stateDir, "volumes", metadata.uid, "scratch"))).toBe(true);
  await client.delete(pods, "default", "a", { gracePeriodSeconds: 1 });
  await podWhen(client, "a", (pod) => !isReady(pod));
  expect(runtime.containers[0]?.signals).toEqual(["SIGTERM"]);
  await until("deletion", async () => client.get(pods, "default", "a").then(() => false, isNotFound));
  expect(runtime.containers[0]?.signals).toEqual(["SIGTERM", "SIGKILL"]);
  await until("clean disk", () => !existsSync(logs) && !existsSync(join(stateDir, "volumes", metadata.uid)));
  expect(runtime.pods.size).toBe(0);
  expect((await eventsOf(client, "a")).some((e) => e.includes("Killing Stopping container web"))).toBe(true);
});

test("preStop runs before SIGTERM, and postStart before the container is ready", async () => {
  const order: string[] = [];
  const { client, runtime } = await start(() => ({
    exec: (argv) => {
      order.push(argv[0]!);
      return { code: 0, output: "" };
    },
  }));
  const lifecycle = { postStart: { exec: { command: ["began"] } }, preStop: { exec: { command: ["bye"] } } };
  await client.create(pods, podDraft("a", { containers: [{ name: "web", image: "web", lifecycle }] }));
  await podWhen(client, "a", isReady);
  expect(order).toEqual(["began"]);
  await client.delete(pods, "default", "a");
  await until("stopped", () => runtime.containers[0]?.alive === false);
  expect(order).toEqual(["began", "bye"]);
});

test("a missing ConfigMap holds a container back until it is there; its volume follows changes atomically", async () => {
  const { client, runtime } = await start();
  const env = [{ name: "COLOR", valueFrom: { configMapKeyRef: { name: "settings", key: "color" } } }];
  await client.create(pods, podDraft("a", { containers: [{ name: "web", image: "web", env }] }));
  const held = await podWhen(client, "a", (pod) => waitingReason(pod) === "CreateContainerConfigError");
  expect(first(held)?.state?.waiting?.message).toBe('configmap "settings" not found');
  await client.create(configMaps, {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "settings", namespace: "default" },
    data: { color: "blue" },
  });
  await podWhen(client, "a", isReady);
  expect(runtime.containers[0]?.spec.env["COLOR"]).toBe("blue");
  await client.create(
    pods,
    podDraft("b", {
      containers: [{ name: "web", image: "web", volumeMounts: [{ name: "conf", mountPath: "/etc/app" }] }],
      volumes: [{ name: "conf", configMap: { name: "settings" } }],
    }),
  );
  await podWhen(client, "b", isReady);
  const mount = runtime.containers.find((c) => c.spec.mounts.length > 0)!.spec.mounts[0]!;
  expect(mount).toMatchObject({ target: "/etc/app", readOnly: true });
  expect(readFileSync(join(mount.source, "color"), "utf8")).toBe("blue");
  await client.patch(configMaps, "default", "settings", { data: { color: "red", size: "big" } });
  await until("new content", () => existsSync(join(mount.source, "size")));
  expect(readFileSync(join(mount.source, "color"), "utf8")).toBe("red");
});

test("a liveness probe that fails has its container restarted, a readiness probe only takes it out", async () => {
  let alive = true;
  let ready = true;
  const { client } = await start(() => ({
    exec: ([what]) => ({ code: (what === "live" ? alive : ready) ? 0 : 1, output: "sick" }),
  }));
  const probe = (command: string) => ({ exec: { command: [command] }, periodSeconds: 1, failureThreshold: 1 });
  const container = { name: "web", image: "web", livenessProbe: probe("live"), readinessProbe: probe("ready") };
  await client.create(pods, podDraft("a", { containers: [container] }));
  await podWhen(client, "a", isReady);
  ready = false;
  const out = await podWhen(client, "a", (pod) => !isReady(pod));
  expect(first(out)).toMatchObject({ restartCount: 0, ready: false });
  alive = false;
  await podWhen(client, "a", (pod) => first(pod)?.restartCount === 1);
  const seen = await eventsOf(client, "a");
  expect(seen).toContain("Warning Unhealthy Readiness probe failed: sick");
  expect(seen).toContain("Normal Killing Container web failed liveness probe, will be restarted");
});

test("a kubelet that was killed starts its pods again at the same address, with the restart counted", async () => {
  const bed = await start();
  const { client, runtime, options } = bed;
  await client.create(pods, podDraft("a"));
  await client.create(pods, podDraft("gone"));
  const ip = (await podWhen(client, "a", isReady)).status?.podIP;
  const gone = await podWhen(client, "gone", isReady);
  runtime.crash();
  const dead = bed.kubelet;
  await client.delete(pods, "default", "gone", { gracePeriodSeconds: 0 });
  // The dead kubelet's objects stay in memory here; silenced by stopping it, which changes nothing in the API.
  await dead.stop();
  bed.kubelet = await startKubelet(options);
  const again = await podWhen(client, "a", (pod) => isReady(pod) && first(pod)?.restartCount === 1);
  expect(again.status?.podIP).toBe(ip!);
  expect(first(again)?.lastState?.terminated).toMatchObject({ exitCode: 255, reason: "Unknown" });
  await until("left-overs gone", () => !existsSync(join(bed.stateDir, "volumes", gone.metadata.uid)));
});

test("the kubelet comes up without an API server, and keeps pods running while it is away", async () => {
  const store = createMemoryStore();
  const api = await createApi({ store, kinds: allKinds, clock, random: systemRandom, log: silentLog });
  const direct = createClient(api.transport);
  let online = false;
  let cut = new AbortController();
  const transport: ApiTransport = {
    request(request) {
      if (!online) throw new Error("connection refused");
      return api.transport.request(request);
    },
    async *watch(request, signal) {
      if (!online) throw new Error("connection refused");
      yield* api.transport.watch(request, AbortSignal.any([signal, cut.signal]));
    },
  };
  const began = clock.monotonicMs();
  const bed = await start(() => ({}), { client: createClient(transport) });
  expect(clock.monotonicMs() - began).toBeLessThan(1_000);
  await direct.create(pods, podDraft("a"));
  await clock.sleep(150);
  online = true;
  await podWhen(direct, "a", isReady);
  online = false;
  cut.abort();
  bed.runtime.containers[0]?.exit(1);
  await until("restart without API", () => bed.runtime.containers.length === 2);
  cut = new AbortController();
  online = true;
  const pod = await podWhen(direct, "a", (p) => isReady(p) && first(p)?.restartCount === 1);
  expect(pod.status?.phase).toBe("Running");
  api.close();
});

test("a pod waits for its claim to be bound, then has the volume's directory", async () => {
  const { client, runtime, stateDir } = await start();
  await client.create(persistentVolumeClaims, {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name: "videos", namespace: "default" },
    spec: { accessModes: ["ReadWriteMany"], resources: { requests: { storage: "1Gi" } } },
  });
  const volumeMounts = [{ name: "data", mountPath: "/data", subPath: "files" }];
  const volumes = [{ name: "data", persistentVolumeClaim: { claimName: "videos" } }];
  await client.create(pods, podDraft("a", { containers: [{ name: "web", image: "web", volumeMounts }], volumes }));
  await until("event", async () =>
    (await eventsOf(client, "a")).includes(
      'Warning FailedMount MountVolume.SetUp failed for volume "data" : persistentvolumeclaim "videos" is not bound yet',
    ),
  );
  await client.create(persistentVolumes, {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name: "pv-1" },
    spec: { capacity: { storage: "1Gi" }, accessModes: ["ReadWriteMany"], hostPath: { path: join(stateDir, "pv-1") } },
  });
  await client.patch(persistentVolumeClaims, "default", "videos", { spec: { volumeName: "pv-1" } });
  await client.patch(
    persistentVolumeClaims,
    "default",
    "videos",
    { status: { phase: "Bound" } },
    { subresource: "status" },
  );
  await podWhen(client, "a", isReady);
  expect(runtime.containers[0]?.spec.mounts).toEqual([
    { source: join(stateDir, "pv-1/files"), target: "/data", readOnly: false },
  ]);
});

test("a pod past its active deadline fails with the reason, and its containers end", async () => {
  const { client, runtime } = await start();
  await client.create(pods, podDraft("a", { activeDeadlineSeconds: 1 }));
  const pod = await podWhen(client, "a", (p) => p.status?.phase === "Failed");
  expect(pod.status?.reason).toBe("DeadlineExceeded");
  await until("ended", () => runtime.containers[0]?.alive === false && runtime.pods.size === 0);
});

test("a pod that vanished from the API is ended without being asked", async () => {
  const { client, runtime } = await start();
  await client.create(pods, podDraft("a"));
  await podWhen(client, "a", isReady);
  await client.delete(pods, "default", "a", { gracePeriodSeconds: 0 });
  await client.create(pods, podDraft("a"));
  await until("new pod", () => runtime.containers.length === 2 && runtime.containers[0]?.alive === false);
  const pod = await podWhen(client, "a", isReady);
  expect(runtime.containers[1]?.pod.podId).toBe(pod.metadata.uid);
});

test("in ports mode a pod's ports are published and stand in its environment, command and paths", async () => {
  const runtime = createPretendRuntime({ mode: "ports", clock, behaviour: () => ({}), firstPort: 41_000 });
  const { client } = await start(() => ({}), { runtime, nodeIp: "127.0.0.1" });
  await client.create(services, {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "store", namespace: "default" },
    spec: { selector: { app: "store" }, ports: [{ port: 6379 }] },
  });
  await clock.sleep(30);
  await client.create(
    pods,
    podDraft("a", {
      containers: [
        {
          name: "web",
          image: "web",
          args: ["--port=$(PORT)", "/data/videos"],
          ports: [{ containerPort: 8080 }],
          volumeMounts: [{ name: "data", mountPath: "/data" }],
        },
      ],
      volumes: [{ name: "data", emptyDir: {} }],
    }),
  );
  const pod = await podWhen(
    client,
    "a",
    (p) => isReady(p) && p.metadata.annotations?.["meshbed.io/ports"] !== undefined,
  );
  const annotations = pod.metadata.annotations!;
  const port = JSON.parse(annotations["meshbed.io/ports"]!)["8080"];
  const listener = JSON.parse(annotations["meshbed.io/service-ports"]!)["default/store:6379"];
  expect(pod.status?.podIP).toBe("127.0.0.1");
  expect(Number(annotations["meshbed.io/tunnel-port"])).toBeGreaterThanOrEqual(41_000);
  const { spec } = runtime.containers[0]!;
  expect(spec.env).toMatchObject({
    PORT: String(port),
    PORT_8080: String(port),
    STORE_SERVICE_HOST: "127.0.0.1",
    STORE_SERVICE_PORT: String(listener),
  });
  expect(spec.argv).toEqual(["/bin/web", `--port=${port}`, `${spec.mounts[0]!.source}/videos`]);
});
