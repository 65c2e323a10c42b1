// The kubelet with the ports runtime: plain processes on 127.0.0.1, found through annotations and environment.

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { allKinds } from "../api/kinds/all.ts";
import { nodes, pods } from "../api/resources.ts";
import type { Pod } from "../api/types.ts";
import { createApi } from "../apiserver/api.ts";
import { createClient } from "../client/client.ts";
import { isNotFound } from "../client/types.ts";
import { createPortsRuntime } from "../host/ports-runtime.ts";
import { realClock as clock } from "../kernel/clock.ts";
import { silentLog as log } from "../kernel/log.ts";
import { systemRandom as random } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import { startKubelet } from "./kubelet.ts";

test("a server gets a port, is probed there, writes to its volume, and ends when its pod is deleted", async () => {
  const stateDir = mkdtempSync("/tmp/meshbed-ports-test-");
  const api = await createApi({ store: createMemoryStore(), kinds: allKinds, clock, random, log });
  const client = createClient(api.transport);
  const program = `require("node:fs").writeFileSync(process.argv[process.argv.length - 1], "ok");
    Bun.serve({ hostname: "127.0.0.1", port: Number(process.env.PORT), fetch: () => new Response("hi") });`;
  const kubelet = await startKubelet({
    nodeName: "worker1",
    nodeIndex: 1,
    nodeIp: "127.0.0.1",
    podCidrPrefix: "10.244.1",
    roles: ["worker"],
    client,
    runtime: createPortsRuntime({ clock, log, random }),
    images: { web: { command: [process.execPath, "-e", program, "--"] } },
    stateDir,
    volumesDir: stateDir,
    dns: undefined,
    clusterDomain: "cluster.local",
    server: undefined,
    clock,
    random,
    log,
  });
  const container = {
    name: "web",
    image: "web",
    args: ["/data/file"],
    ports: [{ name: "http", containerPort: 8080 }],
    readinessProbe: { httpGet: { port: "http" } },
    livenessProbe: { exec: { command: ["test", "-e", "/data/file"] }, periodSeconds: 1, failureThreshold: 1 },
    volumeMounts: [{ name: "data", mountPath: "/data" }],
  };
  await client.create(pods, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "a", namespace: "default" },
    spec: { nodeName: "worker1", containers: [container], volumes: [{ name: "data", emptyDir: {} }] },
  });
  const look = async (fits: (pod: Pod) => boolean): Promise<Pod> => {
    for (let i = 0; i < 1_000; i++) {
      const pod = await client.get(pods, "default", "a");
      if (fits(pod)) return pod;
      await clock.sleep(5);
    }
    throw new Error("never came");
  };
  const pod = await look(
    (p) =>
      p.metadata.annotations?.["meshbed.io/ports"] !== undefined && p.status?.containerStatuses?.[0]?.ready === true,
  );
  const port = JSON.parse(pod.metadata.annotations!["meshbed.io/ports"]!)["8080"];
  expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe("hi");
  expect(readFileSync(join(stateDir, "volumes", pod.metadata.uid, "data/file"), "utf8")).toBe("ok");
  await clock.sleep(1_200); // the liveness probe has run by now, with the volume's real path
  expect((await client.get(pods, "default", "a")).status?.containerStatuses?.[0]?.restartCount).toBe(0);
  const node = await client.get(nodes, undefined, "worker1");
  expect(node.status?.addresses?.[0]?.address).toBe("127.0.0.1");
  await client.delete(pods, "default", "a");
  let gone = false;
  for (let i = 0; i < 600 && !gone; i++) {
    await clock.sleep(5);
    gone = await client.get(pods, "default", "a").then(() => false, isNotFound);
  }
  expect(gone).toBe(true);
  await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toThrow();
  await kubelet.stop();
  api.close();
  rmSync(stateDir, { recursive: true });
}, 10_000);
