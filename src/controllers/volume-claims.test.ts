// Claims over the real API server: directories made and removed, static volumes, protection, waiting.

import { afterEach, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { persistentVolumeClaims, persistentVolumes, pods, storageClasses } from "../api/resources.ts";
import { startTestCluster, type TestCluster } from "./fixture.test.ts";
import { directoryProvisioner } from "./volume-claims.ts";

let cluster: TestCluster;
afterEach(() => cluster.stop());

const createClass = (name: string, options: { reclaimPolicy?: "Delete" | "Retain"; isDefault?: boolean } = {}) =>
  cluster.client.create(storageClasses, {
    apiVersion: "storage.k8s.io/v1",
    kind: "StorageClass",
    metadata: {
      name,
      ...(options.isDefault && { annotations: { "storageclass.kubernetes.io/is-default-class": "true" } }),
    },
    provisioner: directoryProvisioner,
    ...(options.reclaimPolicy && { reclaimPolicy: options.reclaimPolicy }),
  });
const createClaim = (name: string, spec: object = {}) =>
  cluster.client.create(persistentVolumeClaims, {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name, namespace: "default" },
    spec: { accessModes: ["ReadWriteMany"], resources: { requests: { storage: "5Gi" } }, ...spec },
  });
const claim = (name: string) => cluster.client.get(persistentVolumeClaims, "default", name);

test("a claim of our class gets a directory, which goes with the claim", async () => {
  cluster = await startTestCluster({ nodes: 0 });
  await createClass("rook-cephfs");
  await createClaim("videos", { storageClassName: "rook-cephfs" });
  await cluster.until("bound", async () => (await claim("videos")).status?.phase === "Bound");
  const bound = await claim("videos");
  expect(bound.status?.capacity).toEqual({ storage: "5Gi" });
  expect(bound.status?.accessModes).toEqual(["ReadWriteMany"]);
  const volume = await cluster.client.get(persistentVolumes, undefined, bound.spec!.volumeName!);
  expect(volume.status?.phase).toBe("Bound");
  const path = join(cluster.volumesDir, volume.metadata.name);
  expect(volume.spec?.hostPath?.path).toBe(path);
  expect(existsSync(path)).toBe(true);
  await cluster.client.delete(persistentVolumeClaims, "default", "videos");
  await cluster.until("removed", async () => (await cluster.client.list(persistentVolumes)).items.length === 0);
  expect(existsSync(path)).toBe(false);
});

test("a volume of a class with Retain outlives its claim, with its data", async () => {
  cluster = await startTestCluster({ nodes: 0 });
  await createClass("keep", { reclaimPolicy: "Retain" });
  await createClaim("videos", { storageClassName: "keep" });
  await cluster.until("bound", async () => (await claim("videos")).status?.phase === "Bound");
  const name = (await claim("videos")).spec!.volumeName!;
  await cluster.client.delete(persistentVolumeClaims, "default", "videos");
  const volume = () => cluster.client.get(persistentVolumes, undefined, name);
  await cluster.until("released", async () => (await volume()).status?.phase === "Released");
  expect(existsSync(join(cluster.volumesDir, name))).toBe(true);
});

test("a claim waits for its class, and a claim without one takes the default class", async () => {
  cluster = await startTestCluster({ nodes: 0 });
  await createClaim("early", { storageClassName: "later" });
  await createClaim("plain");
  await cluster.run(500);
  expect((await claim("early")).status?.phase).toBe("Pending");
  await createClass("later", { isDefault: true });
  await cluster.until(
    "both",
    async () => (await claim("early")).status?.phase === "Bound" && (await claim("plain")).status?.phase === "Bound",
  );
  expect((await claim("plain")).spec?.storageClassName).toBe("later");
});

test("the smallest static volume that fits is taken before one is made", async () => {
  cluster = await startTestCluster({ nodes: 0 });
  for (const [name, storage, mode] of [
    ["big", "50Gi", "ReadWriteMany"],
    ["fits", "6Gi", "ReadWriteMany"],
    ["small", "1Gi", "ReadWriteMany"],
    ["single", "5Gi", "ReadWriteOnce"],
  ] as const)
    await cluster.client.create(persistentVolumes, {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name },
      spec: {
        capacity: { storage },
        accessModes: [mode],
        hostPath: { path: `/tmp/${name}` },
        storageClassName: "manual",
      },
    });
  await createClaim("videos", { storageClassName: "manual" });
  await cluster.until("bound", async () => (await claim("videos")).status?.phase === "Bound");
  expect((await claim("videos")).spec?.volumeName).toBe("fits");
  const phases = (await cluster.client.list(persistentVolumes)).items.map(
    ({ metadata, status }) => `${metadata.name} ${status?.phase}`,
  );
  expect(phases.sort()).toEqual(["big Available", "fits Bound", "single Available", "small Available"]);
});

test("a claim in use stays until its last pod is gone, and pods wait for their claims", async () => {
  cluster = await startTestCluster({ nodes: 1 });
  await cluster.client.create(pods, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "web", namespace: "default" },
    spec: {
      containers: [{ name: "web", image: "web:1" }],
      volumes: [{ name: "videos", persistentVolumeClaim: { claimName: "videos" } }],
    },
  });
  const pod = () => cluster.client.get(pods, "default", "web");
  const waits = async (text: string) => {
    await cluster.settle();
    expect((await pod()).status?.conditions?.find(({ type }) => type === "PodScheduled")?.message).toContain(text);
  };
  await waits('persistentvolumeclaim "videos" not found');
  await createClaim("videos", { storageClassName: "later" });
  await waits("pod has unbound immediate PersistentVolumeClaims");
  await createClass("later");
  await cluster.until("running", async () => (await pod()).status?.phase === "Running");
  await cluster.client.delete(persistentVolumeClaims, "default", "videos");
  await cluster.run(1_000);
  expect((await claim("videos")).metadata.deletionTimestamp).toBeDefined();
  await cluster.client.delete(pods, "default", "web");
  await cluster.until("gone", async () => (await cluster.client.list(persistentVolumes)).items.length === 0);
  await expect(claim("videos")).rejects.toThrow("not found");
});
