// The kubelet with everything real: API server, namespaces, DNS on 10.96.0.10, probes over the pod network, logs over HTTPS.
// Runs itself again in a sandbox, and there again on a node's network.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { allKinds } from "../api/kinds/all.ts";
import type { Draft } from "../api/object.ts";
import { configMaps, pods, services } from "../api/resources.ts";
import type { Pod } from "../api/types.ts";
import { type Api, createApi } from "../apiserver/api.ts";
import { createKubeletAccess } from "../apiserver/kubelets.ts";
import { createClient } from "../client/client.ts";
import { type Client, isNotFound } from "../client/types.ts";
import { suiteInSandbox } from "../host/in-sandbox-suite.ts";
import { createNamespacesRuntime } from "../host/namespaces-runtime.ts";
import { prepareSandbox } from "../host/sandbox.ts";
import { createTopology } from "../host/topology.ts";
import { createAuthority } from "../identity/authority.ts";
import { realClock as clock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { systemRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import { startKubelet } from "./kubelet.ts";
import type { Kubelet, KubeletOptions } from "./types.ts";

/** The answer to GET /; only from the pods' gateway address does a node reach a pod without its proxy. */
async function readFrom(localAddress: string, hostname: string, port: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let answer = "";
  await Bun.connect({
    hostname,
    port,
    // Not in the typings.
    ...{ localAddress },
    socket: {
      open: (socket) => void socket.write(`GET / HTTP/1.1\r\nHost: ${hostname}\r\nConnection: close\r\n\r\n`),
      data: (_socket, chunk) => {
        answer += chunk.toString();
      },
      close: () => resolve(answer),
      error: (_socket, error) => reject(error),
    },
  });
  return promise;
}

const node = { name: "worker1", ip: "172.20.0.11" };

if (process.env["MESHBED_TEST_RUN"] === undefined) await suiteInSandbox("../kubelet/namespaces.test.ts");
else if (process.env["MESHBED_TEST_NODE"] !== "1") {
  test("the suite passes on a node", async () => {
    await prepareSandbox(clock);
    const topology = await createTopology({ nodes: [node], clients: [] }, clock);
    const argv = topology.argvOn(node.name, [process.execPath, "test", `./namespaces.test.ts`]);
    const env = { ...process.env, MESHBED_TEST_NODE: "1" };
    const child = Bun.spawn(argv, { cwd: import.meta.dir, env, stdout: "inherit", stderr: "inherit" });
    expect(await child.exited).toBe(0);
    await topology.remove();
  }, 90_000);
} else onNode();

function onNode(): void {
  let api: Api;
  let client: Client;
  let options: KubeletOptions;
  let kubelet: Kubelet;
  let folder: string;
  let tls: { ca: string; cert: string; key: string };

  beforeAll(async () => {
    folder = mkdtempSync("/tmp/meshbed-kubelet-real-");
    const authority = await createAuthority({ commonName: "test", clock });
    const day = 24 * 60 * 60 * 1000;
    const serving = await authority.issue({
      commonName: "worker1",
      ipAddresses: [node.ip],
      usages: ["server"],
      lifetimeMs: day,
    });
    const asking = await authority.issue({ commonName: "apiserver", usages: ["client"], lifetimeMs: day });
    tls = { ca: authority.certPem, cert: asking.certPem, key: asking.keyPem };
    const kubelets = createKubeletAccess({ caPem: tls.ca, certPem: tls.cert, keyPem: tls.key });
    const store = createMemoryStore();
    api = await createApi({ store, kinds: allKinds, clock, random: systemRandom, log: silentLog, kubelets });
    client = createClient(api.transport);
    const rootless = process.env["MESHBED_TEST_ROOTLESS"] === "1";
    const sharedPaths = [join(import.meta.dir, "../.."), folder];
    const server = `const s = Bun.serve({ port: 8080, hostname: "0.0.0.0", fetch: () => new Response("hello " + process.env.POD) });
      console.log("listening"); process.on("SIGTERM", () => { console.log("bye"); s.stop(true); });`;
    options = {
      nodeName: node.name,
      nodeIndex: 1,
      nodeIp: node.ip,
      podCidrPrefix: "10.244.1",
      roles: ["worker"],
      client,
      runtime: createNamespacesRuntime({ node, rootless, sharedPaths, clock, log: silentLog }),
      images: { web: { command: [process.execPath, "-e", server] } },
      stateDir: join(folder, "state"),
      volumesDir: join(folder, "volumes"),
      dns: { address: "10.96.0.10" },
      clusterDomain: "cluster.local",
      server: { port: 10_250, certPem: serving.certPem, keyPem: serving.keyPem, clientCaPem: tls.ca },
      backOffInitialMs: 200,
      clock,
      random: systemRandom,
      log: silentLog,
    };
    mkdirSync(options.stateDir);
    const began = clock.monotonicMs();
    kubelet = await startKubelet(options);
    console.log(`kubelet start: ${(clock.monotonicMs() - began).toFixed(1)} ms`);
  });

  afterAll(async () => {
    await kubelet.stop();
    api.close();
    rmSync(folder, { recursive: true });
  });

  const draft = (name: string, spec: Partial<NonNullable<Pod["spec"]>>): Draft<Pod> => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default" },
    spec: { nodeName: node.name, containers: [], ...spec },
  });

  async function until<T>(
    what: string,
    look: () => Promise<T | undefined | false> | T | undefined | false,
  ): Promise<T> {
    const deadlineMs = clock.monotonicMs() + 10_000;
    while (clock.monotonicMs() < deadlineMs) {
      const found = await look();
      if (found) return found as T;
      await clock.sleep(5);
    }
    throw new Error(`never came: ${what}`);
  }
  const podWhen = (name: string, fits: (pod: Pod) => boolean): Promise<Pod> =>
    until(`${name} ${fits}`, async () => {
      const pod = await client.get(pods, "default", name);
      return fits(pod) && pod;
    }).catch(async (error) => {
      console.log(JSON.stringify((await client.get(pods, "default", name)).status, null, 1));
      throw error;
    });
  const isReady = (pod: Pod) => pod.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false;
  const logs = async (name: string, query: Record<string, string> = {}) => {
    const path = `/api/v1/namespaces/default/pods/${name}/log`;
    return (await api.transport.request({ method: "GET", path, query })).body as string;
  };
  const once = (name: string, script: string, more: Partial<NonNullable<Pod["spec"]>> = {}) =>
    draft(name, {
      restartPolicy: "Never",
      containers: [{ name: "main", image: "busybox", command: ["sh", "-c", script] }],
      ...more,
    });
  const outputOf = async (pod: Draft<Pod>) => {
    await client.create(pods, pod);
    const name = pod.metadata.name!;
    await podWhen(name, (p) => p.status?.phase === "Succeeded" || p.status?.phase === "Failed");
    return await logs(name, { container: "main" });
  };

  test("a web server is ready through its HTTP probe a moment after it listens, and answers on its pod address", async () => {
    const began = clock.monotonicMs();
    await client.create(
      pods,
      draft("web", {
        containers: [
          {
            name: "web",
            image: "web:1.0",
            env: [{ name: "POD", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } }],
            ports: [{ name: "http", containerPort: 8080 }],
            readinessProbe: { httpGet: { path: "/", port: "http" } },
            livenessProbe: { tcpSocket: { port: 8080 } },
          },
        ],
      }),
    );
    const pod = await podWhen("web", isReady);
    console.log(`pod ready: ${(clock.monotonicMs() - began).toFixed(0)} ms after its creation`);
    expect(pod.status?.podIP).toBe("10.244.1.2");
    expect(await readFrom("10.244.1.1", "10.244.1.2", 8080)).toEndWith("hello web");
  });

  test("names resolve inside a pod through the node's DNS, short and long", async () => {
    await client.create(services, {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "store", namespace: "default" },
      spec: { clusterIP: "10.96.5.5", ports: [{ port: 6379 }] },
    });
    await clock.sleep(50);
    const script =
      "getent hosts store; getent ahostsv4 kubernetes.default.svc | head -1; getent hosts no-such || echo none; hostname; echo $STORE_SERVICE_HOST";
    const lines = (await outputOf(once("lookup", script))).trimEnd().split("\n");
    expect(lines[0]).toMatch(/^10\.96\.5\.5\s+store\.default\.svc\.cluster\.local$/);
    expect(lines[1]).toMatch(/^10\.96\.0\.1\s/);
    expect(lines.slice(2)).toEqual(["none", "lookup", "10.96.5.5"]);
  });

  test("ConfigMap files are mounted read-only and change under a running container", async () => {
    const data = { "app.conf": "one" };
    await client.create(configMaps, {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "conf", namespace: "default" },
      data,
    });
    const script =
      "cat /etc/app/app.conf; echo; touch /etc/app/x 2>/dev/null || echo read-only; until grep -q two /etc/app/app.conf; do sleep 0.05; done; echo saw two";
    const pod = once("conf", script, { volumes: [{ name: "c", configMap: { name: "conf" } }] });
    pod.spec!.containers[0]!.volumeMounts = [{ name: "c", mountPath: "/etc/app" }];
    await client.create(pods, pod);
    await podWhen("conf", (p) => p.status?.phase === "Running");
    await until("first line", async () => (await logs("conf").catch(() => "")).includes("read-only"));
    await client.patch(configMaps, "default", "conf", { data: { "app.conf": "two" } });
    await podWhen("conf", (p) => p.status?.phase === "Succeeded");
    expect((await logs("conf")).trimEnd().split("\n")).toEqual(["one", "read-only", "saw two"]);
  });

  test("containers of a pod share an emptyDir; init containers fill it", async () => {
    const mount = [{ name: "work", mountPath: "/work-dir" }];
    const pod = once("shared", "cat /work-dir/file", { volumes: [{ name: "work", emptyDir: {} }] });
    pod.spec!.initContainers = [
      { name: "fill", image: "alpine:3", command: ["sh", "-c", "echo filled > /work-dir/file"], volumeMounts: mount },
    ];
    pod.spec!.containers[0]!.volumeMounts = mount;
    expect(await outputOf(pod)).toBe("filled\n");
  });

  test("logs are followed to the end, tailed, stamped and read from the run before", async () => {
    const script = "for i in 1 2 3 4 5; do echo line $i; sleep 0.05; done";
    await client.create(pods, once("talk", script));
    await podWhen("talk", (p) => p.status?.phase === "Running" || p.status?.phase === "Succeeded");
    expect(await logs("talk", { follow: "true" })).toBe("line 1\nline 2\nline 3\nline 4\nline 5\n");
    expect(await logs("talk", { tailLines: "2" })).toBe("line 4\nline 5\n");
    expect(await logs("talk", { tailLines: "1", timestamps: "true" })).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z line 5\n$/);
    const count =
      "n=$(cat /n/c 2>/dev/null || echo 0); echo $((n+1)) > /n/c; echo run $n; [ $n -ge 1 ] && sleep 100; exit 1";
    const crash = once("crash", count, { restartPolicy: "Always", volumes: [{ name: "n", emptyDir: {} }] });
    crash.spec!.containers[0]!.volumeMounts = [{ name: "n", mountPath: "/n" }];
    await client.create(pods, crash);
    await podWhen("crash", (p) => p.status?.containerStatuses?.[0]?.restartCount === 1 && isReady(p));
    await until("second run", async () => (await logs("crash")) === "run 1\n");
    expect(await logs("crash", { previous: "true" })).toBe("run 0\n");
  });

  test("the kubelet's API refuses callers without a certificate of the cluster", async () => {
    const url = `https://${node.ip}:10250/healthz`;
    const ask = (more: object) => fetch(url, { tls: { ca: tls.ca, ...more } });
    expect(await (await ask({ cert: tls.cert, key: tls.key })).text()).toBe("ok\n");
    await expect(ask({})).rejects.toThrow();
    const other = await createAuthority({ commonName: "another", clock });
    const foreign = await other.issue({ commonName: "x", usages: ["client"], lifetimeMs: 60_000 });
    await expect(ask({ cert: foreign.certPem, key: foreign.keyPem })).rejects.toThrow();
  });

  test("a command that does not exist shows StartError and its name", async () => {
    await client.create(
      pods,
      draft("wrong", { containers: [{ name: "main", image: "busybox", command: ["no-such-thing"] }] }),
    );
    const pod = await podWhen("wrong", (p) => p.status?.containerStatuses?.[0]?.lastState?.terminated !== undefined);
    expect(pod.status?.containerStatuses?.[0]?.lastState?.terminated).toMatchObject({
      exitCode: 128,
      reason: "StartError",
    });
    expect(pod.status?.containerStatuses?.[0]?.lastState?.terminated?.message).toContain("no-such-thing");
  });

  test("a host network pod has the node's address", async () => {
    expect(await outputOf(once("host", "hostname -I; hostname", { hostNetwork: true }))).toContain(node.ip);
    expect((await client.get(pods, "default", "host")).status?.podIP).toBe(node.ip);
  });

  test("SIGTERM reaches the server, and a deleted pod leaves no network, process or file", async () => {
    const { metadata } = await client.get(pods, "default", "web");
    const log = join(options.stateDir, "logs/pods", `default_web_${metadata.uid}`, "web/0.log");
    await client.delete(pods, "default", "web");
    await until("bye", () => existsSync(log) && readFileSync(log, "utf8").includes("bye"));
    await until("deletion", () => client.get(pods, "default", "web").then(() => false, isNotFound));
    await until("clean disk", () => !existsSync(log));
    expect(existsSync(`/run/netns/${node.name}_${metadata.uid}`)).toBe(false);
  });

  test("a restarted kubelet brings its pods back at the same address", async () => {
    const sleeper = draft("stays", { containers: [{ name: "main", image: "busybox", command: ["sleep", "100"] }] });
    await client.create(pods, sleeper);
    const before = await podWhen("stays", isReady);
    await kubelet.stop();
    kubelet = await startKubelet(options);
    const after = await podWhen("stays", (p) => p.status?.containerStatuses?.[0]?.restartCount === 1 && isReady(p));
    expect(after.status?.podIP).toBe(before.status?.podIP as string);
  });
}
